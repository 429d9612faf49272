"""`pytest tests/faults --faults short` (or `long`): the rows of the matrix, and the document that they write.

Without the option only what needs no time is run here: the account's own tests, and whether the document is whole.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from fastmon_daemon.testbed.monitor import MonitorThread
from tests.faults import document
from tests.faults.agents import Neighbours, OwnBroker
from tests.faults.stage import Stage
from tests.processes import TOKEN, TOPIC, ended
from tests.real_brokers.certificates import make_certificates
from tests.real_brokers.servers import KINDS, Server

_NUMBERS = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", choices=("short", "long"), help="run the rows of the matrix of faults")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(number, title): a row of the matrix of faults (make test-faults)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rows = [item for item in items if item.get_closest_marker("fault")]
    for item in rows:  # with -n 2 the Java brokers run in one process, the embedded ones in another
        item.add_marker(pytest.mark.xdist_group("embedded" if "[embedded" in item.name else "java"))
    asked = bool(config.getoption("faults", default=None))
    config.hook.pytest_deselected(items=[item for item in items if (item in rows) != asked])
    items[:] = [item for item in items if (item in rows) == asked]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    form = config.getoption("faults", default=None)
    lines = [line for reports in ("passed", "failed") for report in terminalreporter.stats.get(reports, [])
             if (line := dict(report.user_properties).get("fault"))]  # fmt: skip
    if form and lines:
        terminalreporter.section("faults")
        terminalreporter.write_line(document.publish(form, lines))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | None]:
    """The Java broker of this kind, for all rows on it; None where each row has an embedded one of its own."""
    if request.param == "embedded":
        yield None
        return
    certificates = make_certificates(tmp_path_factory.mktemp("tls"), dt.datetime.now(dt.UTC))
    made = KINDS[request.param](tmp_path_factory.mktemp(request.param), certificates)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path, server: Server | None) -> Iterator[Stage]:
    """The stage of one row, on the broker of that kind."""
    number = next(_NUMBERS)
    with ExitStack() as life:
        monitor = life.enter_context(MonitorThread(TOKEN))
        topic = TOPIC if server is None else f"{TOPIC}-{number}"
        if server is None:
            broker = agents = OwnBroker()
        else:
            if not server.is_running():
                server.start()
            broker, agents = server, Neighbours(server, topic, f"neighbours-{number}")
        life.callback(agents.close)
        made = life.enter_context(ended(Stage(tmp_path, monitor, broker, agents, topic)))
        made.long = request.config.getoption("faults") == "long"
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is not None and report.when == "call":
        stage = item.funcargs["stage"]
        line = {"number": mark.args[0], "title": mark.args[1], "broker": stage.broker.kind, "held": report.passed}
        line["result"] = asdict(stage.result) if stage.result else None
        report.user_properties.append(("fault", line))
    return report

"""`pytest tests/faults --faults short` (or `long`) runs the rows of the matrix and writes docs/reliability.md.

Without the option only the fast tests are run: those of the account and of the document.
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
from tests.faults.other_agents import AgentsOnServer, EmbeddedBroker
from tests.faults.scenario import Scenario
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
    run_rows = bool(config.getoption("faults", default=None))
    config.hook.pytest_deselected(items=[item for item in items if (item in rows) != run_rows])
    items[:] = [item for item in items if (item in rows) == run_rows]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    form = config.getoption("faults", default=None)
    lines = [line for reports in ("passed", "failed") for report in terminalreporter.stats.get(reports, [])
             if (line := dict(report.user_properties).get("fault"))]  # fmt: skip
    if form and lines:
        terminalreporter.section("faults")
        terminalreporter.write_line(document.publish(form, lines))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | None]:
    """The Java broker of this kind, shared by its rows; None for embedded brokers, one per row."""
    if request.param == "embedded":
        yield None
        return
    certificates = make_certificates(tmp_path_factory.mktemp("tls"), dt.datetime.now(dt.UTC))
    made = KINDS[request.param](tmp_path_factory.mktemp(request.param), certificates)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def scenario(request: pytest.FixtureRequest, tmp_path: Path, server: Server | None) -> Iterator[Scenario]:
    """The scenario of one row, on its kind of broker."""
    number = next(_NUMBERS)
    with ExitStack() as stack:
        monitor = stack.enter_context(MonitorThread(TOKEN))
        topic = TOPIC if server is None else f"{TOPIC}-{number}"
        if server is None:
            broker = agents = EmbeddedBroker()
        else:
            if not server.is_running():
                server.start()
            broker, agents = server, AgentsOnServer(server, topic, f"other-agents-{number}")
        stack.callback(agents.close)
        made = stack.enter_context(ended(Scenario(tmp_path, monitor, broker, agents, topic)))
        made.long = request.config.getoption("faults") == "long"
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is not None and report.when == "call":
        scenario = item.funcargs["scenario"]
        line = {"number": mark.args[0], "title": mark.args[1], "broker": scenario.broker.kind, "passed": report.passed}
        line["result"] = asdict(scenario.result) if scenario.result else None
        report.user_properties.append(("fault", line))
    return report

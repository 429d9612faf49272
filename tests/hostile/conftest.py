"""`pytest tests/hostile --hostile` runs the attacks and writes their table into docs/security.md.

Without the option only the tests of the document are run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.hostile import document
from tests.hostile.attack import Scene
from tests.processes import TOKEN, ended


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hostile", action="store_true", help="run the attacks (make test-hostile)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "attack(title, target): an attack (make test-hostile)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    attacks = {item for item in items if item.get_closest_marker("attack")}
    run_attacks = bool(config.getoption("hostile", default=False))  # and only them: the other tests read their table
    config.hook.pytest_deselected(items=[item for item in items if (item in attacks) != run_attacks])
    items[:] = [item for item in items if (item in attacks) == run_attacks]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = [line for reports in ("passed", "failed") for report in terminalreporter.stats.get(reports, [])
             if (line := dict(report.user_properties).get("attack"))]  # fmt: skip
    if lines:
        terminalreporter.section("attacks")
        terminalreporter.write_line(document.publish(lines))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Broker and monitor of the testbed; the attack starts the processes."""
    with MonitorThread(TOKEN) as monitor:
        server = Broker(user="daq", password="secret-word", on_send=lambda _, body, __: monitor.deliver(body))
        with BrokerThread(server) as broker, ended(Scene(tmp_path, monitor, broker)) as made:
            yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = item.get_closest_marker("attack")
    if mark is not None and report.when == "call":
        scene = item.funcargs["scene"]
        line = {"title": mark.args[0], "target": mark.args[1], "passed": report.passed, "note": scene.note}
        line["cost"] = asdict(scene.cost) if scene.cost else None
        report.user_properties.append(("attack", line))
    return report

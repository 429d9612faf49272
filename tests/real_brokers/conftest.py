"""Selects the brokers for the tests, and prints a table of the observed facts.

`pytest tests/real_brokers --brokers embedded,classic,artemis`: each named broker must be installed. `--brokers
installed` runs on those that are. Without the option these tests are skipped, so the whole suite needs no Java.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.real_brokers.certificates import Certificates, make_certificates
from tests.real_brokers.install import artemis_home, classic_version
from tests.real_brokers.servers import KINDS, Embedded, Server

_FACT = "fact about a broker"
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Names:
    """Names that no other test uses, because a test leaves its destinations in the broker."""

    topic: str
    queue: str
    client_id: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--brokers", metavar="KINDS", help=f"comma-separated list of {', '.join(KINDS)}, or installed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", _kinds(metafunc.config) or KINDS, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _kinds(config):
        brokers = [item for item in items if item.get_closest_marker("broker")]
        items[:] = [item for item in items if item not in brokers]
        config.hook.pytest_deselected(items=brokers)
    for item in items:  # with -n 3 each broker runs in a process of its own
        if isinstance(item, pytest.Function) and (kind := _kind_of(item)):
            item.add_marker(pytest.mark.xdist_group(kind))


def _kind_of(item: pytest.Function) -> str | None:
    """The kind of broker of a test; None: it needs none."""
    return item.callspec.params.get("server") if hasattr(item, "callspec") else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    facts: dict[str, dict[str, str]] = {}
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        for name, value in getattr(report, "user_properties", ()):
            if name == _FACT:
                fact, kind, result = value
                facts.setdefault(fact, {})[kind] = result
    if facts:
        terminalreporter.section("observed facts")
    for fact, by_kind in facts.items():
        terminalreporter.write_line(fact)
        for kind in (each for each in KINDS if each in by_kind):
            terminalreporter.write_line(f"    {kind:10}{by_kind[kind]}")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), dt.datetime.now(dt.UTC))


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Server]:
    """One broker per kind; pytest sorts the tests, so that one broker stops before the next starts."""
    server = KINDS[request.param](tmp_path_factory.mktemp(request.param), certificates)
    server.start()
    yield server
    server.kill()
    if isinstance(server, Embedded):
        server.close()


@pytest.fixture
def broker(server: Server) -> Iterator[Server]:
    """The running broker; a test may stop, kill or pause it."""
    if not server.is_running():
        server.start()
    yield server
    if server.is_running():
        server.resume()


@pytest.fixture
def names() -> Names:
    number = next(_NUMBERS)
    return Names(f"/topic/epictopic-{number}", f"/queue/work-{number}", f"agent-{number}")


@pytest.fixture
def note(request: pytest.FixtureRequest, server: Server) -> Callable[[str, object], None]:
    """Record a fact about this broker for the table at the end: ``note("fact", result)``."""

    def record(fact: str, result: object) -> None:
        request.node.user_properties.append((_FACT, (fact, server.kind, str(result))))

    return record


def _kinds(config: pytest.Config) -> list[str]:
    """Return the selected kinds; empty without the option (unknown to pytest if it starts in another folder)."""
    selected = config.getoption("brokers", default=None)
    if selected == "installed":
        installed = {"embedded": True, "classic": classic_version(), "artemis": artemis_home()}
        return [kind for kind in KINDS if installed[kind]]
    kinds = selected.split(",") if selected else []
    if unknown := set(kinds) - set(KINDS):
        raise pytest.UsageError(
            f"--brokers {selected}: unknown {', '.join(sorted(unknown))}: choose from {', '.join(KINDS)}"
        )
    return kinds

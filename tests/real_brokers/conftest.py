"""Which brokers the tests run against, and the table of what was seen.

`pytest tests/real_brokers --brokers embedded,classic,artemis`: each named broker must be there. `--brokers installed`
takes those that are. Without the option nothing here runs, so the suite as a whole needs no Java.
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

_SEEN = pytest.StashKey[dict[str, dict[str, str]]]()
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Names:
    """Names that no other test uses, for what a test leaves in the broker."""

    topic: str
    queue: str
    client_id: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--brokers", metavar="KINDS", help=f"{', '.join(KINDS)} by commas, or installed")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SEEN] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", _kinds(metafunc.config) or KINDS, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _kinds(config):
        brokers = [item for item in items if item.get_closest_marker("broker")]
        items[:] = [item for item in items if item not in brokers]
        config.hook.pytest_deselected(items=brokers)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seen = config.stash.get(_SEEN, {})
    if seen:
        terminalreporter.section("what the brokers did")
    for fact, by_kind in seen.items():
        terminalreporter.write_line(fact)
        for kind, answer in by_kind.items():
            terminalreporter.write_line(f"    {kind:10}{answer}")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), dt.datetime.now(dt.UTC))


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Server]:
    """One broker for all tests of its kind: pytest sorts them so that one has stopped before the next starts."""
    server = KINDS[request.param](tmp_path_factory.mktemp(request.param), certificates)
    server.start()
    yield server
    server.kill()
    if isinstance(server, Embedded):
        server.close()


@pytest.fixture
def broker(server: Server) -> Iterator[Server]:
    """The broker, up; a test may stop, kill or pause it."""
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
    """Keep an answer of this broker for the table at the end: ``note("what was asked", answer)``."""
    seen = request.config.stash[_SEEN]

    def noted(fact: str, answer: object) -> None:
        seen.setdefault(fact, {})[server.kind] = str(answer)

    return noted


def _kinds(config: pytest.Config) -> list[str]:
    """The kinds that were asked for; empty without the option (which pytest does not know when it starts elsewhere)."""
    asked = config.getoption("brokers", default=None)
    if asked == "installed":
        there = {"embedded": True, "classic": classic_version(), "artemis": artemis_home()}
        return [kind for kind in KINDS if there[kind]]
    kinds = asked.split(",") if asked else []
    if unknown := set(kinds) - set(KINDS):
        raise pytest.UsageError(f"--brokers {asked}: {', '.join(sorted(unknown))} is none of {', '.join(KINDS)}")
    return kinds

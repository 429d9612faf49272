"""Daemon and client, as processes, go through the same proxy, or both past it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing

import pytest

from fastmon_daemon.outbox import open_outbox
from tests.processes import LiveTestbed, live_testbed
from tests.programs.commands import run_all
from tests.programs.fronts import Front, http_proxy, socks_proxy

COMMANDS = (
    ("fastmon_daemon", "check"),
    ("fastmon_daemon", "run", "--once"),
    ("fastmon_daemon", "reconcile", "--run", "100014"),
    ("fastmon_client", "status"),
    ("fastmon_client", "summary", "--run", "100014"),
    ("fastmon_client", "start", "--quiet", "--for", "1s"),
)
NAME = "http://monitor.invalid:8002"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path_factory.mktemp("proxies")) as testbed:
        open_outbox(testbed.folder / "reconcile.db").close()
        yield testbed


def own_address() -> str:
    """An address of this host that is not a loopback address; one that leads nowhere if it has none."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
            found = str(sock.getsockname()[0])
        except OSError:
            return "192.0.2.1"
    return "192.0.2.1" if found.startswith("127.") else found


def expect(
    testbed: LiveTestbed, serving: Callable[[int], AbstractContextManager[Front]], variable: str, scheme: str, url: str,
    no_proxy: str, *, proxied: bool,
) -> None:  # fmt: skip
    """Run all commands at once, with a proxy each: each asks its proxy for the host of *url*, or none does."""
    with ExitStack() as stack:
        proxies = {words: stack.enter_context(serving(testbed.monitor.port)) for words in COMMANDS}
        changes = {
            words: {
                "SWF_MONITOR_URL": url, variable: f"{scheme}://127.0.0.1:{proxy.port}", "no_proxy": no_proxy,
                "FASTMON_DB": str(testbed.folder / f"{words[1]}.db"),
            }
            for words, proxy in proxies.items()
        }  # fmt: skip
        outputs = {words: output for words, (_code, output) in run_all(testbed, changes).items()}
        asked = {words: set(proxy.asked) for words, proxy in proxies.items()}
    assert asked == dict.fromkeys(COMMANDS, {url.removeprefix("http://")} if proxied else set()), outputs
    assert [words for words, output in outputs.items() if "Traceback" in output] == [], outputs


@pytest.mark.field("23")
@pytest.mark.parametrize(
    ("host", "no_proxy", "proxied"),
    [
        ("monitor.invalid", "*", False),
        ("monitor.invalid", "other.invalid, monitor.invalid:8002", False),
        ("monitor.invalid", "monitor.invalid:8003", True),
        ("OWN", "OWN/24", False),
        ("OWN", "203.0.113.0/24", True),
    ],
)
def test_both_programs_use_the_proxy_by_one_rule(testbed: LiveTestbed, host: str, no_proxy: str, proxied: bool) -> None:
    own = own_address()
    url = f"http://{host.replace('OWN', own)}:8002"
    expect(testbed, http_proxy, "http_proxy", "http", url, no_proxy.replace("OWN", own), proxied=proxied)


@pytest.mark.field("23")
def test_both_programs_use_a_socks_proxy(testbed: LiveTestbed) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed")
    expect(testbed, socks_proxy, "ALL_PROXY", "socks5h", NAME, "", proxied=True)
    expect(testbed, socks_proxy, "ALL_PROXY", "socks5h", NAME, "monitor.invalid", proxied=False)

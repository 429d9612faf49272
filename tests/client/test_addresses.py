"""Names with several addresses, resolvers that hang, host names that nobody takes, and proxies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from fastmon_client.addresses import checked_host, connect, resolve
from fastmon_client.cli import cli
from fastmon_client.monitor_session import MonitorSession
from fastmon_client.settings import monitor_from, proxies_for
from tests.client.scripted_server import DEADLINE_S, ScriptedServer, response


@contextmanager
def swallowing() -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: its queue of connections is full."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()


def named(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let each name have *addresses*."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)


@pytest.mark.field("14")
def test_addresses_that_swallow_packets_do_not_use_up_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with swallowing() as one, swallowing() as other, socket.create_server(("127.0.0.1", 0)) as server:
        named(monkeypatch, one, other, server.getsockname())
        with closing(connect("monitor", 80, DEADLINE_S)) as sock:
            assert sock.getpeername() == server.getsockname()


@pytest.mark.field("14")
def test_requests_reach_the_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with swallowing() as dead, ScriptedServer(response({"count": 1})) as server:
        port = int(server.url.rpartition(":")[2])
        named(monkeypatch, dead, ("127.0.0.1", port))
        monitor = MonitorSession(url="http://monitor", token=str)
        with monitor.session() as session:
            assert monitor.get(session, "/", None, "*/*", DEADLINE_S).json() == {"count": 1}


def test_refusals_are_reported_before_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, ("127.0.0.1", 1), ("127.0.0.1", 2))
    with pytest.raises(ConnectionRefusedError):
        connect("monitor", 80, DEADLINE_S)
    with swallowing() as dead:
        named(monkeypatch, dead)
        with pytest.raises(TimeoutError, match=r"no connection within 0\.2 s"):
            connect("monitor", 80, 0.2)


@pytest.mark.field("14", "27b")
def test_resolver_that_hangs_is_bounded_and_holds_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    over, calls = threading.Event(), []

    def hang(*args: Any, **_more: Any) -> list[Any]:
        calls.append(args)
        over.wait(DEADLINE_S)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    for _ in range(3):
        with pytest.raises(OSError, match=r"no answer from the resolver within 0\.05 s"):
            resolve("monitor", 80, 0.05)
    assert len(calls) == 1
    over.set()


@pytest.mark.field("15")
def test_names_that_the_resolver_cannot_encode_are_unknown_names() -> None:
    with pytest.raises(OSError, match="label"):
        connect("a..b", 80, DEADLINE_S)


@pytest.mark.field("15")
@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 70, "ä" * 70, "a b", "[::1", "::g", "a:80", "*.a"])
def test_host_that_no_resolver_takes_is_refused_at_the_setting(host: str) -> None:
    with pytest.raises(ValueError, match=r"is (not a host name|neither a host name nor an address)"):
        checked_host(host)
    if ":" not in host and " " not in host:
        result = CliRunner(env={"SWF_MONITOR_URL": f"http://{host}:8002"}).invoke(cli, ["status"])
        assert result.exit_code == 2
        assert "SWF_MONITOR_URL" in result.output
        assert "use http://HOST:PORT" in result.output


@pytest.mark.parametrize(
    ("host", "name"),
    [("localhost", "localhost"), ("[::1]", "::1"), ("::1", "::1"), ("127.0.0.1", "127.0.0.1"), ("a.b.", "a.b."),
     ("münchen.example", "münchen.example"), ("under_score", "under_score")],
)  # fmt: skip
def test_usual_hosts_are_taken(host: str, name: str) -> None:
    assert checked_host(host) == name


def test_ipv6_literal_is_reached() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        monitor = monitor_from(f"http://[::1]:{server.getsockname()[1]}", {})
        assert monitor.proxies == {}
        with closing(connect("[::1]", server.getsockname()[1], DEADLINE_S)) as sock:
            assert sock.getpeername()[0] == "::1"


@pytest.mark.field("23")
@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("192.168.0.0/16", "http://192.168.3.4", True),
        ("192.168.0.0/16", "http://10.0.0.1", False),
        ("monitor.example:8002", "http://monitor.example:8002", True),
        ("monitor.example:8003", "http://monitor.example:8002", False),
        ("*", "http://monitor.example", True),
        (".example", "http://monitor.example", True),
        ("xample", "http://monitor.example", False),
        ("", "http://monitor.example", False),
    ],
)
def test_no_proxy_is_read_as_requests_reads_it(no_proxy: str, url: str, is_direct: bool) -> None:
    variables = {"http_proxy": "http://proxy:3128", "HTTP_PROXY": "http://other:1", "NO_PROXY": no_proxy}
    assert proxies_for(url, variables).get("http") == (None if is_direct else "http://proxy:3128")
    assert ("http" in monitor_from(url, variables).proxies) is not is_direct


def test_proxy_from_a_env_file_is_used() -> None:
    with ScriptedServer(response({"count": 7})) as proxy:
        monitor = monitor_from("http://monitor.example", {"all_proxy": proxy.url})
        with monitor.session() as session:
            assert monitor.get(session, "/api/", None, "*/*", DEADLINE_S).json() == {"count": 7}
    assert proxy.requests[0].startswith("GET http://monitor.example/api/ ")

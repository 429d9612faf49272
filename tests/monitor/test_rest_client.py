"""Requests to the monitor: hosts, TLS, proxies, tokens, and the deadline of each call."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from fastmon_daemon.base.errors import LinkBlocked, LinkDown
from fastmon_daemon.base.failpoints import set_hook
from fastmon_daemon.monitor import MonitorClient
from tests.monitor.scripted_monitor import (
    EXISTS,
    REQUIRED,
    ROW,
    SHORT,
    TF,
    Action,
    Server,
    client,
    closed_port,
    dripping,
    hangs,
    says,
    sends,
)


@pytest.mark.parametrize("password", ["hush-hush", "hush@hush"])
def test_no_error_shows_a_password_of_a_url(password: str) -> None:
    proxy = {"http_proxy": f"http://me:{password}@127.0.0.1:{closed_port()}"}
    monitor = client(f"http://me:{password}@monitor.invalid", environ=proxy)

    with pytest.raises(LinkDown) as caught:
        monitor.register_tf(TF)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "monitor.invalid"])
def test_a_refused_connection_and_an_unknown_host_are_link_down(host: str) -> None:
    monitor = client(f"http://{host}:{closed_port()}")

    with pytest.raises(LinkDown) as caught:
        monitor.register_tf(TF)
    assert not isinstance(caught.value, LinkBlocked)


def test_a_host_that_does_not_accept_the_connection_is_link_down() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with pytest.raises(LinkDown):
            client(f"http://127.0.0.1:{port}", timeout_s=(0.3, 0.3)).register_tf(TF)
        for one in waiting:
            one.close()


def test_a_certificate_of_a_private_ca_is_accepted(tls_server: tuple[Server, trustme.CA], tmp_path: Path) -> None:
    server, ca = tls_server
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.script = [says(201, ROW)]
    monitor = server.client(ca=tmp_path / "ca.pem")

    assert monitor.register_tf(TF)[1] is None


def test_an_untrusted_certificate_blocks_the_link_before_a_token_is_sent(tls_server: tuple[Server, trustme.CA]) -> None:
    server, _ = tls_server

    with pytest.raises(LinkBlocked, match="FASTMON_MONITOR_CA"):
        server.client().register_tf(TF)
    assert server.request_lines == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_ca_file_blocks_the_link(
    content: str | None, tls_server: tuple[Server, trustme.CA], tmp_path: Path
) -> None:
    server, _ = tls_server
    if content:
        (tmp_path / "ca.pem").write_text(content)

    with pytest.raises(LinkBlocked, match="FASTMON_MONITOR_CA"):
        server.client(ca=tmp_path / "ca.pem").probe()


def test_tls_with_a_server_without_tls_is_link_down(server: Server) -> None:
    plain = sends("HTTP/1.1 400 Bad Request\r\n\r\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def respond_without_tls() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    plain(connection)

        thread = threading.Thread(target=respond_without_tls)
        thread.start()
        with pytest.raises(LinkDown):
            client(f"https://127.0.0.1:{listening.getsockname()[1]}").register_tf(TF)
        thread.join(20)


def test_a_connection_is_reused(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(201, ROW), says(400, EXISTS), says(200, [ROW])]

    monitor.register_tf(TF)
    monitor.register_tf(TF)

    assert server.connections == 1


def test_a_changed_token_is_used_at_the_next_call_and_an_empty_one_sends_no_header(server: Server) -> None:
    tokens = ["first\n", "second", ""]
    server.script = [says(201, ROW)] * 3
    monitor = server.client(token=lambda: tokens.pop(0))

    for _ in range(3):
        monitor.register_tf(TF)

    assert [headers.get("authorization") for _, headers, _ in server.requests] == ["Token first", "Token second", None]


def test_an_invalid_token_is_an_error_that_does_not_show_it(server: Server) -> None:
    monitor = server.client(token=lambda: "gar\nbled")

    with pytest.raises(LinkBlocked, match="SWF_API_TOKEN") as caught:
        monitor.probe()
    assert "bled" not in str(caught.value)


def test_a_response_that_is_too_long_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_daemon.monitor.transport.MAX_RESPONSE_BYTES", 1000)
    server.script = [says(200, " " * 2000)]

    with pytest.raises(LinkDown, match="longer than 1000 bytes"):
        server.client(timeout_s=SHORT).probe()


def test_a_proxy_is_used_except_for_loopback_and_the_hosts_in_no_proxy(server: Server) -> None:
    proxy = {"HTTP_PROXY": f"http://127.0.0.1:{server.port}"}
    server.script = [says(201, ROW)]

    client("http://monitor.invalid", environ=proxy).register_tf(TF)
    assert server.request_lines == ["POST http://monitor.invalid/api/fastmon-files/"]

    excluded = proxy | {"no_proxy": "example.org, .invalid"}
    for url in (f"http://127.0.0.1:{closed_port()}", f"http://localhost:{closed_port()}", "http://monitor.invalid"):
        with pytest.raises(LinkDown):
            client(url, environ=excluded).register_tf(TF)
    assert len(server.request_lines) == 1


def test_an_unreachable_proxy_is_link_down() -> None:
    proxy = {"http_proxy": f"http://127.0.0.1:{closed_port()}"}

    with pytest.raises(LinkDown):
        client("http://monitor.invalid", environ=proxy).register_tf(TF)


@pytest.mark.parametrize("url", ["monitor:8002", "ftp://monitor", "http://"])
def test_an_invalid_base_url_blocks_the_link(url: str) -> None:
    with pytest.raises(LinkBlocked, match="SWF_MONITOR_URL"):
        client(url).probe()


@pytest.mark.parametrize(
    "proxy", ["http://me:hush/hush@proxy:80", "http://me:hush@", "http://m[e:hush@proxy", "me:hush@:80"]
)
def test_an_invalid_proxy_blocks_the_link_and_its_password_is_not_shown(proxy: str) -> None:
    monitor = client("http://monitor.invalid", environ={"http_proxy": proxy})
    with pytest.raises(LinkBlocked, match="the proxy variables") as caught:
        monitor.register_tf(TF)
    assert "hush" not in str(caught.value)


def test_a_password_in_the_base_url_is_not_shown() -> None:
    with pytest.raises(LinkDown) as caught:
        client(f"http://me:hush@127.0.0.1:{closed_port()}").probe()
    assert "hush" not in str(caught.value)


def test_every_call_passes_its_failpoints(server: Server, monitor: MonitorClient) -> None:
    passed: list[str] = []
    server.script = [says(201, ROW)]
    set_hook(passed.append)
    try:
        monitor.register_tf(TF)
    finally:
        set_hook(None)
    assert passed == ["before_http", "after_http"]


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_an_endlessly_slow_response_ends_at_the_deadline(begin: bytes, server: Server) -> None:
    """Each byte arrives before the read timeout: only a deadline for the whole response ends it."""
    server.script = [dripping(begin)]
    monitor = server.client(deadline_s=0.4)

    with pytest.raises(LinkDown):
        monitor.probe()


def test_the_deadline_of_one_request_does_not_shorten_the_next(server: Server) -> None:
    seconds = itertools.count(0.0, 0.09)
    monitor = server.client(deadline_s=1.0, monotonic=lambda: next(seconds))
    server.script = [says(201, ROW)] * 20

    for _ in range(20):
        monitor.register_tf(TF)
    assert server.connections == 1


EMPTY_PAGE = {"count": 0, "next": None, "previous": None, "results": []}


@contextmanager
def all_connections_busy(server: Server, monitor: MonitorClient, then: list[Action]) -> Iterator[Future[object]]:
    """A call in flight on the only connection of *monitor*, answered at the end; *then* follows in the script."""
    requested, go_on = threading.Event(), threading.Event()

    def respond_late(connection: socket.socket) -> None:
        requested.set()
        go_on.wait(20)
        says(200, EMPTY_PAGE)(connection)

    server.script = [respond_late, *then]
    with ThreadPoolExecutor(1) as pool:
        call: Future[object] = pool.submit(monitor.stf_files, 7)  # a list, which has 5 s more than other calls
        try:
            assert requested.wait(20)
            yield call
        finally:
            go_on.set()
            call.exception(20)


def test_waiting_for_a_connection_ends_at_the_deadline_of_the_call(server: Server) -> None:
    monitor = server.client(deadline_s=0.2)
    with all_connections_busy(server, monitor, []) as call:
        with pytest.raises(LinkDown, match="not sent"):
            monitor.register_tf(TF)
        assert not call.done()
    assert len(server.request_lines) == 1


def test_a_waiting_call_is_sent_when_a_connection_is_free(server: Server) -> None:
    monitor = server.client()
    with ThreadPoolExecutor(1) as pool:
        with all_connections_busy(server, monitor, [says(201, ROW)]):
            waiting = pool.submit(monitor.register_tf, TF)
        assert waiting.result(20)[1] is None


def test_the_deadline_includes_the_time_spent_waiting_for_a_connection(server: Server) -> None:
    now, begun = [0.0], threading.Event()

    def monotonic() -> float:
        seconds = now[0]
        if threading.current_thread().name.startswith("waiting"):
            begun.set()
        return seconds

    monitor = server.client(timeout_s=(3.0, 900.0), deadline_s=1000.0,
        monotonic=monotonic,
    )  # fmt: skip
    with ThreadPoolExecutor(1, thread_name_prefix="waiting") as pool:
        with all_connections_busy(server, monitor, [hangs]):
            waiting = pool.submit(monitor.tf_files, "a.stf")
            assert begun.wait(20)
            now[0] = 999.5
        assert isinstance(waiting.exception(20), LinkDown)


def test_the_probe_does_not_wait_for_a_busy_connection(server: Server) -> None:
    """The probe must find out that the monitor is back even if all earlier calls hang."""
    monitor = server.client(deadline_s=20.0)
    with all_connections_busy(server, monitor, [says(200, EMPTY_PAGE), says(400, REQUIRED)]) as call:
        monitor.probe()
        assert not call.done()

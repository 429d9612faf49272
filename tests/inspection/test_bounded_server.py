"""The transport of the HTTP server: bounds of connections, bytes and time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests

from fastmon_daemon.inspection import bounded_server
from fastmon_daemon.inspection.bounded_server import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    BoundedRequestHandler,
    BoundedServer,
)
from fastmon_daemon.inspection.http_server import serve
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.settings import ListenAddress
from tests.builders import HandClock
from tests.inspection.builders import endpoints_for

HTTP_TOKEN = "0123456789abcdef"


@contextmanager
def served(metrics: Callable[[], bytes] = bytes, token: str = "") -> Iterator[ListenAddress]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = ListenAddress("127.0.0.1", free.getsockname()[1])
    endpoints = endpoints_for(Liveness(HandClock().clock().monotonic), WorkerErrors(), metrics=metrics)
    with serve(listen, endpoints.by_path(), WorkerErrors(), token):
        yield listen


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9100", 200), ("localhost:9100", 200), ("[::1]:9100", 200), ("192.0.2.7", 200), ("LOCALHOST.", 200),
        (socket.gethostname(), 200), ("evil.example", 421), ("127.0.0.1.evil.example:9100", 421), ("", 200),
        ("\x1b[2J", 421), ("[evil", 421),
    ],
)  # fmt: skip
def test_a_browser_that_was_led_here_by_another_name_gets_nothing(host: str, status: int) -> None:
    with served() as listen:
        answer = requests.get(f"http://{listen}/livez", headers={"Host": host} if host else {}, timeout=20)
        assert answer.status_code == status
        assert status == 200 or "alive" not in answer.text


def test_with_a_token_every_request_must_send_it() -> None:
    with served(token=HTTP_TOKEN) as listen:
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Token {HTTP_TOKEN}"}):
            answer = requests.get(f"http://{listen}/metrics", headers=headers, timeout=20)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert HTTP_TOKEN not in answer.text
        allowed = {"Authorization": f"Bearer {HTTP_TOKEN}", "Host": "any.example"}
        assert requests.get(f"http://{listen}/metrics", headers=allowed, timeout=20).status_code == 200


def connected(listen: ListenAddress, sent: bytes) -> socket.socket:
    client = socket.create_connection((listen.host, listen.port), timeout=20)
    client.sendall(sent)
    return client


def test_unfinished_requests_give_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_server, "REQUEST_DEADLINE_S", 100.0)
    monkeypatch.setattr(BoundedRequestHandler, "timeout", 100.0)
    with served() as listen, ExitStack() as stack:
        unfinished = [stack.enter_context(connected(listen, b"GET /met")) for _ in range(5 * MAX_CONNECTIONS)]
        for _ in range(3):
            assert requests.get(f"http://{listen}/healthz", timeout=20).status_code == 200
        for each in unfinished[: 4 * MAX_CONNECTIONS]:
            assert each.recv(1) == b"", "the oldest are closed"


def test_readers_that_have_asked_are_not_cut_and_one_more_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_server, "REQUEST_DEADLINE_S", 100.0)
    go_on, asked = threading.Event(), threading.Semaphore(0)

    class Slow(BoundedRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            asked.release()
            assert go_on.wait(60)
            self.wfile.write(b"x")

    server = BoundedServer(ListenAddress("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    listen = ListenAddress("127.0.0.1", server.server_port)
    with ExitStack() as stack:
        readers = [stack.enter_context(connected(listen, b"GET / HTTP/1.0\r\n\r\n")) for _ in range(MAX_CONNECTIONS)]
        for _ in readers:
            assert asked.acquire(timeout=60)
        with socket.create_connection((listen.host, listen.port), timeout=60) as latest:
            assert latest.recv(1) == b""
        go_on.set()
        assert [reader.recv(1) for reader in readers] == [b"x"] * MAX_CONNECTIONS
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("sent", [b"GET /metrics HTTP/1.0\r\n", b"GET /metrics HTTP/1.0\r\n\r\n"])
def test_a_connection_past_its_deadline_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it does not end its request, or does not read its response."""
    monkeypatch.setattr(bounded_server, "REQUEST_DEADLINE_S", 0.5)
    with served(lambda: "x" * 50_000_000) as listen, connected(listen, sent) as client:
        threading.Event().wait(2)
        received = 0
        try:
            while data := client.recv(1 << 20):
                received += len(data)
        except ConnectionError:
            pass
        assert received < 50_000_000


def test_a_request_longer_than_the_limit_is_not_read() -> None:
    with served() as listen, connected(listen, b"GET /metrics HTTP/1.0\r\nX: ") as client:
        with pytest.raises(ConnectionError):
            client.sendall(b"x" * 1000 * MAX_REQUEST_BYTES)
        assert requests.get(f"http://{listen}/healthz", timeout=20).status_code == 200


def test_a_request_of_exactly_the_limit_is_answered() -> None:
    lines = [b"GET /livez HTTP/1.0\r\n", b"X: \r\n", b"\r\n"]
    lines[1] = b"X: " + b"x" * (MAX_REQUEST_BYTES - len(b"".join(lines))) + b"\r\n"
    with served() as listen:
        for more, is_answered in (b"", True), (b"x", False):
            with connected(listen, lines[0] + b"X" + more + lines[1][1:] + lines[2]) as client:
                try:
                    answer = client.recv(1 << 16)
                except ConnectionError:
                    answer = b""
                assert answer.startswith(b"HTTP/1.0 200") == is_answered

"""The page's server under connections that ask without end: deadlines, places, log."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests
from loguru import logger

from fastmon_client.dashboard import connections
from fastmon_client.log_throttle import INTERVAL_S, LogThrottle, throttled_libraries
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import snapshot
from tests.processes import DEADLINE_S

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda text: lines.append(str(text)), format="{message}", level="WARNING")
    yield lines
    logger.remove(sink)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ASKING_S", 0.3)
    monkeypatch.setattr(connections, "READING_S", 0.5)


def connected(where: Served, text: bytes = b"") -> socket.socket:
    found = socket.create_connection(("127.0.0.1", where.port), DEADLINE_S)
    found.sendall(text)
    return found


def is_closed_by_server(sock: socket.socket) -> bool:
    """Whether the server closes it, after what it sends; fails at `DEADLINE_S`."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(
    "half",
    [b"", b"GET / HT", GET[:-2], b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken="],
)
def test_half_a_request_is_closed_at_the_deadline(short: None, half: bytes) -> None:
    with served(snapshot) as dashboard, connected(dashboard, half) as sock:
        assert is_closed_by_server(sock)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nX: ", GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 9999\r\n\r\n")]
)
def test_dripping_does_not_extend_the_deadline(short: None, first: bytes) -> None:
    with served(snapshot) as dashboard, connected(dashboard, first) as sock:
        end = time.monotonic() + DEADLINE_S
        try:
            while sock.send(b"x"):
                assert time.monotonic() < end
                time.sleep(0.02)
        except OSError:
            pass


def test_open_page_outlives_the_deadline(short: None) -> None:
    with (
        served(snapshot) as dashboard,
        requests.get(f"{dashboard.url}/events", timeout=DEADLINE_S, stream=True) as page,
    ):
        lines = (line for line in page.iter_lines() if line.startswith(b"event: "))
        assert [next(lines) for _ in range(3)] == [b"event: snapshot"] * 3  # one a second


def test_reader_that_takes_nothing_is_closed(short: None) -> None:
    huge = {**snapshot(), "monitor": "x" * 16_000_000}
    with served(lambda: huge) as dashboard, connected(dashboard, GET.replace(b"/", b"/events", 1)) as sock:
        time.sleep(1.5)
        assert is_closed_by_server(sock)


def test_new_requests_are_answered_beside_half_ones(log_lines: list[str]) -> None:
    with ExitStack() as stack:
        dashboard = stack.enter_context(served(snapshot))
        halves = [stack.enter_context(connected(dashboard, GET[:-2])) for _ in range(3 * connections.MAX_ASKERS)]
        assert requests.get(dashboard.url, timeout=DEADLINE_S).status_code == 200
        assert is_closed_by_server(halves[0])
    assert [line for line in log_lines if "unfinished requests" in line]
    assert len(log_lines) == 1


def test_new_page_opens_beside_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_READERS", 3)
    with ExitStack() as stack:
        dashboard = stack.enter_context(served(snapshot))
        for _ in range(6):
            page = stack.enter_context(requests.get(f"{dashboard.url}/events", timeout=DEADLINE_S, stream=True))
            assert next(page.iter_lines()) == b"event: snapshot"


@pytest.mark.parametrize("headers", [b"X: " + b"x" * 1_000_000, b"X: y\r\n" * 200_000])
def test_long_headers_are_refused(headers: bytes) -> None:
    with served(snapshot) as dashboard, connected(dashboard) as sock:
        try:
            sock.sendall(b"GET / HTTP/1.1\r\n" + headers)
            answer = sock.recv(65536)
        except ConnectionError:
            return
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_bad_requests_make_one_line_of_log(log_lines: list[str]) -> None:
    with throttled_libraries(), served(snapshot) as dashboard:
        for _ in range(20):
            with connected(dashboard, b"\x16\x03\x01\r\n\r\n") as sock:
                assert is_closed_by_server(sock)
    assert log_lines == ["Invalid HTTP request received.\n"]


def test_throttle_counts_what_it_held_back(log_lines: list[str]) -> None:
    now = 0.0
    log = LogThrottle(lambda: now)
    for _ in range(10):
        log.record("a", "first subject")
    log.record("b", "second subject")
    now += INTERVAL_S
    log.record("a", "first subject")
    assert log_lines == ["first subject\n", "second subject\n", "first subject (9 more since the last line)\n"]


def test_errors_of_libraries_have_no_traceback(log_lines: list[str]) -> None:
    import logging

    with throttled_libraries():
        for _ in range(5):
            try:
                raise OSError(24, "Too many open files")
            except OSError:
                logging.getLogger("asyncio").exception("socket.accept() out of system resource\nsocket: %s", 5)
    assert log_lines == ["socket.accept() out of system resource: OSError(24, 'Too many open files')\n"]

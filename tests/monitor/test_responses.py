"""`Retry-After`, and unknown outcomes: what is looked up, and whether the STF or the link is at fault."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from fastmon_daemon.base.errors import LinkDown, TransientError
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.monitor.responses import Response, classify_response
from tests.monitor.scripted_monitor import HTML, ROW, SHORT, TF, Action, Server, drips, hangs, resets, says, sends


@pytest.mark.parametrize("status", [425, 429])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "120"},
        {"Retry_After": "Sat, 21 Nov 2026 22:04:38 GMT", "Date": "Sat, 21 Nov 2026 22:02:38 GMT"},
    ],
)
def test_too_many_requests_is_link_down_with_the_seconds_of_retry_after(
    status: int, headers: dict[str, str], server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(status, "slow down", **headers)]

    with pytest.raises(LinkDown, match="too many requests") as caught:
        monitor.register_tf(TF)
    assert type(caught.value) is LinkDown
    assert caught.value.retry_after_s == 120


def test_nothing_is_sent_before_retry_after_has_passed(server: Server) -> None:
    now = [1000.0]
    server.script = [says(429, "slow down", Retry_After="120"), says(201, ROW)]
    monitor = server.client(monotonic=lambda: now[0])

    for seconds in (0.0, 60.0, 59.0):
        now[0] += seconds
        with pytest.raises(LinkDown):
            monitor.register_tf(TF)
        with pytest.raises(LinkDown):
            monitor.probe()
    assert len(server.request_lines) == 1
    now[0] += 1.5
    assert monitor.register_tf(TF)[1] is None


def test_a_later_shorter_retry_after_does_not_end_a_longer_one(server: Server) -> None:
    now = [1000.0]
    both_requested, long_received = threading.Barrier(2), threading.Event()

    def long(connection: socket.socket) -> None:
        both_requested.wait(20)
        says(429, "slow down", Retry_After="120")(connection)

    def short(connection: socket.socket) -> None:
        both_requested.wait(20)
        long_received.wait(20)
        says(429, "slow down", Retry_After="1")(connection)

    server.script = [long, short, says(201, ROW)]
    monitor = server.client(connections=2, monotonic=lambda: now[0])
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(monitor.register_tf, TF) for _ in range(2)]
        wait(calls, return_when=FIRST_COMPLETED)
        long_received.set()
        assert all(isinstance(call.exception(20), LinkDown) for call in calls)
    now[0] += 60.0
    with pytest.raises(LinkDown, match="60 s left"):
        monitor.register_tf(TF)
    assert len(server.request_lines) == 2


@pytest.mark.parametrize("headers", [{"Retry_After": "soon"}, {}])
def test_an_invalid_retry_after_is_none_and_the_next_request_is_sent(
    headers: dict[str, str], server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(429, "slow down", **headers), says(201, ROW)]

    with pytest.raises(LinkDown) as caught:
        monitor.register_tf(TF)
    assert caught.value.retry_after_s is None
    assert monitor.register_tf(TF)[1] is None


def test_a_retry_after_of_non_ascii_digits_is_none() -> None:
    error = classify_response(Response(429, {"Retry-After": "\u00b2"}, ""), "fastmon-files/", "POST")
    assert isinstance(error, LinkDown)
    assert error.retry_after_s is None


UNKNOWN = [
    pytest.param(says(500, "<h1>Server Error (500)</h1>"), id="500"),
    pytest.param(says(503, HTML), id="503"),
    pytest.param(says(408, ""), id="408"),
    pytest.param(says(200, HTML), id="html-with-200"),
    pytest.param(says(201, '{"tf_file_id": '), id="bad-json-with-201"),
    pytest.param(says(201, {"id": 1}), id="other-shape-with-201"),
    pytest.param(says(204), id="204"),
    pytest.param(resets, id="reset"),
    pytest.param(sends(""), id="closed-without-an-answer"),
    pytest.param(sends("nonsense\r\n\r\n"), id="no-http"),
    pytest.param(sends("HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"), id="cut-short"),
    pytest.param(sends("HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\n{"), id="400-cut-short"),
    pytest.param(sends("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"), id="chunk-cut-short"),
    pytest.param(hangs, id="timeout"),
    pytest.param(drips, id="drip"),
]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_whose_tf_is_registered_is_success(unknown: Action, server: Server) -> None:
    server.script = [unknown, says(200, [ROW])]

    registered, difference = server.client(timeout_s=SHORT, deadline_s=0.5).register_tf(TF)

    assert (registered.tf_file_id, difference) == (ROW["tf_file_id"], None)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_whose_tf_is_not_registered_is_a_failure_of_the_stf(unknown: Action, server: Server) -> None:
    server.script = [unknown, says(200, [])]

    with pytest.raises(TransientError) as caught:
        server.client(timeout_s=SHORT, deadline_s=0.5).register_tf(TF)
    assert not isinstance(caught.value, LinkDown)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_that_cannot_be_looked_up_is_link_down(unknown: Action, server: Server) -> None:
    server.script = [unknown, unknown]

    with pytest.raises(LinkDown):
        server.client(timeout_s=SHORT, deadline_s=0.5).register_tf(TF)


def test_a_login_page_instead_of_a_monitor_is_link_down(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(201, ROW), *[says(200, HTML)] * 4]
    assert monitor.register_tf(TF)[1] is None

    for call in (lambda: monitor.register_tf(TF), lambda: monitor.tf_files("a.stf"), monitor.probe):
        with pytest.raises(LinkDown, match="unexpected content"):
            call()
    assert len(server.request_lines) == 5


def test_a_503_carries_its_retry_after(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(503, HTML, Retry_After="30"), says(200, [])]

    with pytest.raises(TransientError) as caught:
        monitor.register_tf(TF)
    assert caught.value.retry_after_s == 30

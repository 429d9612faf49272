"""Answers that put off, and outcomes that nobody knows: what is looked up, and whose fault it was."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from fastmon_daemon.base.errors import LinkDown, TransientError
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.monitor.responses import Response, classify_response
from tests.monitor.scripted import (
    HTML,
    ROW,
    TF,
    TOKEN,
    Action,
    Server,
    drips,
    hangs,
    impatient,
    resets,
    says,
    sends,
)


@pytest.mark.parametrize("status", [425, 429])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "120"},
        {"Retry_After": "Sat, 21 Nov 2026 22:04:38 GMT", "Date": "Sat, 21 Nov 2026 22:02:38 GMT"},
    ],
)
def test_later_is_the_links_fault_and_carries_what_retry_after_asks(
    status: int, headers: dict[str, str], server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(status, "slow down", **headers)]

    with pytest.raises(LinkDown, match="asks for patience") as caught:
        monitor.register_tf(TF)
    assert type(caught.value) is LinkDown
    assert caught.value.retry_after_s == 120


def test_nothing_is_sent_before_the_patience_that_was_asked_for_is_over(server: Server) -> None:
    now = [1000.0]
    server.script = [says(429, "slow down", Retry_After="120"), says(201, ROW)]
    monitor = MonitorClient(f"http://127.0.0.1:{server.port}", lambda: TOKEN, connections=1, monotonic=lambda: now[0])

    for seconds in (0.0, 60.0, 59.0):
        now[0] += seconds
        with pytest.raises(LinkDown):
            monitor.register_tf(TF)
        with pytest.raises(LinkDown):
            monitor.probe()
    assert len(server.asked) == 1
    now[0] += 1.5
    assert monitor.register_tf(TF)[1] is None
    monitor.close()


def test_a_shorter_patience_that_is_asked_for_later_does_not_end_a_longer_one(server: Server) -> None:
    now = [1000.0]
    both_asked, long_heard = threading.Barrier(2), threading.Event()

    def long(connection: socket.socket) -> None:
        both_asked.wait(20)
        says(429, "slow down", Retry_After="120")(connection)

    def short(connection: socket.socket) -> None:
        both_asked.wait(20)
        long_heard.wait(20)
        says(429, "slow down", Retry_After="1")(connection)

    server.script = [long, short, says(201, ROW)]
    monitor = MonitorClient(f"http://127.0.0.1:{server.port}", lambda: TOKEN, connections=2, monotonic=lambda: now[0])
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(monitor.register_tf, TF) for _ in range(2)]
        wait(calls, return_when=FIRST_COMPLETED)
        long_heard.set()
        assert all(isinstance(call.exception(20), LinkDown) for call in calls)
    now[0] += 60.0
    with pytest.raises(LinkDown, match="60 s more"):
        monitor.register_tf(TF)
    assert len(server.asked) == 2
    monitor.close()


@pytest.mark.parametrize("asked", [{"Retry_After": "soon"}, {}])
def test_a_retry_after_that_cannot_be_read_is_none_and_the_next_request_is_sent(
    asked: dict[str, str], server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(429, "slow down", **asked), says(201, ROW)]

    with pytest.raises(LinkDown) as caught:
        monitor.register_tf(TF)
    assert caught.value.retry_after_s is None
    assert monitor.register_tf(TF)[1] is None


def test_a_retry_after_of_digits_that_are_no_number_is_none() -> None:
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
def test_an_unknown_outcome_that_stands_is_done(unknown: Action, server: Server) -> None:
    server.script = [unknown, says(200, [ROW])]

    standing, difference = impatient(server, deadline_s=0.5).register_tf(TF)

    assert (standing.tf_file_id, difference) == (ROW["tf_file_id"], None)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_that_does_not_stand_is_this_stfs_own_attempt(unknown: Action, server: Server) -> None:
    server.script = [unknown, says(200, [])]

    with pytest.raises(TransientError) as caught:
        impatient(server, deadline_s=0.5).register_tf(TF)
    assert not isinstance(caught.value, LinkDown)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_outcome_that_cannot_be_looked_up_is_the_links_fault(unknown: Action, server: Server) -> None:
    server.script = [unknown, unknown]

    with pytest.raises(LinkDown):
        impatient(server, deadline_s=0.5).register_tf(TF)


def test_a_login_page_in_the_place_of_a_monitor_that_answered_before_is_the_links_fault(
    server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(201, ROW), *[says(200, HTML)] * 4]
    assert monitor.register_tf(TF)[1] is None

    for call in (lambda: monitor.register_tf(TF), lambda: monitor.tf_files("a.stf"), monitor.probe):
        with pytest.raises(LinkDown, match="not what a monitor says"):
            call()
    assert len(server.asked) == 5


def test_a_503_hands_on_its_retry_after(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(503, HTML, Retry_After="30"), says(200, [])]

    with pytest.raises(TransientError) as caught:
        monitor.register_tf(TF)
    assert caught.value.retry_after_s == 30

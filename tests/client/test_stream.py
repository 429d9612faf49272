"""The stream against a misbehaving server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import pytest
import trustme
from tenacity import RetryCallState

from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.retrying import ConnectionEnded, reconnect
from fastmon_client.stream import Connected, Disconnected, HeartBeat, Notice, Stream
from tests.builders import logged
from tests.client.scripted_server import (
    CHUNKED,
    DEADLINE_S,
    OPEN,
    ScriptedServer,
    certified,
    chunk,
    event,
    notices_of,
    status_response,
    trust_in,
)  # fmt: skip
from tests.processes import wait_until

SECRET = "5ecre7" * 6
SOON = Intervals(reconnect_s=0.01)


@pytest.fixture
def log() -> Iterator[list[str]]:
    with logged("DEBUG") as lines:
        yield lines
    assert SECRET not in "".join(lines)


def stream_of(server: ScriptedServer, *, ca: str | None = None, **changes: Any) -> Stream:
    monitor = MonitorSession(url=server.url, token=lambda: SECRET, trust=trust_in(ca))
    return Stream(**{"monitor": monitor, "intervals": SOON, "jitter": lambda: 0.0} | changes)


def first(stream: Stream, count: int, log: list[str] | None = None) -> list[dict[str, Any]]:
    """The first messages; losses before them are appended to *log*."""
    messages = []
    with closing(notices_of(stream)) as notices:
        for notice in notices:
            if isinstance(notice, Disconnected) and log is not None:
                log.append(f"stream lost: {notice.reason}; reconnecting in {notice.wait_s:.0f} s\n")
            if isinstance(notice, dict):
                messages.append(notice)
            if len(messages) == count:
                break
    return messages


def holding(*pieces: bytes) -> Callable[[socket.socket], None]:
    """A response that stays open."""

    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        connection.recv(1)

    return answer


def byte_by_byte(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


@pytest.mark.parametrize(
    "pieces",
    [
        [OPEN, event('{"a": 1}')],
        byte_by_byte(OPEN + b"\xef\xbb\xbf" + event('{"a": 1}')),
        [OPEN, event('{"a": 1}').replace(b"\n", b"\r\n")],
        [CHUNKED, chunk(event('{"a": 1}'))],
        [CHUNKED, *(chunk(byte) for byte in byte_by_byte(event('{"a": 1}')))],
        [OPEN, event("{}", "connected"), event("{}", "heartbeat"), b": comment\n\n", event('{"a": 1}')],
    ],
    ids=["plain", "byte-bom", "crlf", "chunked", "byte-chunks", "others-before"],
)
def test_event_is_returned_from_an_open_response(pieces):
    with ScriptedServer(holding(*pieces)) as server:
        assert first(stream_of(server), 1) == [{"a": 1}]


def test_megabyte_in_small_chunks_is_one_event():
    long = {str(number): "ü\u2028" * 100 for number in range(1500)}
    sent = OPEN + event(json.dumps(long, ensure_ascii=False))
    with ScriptedServer(holding(*(sent[at : at + 128] for at in range(0, len(sent), 128)))) as server:
        assert first(stream_of(server), 1) == [long]


@pytest.mark.parametrize("cut", [[OPEN, b'data: {"a": 1}\n'], [CHUNKED, chunk(event("{}"))[:-9]], [OPEN[:20]], []])
def test_truncated_response_is_followed_by_a_reconnect(cut, log):
    with ScriptedServer(cut, holding(OPEN, event('{"b": 2}'))) as server:
        assert first(stream_of(server), 1, log) == [{"b": 2}]
    assert any(text.startswith("stream lost: ") for text in log)


def test_clean_end_is_followed_by_a_reconnect(log):
    with ScriptedServer([OPEN, event('{"a": 1}')], holding(OPEN, event('{"b": 2}'))) as server:
        assert first(stream_of(server, intervals=Intervals()), 2, log) == [{"a": 1}, {"b": 2}]
    assert "stream lost: the monitor closed the stream; reconnecting in 1 s\n" in log


def test_stream_without_data_is_dead(log):
    with ScriptedServer(holding(OPEN, event('{"a": 1}')), holding(OPEN, event('{"b": 2}'))) as server:
        assert first(stream_of(server, intervals=Intervals(heart_beat_s=0.2, reconnect_s=0.01)), 2, log) == [
            {"a": 1},
            {"b": 2},
        ]
    assert any("no data from the monitor in time" in text for text in log)


def test_invalid_event_is_skipped(log):
    events = [event(data) for data in ("half{", "[1]", "null", "[" * 100_000, '{"a": NaN}')]
    with ScriptedServer(holding(OPEN, *events)) as server:
        assert first(stream_of(server), 1) == [{"a": None}]
    assert sum("skipped" in text for text in log) == 1  # the others are counted, see LogThrottle


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_rejected_token_raises_with_a_hint(status, log):
    with (
        ScriptedServer(status_response(status)) as server,
        pytest.raises(AccessDenied, match="SWF_API_TOKEN") as denied,
    ):
        first(stream_of(server), 1)
    assert denied.value.by_token
    assert SECRET not in str(denied.value)


@pytest.mark.parametrize(
    "answer",
    [
        status_response("404 Not Found"),
        status_response("302 Found"),
        status_response("200 OK", "Content-Type: text/html"),
    ],
)
def test_response_that_is_no_stream_ends_the_first_connection(answer):
    with ScriptedServer(answer) as server, pytest.raises(AccessDenied, match="SWF_MONITOR_URL") as denied:
        first(stream_of(server), 1)
    assert not denied.value.by_token


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status_response("404 Not Found"), "404"), (status_response("302 Found"), "302"),
        (status_response("500 Oops"), "500"),
        (status_response("200 OK", "Content-Type: text/html"), "200"), (status_response("401 Unauthorized"), None),
    ],
    ids=["404", "302", "500", "login page", "token"],
)  # fmt: skip
def test_response_that_is_no_stream_is_retried_after_the_first_connection(answer, reason, log):
    with ScriptedServer([OPEN, event("{}")], answer, holding(OPEN, event('{"b": 2}'))) as server:
        if reason is None:  # a rejected token needs an operator
            with pytest.raises(AccessDenied, match="SWF_API_TOKEN"):
                first(stream_of(server), 2)
            return
        assert first(stream_of(server), 2, log) == [{}, {"b": 2}]
    assert any(text.startswith(f"stream lost: monitor answered {reason}; ") for text in log)


def test_missing_token_file_is_retried_after_the_first_connection(log):
    tokens = iter([SECRET, None, SECRET])

    def token() -> str:
        found = next(tokens)
        if found is None:
            raise AccessDenied("SWF_API_TOKEN_FILE: name a readable file")
        return found

    with ScriptedServer([OPEN, event("{}")], holding(OPEN, event('{"b": 2}'))) as server:
        monitor = MonitorSession(url=server.url, token=token)
        assert first(stream_of(server, monitor=monitor), 2, log) == [{}, {"b": 2}]
    assert any("SWF_API_TOKEN_FILE" in text for text in log)


def test_wait_grows_with_each_loss_and_resets_after_a_connection_that_lasted():
    def lasting(connection: socket.socket) -> None:
        connection.sendall(OPEN)
        threading.Event().wait(0.3)

    oops, intervals = status_response("500 Oops"), Intervals(reconnect_s=0.01, stable_s=0.2)
    with (
        ScriptedServer(oops, [OPEN], [OPEN, event("{}")], lasting, oops) as server,
        closing(notices_of(stream_of(server, jitter=lambda: 1.0, intervals=intervals))) as notices,
    ):
        waits = [notice.wait_s for notice in islice((each for each in notices if isinstance(each, Disconnected)), 5)]
    assert waits == pytest.approx([0.02, 0.04, 0.08, 0.02, 0.04])


def test_comments_are_heart_beats():
    with (
        ScriptedServer(holding(OPEN, b": ping\n")) as server,
        closing(notices_of(stream_of(server))) as notices,
    ):
        assert list(islice(notices, 2)) == [Connected(), HeartBeat()]


def test_request_contains_the_message_types():
    with ScriptedServer(holding(OPEN, event("{}"))) as server:
        first(stream_of(server, types=("a", "b")), 1)
    assert server.requests[0].startswith("GET /api/messages/stream/?msg_types=a%2Cb ")


def test_reason_of_a_drop_is_reported_once():
    with ScriptedServer(holding(OPEN, event("{}")), [OPEN]) as server:
        stream = stream_of(server)
        with closing(notices_of(stream)) as notices:
            next(notice for notice in notices if isinstance(notice, dict))
            stream.drop("nothing came")
            losses = (notice.reason for notice in notices if isinstance(notice, Disconnected))
            assert [next(losses), next(losses)] == ["nothing came", "the monitor closed the stream"]


IN_3_S = "Retry-After: Sat, 21 Nov 2026 22:02:41 GMT\r\nDate: Sat, 21 Nov 2026 22:02:38 GMT"


@pytest.mark.parametrize(
    "answer",
    [status_response("503 Busy", "Retry-After: 3"), status_response("503 Busy", IN_3_S), [OPEN, b"retry: 3000\n\n"]],
    ids=["header", "date", "field"],
)
def test_requested_wait_is_respected(answer):
    assert wait_for_loss(answer) == 3


@pytest.mark.parametrize(
    ("until", "wait_s"),
    [
        ("Thu, 26 Nov 2026 11:00:00 GMT", 1),
        ("Sat, 26 Dec 2026 12:00:00 GMT", 300),
        ("Thu, 26 Nov 2026 12:00:03 -0000", 1),
        ("soon", 1),
    ],
    ids=["over", "far ahead", "without a zone", "none"],
)
def test_retry_after_date_is_respected_within_limits(until, wait_s):
    answer = status_response("503 Busy", "Date: Thu, 26 Nov 2026 12:00:00 GMT", f"Retry-After: {until}")
    assert wait_for_loss(answer) == wait_s


def wait_for_loss(answer: Any) -> float:
    with ScriptedServer(answer) as server, closing(notices_of(stream_of(server, intervals=Intervals()))) as notices:
        return next(notice for notice in notices if isinstance(notice, Disconnected)).wait_s


@pytest.mark.parametrize(("jitter", "longest"), [(0.0, 1), (1.0, 30)])
def test_wait_grows_to_30_s_with_full_jitter(jitter, longest):
    policy = reconnect(1.0, lambda: jitter)
    state = RetryCallState(policy, None, (), {})
    pauses = []
    for state.attempt_number in (1, 5, 5000):
        state.set_exception((ConnectionEnded, ConnectionEnded("lost"), None))
        pauses.append(policy.wait(state))
    assert pauses == [1 + jitter, longest, longest]


def test_heart_beats_are_not_messages():
    beats = [event("{}", "connected"), event("{}", "heartbeat")]
    with (
        ScriptedServer(holding(OPEN, *beats, event("{}"))) as server,
        closing(notices_of(stream_of(server))) as notices,
    ):
        assert list(islice(notices, 4)) == [Connected(), HeartBeat(), HeartBeat(), {}]


def test_dropped_stream_reconnects():
    with ScriptedServer(holding(OPEN, event('{"a": 1}')), holding(OPEN, event('{"b": 2}'))) as server:
        stream = stream_of(server)
        with closing(notices_of(stream)) as notices:
            assert next(notice for notice in notices if isinstance(notice, dict)) == {"a": 1}
            stream.drop("nothing came")
            assert next(notice for notice in notices if isinstance(notice, Disconnected)).reason == "nothing came"
            assert next(notice for notice in notices if isinstance(notice, dict)) == {"b": 2}


def assert_stop_ends(stream: Stream, is_waiting: Callable[[list[Notice]], object]) -> None:
    """Assert that `stop` ends a reader of *stream* that received some notices and is waiting."""
    received: list[Notice] = []
    reader = threading.Thread(target=lambda: received.extend(notices_of(stream)), daemon=True)
    reader.start()
    wait_until(lambda: is_waiting(received), "the reader waits")
    stream.stop()
    reader.join(DEADLINE_S)
    assert not reader.is_alive()


def test_stop_ends_a_wait_for_the_response():
    with ScriptedServer(lambda _connection: server.over.wait(DEADLINE_S)) as server:
        assert_stop_ends(stream_of(server), lambda _received: server.requests)


def test_stop_ends_a_wait_to_reconnect():
    with ScriptedServer(status_response("503 Busy", "Retry-After: 300")) as server:
        assert_stop_ends(stream_of(server), lambda received: received)


@pytest.mark.parametrize("secure", [False, True])
def test_stop_ends_an_open_stream(secure, tmp_path):
    tls, ca = certified(tmp_path) if secure else (None, None)
    with ScriptedServer(holding(OPEN, event('{"a": 1}')), tls=tls) as server:
        assert_stop_ends(stream_of(server, ca=ca), lambda received: {"a": 1} in received)


def test_unknown_ca_raises_with_a_hint(tmp_path):
    tls, _ca = certified(tmp_path)
    with ScriptedServer([], tls=tls) as server, pytest.raises(AccessDenied, match="FASTMON_MONITOR_CA"):
        first(stream_of(server), 1)


def test_invalid_certificate_is_retried_after_the_first_connection(tmp_path):
    tls, ca = certified(tmp_path)
    with (
        ScriptedServer([OPEN, event('{"a": 1}')], [], tls=tls) as server,
        closing(notices_of(stream_of(server, ca=ca))) as notices,
    ):
        assert next(notice for notice in notices if isinstance(notice, dict)) == {"a": 1}
        trustme.CA().issue_cert("localhost").configure_cert(tls)
        reasons = [notice.reason for notice in islice((each for each in notices if isinstance(each, Disconnected)), 2)]
    assert reasons[0] == "the monitor closed the stream"
    assert "is not trusted (unable to get local issuer certificate)" in reasons[1]

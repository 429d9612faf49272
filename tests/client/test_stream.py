"""The stream's reader against a server that misbehaves byte by byte."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import pytest
import trustme
from loguru import logger

from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.stream import Connected, Disconnected, HeartBeat, Stream, reconnect_wait
from tests.client.scripted_server import (
    CHUNKED,
    DEADLINE_S,
    OPEN,
    ScriptedServer,
    chunk,
    event,
    notices_of,
    status_response,
)

SECRET = "5ecre7" * 6
SOON = Intervals(reconnect_s=0.01)


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(number)
    assert SECRET not in "".join(lines)


def stream_of(server: ScriptedServer, *, ca: str | None = None, **changes: Any) -> Stream:
    access = MonitorSession(url=server.url, token=lambda: SECRET, ca=ca)
    return Stream(**{"monitor": access, "intervals": SOON, "jitter": lambda: 0.0} | changes)


def first(stream: Stream, count: int, said: list[str] | None = None) -> list[dict[str, Any]]:
    """The first messages; what was lost before is *said*."""
    messages = []
    with closing(notices_of(stream)) as notices:
        for notice in notices:
            if isinstance(notice, Disconnected) and said is not None:
                said.append(f"stream lost: {notice.reason}; reconnecting in {notice.wait_s:.0f} s\n")
            if isinstance(notice, dict):
                messages.append(notice)
            if len(messages) == count:
                break
    return messages


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def holding(*pieces: bytes) -> Callable[[socket.socket], None]:
    """An answer that is not ended: whoever waits for its end waits in vain."""

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
def test_an_event_appears_while_the_response_goes_on(pieces):
    with ScriptedServer(holding(*pieces)) as server:
        assert first(stream_of(server), 1) == [{"a": 1}]


def test_a_megabyte_in_small_pieces_is_one_event():
    long = {"a": "ü\u2028" * 200_000}
    sent = OPEN + event(json.dumps(long, ensure_ascii=False))
    with ScriptedServer(holding(*(sent[at : at + 128] for at in range(0, len(sent), 128)))) as server:
        assert first(stream_of(server), 1) == [long]


@pytest.mark.parametrize("cut", [[OPEN, b'data: {"a": 1}\n'], [CHUNKED, chunk(event("{}"))[:-9]], [OPEN[:20]], []])
def test_a_cut_in_the_middle_shows_nothing_and_the_next_connection_goes_on(cut, said):
    with ScriptedServer(cut, holding(OPEN, event('{"b": 2}'))) as server:
        assert first(stream_of(server), 1, said) == [{"b": 2}]
    assert any(text.startswith("stream lost: ") for text in said)


def test_a_clean_end_is_followed_by_a_new_connection(said):
    with ScriptedServer([OPEN, event('{"a": 1}')], holding(OPEN, event('{"b": 2}'))) as server:
        assert first(stream_of(server, intervals=Intervals()), 2, said) == [{"a": 1}, {"b": 2}]
    assert "stream lost: closed by the monitor; reconnecting in 1 s\n" in said


def test_a_stream_without_a_byte_is_dead(said):
    with ScriptedServer(holding(OPEN, event('{"a": 1}')), holding(OPEN, event('{"b": 2}'))) as server:
        assert first(stream_of(server, intervals=Intervals(heart_beat_s=0.2, reconnect_s=0.01)), 2, said) == [
            {"a": 1},
            {"b": 2},
        ]
    assert any("timed out" in text for text in said)


def test_what_is_no_json_object_is_skipped_and_the_connection_goes_on(said):
    events = [event(data) for data in ("half{", "[1]", "null", "[" * 100_000, '{"a": NaN}')]
    with ScriptedServer(holding(OPEN, *events)) as server:
        assert first(stream_of(server), 1) == [{"a": None}]
    assert sum("skipped" in text for text in said) == 4


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refused_token_ends_with_the_remedy(status, said):
    with (
        ScriptedServer(status_response(status)) as server,
        pytest.raises(AccessDenied, match="SWF_API_TOKEN") as refused,
    ):
        first(stream_of(server), 1)
    assert refused.value.by_token
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        status_response("404 Not Found"),
        status_response("302 Found"),
        status_response("200 OK", "Content-Type: text/html"),
    ],
)
def test_an_answer_that_is_no_stream_ends_a_first_connection(answer):
    with ScriptedServer(answer) as server, pytest.raises(AccessDenied, match="SWF_MONITOR_URL") as refused:
        first(stream_of(server), 1)
    assert not refused.value.by_token


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status_response("404 Not Found"), "404"), (status_response("302 Found"), "302"),
        (status_response("500 Oops"), "500"),
        (status_response("200 OK", "Content-Type: text/html"), "200"), (status_response("401 Unauthorized"), None),
    ],
    ids=["404", "302", "500", "login page", "token"],
)  # fmt: skip
def test_an_answer_that_is_no_stream_is_tried_again_after_a_first_connection(answer, reason, said):
    with ScriptedServer([OPEN, event("{}")], answer, holding(OPEN, event('{"b": 2}'))) as server:
        if reason is None:  # the token is another matter: only a person can mend it
            with pytest.raises(AccessDenied, match="SWF_API_TOKEN"):
                first(stream_of(server), 2)
            return
        assert first(stream_of(server), 2, said) == [{}, {"b": 2}]
    assert any(text.startswith(f"stream lost: monitor answered {reason}; ") for text in said)


def test_a_token_file_that_is_gone_for_a_while_ends_nothing_after_a_first_connection(said):
    tokens = iter([SECRET, None, SECRET])

    def token() -> str:
        found = next(tokens)
        if found is None:
            raise AccessDenied("SWF_API_TOKEN_FILE: name a readable file")
        return found

    with ScriptedServer([OPEN, event("{}")], holding(OPEN, event('{"b": 2}'))) as server:
        access = MonitorSession(url=server.url, token=token)
        assert first(stream_of(server, monitor=access), 2, said) == [{}, {"b": 2}]
    assert any("SWF_API_TOKEN_FILE" in text for text in said)


def test_the_wait_grows_with_each_loss_and_begins_anew_after_a_connection():
    with (
        ScriptedServer(
            status_response("500 Oops"), status_response("500 Oops"), [OPEN], status_response("500 Oops")
        ) as server,
        closing(notices_of(stream_of(server, jitter=lambda: 1.0))) as notices,
    ):
        waits = [notice.wait_s for notice in islice((each for each in notices if isinstance(each, Disconnected)), 4)]
    assert waits == pytest.approx([0.02, 0.04, 0.02, 0.04])


def test_the_server_is_asked_for_the_types_that_are_filter():
    with ScriptedServer(holding(OPEN, event("{}"))) as server:
        first(stream_of(server, types=("a", "b")), 1)
    assert server.requests[0].startswith("GET /api/messages/stream/?msg_types=a%2Cb ")


def test_the_reason_for_which_a_stream_was_given_up_is_told_once():
    with ScriptedServer(holding(OPEN, event("{}")), [OPEN]) as server:
        stream = stream_of(server)
        with closing(notices_of(stream)) as notices:
            next(notice for notice in notices if isinstance(notice, dict))
            stream.drop("nothing came")
            losses = (notice.reason for notice in notices if isinstance(notice, Disconnected))
            assert [next(losses), next(losses)] == ["nothing came", "closed by the monitor"]


IN_3_S = "Retry-After: Sat, 21 Nov 2026 22:02:41 GMT\r\nDate: Sat, 21 Nov 2026 22:02:38 GMT"


@pytest.mark.parametrize(
    "answer",
    [status_response("503 Busy", "Retry-After: 3"), status_response("503 Busy", IN_3_S), [OPEN, b"retry: 3000\n\n"]],
    ids=["header", "date", "field"],
)
def test_the_wait_that_the_monitor_asks_for_is_kept(answer):
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
def test_a_date_until_which_the_monitor_asks_for_a_wait_is_kept_within_bounds(until, wait_s):
    said = status_response("503 Busy", "Date: Thu, 26 Nov 2026 12:00:00 GMT", f"Retry-After: {until}")
    assert wait_for_loss(said) == wait_s


def wait_for_loss(answer: Any) -> float:
    with ScriptedServer(answer) as server, closing(notices_of(stream_of(server, intervals=Intervals()))) as notices:
        return next(notice for notice in notices if isinstance(notice, Disconnected)).wait_s


@pytest.mark.parametrize(("jitter", "longest"), [(0.0, 1), (1.0, 30)])
def test_the_wait_grows_to_30_s_with_full_jitter_and_for_ever(jitter, longest):
    assert [reconnect_wait(losses, 0.0, jitter, 1.0) for losses in (1, 5, 5000)] == [1 + jitter, longest, longest]


def test_heart_beats_are_told_and_are_no_messages():
    beats = [event("{}", "connected"), event("{}", "heartbeat")]
    with (
        ScriptedServer(holding(OPEN, *beats, event("{}"))) as server,
        closing(notices_of(stream_of(server))) as notices,
    ):
        assert list(islice(notices, 4)) == [Connected(), HeartBeat(), HeartBeat(), {}]


def test_a_stream_that_is_given_up_goes_on_with_a_new_connection():
    with ScriptedServer(holding(OPEN, event('{"a": 1}')), holding(OPEN, event('{"b": 2}'))) as server:
        stream = stream_of(server)
        with closing(notices_of(stream)) as notices:
            assert next(notice for notice in notices if isinstance(notice, dict)) == {"a": 1}
            stream.drop("nothing came")
            assert next(notice for notice in notices if isinstance(notice, Disconnected)).reason == "nothing came"
            assert next(notice for notice in notices if isinstance(notice, dict)) == {"b": 2}


def test_stop_ends_a_wait_for_the_answer():
    with ScriptedServer(lambda _connection: server.over.wait(DEADLINE_S)) as server:
        stream = stream_of(server)
        reader = in_thread(lambda: first(stream, 1))
        assert server.asked.acquire(timeout=DEADLINE_S)
        stream.stop()
        reader.join(DEADLINE_S)
        assert not reader.is_alive()


def test_stop_ends_a_wait_to_reconnect():
    with ScriptedServer(status_response("503 Busy", "Retry-After: 300")) as server:
        stream, lost = stream_of(server), threading.Event()

        def read() -> None:
            for _notice in notices_of(stream):
                lost.set()

        reader = in_thread(read)
        assert lost.wait(DEADLINE_S)
        stream.stop()
        reader.join(DEADLINE_S)
        assert not reader.is_alive()


@pytest.mark.parametrize("secure", [False, True])
def test_stop_ends_an_open_stream(secure, tmp_path):
    tls, ca = certified(tmp_path) if secure else (None, None)
    with ScriptedServer(holding(OPEN, event('{"a": 1}')), tls=tls) as server:
        stream, came = stream_of(server, ca=ca), threading.Event()

        def read() -> None:
            for notice in notices_of(stream):
                if isinstance(notice, dict):
                    came.set()

        reader = in_thread(read)
        assert came.wait(DEADLINE_S)
        stream.stop()
        reader.join(DEADLINE_S)
        assert not reader.is_alive()


def test_a_certificate_of_an_unknown_ca_ends_with_the_remedy(tmp_path):
    tls, _ca = certified(tmp_path)
    with ScriptedServer([], tls=tls) as server, pytest.raises(AccessDenied, match="FASTMON_MONITOR_CA"):
        first(stream_of(server), 1)


def test_a_certificate_that_becomes_bad_after_a_first_connection_is_tried_again(tmp_path):
    tls, ca = certified(tmp_path)
    with (
        ScriptedServer([OPEN, event('{"a": 1}')], [], tls=tls) as server,
        closing(notices_of(stream_of(server, ca=ca))) as notices,
    ):
        assert next(notice for notice in notices if isinstance(notice, dict)) == {"a": 1}
        trustme.CA().issue_cert("localhost").configure_cert(tls)
        reasons = [notice.reason for notice in islice((each for each in notices if isinstance(each, Disconnected)), 2)]
    assert reasons[0] == "closed by the monitor"
    assert "certificate verify failed" in reasons[1]


def certified(folder) -> tuple[ssl.SSLContext, str]:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    return context, str(folder / "ca.pem")

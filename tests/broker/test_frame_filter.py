"""What of the received bytes reaches stomp.py."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmon_daemon.broker.frame_filter import MAX_BODY_BYTES, FrameFilter, FrameTooLong
from fastmon_daemon.messages import fields

MESSAGE = b"MESSAGE\nmessage-id:7\nsubscription:fastmon\nack:7\n\n"


def filtered(data: bytes, chunk: int = 65536) -> bytes:
    made = FrameFilter()
    return b"".join(made.feed(data[begin : begin + chunk]) for begin in range(0, len(data), chunk))


FRAMES = [
    b"CONNECTED\nversion:1.2\nheart-beat:8000,8000\n\n\0",
    b"RECEIPT\nreceipt-id:4\n\n\0\n",
    MESSAGE + b'{"a": 1}\0',
    MESSAGE.replace(b"\n\n", b"\ncontent-length:9\n\n") + b'{"a": 1}\0\0',
    MESSAGE.replace(b"\n\n", b"\ncontent-length:3\n\n") + b"longer than it says\0",
    b"ERROR\nmessage:no\n\nbecause\n\nof that\0",
    b"\n",
]


@given(st.lists(st.sampled_from(FRAMES), max_size=6), st.integers(1, 200))
def test_ordinary_frames_pass_whole_however_they_are_cut(frames: list[bytes], chunk: int) -> None:
    data = b"".join(frames)
    passed, expected = (re.sub(rb"\0\n*", b"\0", each).strip(b"\n") for each in (filtered(data, chunk), data))
    assert passed == expected


def test_a_heart_beat_passes_alone_and_a_flood_of_them_is_one() -> None:
    made = FrameFilter()
    assert made.feed(b"\n") == b"\n"
    assert made.feed(b"\r\n" * 30_000) == b"\n"


@pytest.mark.parametrize("chunk", [1000, 65536])
def test_a_long_body_is_cut_and_the_next_frame_follows(chunk: int) -> None:
    for length in (b"", b"content-length:3000000\n"):
        head = MESSAGE.replace(b"ack", length + b"ack")
        passed = filtered(head + b"x" * 3_000_000 + b"\0" + FRAMES[1], chunk)
        assert passed.rstrip(b"\n").endswith(FRAMES[1].rstrip(b"\n"))
        body = passed.partition(b"\n\n")[2].partition(b"\0")[0]
        assert body == b"x" * MAX_BODY_BYTES
        assert b"3000000" not in passed
    assert MAX_BODY_BYTES > fields.MAX_BODY_BYTES, "a cut body is rejected"


def test_long_and_unknown_headers_are_dropped_and_the_message_is_not() -> None:
    others = b"".join(b"x%d:%s\n" % (n, b"y" * 60_000) for n in range(90))
    long = b"message:" + b"y" * 60_000 + b"\n"
    assert filtered(MESSAGE.replace(b"ack", others + long + b"ack") + b"{}\0") == MESSAGE + b"{}\0"


@pytest.mark.parametrize("value", [b"99999999999999999999,0", b"a,b", b"1", "\u00b2,\u00b2".encode()])
def test_a_heart_beat_that_is_none_is_not_negotiated(value: bytes) -> None:
    passed = filtered(b"CONNECTED\nversion:1.2\nheart-beat:" + value + b"\n\n\0")
    assert passed == b"CONNECTED\nversion:1.2\n\n\0"


@pytest.mark.parametrize("data", [b"x" * 20_000, b"HTTP/1.1 400 Bad Request\r\n", b"x" * 20_000 + b"\n", b"\x15\x03\n"])
def test_what_is_no_frame_ends_the_connection(data: bytes) -> None:
    with pytest.raises(FrameTooLong):
        filtered(data + b"y" * 20_000)


def test_a_frame_without_end_ends_the_connection_in_little_memory() -> None:
    made, chunk, passed, fed = FrameFilter(), b"x" * 65536, 0, 0
    made.feed(MESSAGE)
    with suppress(FrameTooLong):
        while fed < 10**9:
            fed += len(chunk)
            passed += len(made.feed(chunk))
    assert fed < 10**9
    assert passed == MAX_BODY_BYTES

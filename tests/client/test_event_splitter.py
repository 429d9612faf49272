"""Splitting the bytes of a stream into events."""

from __future__ import annotations

import pytest
from sseclient import SSEClient

from fastmon_client.event_splitter import MAX_EVENT_BYTES, EventSplitter

PIECES = [1, 2, 3, 5, 1000]


def data_of(stream: bytes, piece: int) -> list[str]:
    cutter = EventSplitter()
    blocks = (cutter.feed(stream[at : at + piece]) for at in range(0, len(stream), piece))
    return [event.data for event in SSEClient(blocks).events()]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_complete_events_are_returned_once_truncated_ones_never(piece, end, bom):
    lines = ["event: x", "data: Grüße\u2028\x0b", "", ": a comment", "", "data: 2", "data: lines", "", "data: trunc"]
    assert data_of((bom + end.join(lines)).encode(), piece) == ["Grüße\u2028\x0b", "2\nlines"]


@pytest.mark.parametrize("piece", PIECES)
def test_lines_may_end_in_different_ways(piece):
    stream = b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\rdata: 4\n\r: x\r\n\r\ndata: 5\ndata: 6\r\n\r\ndata: cut\n"
    assert data_of(stream, piece) == ["1", "2", "3", "4", "5\n6"]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("stream", [b": ping\n", b"data: 1\n\n: ping\n\n", b"\r\n\r\n:\r\n", b"\xef\xbb\xbf: a\n"])
def test_a_comment_is_noticed(piece, stream):
    splitter, noticed = EventSplitter(), False
    for at in range(0, len(stream), piece):
        splitter.feed(stream[at : at + piece])
        noticed = noticed or splitter.had_comment
    assert noticed
    splitter.feed(b'data: {"a": ":"}\n\n')
    assert not splitter.had_comment


@pytest.mark.parametrize("piece", PIECES)
def test_invalid_utf8_is_replaced(piece):
    assert data_of(b"data: \xff\n\ndata: b\n\n", piece) == ["\ufffd", "b"]


@pytest.mark.parametrize("piece", PIECES)
def test_last_retry_field_is_used(piece):
    cutter, stream = EventSplitter(), b"retry: 1\n\ndata: retry: 9\nretry: 2500\n\nretry: 7"
    for at in range(0, len(stream), piece):
        cutter.feed(stream[at : at + piece])
    assert cutter.retry_s == 2.5


def test_complete_events_do_not_count_for_the_length_of_a_later_one():
    splitter, long = EventSplitter(), b"data: " + b"x" * (MAX_EVENT_BYTES // 2) + b"\n\n"
    assert splitter.feed(long + long[:-2]) == long


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("piece", [1000, 65536, 10**9])
def test_long_event_is_skipped_and_the_next_one_is_read(end, piece):
    cutter, stream = EventSplitter(), end.join([b"data: a", b"data: " + b"x" * 3 * MAX_EVENT_BYTES, b"data: b", b""])
    found = b"".join(cutter.feed(stream[at : at + piece]) for at in range(0, len(stream), piece))
    if piece < MAX_EVENT_BYTES:
        assert (found, cutter.skipped) == (b"data: a\n\ndata: b\n\n", 1)
    assert found.endswith(b"data: b\n\n")


def test_endless_event_is_not_kept():
    cutter = EventSplitter()
    for _ in range(20):
        assert cutter.feed(b"x" * (MAX_EVENT_BYTES // 2)) == b""
        assert len(cutter._kept) <= MAX_EVENT_BYTES
    assert cutter.skipped == 1

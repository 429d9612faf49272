"""The frames of a STOMP connection, in chunks of any size."""

from __future__ import annotations

import random

import pytest

from fastmon_client.stomp_frames import MAX_FRAME_BYTES, FrameFilter

MESSAGE = b"MESSAGE\nmessage-id:1\n\n{}\0"
COUNTED = b"MESSAGE\r\ncontent-length:5\r\n\r\na\0b\0c\0"
LONG = b"MESSAGE\nmessage-id:2\n\n" + b"x" * MAX_FRAME_BYTES + b"\0"
LONG_COUNTED = b"MESSAGE\ncontent-length:%d\n\n" % (MAX_FRAME_BYTES + 3) + b"\0" * (MAX_FRAME_BYTES + 3) + b"\0"
LONG_HEAD = b"MESSAGE\n" + b"a:b\n" * 50_000 + b"\nx\0"
ENDLESS_HEAD = b"x" * 100_000 + b"\0"


def fed(pieces: list[bytes]) -> tuple[bytes, int]:
    frames = FrameFilter()
    return b"".join(frames.feed(piece) for piece in pieces), frames.dropped


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_short_frames_and_heart_beats_pass(size: int) -> None:
    data = b"\n\r\n" + MESSAGE + COUNTED + b"\n\n" + COUNTED + MESSAGE + b"\n"
    assert fed(pieces(data, size)) == (data, 0)


@pytest.mark.parametrize("long", [LONG, LONG_COUNTED, LONG_HEAD, ENDLESS_HEAD])
@pytest.mark.parametrize("size", [4093, 65536, 10**9])
def test_long_frame_is_dropped_and_the_next_one_passes(long: bytes, size: int) -> None:
    assert fed(pieces(MESSAGE + long + COUNTED + long + MESSAGE, size)) == (MESSAGE + COUNTED + MESSAGE, 2)


def test_frame_without_end_is_not_kept() -> None:
    frames = FrameFilter()
    for _ in range(100):
        assert frames.feed(b"x" * 1_000_000) == b""
    assert len(frames._kept) <= MAX_FRAME_BYTES
    assert (frames.feed(b"\0" + MESSAGE), frames.dropped) == (MESSAGE, 1)


def test_frame_of_99_gb_is_not_kept() -> None:
    frames = FrameFilter()
    frames.feed(b"MESSAGE\ncontent-length:99000000000\n\n")
    for _ in range(100):
        assert frames.feed(b"\0" * 1_000_000) == b""
    assert len(frames._kept) <= MAX_FRAME_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_any_chunks_give_the_same(seed: int) -> None:
    chosen = random.Random(seed)
    data = b"".join(chosen.choices([MESSAGE, COUNTED, LONG, LONG_COUNTED, b"\n", b"\r\n"], k=8))
    cuts = sorted(chosen.sample(range(len(data)), min(len(data), 20)))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert fed(parts) == fed([data])

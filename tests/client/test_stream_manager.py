"""One stream after the other, told by hand what each of them brings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.stream import Connected, Disconnected, HeartBeat, Notice
from fastmon_client.stream_manager import StreamManager

PACE = Intervals(recycle_s=100, overlap_s=10, heart_beat_s=30)


class ByHand:
    """A stream that brings what the test says."""

    def __init__(self) -> None:
        self.given: SimpleQueue[Notice | None] = SimpleQueue()
        self.stopped = False
        self.dropped: list[str] = []

    def batches(self) -> Iterator[list[Notice]]:
        while (notice := self.given.get(timeout=20)) is not None:
            yield [notice]

    def stop(self) -> None:
        self.stopped = True
        self.given.put(None)

    def drop(self, reason: str) -> None:
        self.dropped.append(reason)


class Refusing(ByHand):
    """A stream whose token the monitor refuses."""

    def batches(self) -> Iterator[list[Notice]]:
        raise AccessDenied("the monitor refuses the token", by_token=True)
        yield []


class Breaking(ByHand):
    """A stream with a defect of ours."""

    def batches(self) -> Iterator[list[Notice]]:
        raise KeyError("surprise")
        yield []


class Fed:
    """A feed of such streams, and the time."""

    def __init__(self) -> None:
        self.streams: list[ByHand] = []
        self.came: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self.feed = StreamManager(self._make, self.came.put, PACE)
        self.feed.start()

    def _make(self) -> ByHand:
        self.streams.append(ByHand())
        return self.streams[-1]

    def bring(self, number: int, notice: Notice, now: float) -> Any:
        self.streams[number].given.put(notice)
        came_from, [arrival] = self.came.get(timeout=20)
        return self.feed.take(came_from, arrival, now)

    def renewed(self) -> None:
        """The second stream is open beside the first."""
        assert self.bring(0, Connected(), 0.0) == Connected()
        self.feed.tick(100.0)
        assert self.bring(1, Connected(), 101.0) is None


@pytest.fixture
def fed() -> Iterator[Fed]:
    running = Fed()
    yield running
    for stream in running.streams:
        stream.stop()


def test_a_stream_is_renewed_with_overlap_and_that_is_no_loss(fed):
    fed.renewed()
    fed.feed.tick(110.0)
    assert not fed.streams[0].stopped
    fed.feed.tick(111.0)
    assert fed.streams[0].stopped
    fed.feed.tick(202.0)
    assert len(fed.streams) == 3


def test_what_both_streams_bring_is_taken_once_also_after_the_overlap(fed):
    fed.renewed()
    assert fed.bring(0, {"a": 1}, 102.0) == {"a": 1}
    assert fed.bring(1, {"a": 1}, 102.0) is None
    assert fed.bring(1, {"b": 1}, 103.0) == {"b": 1}
    assert fed.bring(0, {"b": 1}, 103.0) is None
    assert fed.bring(0, {"c": 1}, 110.0) == {"c": 1}
    fed.feed.tick(111.0)
    assert fed.bring(1, {"c": 1}, 112.0) is None


def test_what_a_stream_brings_twice_is_left_to_the_picture(fed):
    fed.renewed()
    assert [fed.bring(1, {"a": 1}, 102.0) for _ in range(2)] == [{"a": 1}, {"a": 1}]


def test_the_loss_of_one_of_two_streams_is_none(fed):
    fed.renewed()
    assert fed.bring(0, Disconnected("cut", 1.0), 102.0) is None
    assert fed.streams[0].stopped
    assert fed.bring(1, Disconnected("cut", 1.0), 103.0) == Disconnected("cut", 1.0)


def test_a_renewal_that_is_refused_leaves_the_first_stream_and_is_tried_again(fed):
    fed.bring(0, Connected(), 0.0)
    fed.feed.tick(100.0)
    assert fed.feed.take(1, AccessDenied("no"), 101.0) is None
    assert fed.bring(0, HeartBeat(), 102.0) == HeartBeat()
    fed.feed.tick(120.0)
    assert len(fed.streams) == 2
    fed.feed.tick(160.0)
    assert len(fed.streams) == 3


def test_a_stream_that_brings_nothing_complete_is_given_up(fed):
    before = time.monotonic()
    fed.bring(0, Connected(), before)
    after = time.monotonic()
    fed.feed.tick(before + 75)
    assert fed.streams[0].dropped == []
    fed.feed.tick(after + 76)
    fed.feed.tick(after + 77)  # it is given a while to connect anew
    assert fed.streams[0].dropped == ["nothing came for 75 s"]


def test_a_stream_that_is_not_open_has_nothing_to_bring(fed):
    fed.feed.tick(time.monotonic() + 3600)
    assert fed.streams[0].dropped == []


def test_the_end_closes_both_of_two_streams(fed):
    fed.renewed()
    fed.feed.stop()
    assert [stream.stopped for stream in fed.streams] == [True, True]


def test_what_a_closed_stream_had_brought_is_taken_but_nothing_that_it_says_of_itself(fed):
    fed.renewed()
    for notice in ({"a": 1}, HeartBeat(), Disconnected("closed", 1.0), Connected()):
        fed.streams[0].given.put(notice)
    late = [fed.came.get(timeout=20) for _ in range(4)]
    fed.feed.tick(111.0)
    assert fed.streams[0].stopped
    assert [fed.feed.take(number, notice, 112.0) for number, [notice] in late] == [{"a": 1}, None, None, None]


def test_a_single_stream_may_bring_the_same_twice_also_long_after_a_renewal(fed):
    fed.renewed()
    assert fed.bring(0, {"a": 1}, 102.0) == {"a": 1}
    fed.feed.tick(111.0)
    assert fed.bring(1, {"a": 1}, 120.9) is None
    assert fed.bring(1, {"a": 1}, 121.0) == {"a": 1}


def test_a_stream_that_is_refused_is_told(fed):
    feed = StreamManager(Refusing, fed.came.put, PACE)
    feed.start()
    number, [arrival] = fed.came.get(timeout=20)
    told = feed.take(number, arrival, 0.0)
    assert isinstance(told, AccessDenied)
    assert told.by_token


def test_a_replaced_stream_that_comes_back_does_not_take_the_new_one_with_it(fed):
    assert fed.bring(0, Connected(), 0.0) == Connected()
    fed.feed.tick(100.0)  # the second stream is asked for, and the monitor goes away
    fed.bring(0, Disconnected("gone", 1.0), 101.0)
    fed.bring(1, Disconnected("gone", 1.0), 101.0)
    assert fed.bring(1, Connected(), 105.0) == Connected()
    assert fed.bring(0, Connected(), 107.0) is None
    for now in (108.0, 116.0, 118.0):
        fed.feed.tick(now)
    assert [stream.stopped for stream in fed.streams] == [True, False]


def test_a_stream_that_is_lost_is_not_renewed_beside(fed):
    fed.bring(0, Connected(), 0.0)
    fed.bring(0, Disconnected("gone", 1.0), 50.0)
    fed.feed.tick(100.0)
    assert len(fed.streams) == 1


def test_a_stream_that_breaks_is_told_and_not_waited_for(fed):
    feed = StreamManager(Breaking, fed.came.put, PACE)
    feed.start()
    number, [arrival] = fed.came.get(timeout=20)
    told = feed.take(number, arrival, 0.0)
    assert isinstance(told, AccessDenied)
    assert "KeyError" in str(told)

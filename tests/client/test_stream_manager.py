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

INTERVALS = Intervals(recycle_s=100, overlap_s=10, heart_beat_s=30)


class FakeStream:
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


class RejectedStream(FakeStream):
    """A stream whose token the monitor refuses."""

    def batches(self) -> Iterator[list[Notice]]:
        raise AccessDenied("the monitor refuses the token", by_token=True)
        yield []


class BrokenStream(FakeStream):
    """A stream with a defect of ours."""

    def batches(self) -> Iterator[list[Notice]]:
        raise KeyError("surprise")
        yield []


class StreamHarness:
    """A feed of such streams, and the time."""

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.came: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self.manager = StreamManager(self._make, self.came.put, INTERVALS)
        self.manager.start()

    def _make(self) -> FakeStream:
        self.streams.append(FakeStream())
        return self.streams[-1]

    def deliver(self, number: int, notice: Notice, now: float) -> Any:
        self.streams[number].given.put(notice)
        came_from, [arrival] = self.came.get(timeout=20)
        return self.manager.process(came_from, arrival, now)

    def renewed(self) -> None:
        """The second stream is open beside the first."""
        assert self.deliver(0, Connected(), 0.0) == Connected()
        self.manager.tick(100.0)
        assert self.deliver(1, Connected(), 101.0) is None


@pytest.fixture
def harness() -> Iterator[StreamHarness]:
    running = StreamHarness()
    yield running
    for stream in running.streams:
        stream.stop()


def test_a_stream_is_renewed_with_overlap_and_that_is_no_loss(harness):
    harness.renewed()
    harness.manager.tick(110.0)
    assert not harness.streams[0].stopped
    harness.manager.tick(111.0)
    assert harness.streams[0].stopped
    harness.manager.tick(202.0)
    assert len(harness.streams) == 3


def test_what_both_streams_bring_is_taken_once_also_after_the_overlap(harness):
    harness.renewed()
    assert harness.deliver(0, {"a": 1}, 102.0) == {"a": 1}
    assert harness.deliver(1, {"a": 1}, 102.0) is None
    assert harness.deliver(1, {"b": 1}, 103.0) == {"b": 1}
    assert harness.deliver(0, {"b": 1}, 103.0) is None
    assert harness.deliver(0, {"c": 1}, 110.0) == {"c": 1}
    harness.manager.tick(111.0)
    assert harness.deliver(1, {"c": 1}, 112.0) is None


def test_what_a_stream_brings_twice_is_left_to_the_picture(harness):
    harness.renewed()
    assert [harness.deliver(1, {"a": 1}, 102.0) for _ in range(2)] == [{"a": 1}, {"a": 1}]


def test_the_loss_of_one_of_two_streams_is_none(harness):
    harness.renewed()
    assert harness.deliver(0, Disconnected("cut", 1.0), 102.0) is None
    assert harness.streams[0].stopped
    assert harness.deliver(1, Disconnected("cut", 1.0), 103.0) == Disconnected("cut", 1.0)


def test_a_renewal_that_is_refused_leaves_the_first_stream_and_is_tried_again(harness):
    harness.deliver(0, Connected(), 0.0)
    harness.manager.tick(100.0)
    assert harness.manager.process(1, AccessDenied("no"), 101.0) is None
    assert harness.deliver(0, HeartBeat(), 102.0) == HeartBeat()
    harness.manager.tick(120.0)
    assert len(harness.streams) == 2
    harness.manager.tick(160.0)
    assert len(harness.streams) == 3


def test_a_stream_that_brings_nothing_complete_is_given_up(harness):
    before = time.monotonic()
    harness.deliver(0, Connected(), before)
    after = time.monotonic()
    harness.manager.tick(before + 75)
    assert harness.streams[0].dropped == []
    harness.manager.tick(after + 76)
    harness.manager.tick(after + 77)  # it is given a while to connect anew
    assert harness.streams[0].dropped == ["no data for 75 s"]


def test_a_stream_that_is_not_open_has_nothing_to_bring(harness):
    harness.manager.tick(time.monotonic() + 3600)
    assert harness.streams[0].dropped == []


def test_the_end_closes_both_of_two_streams(harness):
    harness.renewed()
    harness.manager.stop()
    assert [stream.stopped for stream in harness.streams] == [True, True]


def test_what_a_closed_stream_had_brought_is_taken_but_nothing_that_it_says_of_itself(harness):
    harness.renewed()
    for notice in ({"a": 1}, HeartBeat(), Disconnected("closed", 1.0), Connected()):
        harness.streams[0].given.put(notice)
    late = [harness.came.get(timeout=20) for _ in range(4)]
    harness.manager.tick(111.0)
    assert harness.streams[0].stopped
    assert [harness.manager.process(number, notice, 112.0) for number, [notice] in late] == [{"a": 1}, None, None, None]


def test_a_single_stream_may_bring_the_same_twice_also_long_after_a_renewal(harness):
    harness.renewed()
    assert harness.deliver(0, {"a": 1}, 102.0) == {"a": 1}
    harness.manager.tick(111.0)
    assert harness.deliver(1, {"a": 1}, 120.9) is None
    assert harness.deliver(1, {"a": 1}, 121.0) == {"a": 1}


def test_a_stream_that_is_refused_is_told(harness):
    manager = StreamManager(RejectedStream, harness.came.put, INTERVALS)
    manager.start()
    number, [arrival] = harness.came.get(timeout=20)
    told = manager.process(number, arrival, 0.0)
    assert isinstance(told, AccessDenied)
    assert told.by_token


def test_a_replaced_stream_that_comes_back_does_not_take_the_new_one_with_it(harness):
    assert harness.deliver(0, Connected(), 0.0) == Connected()
    harness.manager.tick(100.0)  # the second stream is asked for, and the monitor goes away
    harness.deliver(0, Disconnected("gone", 1.0), 101.0)
    harness.deliver(1, Disconnected("gone", 1.0), 101.0)
    assert harness.deliver(1, Connected(), 105.0) == Connected()
    assert harness.deliver(0, Connected(), 107.0) is None
    for now in (108.0, 116.0, 118.0):
        harness.manager.tick(now)
    assert [stream.stopped for stream in harness.streams] == [True, False]


def test_a_stream_that_is_lost_is_not_renewed_beside(harness):
    harness.deliver(0, Connected(), 0.0)
    harness.deliver(0, Disconnected("gone", 1.0), 50.0)
    harness.manager.tick(100.0)
    assert len(harness.streams) == 1


def test_a_stream_that_breaks_is_told_and_not_waited_for(harness):
    manager = StreamManager(BrokenStream, harness.came.put, INTERVALS)
    manager.start()
    number, [arrival] = harness.came.get(timeout=20)
    told = manager.process(number, arrival, 0.0)
    assert isinstance(told, AccessDenied)
    assert "KeyError" in str(told)

"""Renewal of streams, with hand-fed streams."""

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
    """A stream that delivers what the test queues."""

    def __init__(self) -> None:
        self.queued: SimpleQueue[Notice | None] = SimpleQueue()
        self.stopped = False
        self.dropped: list[str] = []

    def batches(self) -> Iterator[list[Notice]]:
        while (notice := self.queued.get(timeout=20)) is not None:
            yield [notice]

    def stop(self) -> None:
        self.stopped = True
        self.queued.put(None)

    def drop(self, reason: str) -> None:
        self.dropped.append(reason)


class RejectedStream(FakeStream):
    """A stream whose token the monitor rejects."""

    def batches(self) -> Iterator[list[Notice]]:
        raise AccessDenied("the monitor refuses the token", by_token=True)
        yield []


class BrokenStream(FakeStream):
    """A stream with a defect."""

    def batches(self) -> Iterator[list[Notice]]:
        raise KeyError("surprise")
        yield []


class StreamHarness:
    """A `StreamManager` of fake streams."""

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.arrivals: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self.manager = StreamManager(self._make, self.arrivals.put, INTERVALS)
        self.manager.start()

    def _make(self) -> FakeStream:
        self.streams.append(FakeStream())
        return self.streams[-1]

    def deliver(self, number: int, notice: Notice, now: float) -> Any:
        self.streams[number].queued.put(notice)
        number_, [arrival] = self.arrivals.get(timeout=20)
        return self.manager.process(number_, arrival, now)

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


def test_renewal_overlaps_and_is_no_loss(harness):
    harness.renewed()
    harness.manager.tick(110.0)
    assert not harness.streams[0].stopped
    harness.manager.tick(111.0)
    assert harness.streams[0].stopped
    harness.manager.tick(202.0)
    assert len(harness.streams) == 3


def test_message_of_both_streams_is_passed_on_once(harness):
    harness.renewed()
    assert harness.deliver(0, {"a": 1}, 102.0) == {"a": 1}
    assert harness.deliver(1, {"a": 1}, 102.0) is None
    assert harness.deliver(1, {"b": 1}, 103.0) == {"b": 1}
    assert harness.deliver(0, {"b": 1}, 103.0) is None
    assert harness.deliver(0, {"c": 1}, 110.0) == {"c": 1}
    harness.manager.tick(111.0)
    assert harness.deliver(1, {"c": 1}, 112.0) is None


def test_duplicate_of_one_stream_is_passed_on(harness):
    harness.renewed()
    assert [harness.deliver(1, {"a": 1}, 102.0) for _ in range(2)] == [{"a": 1}, {"a": 1}]


def test_loss_of_one_of_two_streams_is_not_reported(harness):
    harness.renewed()
    assert harness.deliver(0, Disconnected("cut", 1.0), 102.0) is None
    assert harness.streams[0].stopped
    assert harness.deliver(1, Disconnected("cut", 1.0), 103.0) == Disconnected("cut", 1.0)


def test_denied_renewal_keeps_the_old_stream_and_is_retried(harness):
    harness.deliver(0, Connected(), 0.0)
    harness.manager.tick(100.0)
    assert harness.manager.process(1, AccessDenied("no"), 101.0) is None
    assert harness.deliver(0, HeartBeat(), 102.0) == HeartBeat()
    harness.manager.tick(120.0)
    assert len(harness.streams) == 2
    harness.manager.tick(160.0)
    assert len(harness.streams) == 3


def test_open_stream_without_data_is_dropped(harness):
    before = time.monotonic()
    harness.deliver(0, Connected(), before)
    after = time.monotonic()
    harness.manager.tick(before + 75)
    assert harness.streams[0].dropped == []
    harness.manager.tick(after + 76)
    harness.manager.tick(after + 77)  # it has time to reconnect
    assert harness.streams[0].dropped == ["no data for 75 s"]


def test_unopened_stream_is_not_dropped(harness):
    harness.manager.tick(time.monotonic() + 3600)
    assert harness.streams[0].dropped == []


def test_stop_closes_both_streams(harness):
    harness.renewed()
    harness.manager.stop()
    assert [stream.stopped for stream in harness.streams] == [True, True]


def test_only_messages_of_a_closed_stream_are_passed_on(harness):
    harness.renewed()
    for notice in ({"a": 1}, HeartBeat(), Disconnected("closed", 1.0), Connected()):
        harness.streams[0].queued.put(notice)
    late = [harness.arrivals.get(timeout=20) for _ in range(4)]
    harness.manager.tick(111.0)
    assert harness.streams[0].stopped
    assert [harness.manager.process(number, notice, 112.0) for number, [notice] in late] == [{"a": 1}, None, None, None]


def test_duplicate_of_a_single_stream_is_passed_on_after_a_renewal(harness):
    harness.renewed()
    assert harness.deliver(0, {"a": 1}, 102.0) == {"a": 1}
    harness.manager.tick(111.0)
    assert harness.deliver(1, {"a": 1}, 120.9) is None
    assert harness.deliver(1, {"a": 1}, 121.0) == {"a": 1}


def test_denied_stream_is_reported(harness):
    manager = StreamManager(RejectedStream, harness.arrivals.put, INTERVALS)
    manager.start()
    number, [arrival] = harness.arrivals.get(timeout=20)
    denied = manager.process(number, arrival, 0.0)
    assert isinstance(denied, AccessDenied)
    assert denied.by_token


def test_reconnect_of_a_replaced_stream_keeps_the_new_one(harness):
    assert harness.deliver(0, Connected(), 0.0) == Connected()
    harness.manager.tick(100.0)  # the second stream connects, and the monitor goes down
    harness.deliver(0, Disconnected("gone", 1.0), 101.0)
    harness.deliver(1, Disconnected("gone", 1.0), 101.0)
    assert harness.deliver(1, Connected(), 105.0) == Connected()
    assert harness.deliver(0, Connected(), 107.0) is None
    for now in (108.0, 116.0, 118.0):
        harness.manager.tick(now)
    assert [stream.stopped for stream in harness.streams] == [True, False]


def test_lost_stream_is_not_renewed(harness):
    harness.deliver(0, Connected(), 0.0)
    harness.deliver(0, Disconnected("gone", 1.0), 50.0)
    harness.manager.tick(100.0)
    assert len(harness.streams) == 1


def test_stream_with_a_defect_is_reported(harness):
    manager = StreamManager(BrokenStream, harness.arrivals.put, INTERVALS)
    manager.start()
    number, [arrival] = harness.arrivals.get(timeout=20)
    denied = manager.process(number, arrival, 0.0)
    assert isinstance(denied, AccessDenied)
    assert "KeyError" in str(denied)

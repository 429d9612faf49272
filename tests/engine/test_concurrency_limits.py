"""How many calls run at once, and that calls of one kind never wait for those of another."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.engine import CallPools
from fastmon_daemon.engine.circuit_breakers import MAX_PROBE_INTERVAL_S
from fastmon_daemon.engine.concurrency_limits import (
    BACKGROUND_THREADS,
    BASELINE_S,
    INITIAL_LIMIT,
    PROBES_PER_LINK,
    QUIET,
    ConcurrencyLimit,
    monitor_connections,
)
from fastmon_daemon.engine.engine import QUEUED_BY_DEFAULT
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.outbox import Outbox
from tests.builders import FakeTestbed, Silent, named, turn_until


class HangingTasks:
    """*count* background tasks, due at once, whose calls hang until `go_on` is set."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.go_on = threading.Event()
        self.started = 0
        self.answered = 0

    def tasks(self, _outbox: Outbox, _now: datetime) -> Sequence[BackgroundTask]:
        due, self.count = self.count, 0
        return [BackgroundTask("monitor", self._call, self._done)] * due

    def _call(self) -> None:
        self.started += 1
        self.go_on.wait(60)

    def _done(self, _outbox: Outbox, _answer: Any, _now: datetime) -> None:
        self.answered += 1


@contextmanager
def threads(workers: int) -> Iterator[CallPools]:
    pools = CallPools.with_threads(workers, links=2)
    try:
        yield pools
    finally:
        pools.shutdown(wait=True)


def test_any_number_of_hanging_background_tasks_delays_no_stf(tmp_path: Path) -> None:
    testbed, tasks = FakeTestbed(tmp_path), HangingTasks(4 * BACKGROUND_THREADS)
    outbox = testbed.outbox()
    with threads(workers=1) as pools:
        engine = testbed.engine(outbox, pools=pools, background_tasks=tasks.tasks)
        turn_until(engine, lambda: tasks.started == BACKGROUND_THREADS, "every background thread hangs")
        name = testbed.receive(outbox)
        turn_until(engine, lambda: named(outbox, name).state == "completed", "the STF is completed")
        assert (tasks.started, tasks.answered) == (BACKGROUND_THREADS, 0)
        tasks.go_on.set()
        turn_until(engine, lambda: tasks.answered == 4 * BACKGROUND_THREADS, "the queued tasks are done")


def test_a_link_is_found_up_while_everything_else_hangs(tmp_path: Path) -> None:
    monitor, tasks = Silent(), HangingTasks(0)
    testbed = FakeTestbed(tmp_path, monitor=monitor)
    outbox = testbed.outbox()
    ready = testbed.receive(outbox, 1)
    with threads(workers=1) as pools:
        engine = testbed.engine(outbox, pools=pools, background_tasks=tasks.tasks)
        testbed.broker_is(engine, up=False)
        turn_until(engine, lambda: named(outbox, ready).state == "tf_registered")
        monitor.trouble[testbed.receive(outbox, 2)] = LinkDown("no answer")
        turn_until(engine, lambda: not engine.busy and not engine.breakers.allows_calls("monitor"))
        monitor.silent = True
        tasks.count = 4 * BACKGROUND_THREADS
        for asking in range(1, PROBES_PER_LINK + 1):
            testbed.time.pass_(seconds=MAX_PROBE_INTERVAL_S)
            turn_until(engine, lambda count=asking: monitor.asking == count)  # type: ignore[misc]
        turn_until(engine, lambda: tasks.started == BACKGROUND_THREADS)
        testbed.broker_up = True  # without an event: only a probe can detect it

        def is_completed() -> bool:
            testbed.time.pass_(seconds=MAX_PROBE_INTERVAL_S)  # a probe that failed a moment ago schedules the next one
            return named(outbox, ready).state == "completed"

        turn_until(engine, is_completed, "neither link waits for the other")
        assert monitor.asking == PROBES_PER_LINK
        monitor.deadline.set()
        tasks.go_on.set()


class NeverAnswers(Executor):
    """A pool that never runs its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, _fn: Any, /, *_args: Any, **_kwargs: Any) -> Future[Any]:
        self.calls += 1
        return Future()


@pytest.mark.parametrize("workers", [1, 3])
def test_calls_of_stfs_are_limited_by_the_workers(tmp_path: Path, workers: int) -> None:
    testbed, pool = FakeTestbed(tmp_path), NeverAnswers()
    outbox = testbed.outbox()
    for n in range(1, 9):
        testbed.receive(outbox, n)
    engine = testbed.engine(outbox, workers=workers, pool=pool)
    for _ in range(20):
        engine.tick(0)
    assert pool.calls == engine.busy == workers


def test_no_call_to_the_monitor_waits_for_a_connection() -> None:
    """Calls of STFs and probes of two links (announcements by REST), background tasks, and two from elsewhere."""
    assert monitor_connections(workers=3) >= 2 * (3 + PROBES_PER_LINK) + BACKGROUND_THREADS + 2


def test_a_shutdown_drops_calls_that_have_not_started() -> None:
    pools, go_on, started = CallPools.with_threads(1, links=1), threading.Event(), threading.Barrier(3)

    def call() -> None:
        started.wait(60)
        go_on.wait(60)

    *running, waiting = [pools.stf_calls.submit(call) for _ in range(3)]
    started.wait(60)
    pools.shutdown(wait=False)
    go_on.set()
    assert [each.result(60) for each in running] == [None, None]
    assert waiting.cancelled()


class OtherSide:
    """Answers after *alone_s*, and at most *per_second* calls in a second; seen through a `ConcurrencyLimit`."""

    def __init__(self, alone_s: float, per_second: float = math.inf, *, most: int = 32) -> None:
        self.alone_s = alone_s
        self.per_second = per_second
        self.now = 100.0
        self.limit = ConcurrencyLimit(most, queued=QUEUED_BY_DEFAULT, monotonic=lambda: self.now)
        self.most_seen = 0

    @property
    def answer_s(self) -> float:
        return max(self.alone_s, self.limit.in_flight / self.per_second)

    def run(self, seconds: float) -> None:
        """Keep as many calls in flight as the limit allows."""
        end, in_flight = self.now + seconds, deque[tuple[float, float]]()
        while self.now < end:
            self.most_seen = max(self.most_seen, self.limit.limit)
            while len(in_flight) < self.limit.limit:
                self.limit.started(1)
                in_flight.append((self.now, max(self.now + self.answer_s, in_flight[-1][1] if in_flight else 0.0)))
            started_at, ended_at = in_flight.popleft()
            self.now = max(self.now, ended_at)
            self.limit.ended(self.now - started_at, succeeded=True, failed=False)
        for started_at, _ in in_flight:
            self.limit.ended(self.now - started_at, succeeded=False, failed=False)


def test_a_far_monitor_gets_as_many_calls_as_the_bound_allows() -> None:
    far = OtherSide(alone_s=0.05)
    far.run(2)
    assert far.limit.limit == 32


def test_a_monitor_of_one_process_is_kept_at_work_and_no_more() -> None:
    """18 ms alone, 100 calls a second: two calls at once saturate it, more than that wait."""
    monitor = OtherSide(alone_s=0.018, per_second=100)
    monitor.run(10)
    for _ in range(60):
        monitor.run(5)
        assert 3 <= monitor.limit.limit <= 6, "also after the baseline has been measured again and again"


@pytest.mark.parametrize("most", [8, 32])
def test_a_monitor_that_slows_down_sees_few_calls_within_seconds_and_as_long_as_it_is_slow(most: int) -> None:
    monitor = OtherSide(alone_s=0.02, most=most)
    monitor.run(5)
    assert monitor.limit.limit == most
    monitor.alone_s = 2.0
    monitor.run(5)
    for _ in range(60):
        assert monitor.limit.limit <= 5
        monitor.run(5)
    monitor.alone_s = 0.02
    monitor.run(5)
    assert monitor.limit.limit == most


def test_a_path_that_became_longer_is_measured_anew() -> None:
    monitor = OtherSide(alone_s=0.02)
    monitor.run(10)
    monitor.alone_s = 0.06
    monitor.run(3 * BASELINE_S)
    assert monitor.limit.limit == 32


def test_calls_that_hang_do_not_keep_the_limit_low_while_the_baseline_is_measured() -> None:
    monitor = OtherSide(alone_s=0.05)
    monitor.limit.started(3)  # they hang
    monitor.run(BASELINE_S - 0.5)
    limits = set()
    for _ in range(20):
        monitor.limit.started(1)
        monitor.now += 0.1
        monitor.limit.ended(0.1, succeeded=True, failed=False)
        limits.add(monitor.limit.limit)
    assert min(limits) == QUIET
    assert monitor.limit.limit > QUIET


def test_failures_of_calls_that_were_in_flight_together_halve_the_limit_once() -> None:
    other = OtherSide(alone_s=0.05)
    other.run(2)
    other.limit.started(20)
    other.now += 1.0
    for _ in range(20):
        other.limit.ended(1.0, succeeded=False, failed=True)
    assert other.limit.limit == 16
    for _ in range(10):
        other.limit.started(1)
        other.now += 1.0
        other.limit.ended(1.0, succeeded=False, failed=True)
    assert other.limit.limit == 1


def test_a_limit_does_not_grow_while_nobody_uses_it() -> None:
    limit = ConcurrencyLimit(32, queued=3, monotonic=lambda: 0.0)
    for _ in range(100):
        limit.started(1)
        limit.ended(0.05, succeeded=True, failed=False)
    assert limit.limit == INITIAL_LIMIT
    assert ConcurrencyLimit(4, queued=3, monotonic=lambda: 0.0).limit == 4


def test_the_bound_of_a_limit_can_be_changed() -> None:
    far = OtherSide(alone_s=0.05, most=4)
    far.limit.set_most(2)
    assert far.limit.limit == 2
    far.run(2)
    assert far.most_seen == 2
    far.limit.set_most(16)
    far.run(2)
    assert far.limit.limit == 16

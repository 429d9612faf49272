"""How many calls run at once, and that calls of one kind never wait for those of another."""

from __future__ import annotations

import threading
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
from fastmon_daemon.engine.concurrency_limits import BACKGROUND_THREADS, PROBES_PER_LINK, monitor_connections
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
    """Workers, probes of two links, background tasks, and two calls from elsewhere."""
    assert monitor_connections(workers=3) >= 3 + 2 * PROBES_PER_LINK + BACKGROUND_THREADS + 2


def test_a_shutdown_drops_calls_that_have_not_started() -> None:
    pools, go_on, started = CallPools.with_threads(1, links=1), threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        go_on.wait(60)

    first, second = pools.stf_calls.submit(call), pools.stf_calls.submit(call)
    assert started.wait(60)
    pools.shutdown(wait=False)
    go_on.set()
    assert first.result(60) is None
    assert second.cancelled()

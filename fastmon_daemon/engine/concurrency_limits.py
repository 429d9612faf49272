"""How many calls may run at once, and the threads that make them. Each kind of call has its own threads.

A probe or background task that hangs takes no worker from the STFs, and no probe waits behind a background task.
FASTMON_WORKERS bounds the calls of STFs on each link; `ConcurrencyLimit` finds how many the other side can take.
The other limits are constants of this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

PROBES_PER_LINK = 4
"""Probes of one link at once: a probe that hangs until its deadline must not delay the next one."""
BACKGROUND_THREADS = 6
"""Threads for polls of runs, lookups and summaries; more tasks than that wait in the pool's queue."""
INITIAL_LIMIT = 8
"""Calls at once until the first answers tell more: those of one STF."""
QUIET = 2
"""Up to so many calls at once do not slow each other down: their time is that of the other side alone."""
WINDOW = 8
"""The least number of answers after which a limit changes."""
MAX_QUIET_S = 1.0
"""Calls become few for no longer, in seconds: some may hang until their deadline, and must not delay all others."""
BASELINE_S = 60.0
"""A baseline is the best time of this period and of the one before, in seconds."""
SLOW_S = 0.5
"""No baseline is longer, in seconds: who answers more slowly is struggling, not far away, and gets few calls."""
_LINKS_OF_STFS = 2
"""At most: one to register, one to announce; with FASTMON_NOTIFY=rest, both lead to the monitor."""
_CALLS_FROM_ELSEWHERE = 3
"""The startup probe of the monitor, an operator's `reconcile`, and a status message."""


class ConcurrencyLimit:
    """How many calls at once one link can take, found from the times of its answers (as TCP Vegas and FAST do).

    The baseline is the time of a call that waits for no other. As long as calls take no longer than that, the limit
    grows; where they do, it leaves just *queued* calls waiting at the other side, so that it is never without work.
    A failure halves it. *most* bounds it. All but the reading of `limit` and `in_flight` is for the engine's thread.
    """

    def __init__(self, most: int, queued: int, monotonic: Callable[[], float]) -> None:
        self.in_flight = 0
        """Calls that were started and have not ended."""
        self._most = most
        self._queued = queued
        self._monotonic = monotonic
        self._limit = float(min(most, INITIAL_LIMIT))
        self._peak = 0
        self._window: list[float] = []
        self._best, self._best_before = math.inf, math.inf
        self._period_from = monotonic()
        self._crowded_at = -math.inf
        """When more than `QUIET` calls were last in flight."""
        self._quiet_calls = 0
        """Calls of this period that were never in a crowd."""
        self._quiet_until = -math.inf
        """Until then, few calls are made, so that one of them measures the baseline."""
        self._halved_at = -math.inf

    def set_most(self, most: int) -> None:
        """Bound the limit by *most* from now on: it falls at once, and rises as the other side can take more."""
        self._most = most
        self._limit = min(self._limit, float(most))

    @property
    def limit(self) -> int:
        """Calls that may be in flight at once."""
        return min(QUIET, int(self._limit)) if self._monotonic() < self._quiet_until else int(self._limit)

    def started(self, count: int) -> None:
        """*count* calls were started."""
        self.in_flight += count
        self._peak = max(self._peak, self.in_flight)

    def ended(self, seconds: float, *, succeeded: bool, failed: bool, count: int = 1) -> None:
        """A call ended after *seconds*; neither *succeeded* nor *failed*: its answer tells nothing of the link.

        *count*: how many are in flight no more; 0 if the same thread makes another one.
        """
        now = self._monotonic()
        if self.in_flight > QUIET:
            self._crowded_at = now
        self.in_flight -= count
        if failed:
            self._halve(now, now - seconds)
        elif succeeded:
            self._add(now, seconds)

    def _halve(self, now: float, started_at: float) -> None:
        """Once for all calls that were in flight together."""
        if started_at >= self._halved_at:
            self._limit = max(1.0, self._limit / 2)
            self._halved_at = now
            self._window.clear()

    def _add(self, now: float, seconds: float) -> None:
        self._turn_period(now)
        self._best = min(self._best, seconds)
        if now - seconds > self._crowded_at:
            self._quiet_calls += 1
            self._quiet_until = -math.inf
        self._window.append(seconds)
        if len(self._window) >= max(WINDOW, self.limit):
            self._adapt()

    def _turn_period(self, now: float) -> None:
        """Forget old baselines; after a period in a crowd, let the calls become few for a moment, to measure anew."""
        if now - self._period_from >= BASELINE_S:
            self._best, self._best_before = math.inf, self._best
            self._quiet_until = -math.inf if self._quiet_calls else now + MAX_QUIET_S
            self._quiet_calls, self._period_from = 0, now

    def _adapt(self) -> None:
        typical = sorted(self._window)[len(self._window) // 4]  # the noise of a busy machine only makes calls longer
        baseline = min(self._best, self._best_before, SLOW_S)
        share = baseline / typical if typical > baseline else 1.0
        wanted = self._limit * share + self._queued
        if wanted < self._limit or self._peak >= self.limit:
            self._limit = min(float(self._most), wanted)
        self._peak = self.in_flight
        self._window.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPools:
    """The pools that run the engine's calls, one per kind of call."""

    workers: int
    """The most calls of STFs at once on each link; the engine submits no more than that."""
    stf_calls: Executor
    probes: Executor
    background: Executor

    @classmethod
    def with_threads(cls, workers: int, links: int, *, most: int = 0) -> CallPools:
        """Thread pools for *workers* calls of STFs at once on each link, and all probes of *links* links.

        *most*: what *workers* may be raised to later. A thread is made when a call needs it.
        """
        return cls(
            workers=workers,
            stf_calls=ThreadPoolExecutor(_LINKS_OF_STFS * max(workers, most), thread_name_prefix="call"),
            probes=ThreadPoolExecutor(links * PROBES_PER_LINK, thread_name_prefix="probe"),
            background=ThreadPoolExecutor(BACKGROUND_THREADS, thread_name_prefix="background"),
        )

    def shutdown(self, *, wait: bool) -> None:
        """Stop the threads, and drop the calls that have not started."""
        for pool in (self.stf_calls, self.probes, self.background):
            pool.shutdown(wait=wait, cancel_futures=True)


def monitor_connections(workers: int) -> int:
    """How many connections to the monitor all pools need, so that no call waits for one."""
    return _LINKS_OF_STFS * (workers + PROBES_PER_LINK) + BACKGROUND_THREADS + _CALLS_FROM_ELSEWHERE

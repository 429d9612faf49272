"""How many calls may run at once, and the threads that make them. Each kind of call has its own threads.

A probe or background task that hangs takes no worker from the STFs, and no probe waits behind a background task.
FASTMON_WORKERS limits the calls of STFs; the other limits are constants of this module.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

PROBES_PER_LINK = 4
"""Probes of one link at once: a probe that hangs until its deadline must not delay the next one."""
BACKGROUND_THREADS = 6
"""Threads for polls of runs, lookups and summaries; more tasks than that wait in the pool's queue."""
_LINKS_TO_MONITOR = 2
_CALLS_FROM_ELSEWHERE = 3
"""The startup probe of the monitor, an operator's `reconcile`, and a status message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPools:
    """The pools that run the engine's calls, one per kind of call."""

    workers: int
    """Calls of STFs at once; the engine submits no more than that."""
    stf_calls: Executor
    probes: Executor
    background: Executor

    @classmethod
    def with_threads(cls, workers: int, links: int) -> CallPools:
        """Thread pools for *workers* calls of STFs at once and all probes of *links* links."""
        return cls(
            workers=workers,
            stf_calls=ThreadPoolExecutor(workers, thread_name_prefix="call"),
            probes=ThreadPoolExecutor(links * PROBES_PER_LINK, thread_name_prefix="probe"),
            background=ThreadPoolExecutor(BACKGROUND_THREADS, thread_name_prefix="background"),
        )

    def shutdown(self, *, wait: bool) -> None:
        """Stop the threads, and drop the calls that have not started."""
        for pool in (self.stf_calls, self.probes, self.background):
            pool.shutdown(wait=wait, cancel_futures=True)


def monitor_connections(workers: int) -> int:
    """How many connections to the monitor all pools need, so that no call waits for one."""
    return workers + _LINKS_TO_MONITOR * PROBES_PER_LINK + BACKGROUND_THREADS + _CALLS_FROM_ELSEWHERE

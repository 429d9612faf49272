"""How many calls may be under way at once, and the threads that make them: each kind of call has threads of its own.

So a probe or a background task that hangs takes no worker's place, however many there are, and no probe waits behind a
background task. `FASTMON_WORKERS` bounds the calls of STFs; the other numbers stand here.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

PROBES_PER_LINK = 4
"""One that was begun while packets vanished waits for its own deadline, and must delay no other."""
BACKGROUND_THREADS = 6
"""For looks at runs, lookups and summaries; where more are due, they wait for each other."""
_LINKS_TO_MONITOR = 2
_CALLS_FROM_ELSEWHERE = 2
"""The look at the monitor at the start, and a person who reconciles a run by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPools:
    """Where the engine's calls run, by their kind."""

    workers: int
    """So many calls of STFs are under way at once; the engine hands out no more."""
    stf_calls: Executor
    probes: Executor
    background: Executor

    @classmethod
    def with_threads(cls, workers: int, links: int) -> CallPools:
        """Pools whose threads suffice for *workers* calls of STFs at once and all probes of *links* links."""
        return cls(
            workers=workers,
            stf_calls=ThreadPoolExecutor(workers, thread_name_prefix="effect"),
            probes=ThreadPoolExecutor(links * PROBES_PER_LINK, thread_name_prefix="probe"),
            background=ThreadPoolExecutor(BACKGROUND_THREADS, thread_name_prefix="background"),
        )

    def shutdown(self, *, wait: bool) -> None:
        """End the threads, and drop what none of them has begun."""
        for pool in (self.stf_calls, self.probes, self.background):
            pool.shutdown(wait=wait, cancel_futures=True)


def monitor_connections(workers: int) -> int:
    """Connections to the monitor that suffice for all of them: a call that waits for one would delay an STF."""
    return workers + _LINKS_TO_MONITOR * PROBES_PER_LINK + BACKGROUND_THREADS + _CALLS_FROM_ELSEWHERE

"""All that this process remembers of the runs: one object per run, which a purge drops as a whole.

Pure: no clock, no database, no network. Messages that are being stored, and polls, lookups and summaries in flight
keep the object they began with: after a purge nobody reads it, and what they note in it is lost.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastmon_daemon.base.backoff import Backoff
from fastmon_daemon.monitor import StfFile
from fastmon_daemon.outbox import Origin, RunRow
from fastmon_daemon.runs.peers import Claim
from fastmon_daemon.runs.poll_state import RunPollState

MAX_RUNS = 1000
"""Runs that are remembered: whoever may publish can invent any number of them."""


@dataclass(frozen=True, slots=True)
class MissedStf:
    """An STF that the monitor lists and no message announced."""

    row: RunRow
    stf: StfFile
    origin: Origin
    by: str = ""
    """The operator who reconciled the run by command; empty for a poll."""

    @property
    def name(self) -> str:
        """Its filename, unique in the run."""
        return self.stf.stf_filename


@dataclass(slots=True)
class RetryTimer:
    """The time of the next attempt, with growing pauses. Times are monotonic seconds."""

    until: float = -math.inf
    _failures: int = 0

    def extend(self, now: float, backoff: Backoff) -> None:
        """Wait from *now* for the next pause of *backoff*, without jitter: only this process waits."""
        self._failures += 1
        self.until = now + backoff.pause_s(self._failures, jitter=lambda: 1.0)


@dataclass(slots=True, eq=False)
class TrackedRun:
    """One run in this process. All fields but the next four belong to the engine's thread."""

    purged: bool = False
    """An operator purged it: later answers are dropped. If the run begins again, it gets another object."""
    is_stored: bool = False
    """Its row is on disk: a message that only shows that it goes on need not be stored."""
    is_claimed: bool = False
    """A message that bears our namespace is on disk."""
    seen_at: float = -math.inf
    """When it was last recorded that an STF of the run was heard of, which another daemon of the queue gets."""
    namespace_checked: bool = False
    """A lookup found no TF files of another namespace at one of its STFs."""
    poll_state: RunPollState = field(default_factory=RunPollState)
    to_store: dict[str, MissedStf] = field(default_factory=dict)
    """Missed STFs that need no lookup, by file name."""
    lookups_waiting: dict[str, MissedStf] = field(default_factory=dict)
    lookups_in_flight: dict[str, MissedStf] = field(default_factory=dict)
    lookup_failures: Counter[str] = field(default_factory=Counter)
    claims: dict[str, Claim] = field(default_factory=dict)
    """Listed STFs that other daemons have, or may have, by file name."""
    finalize_timer: RetryTimer = field(default_factory=RetryTimer)
    finalize_counts: dict[str, int] = field(default_factory=dict)
    """State -> number of its STFs, when it was last found incomplete; a change restarts the pauses."""
    summary_timer: RetryTimer = field(default_factory=RetryTimer)
    sends_summary: bool = False
    """Its summary is in flight."""

    @property
    def is_busy(self) -> bool:
        """Whether something is in flight for it."""
        return self.poll_state.is_polling or self.sends_summary or self.is_recovering

    @property
    def may_store(self) -> bool:
        """Whether missed STFs may be stored without a lookup of their own: some STF was looked up before."""
        return self.namespace_checked or not (self.lookups_waiting or self.lookups_in_flight)

    @property
    def is_recovering(self) -> bool:
        """Whether missed STFs are being backfilled."""
        return bool(self.to_store or self.lookups_waiting or self.lookups_in_flight)

    def without_backfill(self, stfs: Iterable[StfFile]) -> list[StfFile]:
        """Those of *stfs* that are not being backfilled."""
        in_backfill = {*self.to_store, *self.lookups_waiting, *self.lookups_in_flight}
        return [stf for stf in stfs if stf.stf_filename not in in_backfill]


class TrackedRuns:
    """The runs that this process remembers. Thread-safe."""

    def __init__(self, purged: Callable[[str, str], None] = lambda _namespace, _run: None) -> None:
        """*purged* is called with each purged run, for what others remember of it."""
        self._purged = purged
        self._lock = threading.Lock()
        self._runs: dict[tuple[str, str], TrackedRun] = {}

    def get(self, namespace: str, run: str) -> TrackedRun:
        """The run; a new object if it is not remembered, or was purged."""
        with self._lock:
            if (namespace, run) not in self._runs:
                if len(self._runs) >= MAX_RUNS:
                    self._drop_oldest()
                self._runs[namespace, run] = TrackedRun()
            return self._runs[namespace, run]

    def _drop_oldest(self) -> None:
        """Forget the oldest run that is idle: what is remembered of it will be found again, by a poll or in its row."""
        oldest = next((key for key, run in self._runs.items() if not run.is_busy), None)
        if oldest is not None:
            del self._runs[oldest]

    def all(self) -> list[TrackedRun]:
        """A copy of the list of runs, in the order of their first `get`."""
        with self._lock:
            return list(self._runs.values())

    def purge(self, namespace: str, run: str) -> None:
        """Drop the run because an operator purges it; call this inside the transaction that deletes its row.

        A thread that then gets the new object, to store a message of the run, waits for that transaction.
        """
        with self._lock:
            dropped = self._runs.pop((namespace, run), None)
            if dropped is not None:
                dropped.purged = True
        self._purged(namespace, run)

"""What this process remembers of each run, all of it: one object per run, which a purge throws away as a whole.

Pure: no clock, no database, no network. Messages that are being stored, polls, lookups and summaries under way keep
the object that they began with: after a purge it is nobody's any more, and what they note in it is lost with it.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fastmon_daemon.base.backoff import Backoff
from fastmon_daemon.monitor import StfFile
from fastmon_daemon.outbox import Origin, RunRow
from fastmon_daemon.runs.poll_state import RunPollState


@dataclass(frozen=True, slots=True)
class MissedStf:
    """One STF that was named and is not known."""

    row: RunRow
    stf: StfFile
    origin: Origin
    by: str = ""
    """The person who looked by hand."""

    @property
    def name(self) -> str:
        """Its file name, unique in the run."""
        return self.stf.stf_filename


@dataclass(slots=True)
class RetryTimer:
    """When the next try is due. Times are monotonic seconds."""

    until: float = -math.inf
    _failures: int = 0

    def extend(self, now: float, backoff: Backoff) -> None:
        """Wait from *now* for the next pause of *backoff*, without jitter: only this process waits."""
        self._failures += 1
        self.until = now + backoff.pause_s(self._failures, jitter=lambda: 1.0)


@dataclass(slots=True, eq=False)
class TrackedRun:
    """One run, as this process remembers it. All but `is_stored` belongs to the engine's thread."""

    purged: bool = False
    """An operator purged it: an answer that still comes is dropped. A run of the same number is another object."""
    is_stored: bool = False
    """It is on disk: a mere sign that it goes on says nothing new."""
    poll_state: RunPollState = field(default_factory=RunPollState)
    to_store: dict[str, MissedStf] = field(default_factory=dict)
    """Missed STFs that need no lookup, by file name."""
    lookups_waiting: dict[str, MissedStf] = field(default_factory=dict)
    lookups_in_flight: dict[str, MissedStf] = field(default_factory=dict)
    lookup_failures: Counter[str] = field(default_factory=Counter)
    finalize_timer: RetryTimer = field(default_factory=RetryTimer)
    finalize_counts: dict[str, int] = field(default_factory=dict)
    """Its STFs by state, when it was last found incomplete: where that changes, the pauses begin anew."""
    summary_timer: RetryTimer = field(default_factory=RetryTimer)
    sends_summary: bool = False
    """Its summary is on its way."""

    @property
    def is_recovering(self) -> bool:
        """Whether missed STFs are about to be taken in."""
        return bool(self.to_store or self.lookups_waiting or self.lookups_in_flight)

    def not_under_way(self, stfs: Iterable[StfFile]) -> list[StfFile]:
        """Those of *stfs* that are not about to be taken in."""
        under_way = {*self.to_store, *self.lookups_waiting, *self.lookups_in_flight}
        return [stf for stf in stfs if stf.stf_filename not in under_way]


class TrackedRuns:
    """Every run that this process remembers something of. Callable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[tuple[str, str], TrackedRun] = {}

    def get(self, namespace: str, run: str) -> TrackedRun:
        """What is remembered of the run; of one that was purged, or never met, that is nothing yet."""
        with self._lock:
            if (namespace, run) not in self._runs:
                self._runs[namespace, run] = TrackedRun()
            return self._runs[namespace, run]

    def all(self) -> list[TrackedRun]:
        """All of them, as they are now, in the order in which they were met."""
        with self._lock:
            return list(self._runs.values())

    def forget(self, namespace: str, run: str) -> None:
        """An operator purges the run; call it inside the transaction that deletes it.

        So whoever stores a message of the run meanwhile, and holds its new object, waits for that transaction.
        """
        with self._lock:
            gone = self._runs.pop((namespace, run), None)
            if gone is not None:
                gone.purged = True

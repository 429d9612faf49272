"""What the reconciler remembers of a run between two polls. Pure: no clock, no database."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastmon_daemon.monitor import StfFile

_MIN_PAUSE_S = 1.0
_UNANSWERED_S = 60.0
"""If the pause between two answers exceeds the planned one by more than this, the monitor was down meanwhile."""
_POLL_DURATION_FACTOR = 10.0
"""The pause after a poll is at least ten times its duration, so that long lists do not load the monitor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerIntervals:
    """The times of the reconciler's rules, in seconds."""

    unnamed_run_s: float = 3.0
    """Between two polls of an open run that was announced without filenames."""
    open_run_s: float = 30.0
    """Between two polls of any other open run."""
    ended_run_s: float = 10.0
    """Between two polls of an ended run with unknown STFs."""
    max_pause_s: float = 600.0
    """The longest pause between two polls, for a run that is idle or has a long list."""
    missing_after_s: float = 30.0
    """An STF that the monitor lists counts as missed after this time, because its message may still arrive."""
    missing_after_end_s: float = 5.0
    """The same after the end of the run."""
    count_stable_s: float = 30.0
    """The monitor's count of an ended run is final when it has not changed for this time."""
    idle_end_s: float = 600.0
    """A run has ended when no message arrived for this time and all listed STFs are known."""
    idle_end_paused_s: float = 43200.0
    """The same for a paused run."""
    give_up_s: float = 900.0
    """For this time after its end, a run is polled for announced STFs that the monitor does not list."""
    heartbeat_s: float = 10.0
    """Between two heart-beats in the database, from which the next process knows the downtime."""
    unknown_runs_s: float = 60.0
    """Time between a restored subscription and the search for unknown runs."""
    peers_s: float = 12.0
    """Between two looks at the other daemons of a shared queue."""
    retry_s: float = 10.0
    """After a poll without an answer, or a summary that could not be sent."""
    lookups_per_s: float = 50.0
    max_lookups: int = 2
    """Lookups of missed STFs in flight at the same time, so that the engine keeps its workers."""


@dataclass(frozen=True, slots=True)
class RunListing:
    """The monitor's list of a run, compared with the database while it was read."""

    count: int
    """Listed STFs."""
    absent: set[str]
    """Those that were not known then."""
    new: list[StfFile]
    """Those of them that were not being recovered either; not all of them, if there are too many."""
    unlisted: set[str]
    """STFs with registered TF files that it should list."""
    run_key: int | None
    """The monitor's primary key of the run, if its rows have one."""
    ended_at: str | None = None
    """The end time in the monitor's row of the run, if it was requested."""
    seconds: float = 0.0
    """Duration of the poll."""
    is_whole: bool = True
    """False: the STFs were only counted, and are as many as are known."""


@dataclass(slots=True)
class RunPollState:
    """The poll state of one run in this process. Times are monotonic seconds."""

    is_polling: bool = False
    not_before: float = -math.inf
    end_asked: float = -math.inf
    """When the monitor was last asked for the end of the run."""
    listed_at: float = -math.inf
    """When the whole list was last compared."""
    since_s: float = 0.0
    """Seconds between the last two answered polls."""
    _at: float = 0.0
    """When the last poll was answered."""
    _disconnected_at: float = -math.inf
    """The last poll before which no message could be received."""
    _last_message_at: str = ""
    _idle_since: float = 0.0
    _first_listed: dict[str, float] = field(default_factory=dict)
    """Unknown STFs -> when the monitor first listed them."""
    _count: int = -1
    _count_since: float = 0.0
    _expected: int | None = None
    _ended_since: float | None = None
    """The first answered poll after the end of the run."""

    def find_missed(
        self, unknown: Sequence[StfFile], grace_s: float, now: float, is_coming: Callable[[StfFile], bool]
    ) -> list[StfFile]:
        """Those of the listed *unknown* STFs that count as missed: unknown for *grace_s*, and not *is_coming*."""
        first_listed = {stf.stf_filename: self._first_listed.get(stf.stf_filename, now) for stf in unknown}
        missed = [stf for stf in unknown if now - first_listed[stf.stf_filename] >= grace_s and not is_coming(stf)]
        for stf in missed:
            del first_listed[stf.stf_filename]
        self._first_listed = first_listed
        return missed

    def restart_grace(self) -> None:
        """The messages of the unknown STFs may still arrive: their grace time starts again."""
        self._first_listed = {}

    def count_is_stable(self, count: int, intervals: ReconcilerIntervals) -> bool:
        """Whether the monitor's count of an ended run is final; a count of zero needs `give_up_s`."""
        if count != self._count:
            self._count, self._count_since = count, self._at
        return self._at - self._count_since >= (intervals.count_stable_s if count else intervals.give_up_s)

    def gives_up(self, intervals: ReconcilerIntervals, expected: int | None) -> bool:
        """Whether an ended run was polled for `give_up_s` since *expected* changed, not counting monitor outages."""
        if self._ended_since is None or expected != self._expected:
            self._ended_since, self._expected = self._at, expected
        return self._at - self._ended_since >= intervals.give_up_s

    def until_missed(self, grace_s: float, now: float, pause_s: float | None) -> float:
        """Seconds until the next unknown STF counts as missed, at most *pause_s*."""
        until = min(at + grace_s - now for at in self._first_listed.values())
        return max(_MIN_PAUSE_S, until if pause_s is None else min(until, pause_s))

    def message_received(self, last_message_at: str, ago_s: float, now: float) -> None:
        """Note the run's last message, *ago_s* by the wall clock; which may jump, so the last poll is the limit."""
        if last_message_at != self._last_message_at:
            self._idle_since = now - min(max(ago_s, 0.0), now - self._at if self._last_message_at else 0.0)
            self._last_message_at = last_message_at

    @property
    def idle_s(self) -> float:
        """Seconds without a message of the run, as far as this process knows."""
        return self._at - self._idle_since

    def reset_listening(self) -> None:
        """No message could be received for a while before this poll: the run may not have been idle."""
        self._disconnected_at = self._at

    @property
    def listened_s(self) -> float:
        """Seconds without a message of the run while the broker was connected."""
        return min(self.idle_s, self._at - self._disconnected_at)

    def record_poll(self, listing: RunListing, intervals: ReconcilerIntervals, now: float) -> None:
        """Note that a poll was answered, and how long it took."""
        if self._ended_since is not None:  # an outage of the monitor does not count
            self._ended_since += max(0.0, now - max(self._at, self.not_before) - _UNANSWERED_S)
        self.since_s, self._at = now - self._at, now
        self.listed_at = now if listing.is_whole else self.listed_at
        self.not_before = now + min(_POLL_DURATION_FACTOR * listing.seconds, intervals.max_pause_s)

"""What is remembered of a run between two looks, and when the next one is due. Pure: no clock, no database."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastmon_daemon.monitor import StfFile

_SHORTEST_S = 1.0
_UNANSWERED_S = 60.0
"""A pause between two answers that is longer than planned by more than this: the monitor was away meanwhile."""
_SHARE = 10.0
"""A look is repeated after ten times what it took, at the soonest: a long list is no load then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerIntervals:
    """Times in seconds: those of the ledger's rules."""

    unnamed_run_s: float = 3.0
    """Between two looks at an open run that was announced without filenames."""
    open_run_s: float = 30.0
    """The same for any other open run."""
    ended_run_s: float = 10.0
    """The same for a run that has ended and whose STFs are not all known."""
    max_pause_s: float = 600.0
    """The longest pause: of a run of which nothing was heard for long, or whose list is long."""
    missing_after_s: float = 30.0
    """So long an STF that the monitor names may be unknown before it counts as missed: its message may be under way."""
    missing_after_end_s: float = 5.0
    """The same when the run has ended."""
    count_stable_s: float = 30.0
    """The monitor's count of a run that has ended must stand so long to be the authority."""
    idle_end_s: float = 600.0
    """A run of which nothing was heard for so long, and of which all that is named is known, has ended."""
    idle_end_paused_s: float = 43200.0
    """The same for a run that is paused, as far as we have heard."""
    give_up_s: float = 900.0
    """So long after its end a run is looked at for STFs that it announced and the monitor does not name."""
    heartbeat_s: float = 10.0
    """Between two signs of life, from which the next process knows since when nobody listened."""
    unknown_runs_s: float = 60.0
    """So long after somebody listens again the monitor's runs are listed, for those of which nothing was heard."""
    retry_s: float = 10.0
    """After a look that brought no answer, or a summary that did not go out."""
    lookups_per_s: float = 50.0
    max_lookups: int = 2
    """How many STFs that were missed are asked after, so that the engine is not starved."""


@dataclass(frozen=True, slots=True)
class RunListing:
    """What a look brought."""

    stfs: list[StfFile]
    ended_at: str | None
    """The end time in the monitor's row of the run, where that was asked for."""
    seconds: float
    """What it took."""


@dataclass(slots=True)
class RunPollState:
    """One run, as this process watches it. Times are monotonic seconds."""

    is_polling: bool = False
    not_before: float = -math.inf
    end_asked: float = -math.inf
    """When the monitor was asked for the run's end the last time."""
    since_s: float = 0.0
    """Seconds between the last two looks that were answered."""
    _at: float = 0.0
    """When the last look was answered."""
    _deaf_at: float = -math.inf
    """The last look before which nothing could be heard."""
    _heard_at: str = ""
    _heard_since: float = 0.0
    _named_at: dict[str, float] = field(default_factory=dict)
    """STFs that the monitor names and we do not know -> when we saw them named first."""
    _count: int = -1
    _count_since: float = 0.0
    _expected: int | None = None
    _ended_since: float | None = None
    """Since when a run that has ended is looked at with an answer."""

    def compare(
        self, strange: Sequence[StfFile], grace_s: float, now: float, coming: Callable[[StfFile], bool]
    ) -> list[StfFile]:
        """Of the STFs that are named and unknown those that count as missed: absent so long, and no more *coming*."""
        named_at = {stf.stf_filename: self._named_at.get(stf.stf_filename, now) for stf in strange}
        missed = [stf for stf in strange if now - named_at[stf.stf_filename] >= grace_s and not coming(stf)]
        for stf in missed:
            del named_at[stf.stf_filename]
        self._named_at = named_at
        return missed

    def restart_grace(self) -> None:
        """The messages of the STFs that are named and unknown may still come: those are absent only from now on."""
        self._named_at = {}

    def settled(self, count: int, intervals: ReconcilerIntervals) -> bool:
        """Whether the monitor's count of a run that has ended has stood long enough; none at all must stand longer."""
        if count != self._count:
            self._count, self._count_since = count, self._at
        return self._at - self._count_since >= (intervals.count_stable_s if count else intervals.give_up_s)

    def gives_up(self, intervals: ReconcilerIntervals, expected: int | None) -> bool:
        """Whether a run that has ended was looked at for long enough, since so many were *expected*.

        A monitor that is away does not count.
        """
        if self._ended_since is None or expected != self._expected:
            self._ended_since, self._expected = self._at, expected
        return self._at - self._ended_since >= intervals.give_up_s

    def until_missed(self, grace_s: float, now: float, pause_s: float | None) -> float:
        """Seconds until the next absent STF counts as missed, at most *pause_s*."""
        until = min(at + grace_s - now for at in self._named_at.values())
        return max(_SHORTEST_S, until if pause_s is None else min(until, pause_s))

    def message_received(self, heard_at: str, ago_s: float, now: float) -> None:
        """Note when the run was heard of: *ago_s* by a wall clock that may jump, at the soonest since the last look."""
        if heard_at != self._heard_at:
            self._heard_since = now - min(max(ago_s, 0.0), now - self._at if self._heard_at else 0.0)
            self._heard_at = heard_at

    @property
    def quiet_s(self) -> float:
        """So long nothing was heard of the run, as far as this process can say."""
        return self._at - self._heard_since

    def reset_listening(self) -> None:
        """Nothing could be heard for a while before this look: that it was quiet proves nothing."""
        self._deaf_at = self._at

    @property
    def listened_s(self) -> float:
        """So long nothing was heard of the run though we listened."""
        return min(self.quiet_s, self._at - self._deaf_at)

    def record_poll(self, listing: RunListing, intervals: ReconcilerIntervals, now: float) -> None:
        """A look was answered: note when, and what it cost."""
        if self._ended_since is not None:  # the time for which the monitor was away does not count
            self._ended_since += max(0.0, now - max(self._at, self.not_before) - _UNANSWERED_S)
        self.since_s, self._at = now - self._at, now
        self.not_before = now + min(_SHARE * listing.seconds, intervals.max_pause_s)

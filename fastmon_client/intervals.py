"""All intervals and timeouts of the client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

HEARTBEATS_UNTIL_DEAD = 2.5
"""A connection is dead after this many heart-beat intervals without data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Durations in seconds, rates in 1/s."""

    heart_beat_s: float = 30.0
    """Between two heart-beats of the stream."""
    reconnect_s: float = 1.0
    """Shortest wait before a reconnect; it grows with each loss, to 30 s."""
    stable_s: float = 10.0
    """A connection that lasts as long makes the waits short again."""
    recycle_s: float = 4 * 3600.0
    """Between two renewals of the stream: after a day the server sends only heart-beats."""
    overlap_s: float = 10.0
    """The old and the new stream are both read this long."""
    compare_s: float = 30.0
    """Between two comparisons of an open run with the monitor."""
    settle_s: float = 1.0
    """Delay before a requested comparison."""
    retry_s: float = 5.0
    """Between two attempts to compare while the monitor does not answer."""
    runs_s: float = 60.0
    """Between two reads of the table of runs."""
    agents_s: float = 15.0
    """Between two reads of the table of agents."""
    silent_after_s: float = 60.0
    """A daemon without a sign of life for longer is silent: four of its heart-beats."""
    min_age_s: float = 3.0
    """Younger TF files may still arrive by the stream and are not queried."""
    grace_s: float = 30.0
    """An STF without TF files counts as missing at this age."""
    end_grace_s: float = 10.0
    """The same after the end of the run."""
    end_timeout_s: float = 60.0
    """Longest wait for the monitor after the end of a run."""
    query_hz: float = 5.0
    """Highest rate of TF file queries."""
    status_s: float = 60.0
    """Between two lines of status in the text output."""
    tick_s: float = 1.0
    """Between two updates of what depends on time alone."""

    @property
    def dead_after_s(self) -> float:
        """A stream without data for longer is dead."""
        return HEARTBEATS_UNTIL_DEAD * self.heart_beat_s

    def grace(self, *, has_ended: bool) -> timedelta:
        """The age at which an STF without TF files counts as missing."""
        return timedelta(seconds=self.end_grace_s if has_ended else self.grace_s)

"""How often, how soon and how long: the client's spans of time in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

PATIENCE = 2.5
"""Heart-beat intervals in which nothing came, after which a connection counts as dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """All in seconds."""

    heart_beat_s: float = 30.0
    """Between two heart-beats of the stream."""
    reconnect_s: float = 1.0
    """The shortest wait before a lost stream is opened again; it grows with each loss, to 30 s."""
    recycle_s: float = 4 * 3600.0
    """A stream is renewed so often: after a day it brings nothing but heart-beats."""
    overlap_s: float = 10.0
    """Both streams are read for so long."""
    compare_s: float = 30.0
    """Between two comparisons of an open run with the monitor."""
    settle_s: float = 1.0
    """From a reason to compare to the comparison."""
    retry_s: float = 5.0
    """Between two tries to compare while the monitor does not answer."""
    runs_s: float = 60.0
    """Between two looks for runs that nobody told us of."""
    young_s: float = 3.0
    """A TF file younger than this is on its way: it is not asked for."""
    grace_s: float = 30.0
    """An STF without TF files counts as missing when it is so old."""
    end_grace_s: float = 10.0
    """The same, when the run has ended."""
    end_patience_s: float = 60.0
    """So long the end of a run waits for a monitor that does not answer."""
    asks_hz: float = 5.0
    """TF files are asked for so many STFs a second."""
    tick_s: float = 1.0
    """Between two looks at what only time changes."""

    @property
    def patience_s(self) -> float:
        """A stream that was silent for longer counts as dead."""
        return PATIENCE * self.heart_beat_s

    def grace(self, *, has_ended: bool) -> timedelta:
        """Until an STF without TF files counts as missing."""
        return timedelta(seconds=self.end_grace_s if has_ended else self.grace_s)

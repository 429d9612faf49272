"""Liveness of the engine: its thread calls `beat` after each tick, any thread may check."""

from __future__ import annotations

from collections.abc import Callable

INTERVAL_S = 5.0
"""Seconds within which a tick ends even on a slow disk; an idle engine ticks every second."""
MISSED = 3
"""Intervals without a tick after which the engine is stalled: half of the unit's WatchdogSec."""


def describe_stall(age_s: float) -> str:
    """Return that the last tick ended *age_s* seconds ago, and what to do."""
    return f"engine loop stalled for {age_s:.1f} s: see the log, then restart the daemon"


class Liveness:
    """Counts the engine's ticks and records when the last one ended, in *monotonic* seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._beat_at = monotonic()
        self.ticks = 0

    def beat(self) -> None:
        """Record the end of a tick."""
        self.ticks += 1
        self._beat_at = self._monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the last tick ended."""
        return self._monotonic() - self._beat_at

    @property
    def is_stalled(self) -> bool:
        """Whether the last tick ended too long ago."""
        return self.age_s > MISSED * INTERVAL_S

"""Whether the engine turns. Its thread beats, any other may look.

It must not know what a turn does.
"""

from __future__ import annotations

from collections.abc import Callable

INTERVAL_S = 5.0
"""In so many seconds a turn is over even on a slow disk; an idle engine turns every second."""
MISSED = 3
"""So many intervals without a turn mean that the engine stands: half of the unit's WatchdogSec."""


class Liveness:
    """Counts the turns of the engine and remembers when the last one ended, by *monotonic*."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._beat_at = monotonic()
        self.turns = 0

    def beat(self) -> None:
        """A turn is over."""
        self.turns += 1
        self._beat_at = self._monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the last turn ended."""
        return self._monotonic() - self._beat_at

    @property
    def is_stalled(self) -> bool:
        """Whether the engine has not turned for too long."""
        return self.age_s > MISSED * INTERVAL_S

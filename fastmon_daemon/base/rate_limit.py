"""A token bucket: so many a second, and no more."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """A token bucket that may go into debt: announcements of late STFs leave the fresh ones room."""

    def __init__(self, rate: float, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._balance = rate
        self._at = monotonic()

    @property
    def is_ready(self) -> bool:
        """Whether something may go now; a rate of 0 is no limit."""
        if self._rate <= 0:
            return True
        now = self._monotonic()
        self._balance = min(self._rate, self._balance + (now - self._at) * self._rate)
        self._at = now
        return self._balance > 0

    def take(self, count: int) -> bool:
        """Let *count* announcements go, or none."""
        if not self.is_ready:
            return False
        if self._rate > 0:
            self._balance -= count
        return True

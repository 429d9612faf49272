"""A token bucket."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Limits actions to *rate* per second (0: no limit); a large `take` may leave the balance negative."""

    def __init__(self, rate: float, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._balance = rate
        self._at = monotonic()

    @property
    def is_ready(self) -> bool:
        """Whether an action is allowed now."""
        if self._rate <= 0:
            return True
        now = self._monotonic()
        self._balance = min(self._rate, self._balance + (now - self._at) * self._rate)
        self._at = now
        return self._balance > 0

    def take(self, count: int) -> bool:
        """Take *count* tokens, or none; returns whether they were taken."""
        if not self.is_ready:
            return False
        if self._rate > 0:
            self._balance -= count
        return True

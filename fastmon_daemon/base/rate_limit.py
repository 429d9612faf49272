"""Limits of rates: of actions, and of similar events."""

from __future__ import annotations

import threading
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

    def set_rate(self, rate: float) -> None:
        """Use *rate* from now on."""
        self._rate = rate

    def take(self, count: int) -> bool:
        """Take *count* tokens, or none; returns whether they were taken."""
        if not self.is_ready:
            return False
        if self._rate > 0:
            self._balance -= count
        return True


class RepetitionCounter:
    """Counts similar events by their kind, in intervals of *interval_s* that begin with a kind's first event.

    The caller decides which number is too high: for a log line, for storing. Thread-safe. There must be few kinds.
    """

    def __init__(self, interval_s: float, monotonic: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._until: dict[str, float] = {}
        """Kind -> end of its interval."""

    def count(self, kind: str) -> int:
        """Count an event of *kind*; return its number in the interval, from 1."""
        with self._lock:
            self._until.setdefault(kind, self._monotonic() + self._interval_s)
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            return number

    def take_ended(self) -> list[tuple[str, int]]:
        """Each kind whose interval has ended, with its number of events; they count anew. Call this often."""
        if not self._until:
            return []
        now = self._monotonic()
        with self._lock:
            ended = [kind for kind, until in self._until.items() if until <= now]
            for kind in ended:
                del self._until[kind]
            return [(kind, self._counts.pop(kind)) for kind in ended]

"""The gates: whether a link may be used now, and when it is looked at again; and the pace of late announcements.

A gate knows its link's name only. It must not know STFs, SQL, HTTP or STOMP.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fastmon_daemon.retrying import Backoff

MAX_PROBE_INTERVAL_S = 5.0
"""Longest wait between two probes of a link that is down, in seconds: recovery starts within this time."""
MAX_BLOCKED_PROBE_INTERVAL_S = 30.0
"""The same for a link that is held: somebody must mend a setting first."""
SHORTEST_PROBE_PAUSE_S = 0.2
"""From the answer to a probe to the next probe, in seconds."""
_DOWN = Backoff(first_s=1.0, longest_s=MAX_PROBE_INTERVAL_S)
_HELD = Backoff(first_s=MAX_BLOCKED_PROBE_INTERVAL_S, longest_s=MAX_BLOCKED_PROBE_INTERVAL_S)


@dataclass(slots=True)
class CircuitBreaker:
    """The gate of one link."""

    link: str
    max_probes: int
    """Under way at once: one that was begun while packets vanished must delay no other by its own deadline."""
    jitter: Callable[[], float] = random.random
    allows_calls: bool = True
    blocked: bool = False
    """It answers, but refuses us: a person must mend the configuration."""
    opened_at: float = -math.inf
    """When the link was last found to be back; all times here are monotonic, in seconds."""
    next_probe: float = 0.0
    probing: set[float] = field(default_factory=set)
    """When the probes began that are under way."""
    probed_at: float = 0.0
    """When the newest probe began."""
    failures: int = 0
    """Times in a row that the link was found down."""

    def trip(self, monotonic: float, held: bool) -> None:
        """Shut the gate. Calls that were under way then fail as well, and do not put the next probe off."""
        was_open, self.allows_calls, self.blocked = self.allows_calls, False, held
        if was_open:
            self._pause(monotonic, monotonic)

    def reset(self, monotonic: float) -> None:
        """The link is back."""
        self.allows_calls, self.blocked = True, False
        self.opened_at, self.failures = monotonic, 0

    def probe_is_due(self, monotonic: float) -> bool:
        """Whether it is time to ask whether the link is back."""
        return not self.allows_calls and len(self.probing) < self.max_probes and monotonic >= self.next_probe

    def probe_started(self, monotonic: float) -> None:
        """Somebody asks now whether the link is back; the next one does so even where this one hears nothing."""
        self.probing.add(monotonic)
        self.probed_at = monotonic
        self.next_probe = monotonic + (MAX_BLOCKED_PROBE_INTERVAL_S if self.blocked else MAX_PROBE_INTERVAL_S)

    def probe_finished(self, begun: float, monotonic: float) -> None:
        """The probe that was *begun* then has its answer; where that was no, the next follows after a pause."""
        self.probing.discard(begun)
        if not self.allows_calls and begun == self.probed_at:
            self._pause(begun, monotonic)

    def _pause(self, since: float, monotonic: float) -> None:
        """Plan the next probe, by a pause that counts from the beginning of the last one."""
        self.failures += 1
        pause_s = (_HELD if self.blocked else _DOWN).pause_s(self.failures, self.jitter)
        self.next_probe = max(since + pause_s, monotonic + SHORTEST_PROBE_PAUSE_S)


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

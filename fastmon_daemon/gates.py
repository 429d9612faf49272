"""The gates: whether a link may be used now, and when it is looked at again; and the pace of late announcements.

A gate knows its link's name only. It must not know STFs, SQL, HTTP or STOMP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PROBE_S = 5.0
"""Longest wait between two probes of a link that is down, in seconds: recovery starts within this time."""
HELD_PROBE_S = 30.0
"""The same for a link that is held: somebody must mend a setting first."""
SHORTEST_PAUSE_S = 0.2
"""Between two probes, in seconds."""


@dataclass(slots=True)
class Gate:
    """The gate of one link."""

    link: str
    open: bool = True
    held: bool = False
    """It answers, but refuses us: a person must mend the configuration."""
    next_probe: float = 0.0
    """Monotonic seconds."""
    probing: bool = False
    probed_at: float = 0.0
    """When the last probe began, in monotonic seconds."""
    refusals: int = 0
    """Times in a row that the link was found down."""

    def shut(self, monotonic: float, held: bool, jitter: Callable[[], float]) -> float:
        """Shut the gate; returns the seconds until the next probe: full jitter below 1, 2, 4 ... 5 s.

        Calls that were under way when the gate shut fail as well, and change nothing. The pause counts from the
        beginning of a probe: one that waits for an answer until its own deadline must not delay the recovery.
        """
        if self.open or monotonic >= self.next_probe:
            ceiling = HELD_PROBE_S if held else min(PROBE_S, 2.0 ** min(self.refusals, 10))
            self.refusals += 1
            since = self.probed_at if self.probing else monotonic
            self.next_probe = max(since + ceiling * jitter(), monotonic + SHORTEST_PAUSE_S)
        self.open, self.held = False, held
        return self.next_probe - monotonic

    def reopen(self) -> None:
        """The link is back."""
        self.open, self.held = True, False
        self.refusals = 0

    def wants_probe(self, monotonic: float) -> bool:
        """Whether it is time to ask whether the link is back."""
        return not self.open and not self.probing and monotonic >= self.next_probe

    def probe_begins(self, monotonic: float) -> None:
        """Somebody asks now whether the link is back."""
        self.probing, self.probed_at = True, monotonic


class Pace:
    """A token bucket that may go into debt: announcements of late STFs leave the fresh ones room."""

    def __init__(self, rate: float, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._balance = rate
        self._at = monotonic()

    @property
    def ready(self) -> bool:
        """Whether something may go now; a rate of 0 is no limit."""
        if self._rate <= 0:
            return True
        now = self._monotonic()
        self._balance = min(self._rate, self._balance + (now - self._at) * self._rate)
        self._at = now
        return self._balance > 0

    def take(self, count: int) -> bool:
        """Let *count* announcements go, or none."""
        if not self.ready:
            return False
        if self._rate > 0:
            self._balance -= count
        return True

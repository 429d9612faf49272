"""What the broker has seen, for tests and for people who look."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counters:
    """What the broker has seen since it was made."""

    accepted: Counter[str] = field(default_factory=Counter)
    """Messages by destination; a dropped duplicate does not count."""
    connections: int = 0
    received: Counter[str] = field(default_factory=Counter)
    """Frames by command."""
    sent: Counter[str] = field(default_factory=Counter)

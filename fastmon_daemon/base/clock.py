"""Time: aware UTC in the program, ISO 8601 text in the database and in messages.

No other module of the daemon reads the system time; each is given a `Clock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def utcnow() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """The wall clock for times that are stored, the monotonic clock (which never jumps) for durations."""

    now: Callable[[], datetime] = utcnow
    monotonic: Callable[[], float] = time.monotonic
    """Seconds from an arbitrary start."""


def format_timestamp(moment: datetime) -> str:
    """*moment* as ISO 8601 text in UTC with milliseconds; texts sort in the order of time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def parse_timestamp(text: str) -> datetime:
    """An ISO 8601 text as an aware datetime; a text without a time zone is taken as UTC. Raises: ValueError."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)

"""Time: aware UTC in the program, ISO 8601 text in the database and in messages.

No other module of the daemon reads the system time; each is given a `Clock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


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


def format_time(text: str, now: datetime) -> str:
    """A stored time for operators, in UTC; without the date if it is that of *now*: `12:00:00Z`."""
    at, today = parse_timestamp(text).astimezone(UTC), now.astimezone(UTC).date()
    return f"{at:%H:%M:%S}Z" if at.date() == today else f"{at:%Y-%m-%d %H:%M:%S}Z"


def format_age(text: str, now: datetime) -> str:
    """The distance of a stored time from *now*: `5 min ago`, `in 3 s`."""
    seconds = (now - parse_timestamp(text)).total_seconds()
    size, unit = next((each for each in _UNITS if abs(seconds) >= each[0]), _UNITS[-1])
    distance = f"{int(abs(seconds) / size)} {unit}"
    return f"{distance} ago" if seconds >= 0 else f"in {distance}"

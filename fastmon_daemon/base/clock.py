"""How time is read and written: aware UTC in the program, ISO 8601 text in the database and in messages.

Nothing else in the daemon asks the system for the time; a `Clock` is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def utcnow() -> datetime:
    """The wall clock, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks: stored times come from the wall clock, durations from the monotonic one (which never jumps)."""

    now: Callable[[], datetime] = utcnow
    monotonic: Callable[[], float] = time.monotonic
    """Seconds from an arbitrary start."""


def format_timestamp(moment: datetime) -> str:
    """*moment* as ISO 8601 text in UTC with milliseconds: it sorts as it reads."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def parse_timestamp(text: str) -> datetime:
    """The aware datetime of an ISO 8601 text; one without a time zone counts as UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)

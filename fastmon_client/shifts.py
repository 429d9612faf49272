"""The shifts of a day, and the times that a report is about. Pure.

A shift begins at a time of the wall clock and ends when the next one begins: in the nights when the clock is changed
it is an hour shorter or longer. Windows are in UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DEFAULT_SHIFTS = "night=00:00,day=08:00,evening=16:00"
MAX_SHIFTS = 12
_SHIFT = re.compile(r"([a-z][a-z0-9-]{0,19})=([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """The time from *begin* to *end*, both in UTC."""

    begin: datetime
    end: datetime
    title: str
    """`last 8 h`, `night shift of 2026-11-30`."""


@dataclass(frozen=True, slots=True)
class Shifts:
    """The shifts of every day."""

    starts: tuple[tuple[str, time], ...]
    """Name and begin, by time."""
    zone: tzinfo | None = None
    """None: that of the system."""
    zone_name: str = ""

    @classmethod
    def parse(cls, text: str, zone: str) -> Shifts:
        """From `night=00:00,day=08:00`, and the name of a time zone; empty: the default, the zone of the system.

        Raises: ValueError, which says what to write.
        """
        words = [word.strip() for word in (text or DEFAULT_SHIFTS).split(",")]
        found = [_SHIFT.fullmatch(word) for word in words]
        named = {each[1]: time(int(each[2]), int(each[3])) for each in found if each}
        if not len(named) == len(set(named.values())) == len(words) <= MAX_SHIFTS:
            raise ValueError(f"shifts: {text!r}: use NAME=HH:MM,..., as in {DEFAULT_SHIFTS}")
        return cls(tuple(sorted(named.items(), key=lambda each: each[1])), _zone(zone), zone)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the day."""
        return tuple(name for name, _ in self.starts)

    def of(self, name: str, at: datetime) -> Window:
        """The shift *name* that lasts at *at*, from its begin to *at*; else the last one, whole.

        Raises: ValueError if there is no such shift.
        """
        if name not in self.names:
            raise ValueError(f"no shift is called {name!r}: use {', '.join(self.names)}")
        place = self.names.index(name)
        today = self.local(at).date()
        begun = [day for back in range(3) if self._begin(day := today - timedelta(days=back), place) <= at]
        day = max(begun)
        begin, end = self._begin(day, place), self._begin(day, place + 1)
        return Window(begin, min(end, at), f"{name} shift of {day.isoformat()}")

    def local(self, at: datetime) -> datetime:
        """*at* in the zone of the shifts."""
        return at.astimezone(self.zone)

    def _begin(self, day: date, place: int) -> datetime:
        """When the shift number *place* of *day* begins; the one after the last is the first of the next day."""
        days, place = divmod(place, len(self.starts))
        at = datetime.combine(day + timedelta(days=days), self.starts[place][1], self.zone)
        return at.astimezone(UTC)


def last(seconds: float, at: datetime) -> Window:
    """The last *seconds* until *at*."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    text = f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
    return Window(at - timedelta(seconds=seconds), at, f"last {text if whole >= 60 else f'{whole} s'}")


def _zone(name: str) -> tzinfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder
        raise ValueError(f"time zone: {name!r} is not known here: use a name such as America/New_York") from None

"""Which hours a report is about: shifts by the wall clock, also across midnight and when the clock is changed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from freezegun import freeze_time

from fastmon_client.session import now
from fastmon_client.shifts import DEFAULT_SHIFTS, Shifts, last

NEW_YORK = Shifts.parse("", "America/New_York")


def hours(shifts: Shifts, name: str) -> tuple[str, str, str]:
    """Begin and end of the shift now, in its zone, and its title."""
    found = shifts.of(name, now())
    begin, end = (shifts.local(each).strftime("%d %H:%M") for each in (found.begin, found.end))
    return begin, end, found.title


@pytest.mark.parametrize(
    ("at", "name", "begin", "end", "title"),
    [
        ("2026-11-30 13:05", "night", "30 00:00", "30 08:00", "night shift of 2026-11-30"),  # it has just ended
        ("2026-11-30 12:55", "night", "30 00:00", "30 07:55", "night shift of 2026-11-30"),  # it lasts
        ("2026-11-30 05:00", "evening", "29 16:00", "30 00:00", "evening shift of 2026-11-29"),  # midnight
        ("2026-11-30 05:00", "night", "30 00:00", "30 00:00", "night shift of 2026-11-30"),
        ("2026-11-30 04:59", "evening", "29 16:00", "29 23:59", "evening shift of 2026-11-29"),
        ("2026-11-30 04:59", "night", "29 00:00", "29 08:00", "night shift of 2026-11-29"),
        ("2026-11-30 12:00", "day", "29 08:00", "29 16:00", "day shift of 2026-11-29"),
    ],
)
def test_a_shift_is_the_one_that_lasts_or_the_last_one(at: str, name: str, begin: str, end: str, title: str) -> None:
    with freeze_time(at):
        assert hours(NEW_YORK, name) == (begin, end, title)


@pytest.mark.parametrize(("day", "length_h"), [("2026-03-08", 7), ("2026-11-01", 9), ("2026-11-02", 8)])
def test_the_night_in_which_the_clock_is_changed_is_shorter_or_longer(day: str, length_h: int) -> None:
    with freeze_time(f"{day} 15:00"):
        found = NEW_YORK.of("night", now())
    assert (found.end - found.begin).total_seconds() == length_h * 3600
    assert NEW_YORK.local(found.end).strftime("%H:%M") == "08:00"


def test_a_shift_may_last_over_midnight() -> None:
    shifts = Shifts.parse("day=07:00, evening=15:00, night=23:00", "Europe/Berlin")
    with freeze_time("2026-11-30 06:05"):  # 07:05
        assert hours(shifts, "night") == ("29 23:00", "30 07:00", "night shift of 2026-11-29")
    with freeze_time("2026-11-29 22:30"):  # 23:30
        assert hours(shifts, "night") == ("29 23:00", "29 23:30", "night shift of 2026-11-29")
        assert hours(shifts, "evening") == ("29 15:00", "29 23:00", "evening shift of 2026-11-29")


def test_shifts_follow_each_other_without_a_gap_all_year() -> None:
    for day in range(1, 366):
        at = datetime.strptime(f"2026 {day} 23", "%Y %j %H").replace(tzinfo=UTC)
        evening, night = NEW_YORK.of("evening", at), NEW_YORK.of("day", at)
        assert night.end == evening.begin


def test_the_zone_is_that_of_the_system_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 11, 30, 13, tzinfo=UTC)
    assert Shifts.parse("", "").of("day", at).begin == at.astimezone().replace(hour=8, minute=0).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [("night", "", "use NAME=HH:MM"), ("night=24:00", "", "use NAME"), ("a=00:00,a=08:00", "", "use NAME"),
     ("a=00:00,b=00:00", "", "use NAME"), ("a=00:00,,", "", "use NAME"), ("", "Atlantis", "is not known here"),
     ("", "../../etc/passwd", "is not known here"), ("", "America", "is not known here")],
)  # fmt: skip
def test_invalid_shifts_are_refused_with_what_to_write(text: str, zone: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Shifts.parse(text, zone)


def test_a_shift_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="use night, day, evening"):
        NEW_YORK.of("owl", datetime(2026, 11, 30, tzinfo=UTC))
    assert Shifts.parse(DEFAULT_SHIFTS, "").names == ("night", "day", "evening")


@pytest.mark.parametrize(
    ("seconds", "title"), [(28800, "last 8 h"), (5400, "last 1 h 30 min"), (90, "last 1 min"), (5, "last 5 s")]
)
def test_the_last_hours_end_now(seconds: float, title: str) -> None:
    at = datetime(2026, 11, 30, tzinfo=UTC)
    found = last(seconds, at)
    assert ((found.end - found.begin).total_seconds(), found.end, found.title) == (seconds, at, title)

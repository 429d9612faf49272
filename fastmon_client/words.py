"""Numbers of a snapshot as words for people: ages, counts, ranges. Pure; it must not know where they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime


def age(seconds: float | None) -> str:
    """A span in its two greatest units: `42 s`, `3 min 5 s`, `2 h 4 min`; `?` where unknown."""
    if seconds is None:
        return "?"
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def short_age(seconds: float | None) -> str:
    """A span in its greatest unit, for narrow columns: `42s`, `3m`, `2h`, `4d`."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def lag(seconds: float | None) -> str:
    """A delay: two digits are enough."""
    if seconds is None:
        return "-"
    return f"{seconds:.2f}" if seconds < 10 else short_age(seconds)


def of(seen: int, expected: int | None) -> str:
    """`12/20`; only `12` where nobody said how many there are."""
    return f"{seen}" if expected is None else f"{seen}/{expected}"


def ranges(numbers: Iterable[int]) -> str:
    """`3, 7-9`: sorted, with neighbours drawn together."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(str(end) for end in part) for part in parts)


def clock_time(iso: str | None) -> str:
    """`HH:MM:SS` of an ISO time, as it stands there; `-` where there is none."""
    try:
        return datetime.fromisoformat(iso or "").strftime("%H:%M:%S")
    except ValueError:
        return "-"

"""Formats messages, sizes, ages and counts for people. Pure; escapes everything from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastmon_client.snapshot import Snapshot
from fastmon_client.tffile import ANNOUNCED, file_size, run_of

MAX_STATUS_RUNS = 5
"""Runs in a line of status."""
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def escape(value: object) -> str:
    """*value* as text, with control characters as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(value))


def size(count: int | None) -> str:
    """Bytes, in powers of 1000; `?` if unknown."""
    if count is None:
        return "?"
    amount, unit = float(count), 0
    while amount >= 999.95 and unit < len(_UNITS) - 1:  # 999.95 would be rounded to 1000.0
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def count_of(count: int, noun: str) -> str:
    """`1 STF`, `2 STFs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def volume(known: int | None, without_size: int) -> str:
    """The sum *known* of the known sizes; `≥` if *without_size* files have none, `?` if no file has one."""
    return f"≥{size(known)}" if known is not None and without_size else size(known)


def age(seconds: float | None) -> str:
    """A duration in its two largest units: `42 s`, `3 min 5 s`, `2 h 4 min`; `?` if unknown."""
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
    """A duration in its largest unit, for narrow columns: `42s`, `3m`, `2h`, `4d`."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def lag(seconds: float | None) -> str:
    """A delay: `85 ms`, `0.35 s`, `12 s`, `3 min 5 s`; `-` if unknown."""
    if seconds is None:
        return "-"
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else age(seconds)


def of(seen: int, expected: int | None) -> str:
    """`12/20`; `12` if the total is unknown."""
    return f"{seen}" if expected is None else f"{seen}/{expected}"


def clock_time(iso: str | None) -> str:
    """`HH:MM:SS` of an ISO time, in its own zone; `-` if invalid."""
    try:
        return datetime.fromisoformat(iso or "").strftime("%H:%M:%S")
    except ValueError:
        return "-"


def gaps(sequences: Sequence[int]) -> list[str]:
    """Ranges of consecutive numbers in ascending *sequences*: `4-6`, `9`."""
    found: list[list[int]] = []
    for number in sequences:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


def status_line(snapshot: Snapshot) -> str:
    """The verdict, the rate and what is missing of the open runs (else of the newest one), as one line of text."""
    verdict, runs = snapshot["verdict"], snapshot["runs"]
    shown = [run for run in runs if run["state"] in ("imminent", "running", "paused")] or runs[:1]
    parts = [clock_time(snapshot["at"]), verdict["word"], f"{snapshot['tiles']['flow']['rate_hz']:.1f} TF files/s"]
    for run in shown[:MAX_STATUS_RUNS]:
        missing, named = run["stfs_missing"], f": {', '.join(gaps(run['missing']))}" if run["missing"] else ""
        text = "missing UNKNOWN" if missing is None else f"{count_of(missing, 'STF')} missing{named}"
        parts.append(f"run {escape(run['run'])} {run['state']}, {text}")
    if len(shown) > MAX_STATUS_RUNS:
        parts.append(f"and {count_of(len(shown) - MAX_STATUS_RUNS, 'more run')}")
    return "  ".join(parts if verdict["word"] == "FLOWING" else [*parts, f"({escape(verdict['reason'])})"])


def line(message: Mapping[str, Any]) -> str:
    """*message* as one line of text."""
    when = escape(message.get("timestamp") or message.get("sent_at") or "")[11:19] or "-"
    run, kind = escape(run_of(message) or "-"), message.get("msg_type")
    if kind == ANNOUNCED:
        span = f"TF {escape(message.get('tf_first', '?'))}-{escape(message.get('tf_last', '?'))}"
        late = "  late" if message.get("late") else ""
        name, stf = escape(message.get("tf_filename")), escape(message.get("stf_filename"))
        return f"{when}  run {run}  {name}  {span}  {size(file_size(message))}  of {stf}{late}"
    details = "  ".join(
        f"{key}={escape(message[key])}"
        for key in ("status", "message", "reason", "total_stf_files")
        if message.get(key) is not None
    )
    return f"{when}  run {run}  {escape(kind)}  {details}".rstrip()

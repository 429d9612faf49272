"""From a message to a line for people. Pure; whatever came over the network is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_MAX_INT64 = 2**63 - 1


def plain(value: object) -> str:
    """*value* as text in which nothing can move the cursor: control characters are shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(value))


def size(count: int | None) -> str:
    """Bytes for people, in powers of 1000; `?` where unknown."""
    if count is None:
        return "?"
    amount, unit = float(count), 0
    while amount >= 999.95 and unit < len(_UNITS) - 1:  # 999.95 would be rounded to 1000.0
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def run_of(message: Mapping[str, Any]) -> str | None:
    """The run that *message* is of: `100014` and `"100014"` are one run. Some agents name it `run_number`."""
    run = message.get("run_id")
    run = message.get("run_number") if run is None else run
    return None if run is None else str(run)


def file_size(message: Mapping[str, Any]) -> int | None:
    """Bytes of the TF file; None where unknown, or where it is no size."""
    value = message.get("file_size_bytes")
    return value if type(value) is int and 0 <= value <= _MAX_INT64 else None


def line(message: Mapping[str, Any]) -> str:
    """One line for one message."""
    when = plain(message.get("timestamp") or message.get("sent_at") or "")[11:19] or "-"
    run, kind = plain(run_of(message) or "-"), message.get("msg_type")
    if kind == "tf_file_registered":
        span = f"TF {plain(message.get('tf_first', '?'))}-{plain(message.get('tf_last', '?'))}"
        late = "  late" if message.get("late") else ""
        name, stf = plain(message.get("tf_filename")), plain(message.get("stf_filename"))
        return f"{when}  run {run}  {name}  {span}  {size(file_size(message))}  of {stf}{late}"
    details = "  ".join(
        f"{key}={plain(message[key])}"
        for key in ("status", "message", "reason", "total_stf_files")
        if message.get(key) is not None
    )
    return f"{when}  run {run}  {plain(kind)}  {details}".rstrip()

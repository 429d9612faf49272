"""From a message to a line for people. Pure; whatever came over the network is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def plain(value: object) -> str:
    """*value* as text in which nothing can move the cursor: control characters are shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(value))


def size(count: int | None) -> str:
    """Bytes for people, in powers of 1000; `?` where unknown."""
    if count is None:
        return "?"
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def line(message: Mapping[str, Any]) -> str:
    """One line for one message."""
    when = plain(message.get("timestamp") or message.get("sent_at") or "-")[11:19] or "-"
    run = plain(message.get("run_id") if message.get("run_id") is not None else message.get("run_number", "-"))
    kind = message.get("msg_type")
    if kind == "tf_file_registered":
        span = f"TF {plain(message.get('tf_first'))}-{plain(message.get('tf_last'))}"
        late = "  late" if message.get("late") else ""
        name, stf = plain(message.get("tf_filename")), plain(message.get("stf_filename"))
        return f"{when}  run {run}  {name}  {span}  {size(_count(message.get('file_size_bytes')))}  of {stf}{late}"
    details = "  ".join(
        f"{key}={plain(message[key])}"
        for key in ("status", "message", "reason", "total_stf_files")
        if message.get(key) is not None
    )
    return f"{when}  run {run}  {plain(kind)}  {details}".rstrip()


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None

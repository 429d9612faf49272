"""Text for terminals and logs."""

from __future__ import annotations


def count_of(count: int, noun: str) -> str:
    """Return *count* with *noun* in the singular or plural: `1 STF`, `2 STFs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def escape_controls(value: object) -> str:
    """Return *value* as one line, with control and invisible characters escaped; None is "-"."""
    text = "-" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)

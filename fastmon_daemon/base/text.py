"""Text of others, for terminals and logs."""

from __future__ import annotations


def escape_controls(value: object) -> str:
    """Return *value* as one line, with control and invisible characters escaped; None is "-"."""
    text = "-" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)

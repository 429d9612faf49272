"""Output of all commands: the console, tables and times."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.text import escape_controls

_PIPE_WIDTH = 100_000
"""Columns of output to a pipe: lines are never folded."""
_NAME_WIDTH = 28
"""Columns up to which the first column of a table is not folded: enough for a usual STF name and every setting."""
_WORD_WIDTH = 10
"""Columns up to which a word is not broken."""
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def console() -> Console:
    """Return the console of stdout."""
    on_terminal = sys.stdout.isatty()
    return Console(
        force_terminal=on_terminal, width=None if on_terminal else _PIPE_WIDTH, markup=False, highlight=False
    )


def count_of(count: int, noun: str) -> str:
    """Return *count* with *noun* in the singular or plural: `1 STF`, `2 STFs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_when(timestamp: str | None, now: datetime) -> str:
    """Return a stored timestamp in UTC with its distance from *now*: `2026-01-31 12:00:00Z (5 min)`."""
    if timestamp is None:
        return "-"
    at = parse_timestamp(timestamp).astimezone(UTC)
    seconds = (now - at).total_seconds()
    size, unit = next((u for u in _UNITS if abs(seconds) >= u[0]), _UNITS[-1])
    distance = f"{int(abs(seconds) / size)} {unit}"
    return f"{at:%Y-%m-%d %H:%M:%SZ} ({distance if seconds >= 0 else f'in {distance}'})"


def table(title: str, heads: tuple[str, ...], rows: Iterable[Iterable[object]]) -> Table:
    """Return a table whose cells are escaped; the header is hidden if all *heads* are empty."""
    cells = [[escape_controls(cell) for cell in row] for row in rows]
    short_names = all(len(row[0]) <= _NAME_WIDTH for row in cells)
    styled_title = Text(escape_controls(title), style="bold")
    result = Table(
        title=styled_title, title_justify="left", box=box.SIMPLE, show_header=any(heads), collapse_padding=True
    )
    for index, head in enumerate(heads):
        words = " ".join((head, *(row[index] for row in cells))).split()
        unbroken = max((len(word) for word in words if len(word) <= _WORD_WIDTH), default=0)
        result.add_column(head, overflow="fold", no_wrap=short_names and index == 0, min_width=unbroken)
    for row in cells:
        result.add_row(*map(Text, row))
    return result

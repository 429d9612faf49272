"""Tables that fit a window: drop columns by rank, cut long ones. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
GAP = 2
"""Spaces between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    rank: int
    """A narrow window drops the columns of the highest rank first; rank 0 stays."""
    cell: Callable[[Row], str]
    right: bool = False
    style: Callable[[Row], str] = lambda _row: ""
    min_width: int | None = None
    """Cut the column to this width before dropping another; None: never cut."""


def table(columns: Sequence[Column], rows: Sequence[Row], width: int, tone: str = "") -> Table:
    """A table with one line per row, at most *width* wide; *tone* replaces all other styles."""
    cells = {column.title: [column.cell(row) for row in rows] for column in columns}
    full_widths = {title: max(cell_len(text) for text in (title, *texts)) for title, texts in cells.items()}
    fitted = _fitted(columns, full_widths, width)
    found = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for column, columns_wide in fitted.items():
        title = Text(column.title, no_wrap=True, overflow="ellipsis")
        found.add_column(title, justify="right" if column.right else "left", no_wrap=True, width=columns_wide)
    for number, row in enumerate(rows):
        texts = ((cells[column.title][number], tone or column.style(row)) for column in fitted)
        found.add_row(*(Text(text, style, no_wrap=True, overflow="ellipsis") for text, style in texts))
    return found


def _fitted(columns: Sequence[Column], full_widths: Mapping[str, int], width: int) -> dict[Column, int]:
    """The remaining columns, in order, with their widths."""
    kept = list(columns)
    while len(kept) > 1 and sum(_min_width(column, full_widths) + GAP for column in kept) - GAP > width:
        worst = max(kept, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        kept.remove(worst)
    left = width - sum(_min_width(column, full_widths) + GAP for column in kept) + GAP
    found: dict[Column, int] = {}
    for column in kept:
        more = min(max(0, left), full_widths[column.title] - _min_width(column, full_widths))
        found[column] = _min_width(column, full_widths) + more
        left -= more
    if left < 0:  # the window is too narrow for rank 0
        found[kept[-1]] = max(1, found[kept[-1]] + left)
    return found


def _min_width(column: Column, full_widths: Mapping[str, int]) -> int:
    full = full_widths[column.title]
    return full if column.min_width is None else min(full, column.min_width)

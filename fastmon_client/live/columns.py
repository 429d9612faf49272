"""Tables that fit a window: columns are dropped by rank, long ones are cut. Pure; it must not know what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
GAP = 2
"""Blanks between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    rank: int
    """In a narrow window the columns of the highest rank go first; rank 0 stays."""
    cell: Callable[[Row], str]
    right: bool = False
    style: Callable[[Row], str] = lambda _row: ""
    least: int | None = None
    """How far it is cut before another column goes; None: not at all."""


def table(columns: Sequence[Column], rows: Sequence[Row], width: int, tone: str = "") -> Table:
    """*rows* in one line each, no wider than *width*; a *tone* replaces all other styles."""
    cells = {column.title: [column.cell(row) for row in rows] for column in columns}
    wants = {title: max(cell_len(text) for text in (title, *texts)) for title, texts in cells.items()}
    fitted = _fitted(columns, wants, width)
    found = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for column, columns_wide in fitted.items():
        title = Text(column.title, no_wrap=True, overflow="ellipsis")
        found.add_column(title, justify="right" if column.right else "left", no_wrap=True, width=columns_wide)
    for number, row in enumerate(rows):
        texts = ((cells[column.title][number], tone or column.style(row)) for column in fitted)
        found.add_row(*(Text(text, style, no_wrap=True, overflow="ellipsis") for text, style in texts))
    return found


def _fitted(columns: Sequence[Column], wants: Mapping[str, int], width: int) -> dict[Column, int]:
    """The columns that stay, in their order, with their widths."""
    kept = list(columns)
    while len(kept) > 1 and sum(_least(column, wants) + GAP for column in kept) - GAP > width:
        worst = max(kept, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        kept.remove(worst)
    left = width - sum(_least(column, wants) + GAP for column in kept) + GAP
    found: dict[Column, int] = {}
    for column in kept:
        more = min(max(0, left), wants[column.title] - _least(column, wants))
        found[column] = _least(column, wants) + more
        left -= more
    if left < 0:  # only what never goes is left, and the window is narrower still
        found[kept[-1]] = max(1, found[kept[-1]] + left)
    return found


def _least(column: Column, wants: Mapping[str, int]) -> int:
    want = wants[column.title]
    return want if column.least is None else min(want, column.least)

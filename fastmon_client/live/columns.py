"""Tables that fit a window: drop columns by rank, cut long ones. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.text import Text

Row = Mapping[str, Any]
GAP = 2
"""Spaces between two columns."""


def _always(_rows: Sequence[Row]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    rank: int
    """A narrow window drops the columns of the highest rank first, and cuts them first; rank 0 stays."""
    cell: Callable[[Row], str]
    right: bool = False
    style: Callable[[Row], str] = lambda _row: ""
    min_width: int | None = None
    """Cut the column to this width before dropping another; None: never cut."""
    max_width: int = 300
    when: Callable[[Sequence[Row]], bool] = _always
    """Whether the column says anything about these rows."""
    draw: Callable[[Row, int], Text] | None = None
    """Draws the cell in a given width; `cell` then only tells how wide it may become."""


def table(columns: Sequence[Column], rows: Sequence[Row], width: int, tone: str = "") -> list[Text]:
    """A line of titles and one for each row, at most *width* wide; *tone* replaces all other styles."""
    columns = [column for column in columns if column.when(rows)]
    cells = {column: [column.cell(row) for row in rows] for column in columns}
    full_widths = {
        column: min(column.max_width, max(cell_len(text) for text in (column.title, *texts)))
        for column, texts in cells.items()
    }
    fitted = _fitted(columns, full_widths, width)
    lines = [_line([(Text(column.title, "dim"), wide, column.right) for column, wide in fitted.items()])]
    for number, row in enumerate(rows):
        parts = []
        for column, wide in fitted.items():
            text = column.draw(row, wide) if column.draw else Text(cells[column][number], column.style(row))
            if tone:
                text = Text(text.plain, tone)
            parts.append((text, wide, column.right))
        lines.append(_line(parts))
    return lines


def _line(parts: Sequence[tuple[Text, int, bool]]) -> Text:
    line = Text(no_wrap=True)
    for place, (text, width, right) in enumerate(parts):
        text.truncate(width, overflow="ellipsis")
        blank = " " * (width - text.cell_len)
        is_last = place == len(parts) - 1
        line.append(blank if right else "").append_text(text)
        line.append("" if is_last else " " * GAP if right else blank + " " * GAP)
    return line


def _fitted(columns: Sequence[Column], full_widths: Mapping[Column, int], width: int) -> dict[Column, int]:
    """The remaining columns, in order, with their widths."""
    kept = list(columns)
    while len(kept) > 1 and sum(_min_width(column, full_widths) + GAP for column in kept) - GAP > width:
        worst = max(kept, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        kept.remove(worst)
    left = width - sum(_min_width(column, full_widths) + GAP for column in kept) + GAP
    found = {column: _min_width(column, full_widths) for column in kept}
    for column in sorted(kept, key=lambda column: column.rank):
        more = min(max(0, left), full_widths[column] - found[column])
        found[column] += more
        left -= more
    if left < 0:  # the window is too narrow for rank 0
        found[kept[-1]] = max(1, found[kept[-1]] + left)
    return found


def _min_width(column: Column, full_widths: Mapping[Column, int]) -> int:
    full = full_widths[column]
    return full if column.min_width is None else min(full, column.min_width)

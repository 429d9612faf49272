"""Output of all commands: lines and tables that fit the terminal, times, ranges of names.

No word is broken and no line ends with spaces; in a pipe no line is folded, unless COLUMNS is set.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, TypeVar

import click

from fastmon_daemon.base.clock import format_age, format_time, format_timestamp
from fastmon_daemon.base.text import escape_controls

F = TypeVar("F", bound=Callable[..., Any])

_INDENT = "  "
_GAP = 2
_PAD_MAX = 40
"""Longer cells do not widen the other rows of their column."""
_LAST_MIN = 16
"""Columns that the last column of a table must have, or the table becomes a list."""
_NO_BREAK = "\xa0"
"""A space at which no line is folded; printed as a space."""


class Unbroken(str):
    """Text of ours that is kept on one line."""

    __slots__ = ()


_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ASCII_BARS = ".:-=+*#@"
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Since:
    """A moment in the past, as given on the command line."""

    distance: timedelta

    def at(self, now: datetime) -> str:
        """Return the moment, as stored times are written."""
        return format_timestamp(now - self.distance)


class _SinceType(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Since:
        if isinstance(value, Since):
            return value
        found = _DURATION.fullmatch(str(value))
        seconds = float(found[1]) * _SECONDS[found[2]] if found else None
        if seconds is None or seconds > 3650 * 86400:
            self.fail(f"{value!r} is not a duration of at most 3650 days: use s, m, h or d: 8h, 30m, 2d", param, ctx)
        return Since(timedelta(seconds=seconds))


def since_option(default: str | None, help_text: str) -> Callable[[F], F]:
    """Return the option `--since`, whose value is a `Since`."""
    return click.option(
        "--since", type=_SinceType(), default=default, show_default=bool(default), metavar="DURATION", help=help_text
    )


def sparkline(values: Sequence[float]) -> str:
    """Return one character for each value, higher for larger values; a space for 0."""
    most = max(values, default=0) or 1
    bars = _BARS if (sys.stdout.encoding or "").lower().startswith("utf") else _ASCII_BARS
    return "".join(" " if not value else bars[min(int(value / most * len(bars)), len(bars) - 1)] for value in values)


def output_width() -> int | None:
    """Return the columns of stdout: COLUMNS, or those of the terminal; None in a pipe, where lines have any length."""
    return shutil.get_terminal_size((0, 0)).columns or None


def format_when(timestamp: str | None, now: datetime) -> Unbroken:
    """Return a stored timestamp in UTC with its distance from *now*: `12:00:00Z (5 min ago)`."""
    if timestamp is None:
        return Unbroken("-")
    return Unbroken(f"{format_time(timestamp, now)} ({format_age(timestamp, now)})")


def format_names(names: Iterable[str]) -> str:
    """Return names as ranges, as far as they differ in one number: `swf.7.000003.stf to swf.7.000007.stf (5)`."""
    return ", ".join(
        group[0] if len(group) == 1 else f"{group[0]} to {group[-1]} ({len(group)})" for group in _ranges(names)
    )


def _ranges(names: Iterable[str]) -> Iterator[list[str]]:
    """Group sorted names whose last number is one more than that of the name before."""
    parts = [(name, re.match(r"(.*?)(\d+)(\D*)\Z", name, re.DOTALL)) for name in sorted(names)]
    numbered = [(name, (found[1], len(found[2]), found[3]), int(found[2])) for name, found in parts if found]
    for _, same in groupby(numbered, key=lambda each: each[1]):
        for _, run in groupby(enumerate(same), key=lambda each: each[1][2] - each[0]):
            yield [name for _, (name, _, _) in run]
    yield from ([name] for name, found in parts if not found)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to stdout."""
    for line in lines:
        click.echo(line)


def wrap(text: str, width: int | None, *, indent: str = _INDENT, first: str = "") -> list[str]:
    """Return *text* as lines of at most *width* columns, if no word is longer; *indent* begins all but the first."""
    if width is None:
        lines = [first + text]
    else:
        lines = textwrap.wrap(
            text, max(width, 20), initial_indent=first, subsequent_indent=indent, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
    return [line.replace(_NO_BREAK, " ").rstrip() for line in lines or [first]]


def table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[object]], width: int | None = None
) -> Iterator[str]:
    """Yield the lines of a table whose cells are escaped; without its header if all *heads* are empty.

    If it does not fit into *width*, its last column is folded, or each row becomes a paragraph.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    yield from wrap(escape_controls(title), width)
    if not cells:
        return
    pads = [
        max((len(row[index]) for row in [list(heads), *cells] if len(row[index]) <= _PAD_MAX), default=1)
        for index in range(len(heads))
    ]
    start = len(_INDENT) + sum(pads[:-1]) + _GAP * (len(pads) - 1)
    fits = all(len(cell) <= pad for row in cells for cell, pad in zip(row[:-1], pads, strict=False))
    room = None if width is None else width - start
    if room is None or (fits and room >= _least_room(cells, width or 0)):
        for row in [list(heads), *cells] if any(heads) else cells:
            left = _INDENT + "".join(cell.ljust(pad) + " " * _GAP for cell, pad in zip(row[:-1], pads, strict=False))
            yield from wrap(row[-1], width, indent=" " * start, first=left)
        return
    for row in cells:
        named = [f"{head} {cell}".strip() for head, cell in zip(heads[1:], row[1:], strict=True)]
        yield from wrap(f"{row[0]}{_NO_BREAK * 2}{', '.join(named)}", width, indent=_INDENT * 2, first=_INDENT)


def _least_room(cells: Sequence[Sequence[str]], width: int) -> int:
    """Columns that the last column must have: for its longest word, unless a paragraph of *width* cannot hold it."""
    words = (len(word) for row in cells for word in row[-1].split(" ") if len(word) <= width - 2 * len(_INDENT))
    return max(min(_LAST_MIN, max(len(row[-1]) for row in cells)), max(words, default=0))


def _cell(value: object) -> str:
    return value.replace(" ", _NO_BREAK) if isinstance(value, Unbroken) else escape_controls(value)

"""The characters and colours of states, STFs and rates. Colour only repeats what a word or a shape says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from fastmon_client.snapshot import StripCell, StripKind, TileState

WORDS: dict[TileState, str] = {"good": "OK", "warning": "warning", "bad": "alarm", "unknown": "unknown"}
SHAPES: dict[TileState, str] = {"good": "●", "warning": "▲", "bad": "✖", "unknown": "?"}
COLOURS: dict[TileState, str] = {"good": "green", "warning": "yellow", "bad": "red", "unknown": "bright_black"}
BARS: dict[TileState, str] = {
    "good": "bold black on green", "warning": "bold black on yellow", "bad": "bold white on red",
    "unknown": "bold reverse",
}  # fmt: skip
"""The verdict; readable across a room."""

_CELLS: dict[StripKind, tuple[str, str, str]] = {
    "missing": ("✗", "bold red", "selected, but absent"),
    "incomplete": ("▄", "yellow", "some TF files missing"),
    "unknown": ("-", "bright_black", "absent, selection unknown"),
    "recovered": ("▒", "cyan", "late, or backfilled from the monitor"),
    "present": ("█", "green", "all TF files present"),
    "skipped": ("·", "bright_black", "not selected"),
}
"""Character, style and meaning of each kind of STF; the one that is to be seen first stands first."""
_KINDS = list(_CELLS)
_PRIORITY = {kind: place for place, kind in enumerate(_KINDS)}

_BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = dict(zip(map(ord, "▁▂▃▄▅▆▇█▒·✗●▲✖▸→…↑↓≥"), "_.:o=+*#%.x*!X>>~^v>", strict=True))
"""For a terminal without these characters."""


def chip(state: TileState) -> Text:
    """The shape and the word of *state*."""
    return Text(f"{SHAPES[state]} {WORDS[state]}", f"bold {COLOURS[state]}")


def sparkline(counts: Sequence[int], width: int) -> str:
    """The last *counts* as bars, at most *width* of them."""
    shown = counts[-width:] if width > 0 else ()
    top = max([1, *shown])
    return "".join(_BLOCKS[-(-8 * count // top)] for count in shown)


def strip(cells: Sequence[StripCell], width: int) -> Text:
    """All *cells* in at most *width* characters: each shows the worst of the STFs that share it."""
    if not cells or width < 1:
        return Text()
    first, last = cells[0]["sequence"], cells[-1]["sequence"]
    share = -(-(last - first + 1) // width)
    if last // share - first // share >= width:  # shares begin at multiples, so that they do not move as a run grows
        share += 1
    worst: dict[int, int] = {}
    for cell in cells:
        place, priority = cell["sequence"] // share, _PRIORITY[cell["kind"]]
        if priority < worst.get(place, len(_CELLS)):
            worst[place] = priority
    return _drawn([_KINDS[priority] for priority in worst.values()])


def strip_lines(cells: Sequence[StripCell], width: int) -> list[Text]:
    """One character for each of *cells*, in lines of at most *width*, each after its first sequence number."""
    if not cells:
        return []
    margin = len(str(cells[-1]["sequence"])) + 1
    per_line = max(10, (width - margin) // 10 * 10)
    lines = []
    for _, group in groupby(cells, lambda cell: (cell["sequence"] - cells[0]["sequence"]) // per_line):
        row = list(group)
        number = Text(f"{row[0]['sequence']:>{margin - 1}} ", "dim")
        lines.append(number.append_text(_drawn([cell["kind"] for cell in row])))
    return lines


def legend(*, with_meaning: bool = False) -> list[Text]:
    """What the characters of a strip mean."""
    return [
        Text.assemble((char, style), f" {kind}", (f": {meaning}" if with_meaning else "", "dim"))
        for kind, (char, style, meaning) in sorted(_CELLS.items(), key=lambda item: item[0] != "present")
    ]


def _drawn(kinds: Sequence[StripKind]) -> Text:
    found = Text()
    for kind, same in groupby(kinds):
        char, style, _ = _CELLS[kind]
        found.append(char * len(list(same)), style)
    return found

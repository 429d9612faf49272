"""Writes the table of attacks in docs/security.md from the lines of a complete run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.attack import all_titles

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
BLOCK = re.compile(r"(<!-- generated: make test-hostile -->\n).*?(<!-- end -->)", re.DOTALL)
_COLUMNS = (
    "attack", "on", "lasted", "peak of memory", "descriptors", "log", "STFs completed meanwhile", "lost", "",
)  # fmt: skip


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown."""
    rows = (_COLUMNS, ("---", "---", *["--:"] * 6, "---"), *map(_row, sorted(lines, key=_place)))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def publish(lines: Sequence[Mapping[str, Any]]) -> str:
    """Write the table if every attack was run and withstood; return a message, with the table."""
    missing = all_titles().keys() - {line["title"] for line in lines}
    if missing:
        return f"{table(lines)}{len(missing)} attacks were not run: {DOCUMENT.name} is not changed"
    if failed := sum(not line["passed"] for line in lines):
        return f"{table(lines)}{failed} attacks failed: {DOCUMENT.name} is not changed"
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(BLOCK.sub(lambda found: found[1] + table(lines) + found[2], text), encoding="utf-8")
    return f"{table(lines)}docs/{DOCUMENT.name} is written, {len(lines)} attacks"


def _place(line: Mapping[str, Any]) -> tuple[str, str]:
    return line["target"], line["title"]


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    cost, failed = line["cost"], "" if line["passed"] else "**FAILED** "
    if cost is None:
        return (line["title"], line["target"], *[""] * 6, failed + line["note"])
    completed, lost = ("-" if cost[key] is None else str(cost[key]) for key in ("completed", "lost"))
    return (
        line["title"], line["target"], f"{cost['seconds']:.0f} s", f"{cost['rss_mb']:.0f} MB", str(cost["descriptors"]),
        f"{cost['log_kb']:.0f} kB", completed, lost, failed + line["note"],
    )  # fmt: skip

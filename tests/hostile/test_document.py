"""docs/security.md names every attack, and for each defence tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from tests.hostile import document
from tests.hostile.attack import all_titles

TESTS = Path(__file__).parents[1]


def line(title: str, **changes: Any) -> dict[str, Any]:
    cost = {"seconds": 9.2, "rss_mb": 71.4, "descriptors": 40, "log_kb": 3.2, "completed": 20, "lost": 0}
    return {"title": title, "target": "daemon", "passed": True, "note": "", "cost": cost} | changes


def all_tests() -> set[str]:
    return {
        node.name
        for module in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def defences() -> list[str]:
    """The rows of the table of defences."""
    text = document.DOCUMENT.read_text(encoding="utf-8")
    section = text.partition("## Defences")[2].partition("\n## ")[0]
    return [row for row in section.splitlines() if row.startswith("| ")][1:]


def test_every_defence_names_tests_that_exist() -> None:
    tests = all_tests()
    for row in defences():
        named = re.findall(r"`(test_\w+)`", row.rstrip(" |").rpartition("|")[2])
        assert named, row
        assert set(named) <= tests, row


def test_every_attack_stands_in_the_tables() -> None:
    written = document.DOCUMENT.read_text(encoding="utf-8")
    rows = "\n".join(defences())
    assert [title for title in all_titles() if f"| {title} |" not in written] == []
    assert [test for test in all_titles().values() if f"`{test}`" not in rows] == []
    assert "FAILED" not in written


def test_a_line_has_its_cost_or_says_that_the_attack_failed() -> None:
    text = document.table([line("an attack"), line("another", passed=False, cost=None)])
    assert "| an attack | daemon | 9 s | 71 MB | 40 | 3 kB | 20 | 0 |  |" in text
    assert "**FAILED**" in text.splitlines()[-1]
    client = {"seconds": 1.0, "rss_mb": 50.0, "descriptors": 9, "log_kb": 0.0, "completed": None, "lost": None}
    assert "| 0 kB | - | - |" in document.table([line("an attack", cost=client)])


def test_an_incomplete_or_failed_run_does_not_replace_the_table() -> None:
    before = document.DOCUMENT.read_text(encoding="utf-8")
    assert "were not run" in document.publish([])
    lines = [line(title, passed=number > 0) for number, title in enumerate(all_titles())]
    assert "1 attacks failed" in document.publish(lines)
    assert document.DOCUMENT.read_text(encoding="utf-8") == before

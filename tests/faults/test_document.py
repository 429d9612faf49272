"""docs/reliability.md names every row on every broker, and reports failures."""

from __future__ import annotations

from typing import Any

from tests.faults import document
from tests.faults.matrix import all_rows
from tests.faults.scenario import WORKERS

NUMBERS = set(range(1, 16))
TITLE = "kill -9 at random moments"


def line(title: str, broker: str, **changes: Any) -> dict[str, Any]:
    result = {
        "sent": 5, "completed": 5, "failed": 0, "registered_twice": 0, "announced": 35, "announced_twice": 0, "lost": 0,
        "illegal": 0, "seconds": 1.2, "note": "2 kills",
    }  # fmt: skip
    return {"number": 2, "title": title, "broker": broker, "passed": True, "result": result} | changes


def test_every_number_has_a_row() -> None:
    assert {row.number for row in all_rows()} == NUMBERS


def test_the_document_names_every_row_on_every_broker() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    missing = {(title, kind) for title, kind in document.expected() if f"| {title} | {kind} |" not in text}
    assert missing == set()
    assert "FAILED" not in text


def test_the_document_states_the_limit_of_repeated_announcements() -> None:
    assert f"At most {WORKERS} for each cut" in document.DOCUMENT.read_text(encoding="utf-8")


def test_a_line_has_the_counts_or_says_that_its_row_failed() -> None:
    text = document.render("short", [line(TITLE, "artemis"), line(TITLE, "classic", passed=False, result=None)])
    assert f"| 2 | {TITLE} | artemis | 5 | 5 | 0 | 0 | 0 | 35 | 0 | 0 | 1 s | 2 kills |" in text
    assert "**FAILED**" in next(each for each in text.splitlines() if f"{TITLE} | classic" in each)


def test_an_incomplete_run_does_not_replace_the_document() -> None:
    before = document.DOCUMENT.read_text(encoding="utf-8")
    message = document.publish("short", [line(TITLE, "artemis")])
    assert "were not run" in message
    assert f"| 2 | {TITLE} | artemis | 5 |" in message
    assert document.DOCUMENT.read_text(encoding="utf-8") == before

"""The terminal view of hand-made snapshots, in windows of any size."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from fastmon_client.formatting import age
from fastmon_client.live import render
from tests.client.snapshots import ESCAPES, HOSTILE, alarm, dead, run, snapshot, tf_file

SIZES = [(200, 50), (120, 30), (80, 24), (60, 20), (40, 12), (20, 5), (5, 2), (1, 1)]


def shown(found: dict[str, Any], width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(render(found, width, height))
    return captured.get().rstrip("\n").split("\n")


def text_of(found: dict[str, Any], width: int = 200) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(render(found, width, 50))
    return captured.get()


HOSTILE_RUN = run(HOSTILE, namespace=ESCAPES, missing=list(range(1, 200, 2)), stfs_missing=100)
HARD = snapshot(
    runs=[HOSTILE_RUN, *[run(str(n)) for n in range(40)]],
    recent=[tf_file(1, 1, tf_filename=ESCAPES, stf_filename="\u202e\u65e5\u672c" * 40, size_bytes=None)] * 200,
    alarms=[alarm(evidence=ESCAPES * 9) for _ in range(30)],
    filters={"namespace": ESCAPES, "run_ids": ["1"], "agents": []},
)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("found", [snapshot(), dead(), snapshot(runs=[], recent=[], alarms=[]), HARD])
def test_nothing_is_drawn_outside_the_window(found: dict[str, Any], size: tuple[int, int]) -> None:
    width, height = size
    console = Console(width=width, height=height, color_system=None)
    lines = console.render_lines(render(found, width, height), pad=False)
    assert len(lines) <= height
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)


def test_narrow_window_has_fewer_columns() -> None:
    wide, narrow = shown(snapshot(), 200, 50), shown(snapshot(), 80, 24)
    assert all(title in " ".join(wide) for title in ("namespace", "skipped", "incomplete", "lag p50/p95", "backfilled"))
    assert all(title in " ".join(narrow) for title in ("run", "state", "STFs", "missing", "TF files", "counts", "rate"))
    assert "819/840" in " ".join(shown(snapshot(), 40, 12))


def test_dead_stream_is_shown_with_its_age() -> None:
    text = text_of(dead())
    assert "DEAD" in text
    assert "heart-beat 1 min 23 s ago" in text
    assert "connection refused" in text
    assert "Last received numbers (1 min 23 s ago): the current state is UNKNOWN." in text


def test_numbers_of_a_dead_stream_are_dim() -> None:
    console = Console(width=80, height=24, force_terminal=True, color_system="truecolor")
    lines = console.render_lines(render(dead(), 80, 24))
    row = next(line for line in lines if any("100014" in segment.text for segment in line))
    assert all(segment.style is None or segment.style.dim for segment in row if segment.text.strip())


def test_stale_and_unknown_are_shown_in_words() -> None:
    doubtful = run(stale=True, verified="UNKNOWN", doubt="the monitor does not answer", stfs_missing=None, missing=[])
    text = text_of(snapshot(runs=[doubtful]))
    assert "running STALE" in text
    assert "UNKNOWN: the monitor does not answer" in text


def test_active_alarms_are_above_ended_ones() -> None:
    lines = shown(snapshot(alarms=[alarm("run_stale", until="2026-11-21T20:56:00+00:00"), alarm()]), 120)
    assert "ALARM stfs missing  run 100014" in lines[1]
    assert "ended run stale" in lines[2]


def test_narrow_window_shows_the_evidence() -> None:
    missing = alarm(evidence="1 STFs without TF files: 4")
    lines = shown(snapshot(alarms=[missing]), 60)
    assert any("ALARM stfs missing  run 100014: 1 STFs without TF files: 4" in line for line in lines)


def test_hidden_alarms_are_counted() -> None:
    lines = shown(snapshot(alarms=[alarm(run=str(n)) for n in range(20)]))
    assert sum("ALARM" in line for line in lines) == 5
    assert any("and 15 more" in line for line in lines)


def test_network_text_cannot_move_the_cursor_or_change_colours() -> None:
    text = text_of(HARD)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J" in text
    assert "[bold red]evil[/]" in text
    assert HOSTILE in text


def test_age_uses_two_units() -> None:
    assert [age(s) for s in (None, 0.4, 59, 185, 7440, 90000)] == [
        "?",
        "0 s",
        "59 s",
        "3 min 5 s",
        "2 h 4 min",
        "1 d 1 h",
    ]

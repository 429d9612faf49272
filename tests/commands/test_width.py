"""What the commands print at 80 columns, on a small screen and in a pipe."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import chdir, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fastmon_daemon.commands.inspect_tables import render_screen
from fastmon_daemon.outbox import NewStf, Outbox
from tests.builders import FakeTestbed
from tests.client.terminal import Terminal
from tests.inspection.test_inspector import daemon_of
from tests.processes import run_in_process

RUNS = 30
STFS = 40


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """A database of more than an hour ago with many runs, many STFs, one that failed, and a link that was down."""
    testbed = FakeTestbed(tmp_path)
    testbed.time.at = datetime.now(UTC) - timedelta(minutes=70)
    with closing(testbed.outbox()) as opened:
        with opened.transaction():
            for run in range(RUNS):
                opened.runs.record_message("epic-testbed", 100014 + run, "running", testbed.time.at, None)
            (first,) = opened.runs.find("100014")
            opened.runs.schedule_poll(first, testbed.time.at, "GET http://monitor/api/stf-files/: 502 Bad Gateway")
        for sequence in range(1, STFS + 1):
            testbed.receive(opened, sequence)
        (stf,) = opened.find(filename="swf.100014.000003.stf")
        note = "stf_not_registered: the monitor does not know the STF after 900 s of asking for it"
        with opened.transaction():
            opened.move(stf, "fail", "failed", testbed.time.at + timedelta(seconds=1), finalized=True, note=note)
        yield opened


COMMANDS = [
    ("inspect",),
    ("inspect", "--state", "received"),
    ("inspect", "swf.100014.000003.stf"),
    ("inspect", "--rejected"),
    ("verdict", "100014"),
    ("config",),
]


RUN = {
    "namespace": "ns", "expected": 4, "known": 3, "missing": 1, "last_message_at": "2026-11-30T11:59:00+00:00",
    "claimed": True, "reconcile_error": None, "other_namespace": None, "pruned": None,
}  # fmt: skip


def printed(outbox: Outbox, *words: str, **environ: str) -> list[str]:
    database = () if words[0] == "config" else ("--db", str(outbox.path))
    inherited = {name: text for name, text in os.environ.items() if name in {"PATH", "LANG"}}
    home = {"HOME": str(outbox.path.parent), "FASTMON_NAMESPACE": "epic-testbed"}
    with chdir(outbox.path.parent):
        return run_in_process((*words, *database), {**inherited, **home, **environ}).stdout.splitlines()


def words_of(lines: list[str]) -> set[str]:
    return {word.strip(",") for line in lines for word in line.split()}


def kinds_of(words: set[str]) -> set[str]:
    """The words without the times and ages of the moment at which they were printed."""
    return {re.sub(r"\d+", "0", word).strip("()") for word in words if not word.endswith("Z")} - {"s", "min", "h", "d"}


@pytest.mark.field("28")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_at_80_columns_no_line_is_longer_and_no_word_is_broken(outbox: Outbox, words: tuple[str, ...]) -> None:
    folded, whole = printed(outbox, *words, COLUMNS="80"), printed(outbox, *words)
    assert folded
    long_words = [word for word in words_of(whole) if len(word) > 76]  # such as a path: not broken, not copied in parts
    assert not [line for line in folded if len(line) > 80 and not any(word in line for word in long_words)]
    assert not [line for line in [*folded, *whole] if line != line.rstrip()]
    assert kinds_of(words_of(folded)) <= kinds_of(words_of(whole))


@pytest.mark.field("28")
def test_a_rejected_body_without_a_space_is_one_line_of_the_terminal(outbox: Outbox) -> None:
    with outbox.transaction():
        outbox.reject('{"pad":"' + "z" * 900, "not JSON", datetime.now(UTC), 9)
    lines = printed(outbox, "inspect", "--rejected", COLUMNS="80")
    assert not [line for line in lines if len(line) > 80 and "/" not in line]
    assert any('{"pad":"zzz' in line for line in lines)
    assert any("z" * 400 in line for line in printed(outbox, "inspect", "--rejected"))


@pytest.mark.field("28")
def test_the_time_of_the_next_try_has_its_distance(outbox: Outbox) -> None:
    (stf,) = outbox.find(filename="swf.100014.000004.stf")
    with outbox.transaction():
        outbox.postpone(stf, timedelta(hours=2), "502", 0.1, datetime.now(UTC))

    def told() -> str:
        (line,) = (line for line in printed(outbox, "inspect", stf.filename) if line.startswith("  next "))
        return line

    assert told().endswith("sample_tfs, when a daemon is running")
    with daemon_of(outbox.path):
        line = told()
    assert re.search(
        r"sample_tfs, at (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\dZ \(in (1 h|2 h|1\d\d min)\)$", line.replace("  ", " ")
    ), line


@pytest.mark.field("28")
def test_a_very_long_name_is_not_broken(outbox: Outbox) -> None:
    name = "n" * 236 + ".stf"
    with outbox.transaction():
        outbox.receive(NewStf(namespace="ns", run_id="1", filename=name), "received", datetime.now(UTC))
    for words in (("inspect", "--all"), ("inspect", name)):
        assert name in words_of(printed(outbox, *words, COLUMNS="80"))


@pytest.mark.field("28")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_in_a_pipe_no_cell_is_padded_to_a_long_one(outbox: Outbox, words: tuple[str, ...]) -> None:
    with outbox.transaction():
        outbox.receive(NewStf(namespace="ns", run_id="1", filename="n" * 236 + ".stf"), "received", datetime.now(UTC))
    assert not [line for line in printed(outbox, *words) if " " * 50 in line]


@pytest.mark.field("28")
def test_a_time_and_its_age_stay_on_one_line(outbox: Outbox) -> None:
    lines = printed(outbox, "inspect", COLUMNS="60")
    assert all(line.count("(1 h ago)") == line.count("Z (1 h ago)") for line in lines)
    assert any("Z (1 h ago)" in line for line in lines)


@pytest.mark.field("28")
def test_states_are_one_line_and_only_those_that_are_not_zero(outbox: Outbox) -> None:
    assert f"STFs: {STFS - 1} received, 1 failed" in printed(outbox, "inspect")


@pytest.mark.field("29")
def test_no_stf_is_listed_twice(outbox: Outbox) -> None:
    for words in (
        ("inspect",),
        ("inspect", "--all"),
        ("inspect", "--state", "received"),
        ("inspect", "--run", "100014"),
    ):
        names = [line.split()[0] for line in printed(outbox, *words) if line.startswith("  swf.")]
        assert len(names) == len(set(names))


@pytest.mark.field("29")
def test_an_stf_is_shown_with_milliseconds_and_the_time_of_each_step(outbox: Outbox) -> None:
    history = printed(outbox, "inspect", "swf.100014.000003.stf")
    last = next(line for line in history if " fail " in line)
    assert last.split()[0 if last.split()[0].endswith("Z") else 1][-5] == "."  # 12:00:00.123Z
    assert "  1.000 s  " in last


def stfs_in(line: str) -> int:
    """The number of STFs that a line names: single ones, and ranges with their length."""
    names = line.removeprefix("  ").partition("  ")[0].split(", ") if line.startswith("  swf.") else []
    return sum(int(name.rpartition("(")[2].rstrip(")")) if name.endswith(")") else 1 for name in names)


@pytest.mark.field("28")
def test_stfs_that_are_stuck_for_one_reason_are_one_range(outbox: Outbox) -> None:
    stuck = [line for line in printed(outbox, "inspect") if line.startswith("  swf.")]
    assert len(stuck) < 5
    assert sum(map(stfs_in, stuck)) == 20
    assert "20 more: list them with --all" in printed(outbox, "inspect")


@pytest.mark.field("28")
def test_a_small_screen_shows_complete_runs_last(outbox: Outbox) -> None:
    states = {str(number): "complete" if number > 3 else "running" for number in range(9, 0, -1)}
    rows = [RUN | {"run": run, "state": state} for run, state in states.items()]
    at = "2026-11-30T12:00:00+00:00"
    view = {
        "at": at, "verdict": "all well", "problems": [], "states": {}, "links": {}, "rejected_count": 0, "stages": {},
        "database": "outbox.db", "chosen_by": "--db", "daemon": 1, "runs": rows, "stuck": [], "stuck_count": 0,
    }  # fmt: skip
    lines = render_screen(view, 80, 10)
    assert [line.split()[0] for line in lines if "  running  " in line] == ["3", "2", "1"]
    assert lines[-1] == "  5 more runs"


@pytest.mark.field("28")
def test_a_small_screen_shows_the_verdict_runs_and_what_is_stuck(outbox: Outbox) -> None:
    words = ("fastmon_daemon", "inspect", "--db", str(outbox.path), "--watch", "0.2")
    with Terminal(*words, HOME=str(outbox.path.parent)) as terminal:
        lines = terminal.wait_for(lambda seen: any("more STF" in line for line in seen))
        assert lines[0].startswith("no daemon is running: ")
        assert f"STFs: {STFS - 1} received, 1 failed" in lines
        assert f"runs: {RUNS}" in lines
        assert any(line.startswith("  100014  epic-testbed") for line in lines)
        assert any("more runs" in line for line in lines)
        assert f"stuck: {STFS}" in lines
        assert any(line.startswith("  swf.100014.000003.stf  run 100014  failed  ") for line in lines)
        unfolded = "\n".join(lines).replace("\n    ", " ").splitlines()
        shown = sum(stfs_in(line) for line in unfolded)
        assert shown > 2
        assert f"  {STFS - shown} more STFs" in lines
        terminal.process.send_signal(2)
        assert terminal.ended() == 1


@pytest.mark.field("28")
def test_on_a_terminal_the_width_is_that_of_the_terminal(outbox: Outbox) -> None:
    words = ("fastmon_daemon", "inspect", "swf.100014.000003.stf", "--db", str(outbox.path))
    with Terminal(*words, columns=60, rows=40, HOME=str(outbox.path.parent)) as terminal:
        assert terminal.ended() == 1
        lines = terminal.raw.decode().splitlines()
    assert max(map(len, lines)) <= max(60, *(len(word) + 4 for line in lines for word in line.split()))
    assert "900 s of asking" in " ".join(" ".join(lines).split())

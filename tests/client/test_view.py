"""The terminal view of hand-made snapshots, in windows of any size."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from fastmon_client.dashboard.guide import GUIDE
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.formatting import age
from fastmon_client.live import Model, render
from fastmon_client.live.glyphs import strip, strip_lines
from fastmon_client.live.navigation import AcknowledgePrompt, Navigation
from fastmon_client.live.overview import bar, matches, recent, runs_table
from tests.client import snapshots
from tests.client.snapshots import ESCAPES, HOSTILE, alarm, dead, run, snapshot, tf_file

SIZES = [(200, 50), (120, 30), (80, 24), (60, 20), (40, 12), (20, 5), (5, 2), (1, 1)]
NOTED = {"by": "Ana", "at": "2026-11-21T20:56:00+00:00", "note": "called the DAQ"}


def model(found: dict[str, Any], noted: Sequence[str] = (), **more: Any) -> Model:
    """*noted*: kinds of alarms that somebody acknowledged."""
    incidents = [
        {**each, "acknowledged": NOTED if each["kind"] in noted else None} for each in incidents_of(found["alarms"])
    ]
    details = more.pop("details", {})
    return Model(snapshot=found, incidents=incidents, details=details, navigation=Navigation(**more))


def shown(found: dict[str, Any], width: int = 80, height: int = 24, **more: Any) -> list[str]:
    return [line.plain.rstrip() for line in render(model(found, **more), width, height)]


def text_of(found: dict[str, Any], width: int = 200, **more: Any) -> str:
    return "\n".join(shown(found, width, 50, **more))


def styles(line: Text) -> set[str]:
    return {str(span.style) for span in line.spans} | {str(line.style)}


HOSTILE_RUN = run(HOSTILE, namespace=ESCAPES, missing=list(range(1, 200, 2)), stfs_missing=100)
HARD = snapshot(
    runs=[HOSTILE_RUN, *[run(str(n)) for n in range(40)]],
    recent=[tf_file(1, 1, tf_filename=ESCAPES, stf_filename="\u202e\u65e5\u672c" * 40, size_bytes=None)] * 200,
    alarms=[alarm(run=str(n), evidence=ESCAPES * 9) for n in range(30)],
    filters={"namespace": ESCAPES, "run_ids": ["1"], "agents": []},
    verdict=snapshots.verdict(reason=f"{ESCAPES} \u65e5\u672c\u8a9e" * 20, remedy=ESCAPES * 9),
    loading={"runs": 9, "stfs": 3, "text": ESCAPES * 9},
)  # fmt: skip
SUMMARY = {"msg_type": "fastmon_run_summary", "complete": ESCAPES, "incomplete_reasons": [ESCAPES * 20, 5, None],
           "latencies": [{"source": ESCAPES, "dest": [], "p50_s": "x", "count": {}}, 7], "timestamp": 3,
           "outages": [{"link": ESCAPES * 9, "began_at": 5, "ended_at": ESCAPES}], "tf_files": 1}  # fmt: skip
ASKS = AcknowledgePrompt(("stfs_missing", "3"), ESCAPES * 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("found", [snapshot(), dead(), snapshot(runs=[], recent=[], alarms=[]), HARD])
@pytest.mark.parametrize(
    "more",
    [{}, {"page": "runs"}, {"page": "help"}, {"page": "run", "run": HOSTILE, "details": {"summary": SUMMARY}},
     {"page": "run", "run": "100014", "details": {"problem": ESCAPES * 9}}, {"prompt": ASKS},
     {"types_filter": True, "filter": ESCAPES * 9}],
    ids=["overview", "runs", "help", "hostile run", "run", "acknowledge", "filter"],
)  # fmt: skip
def test_nothing_is_drawn_outside_the_window(
    found: dict[str, Any], size: tuple[int, int], more: dict[str, Any]
) -> None:
    width, height = size
    lines = render(model(found, **more), width, height)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)
    assert not {char for line in lines for char in line.plain} & {"\x1b", "\x07", "\u202e", "\n"}


# The parts


@pytest.mark.parametrize("size", [(200, 50), (80, 24), (40, 24), (40, 10), (20, 4)])
def test_verdict_is_first_and_missing_is_there_in_each_size(size: tuple[int, int]) -> None:
    lines = shown(snapshot(), *size)
    assert lines[0].startswith(" \u25b2 DEGRADED")
    assert any("Missing" in line for line in lines)


def test_verdict_says_since_when_why_and_what_to_do() -> None:
    lines = shown(snapshot())
    assert "since 20:55:01 · for 1 min 55 s" in lines[0]
    assert lines[1] == " 3 STFs of run 100014 are missing: 12, 15-16"
    assert lines[2] == " → Open the run, and note the missing STFs"


def test_verdict_of_another_day_has_its_date() -> None:
    found = snapshot(verdict=snapshots.verdict(since="2026-11-20T08:00:00+00:00"))
    assert "since 2026-11-20 08:00:00" in shown(found)[0]


def test_verdict_says_for_how_long_as_soon_as_that_fits() -> None:
    long = f"{bar(snapshot(), 200).plain.partition('  20:')[0].rstrip()}"
    assert long.endswith(" · for 1 min 55 s")
    assert bar(snapshot(), len(long)).plain == long
    assert bar(snapshot(), len(long) - 1).plain.startswith(long.partition("   ")[0] + "  since 20:55:01 ")


def test_runs_lose_what_matters_least_where_they_have_no_room() -> None:
    rows = [run(stfs_skipped=3), run("100013", namespace="torre")]
    titles = [runs_table(rows, 0, 10, width)[0].plain for width in range(260, 20, -1)]
    columns = ("State", "Sequence of STFs", "TF files", "Counts", "Incomplete", " STFs  ", "Rate", "Last", "Volume",
               "Skipped", "Namespace", "Backfilled", "Lag, 95 %")  # fmt: skip
    lost = [next((place for place, title in enumerate(titles) if column not in title), 999) for column in columns]
    assert titles[0].split()[0] == "Run"
    assert sorted(lost, reverse=True) == lost
    assert len(set(lost)) == len(lost)
    assert all("Missing" in title for title in titles)


def test_recent_tf_files_lose_their_marks_then_their_size_where_they_have_no_room() -> None:
    rows = snapshot()["recent"]
    titles = [recent(rows, width)[0].plain for width in range(120, 30, -1)]
    lost = {
        column: next((place for place, title in enumerate(titles) if column not in title), len(titles))
        for column in ("STF", "Marks", "Size", "At")
    }
    assert lost["STF"] < lost["Marks"] < lost["Size"] < lost["At"]


def test_before_the_first_key_nothing_is_said_of_a_key() -> None:
    assert (Navigation().name, Navigation().message) == ("", "")
    assert shown(snapshot())[-1] == shown(snapshot(), message="")[-1]


def test_a_tile_that_is_not_good_says_why() -> None:
    silent = {**snapshots.tiles()["daemon"], "state": "bad", "text": "fastmon-agent-1 on daq-7 is silent"}
    text = text_of(snapshot(tiles=snapshots.tiles(daemon=silent)))
    assert "Daemon  ✖ alarm" in text
    assert "fastmon-agent-1 on daq-7 is silent" in text
    assert "backlog 12" not in text


def test_narrow_window_has_fewer_columns() -> None:
    wide, narrow = text_of(snapshot(), 200), text_of(snapshot(), 80)
    assert all(title in wide for title in ("Incomplete", "Backfilled", "Lag, 95 %", "Volume", "Last"))
    assert all(title in narrow for title in ("Run", "State", "Missing", "TF files", "Counts", "Sequence of STFs"))
    assert "Lag" not in narrow


def test_columns_that_are_zero_everywhere_are_not_there() -> None:
    good = run(stfs_missing=0, missing=[], stfs_incomplete=0, backfilled=0)
    title = next(line for line in shown(snapshot(runs=[good]), 200) if "TF files  " in line and "State" in line)
    assert not any(word in title for word in ("Missing", "Incomplete", "Skipped", "Backfilled", "Namespace"))


def row_of(name: str, lines: list[str]) -> str:
    return next(line for line in lines if line[2:].startswith(name))


def test_the_namespace_is_shown_if_there_are_several() -> None:
    for other, is_shown in ((None, False), ("epic", False), ("else", True)):
        lines = shown(snapshot(runs=[run(), run("100013", namespace=other)]), 200)
        assert any("Namespace" in line for line in lines) is is_shown


def test_a_number_is_shown_alone_if_its_detail_has_no_room() -> None:
    doubt = run(missing=list(range(100, 140, 2)), stfs_missing=20, verified="UNKNOWN", doubt="not compared since noon")
    narrow, wide = (row_of("100014", shown(snapshot(runs=[doubt]), width)) for width in (27, 200))
    assert narrow.split() == ["▸", "100014", "running", "20"]
    assert row_of("100014", shown(snapshot(runs=[doubt]), 80)).count("UNKNOWN  ") == 1
    assert "20: 100, 102, 104" in wide
    assert "UNKNOWN: not co" in wide


def test_a_wide_window_gives_the_sequence_its_room_before_the_doubt() -> None:
    doubt = run(verified="UNKNOWN", doubt="x" * 300, strip=snapshots.strip(600))
    assert row_of("100014", shown(snapshot(runs=[doubt]), 150)).count(chr(9608)) >= 25


def test_numbers_are_dim_when_neither_stream_nor_tables_answer() -> None:
    part = {"state": "bad", "text": "connection refused"}
    blind = {"state": "bad", "text": "no answer", "stream": part, "tables": part}
    for found, is_dim in ((dead(tiles=snapshots.tiles(monitor=blind)), True), (dead(), False)):
        row = next(line for line in render(model(found), 80, 24) if "100014  running" in line.plain)
        assert ("dim" in styles(row)) is is_dim


def test_stale_and_unknown_are_shown_in_words() -> None:
    doubtful = run(stale=True, verified="UNKNOWN", doubt="no answer", stfs_missing=None, missing=[])
    text = text_of(snapshot(runs=[doubtful]))
    assert "running, stale" in text
    assert "UNKNOWN: no answer" in text


def test_a_tall_window_has_the_sequence_of_the_selected_run() -> None:
    assert not any("Sequence of STFs 1-" in line for line in shown(snapshot()))
    lines = shown(snapshot(), 200, 50, run="100013")
    place = next(n for n, line in enumerate(lines) if "Sequence of STFs 1-60 of run 100013" in line)
    assert lines[place + 1] == f"   1 {chr(9608) * 60}"


# Alarms


def test_one_alarm_for_one_cause_says_what_to_do() -> None:
    silent = alarm("daemon_silent", None, subject="fastmon-agent-1", evidence="fastmon-agent-1 on daq-7 is silent")
    text = text_of(snapshot(alarms=[alarm("run_stale"), silent]))
    assert text.count("ALARM") == 1
    assert "ALARM  Daemon is silent" in text
    assert "→ On the daemon's host: systemctl status fastmon-daemon" in text
    assert "Also: Run has no new TF files · run 100014" in text


def test_a_tall_window_has_the_steps_of_the_guide() -> None:
    step = f"- {GUIDE['stfs_missing'].diagnosis[0]}".replace("RUN", "100014")
    assert step in text_of(snapshot(), 120)
    assert step not in "\n".join(shown(snapshot(), 80, 24))


def test_a_name_that_is_no_number_gets_into_no_command() -> None:
    text = text_of(snapshot(alarms=[alarm(run="$(reboot)")]), 120)
    assert "verdict RUN" in text
    assert "verdict $(reboot)" not in text


def test_the_action_names_the_run() -> None:
    assert "fastmon-daemon verdict 100014 on the daemon's host" in text_of(snapshot())


def test_active_alarms_are_above_acknowledged_and_ended_ones() -> None:
    alarms = [alarm("run_stale", until="2026-11-21T20:56:00+00:00"), alarm(), alarm("agents_unmatched", None)]
    lines = shown(snapshot(alarms=alarms), 120, 40, noted=["agents_unmatched"])
    places = [next(n for n, line in enumerate(lines) if word in line) for word in ("ALARM", "noted", "ended 20:55:01")]
    assert places == sorted(places)
    assert "acknowledged by Ana at 20:56:00: called the DAQ" in lines[places[1]]


def test_the_foot_counts_alarms_that_nobody_acknowledged() -> None:
    found = snapshot(alarms=[alarm(), alarm("agents_unmatched", None)])
    assert "a acknowledge 2" in shown(found)[-1]
    assert "a acknowledge 1" in shown(found, noted=["agents_unmatched"])[-1]
    assert shown(found, noted=["agents_unmatched", "stfs_missing"])[-1].endswith("a acknowledge")


def test_narrow_window_shows_the_evidence() -> None:
    lines = shown(snapshot(alarms=[alarm(evidence="1 STF without TF files: 4")]), 60)
    assert any("1 STF without TF files: 4" in line for line in lines)


def test_hidden_alarms_are_counted() -> None:
    lines = shown(snapshot(alarms=[alarm(run=str(n)) for n in range(20)]))
    count = sum("ALARM" in line for line in lines)
    assert count >= 4
    assert any(f"and {20 - count} more" in line for line in lines)


def test_ended_alarms_take_three_lines_at_most() -> None:
    ended = [alarm(run=str(n), until="2026-11-21T20:56:00+00:00") for n in range(20)]
    lines = [line for line in shown(snapshot(alarms=ended), 200, 50) if "ended" in line]
    assert [line.split()[0] for line in lines] == ["ended", "ended", "20"]


# Runs


@pytest.mark.parametrize(
    ("filter_", "is_shown"),
    [("", True), ("1000", True), ("EPIC", True), ("running open", True), ("missing", True), ("verified", True),
     ("stale", False), ("epic 7", False)],
)  # fmt: skip
def test_filter_wants_each_word(filter_: str, is_shown: bool) -> None:
    assert matches(run(), filter_) is is_shown


def test_the_selected_run_is_always_among_the_shown_ones() -> None:
    runs = [run(str(200 - n)) for n in range(60)]
    for name in ("200", "170", "141"):
        for page in ("overview", "runs"):
            assert any(line.startswith(f"▸ {name}") for line in shown(snapshot(runs=runs), run=name, page=page))


def test_runs_that_are_not_listed_are_counted() -> None:
    assert any("55 more" in line for line in shown(snapshot(runs_total=57)))


def test_a_run_shows_its_missing_stfs_by_name_and_the_daemons_summary() -> None:
    summary = {
        "complete": False, "processed_by": "fastmon-agent-1", "timestamp": "2026-11-21T20:59:00+00:00", "missing": 3,
        "incomplete_reasons": ["3 STFs failed"], "outages": [],
        "latencies": [{"source": None, "dest": "received", "count": 117, "p50_s": 0.02, "p95_s": 0.5, "max_s": 75}],
    }  # fmt: skip
    details = {"names": {12: "swf.100014.000012.stf"}, "stfs": 120, "summary": summary,
               "monitor_page": "http://m/runs/100014/"}  # fmt: skip
    text = text_of(snapshot(), page="run", run="100014", details=details)
    for part in ("http://m/runs/100014/", "STFs in the table   120", "swf.100014.000012.stf",
                 "15: not registered with the monitor", "not complete by fastmon-agent-1 at 20:59:00", "3 STFs failed",
                 "made → received", "20 ms", "1 min 15 s", "None during the run."):  # fmt: skip
        assert part in text


def test_a_run_that_is_gone_is_no_error() -> None:
    assert "does not follow the run any more" in text_of(snapshot(), page="run", run="7")


def test_a_run_scrolls_to_its_last_line_and_no_further() -> None:
    lines = shown(snapshot(), page="run", run="100014", top=1000)
    assert "None was heard since this client started." in lines[-2]


# The strip


def kinds(**which: str) -> list[dict[str, Any]]:
    return snapshots.strip(600, **which)


def test_a_missing_stf_is_seen_in_a_strip_of_any_width() -> None:
    for width in (1, 7, 20, 80, 599, 600, 900):
        found = strip(kinds(_333="missing"), width).plain
        assert found.count("✗") == 1
        assert len(found) <= width


def test_a_strip_does_not_move_while_its_run_grows() -> None:
    before, after = (strip(snapshots.strip(last, _7="missing"), 20).plain for last in (61, 79))
    assert before.index("✗") == after.index("✗")


def test_lines_of_a_strip_begin_with_their_sequence_numbers() -> None:
    lines = [line.plain for line in strip_lines(kinds(_101="missing"), 60)]
    assert lines[0].startswith("  1 █")
    assert any(line.startswith("101 ✗█") for line in lines)


# The foot


def test_what_is_typed_is_seen_at_its_end() -> None:
    assert shown(snapshot(), types_filter=True, filter="x" * 90 + "end")[-1].rstrip().endswith("end")


def test_the_prompt_names_the_alarm_and_tells_which_of_several() -> None:
    found = snapshot(alarms=[alarm(run=str(n)) for n in range(3)])
    asks = AcknowledgePrompt(("stfs_missing", "1"), "Ana")
    lines = shown(found, prompt=asks)
    assert lines[-2].startswith(" Acknowledge 2 of 3: STFs are missing, run 1:")
    assert lines[-1].startswith(" Your name: Ana")


def test_network_text_is_never_markup() -> None:
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system="standard")
    for line in render(model(HARD), 200, 50):
        console.print(line)
    assert "[bold red]evil[/]" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "\\x1b[2J" in console.file.getvalue()  # type: ignore[attr-defined]


def test_age_uses_two_units() -> None:
    assert [age(s) for s in (None, 0.4, 59, 185, 7440, 90000)] == [
        "?",
        "0 s",
        "59 s",
        "3 min 5 s",
        "2 h 4 min",
        "1 d 1 h",
    ]


def test_the_comparison_with_a_reference_run_stands_below_the_runs() -> None:
    text = "run 100014 after 2 min 0 s, in brackets reference run 100011: rate 1.0 TF files/s (1.2 TF files/s)"
    compared = {"run": "100011", "text": f"{text}\x1b", "current": "100014", "since_start_s": 120.0, "now": None,
                "then": None}  # fmt: skip
    for width, height in ((200, 50), (120, 30)):
        lines = shown(snapshot(reference=compared), width, height)
        assert any(f"{text}\\x1b" in line for line in lines)
        assert len(lines) == height
    assert "reference" not in text_of(snapshot())

"""What a report says: from hand-made facts, and as Markdown, HTML and JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from fastmon_client.journal_file import Journaled
from fastmon_client.report.model import (
    Facts,
    LatencyReport,
    Report,
    RunFacts,
    UnreadRun,
    distribution,
    make_report,
)
from fastmon_client.report.reading import MAX_RUNS, Progress, runs_in
from fastmon_client.report.rendering import FORMATS, as_html, as_markdown
from fastmon_client.shifts import Shifts, Window
from tests.client.snapshots import ESCAPES, HOSTILE, agent, run

SHIFTS = Shifts.parse("", "America/New_York")
END = datetime(2026, 11, 30, 13, 0, tzinfo=UTC)
WINDOW = SHIFTS.of("night", END)
SUMMARY = {
    "run": "100014", "recovered": 4, "timestamp": "2026-11-30T11:00:00+00:00",
    "latencies": [{"source": None, "dest": "received", "count": 117, "p50_s": 0.2, "p95_s": 1.5, "max_s": 12.0}],
    "outages": [
        {"link": "monitor", "began_at": "2026-11-30T06:00:00+00:00", "ended_at": "2026-11-30T06:02:00+00:00",
         "reason": "connection refused", "blocked": False},
        {"link": "daemon", "began_at": "2026-11-30T10:59:00+00:00", "ended_at": None, "reason": "killed"},
        {"link": "broker", "began_at": "2026-11-28T06:00:00+00:00", "ended_at": "2026-11-28T06:02:00+00:00"},
    ],
}  # fmt: skip


def journal_alarm(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "stfs_missing", "subject": "100014", "run": "100014", "title": "STFs are missing", "severity": "bad",
        "since": "2026-11-30T06:00:00+00:00", "until": None, "evidence": "3 STFs without TF files",
        "acknowledged": None, "is_end_known": True, **changes,
    }  # fmt: skip


def acknowledged(by: str = "Ana", note: str = "called the DAQ") -> dict[str, str]:
    return {"by": by, "at": "2026-11-30T06:05:00+00:00", "note": note}


def facts(**changes: Any) -> Facts:
    began = {"began_at": "2026-11-30T05:30:00+00:00"}
    dirty = RunFacts(run(**began, doubt=""), {12: "swf.100014.000012.stf", 99: "swf.100014.000099.stf"}, 2,
                     distribution("STF registered → its TF files registered", [0.5, 1.0, 70.0]))  # fmt: skip
    clean = run("100013", **began, state="complete", ended_at="2026-11-30T05:59:00+00:00", stfs_missing=0, missing=[],
                stfs_incomplete=0, strip=[], stfs_seen=120)  # fmt: skip
    journal = Journaled(END.isoformat(), [journal_alarm(acknowledged=acknowledged())],
                        [{"since": "2026-11-30T06:00:00+00:00", "until": "2026-11-30T06:04:00+00:00",
                          "word": "NOT FLOWING", "reason": "no daemon", "is_end_known": True}])  # fmt: skip
    known: dict[str, Any] = {
        "at": END, "window": WINDOW, "monitor": "https://monitor.example", "shifter": "Ana", "journal": journal,
        "notes": ("Beam was lost twice.",), "runs": [dirty, RunFacts(clean)], "daemons": [agent()],
        "summaries": {"100014": SUMMARY},
    }  # fmt: skip
    return Facts(**{**known, **changes})


def report(**changes: Any) -> Report:
    return make_report(facts(**changes))


def test_a_run_has_its_missing_stfs_by_name_and_what_was_recovered() -> None:
    found = report()["runs"][0]
    assert found["missing"] == ["swf.100014.000012.stf", "STF 15 (not registered with the monitor)",
                                "STF 16 (not registered with the monitor)"]  # fmt: skip
    assert found["incomplete"] == ["swf.100014.000099.stf"]
    assert (found["recovered"], found["late"], found["bytes"]) == (4, 2, 41_300_000_000)
    assert [(each["what"], each["p50_s"], each["max_s"]) for each in found["latencies"]] == [
        ("STF registered → its TF files registered", 1.0, 70.0), ("made → received", 0.2, 12.0),
    ]  # fmt: skip


def test_outages_are_those_of_the_window_by_the_page_and_by_the_daemon() -> None:
    found = [(each["what"], each["until"], each["is_end_known"], each["told_by"]) for each in report()["outages"]]
    assert found == [
        ("daemon to monitor", "2026-11-30T06:02:00+00:00", True, "daemon, run 100014"),
        ("NOT FLOWING", "2026-11-30T06:04:00+00:00", True, "page"),
        ("no daemon was running", "2026-11-30T11:00:00+00:00", False, "daemon, run 100014"),
    ]


def test_what_is_open_is_said_first_and_in_full() -> None:
    silent = agent("agent-2", state="bad", text="is silent")
    unread = UnreadRun("100012", "2026-11-30T05:10:00+00:00", None, "not read: no response")
    found = report(daemons=[agent(), silent], runs=[*facts().runs, unread])["still_open"]
    assert found == [
        "daemon agent-2 on daq-7: is silent",
        "alarm: STFs are missing, run 100014 (acknowledged by Ana): 3 STFs without TF files",
        "run 100014: is running; 3 STFs missing; 1 STF incomplete",
        "run 100012: counts are UNKNOWN: not read: no response",
    ]
    assert as_markdown(report(), SHIFTS).index("## Still open") < as_markdown(report(), SHIFTS).index("## Runs")


def test_nothing_open_is_said_in_one_word() -> None:
    clean = report(runs=facts().runs[1:], journal=Journaled(END.isoformat()), summaries={})
    assert clean["still_open"] == []
    assert "## Still open\n\n- Nothing.\n" in as_markdown(clean, SHIFTS)


def test_alarms_of_other_hours_are_left_out_and_ends_that_nobody_saw_are_told() -> None:
    before = journal_alarm(since="2026-11-30T01:00:00+00:00", until="2026-11-30T04:59:59+00:00")
    after = journal_alarm(since="2026-11-30T13:00:00+00:00")
    lost = journal_alarm(until="2026-11-30T06:30:00+00:00", is_end_known=False)
    found = report(journal=Journaled(END.isoformat(), [before, lost, after]))
    assert [each["since"] for each in found["alarms"] or ()] == ["2026-11-30T06:00:00+00:00"]
    assert "01:30:00 at least" in as_markdown(found, SHIFTS)


@pytest.mark.parametrize(
    ("journal", "said"),
    [(None, "not known without the folder of a dashboard"), (Journaled(), "no dashboard has written its journal yet"),
     (Journaled((END - timedelta(hours=1)).isoformat()), "since 2026-11-30T12:00:00+00:00"),
     (Journaled((END - timedelta(minutes=1)).isoformat()), None)],
)  # fmt: skip
def test_what_is_not_known_is_not_said_to_be_nothing(journal: Journaled | None, said: str | None) -> None:
    found = report(journal=journal)
    assert [said in each for each in found["problems"]] == ([True] if said else [])
    text = as_markdown(found, SHIFTS)
    assert ("## Alarms\n\nNot known." in text) == (journal is None)
    assert ("## Alarms\n\nNone." in text) == (journal is not None)


def test_sums_are_unknown_if_one_part_is() -> None:
    assert report()["totals"] == {"runs": 2, "stfs_seen": 237, "stfs_missing": 3, "tf_files": 1638,
                                  "bytes": 82_600_000_000}  # fmt: skip
    unread = UnreadRun("100012", "2026-11-30T05:10:00+00:00", None, "why")
    assert report(runs=[unread])["totals"] == {"runs": 1, "stfs_seen": None, "stfs_missing": None, "tf_files": None,
                                               "bytes": None}  # fmt: skip
    assert "missing STFs unknown" in report(runs=[unread])["summary"]


def test_a_summary_of_any_form_spoils_no_report() -> None:
    for summary in (
        {"latencies": "x", "outages": 5, "recovered": "many"},
        {"latencies": [1, {"p50_s": "a"}], "outages": [None, {"began_at": 5}, {"began_at": "2026-11-30T06:00:00"}]},
    ):
        found = report(summaries={"100014": summary}, journal=None)
        assert (found["runs"][0]["recovered"], found["outages"]) == (None, [])
        for render in FORMATS.values():
            assert render(found, SHIFTS)


# Rendering


def test_what_nobody_can_know_has_no_column_and_no_question_mark() -> None:
    lag: LatencyReport = {"what": "announced → shown", "count": None, "p50_s": 0.2, "p95_s": 0.4, "max_s": None}
    text = as_markdown(report(runs=[RunFacts(run(), {}, None, [lag])], summaries={}), SHIFTS)
    assert "| Recovered | TF files |" in text
    assert "| announced → shown | - | 0.20 s | 0.40 s | - |" in text
    assert "| Recovered | Late | TF files |" in as_markdown(report(), SHIFTS)


def test_times_are_those_of_the_shift_s_zone() -> None:
    text = as_markdown(report(), SHIFTS)
    assert "- From: 2026-11-30 00:00 EST\n- To: 2026-11-30 08:00 EST\n" in text
    assert "| 100014 (epic) | 00:30:00 | - | running |" in text


def test_a_time_of_the_day_before_has_its_date_and_that_of_a_changed_clock_its_zone() -> None:
    evening = SHIFTS.of("evening", datetime(2026, 11, 30, 5, 30, tzinfo=UTC))
    late = RunFacts(run(began_at="2026-11-29T23:00:00+00:00"))
    text = as_markdown(report(window=Window(evening.begin, END, "last 16 h"), runs=[late]), SHIFTS)
    assert "| 11-29 18:00:00 |" in text
    night = SHIFTS.of("night", datetime(2026, 11, 1, 14, 0, tzinfo=UTC))
    twice = [RunFacts(run(began_at=f"2026-11-01T0{hour}:30:00+00:00")) for hour in (6, 5)]
    text = as_markdown(report(window=night, runs=twice, journal=None, summaries={}), SHIFTS)
    assert ("01:30:00 EDT" in text, "01:30:00 EST" in text) == (True, True)


class Page(HTMLParser):
    """The texts, elements and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


EVIL = f"{HOSTILE}{ESCAPES}| [x](javascript:alert(1)) `a` **b** &amp; \u202e"


def hostile_report() -> Report:
    row = run(EVIL, namespace=EVIL, doubt=EVIL, verified="UNKNOWN", began_at="2026-11-30T05:30:00+00:00")
    alarm = journal_alarm(title=EVIL, evidence=EVIL, run=EVIL, acknowledged=acknowledged(EVIL, EVIL))
    return report(
        runs=[RunFacts(row, {12: EVIL}, 1)], shifter=EVIL, notes=(f"# {EVIL}\n- item\n1. one\n=====\n",), monitor=EVIL,
        journal=Journaled(END.isoformat(), [alarm]), daemons=[agent(EVIL, state="bad", text=EVIL)],
        summaries={EVIL: {**SUMMARY, "latencies": [{"source": EVIL, "dest": EVIL}]}}, problems=(EVIL,),
    )  # fmt: skip


def test_html_is_one_file_that_loads_nothing_and_in_which_no_name_is_markup() -> None:
    found = Page(as_html(hostile_report(), SHIFTS))
    plain = Page(as_html(report(), SHIFTS))
    assert found.tags == plain.tags
    assert not found.tags & {"script", "img", "link", "a", "iframe"}
    assert not {name for name in found.attributes if name.startswith("on")} | (found.attributes & {"href", "src"})
    assert any("<script>alert(1)</script>" in text for text in found.texts)
    assert all(char.isprintable() or char == "\n" for text in found.texts for char in text)


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_no_name_is_markup_in_markdown() -> None:
    text = as_markdown(hostile_report(), SHIFTS)
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "[x](" not in text.replace("\\[x\\](", "")
    assert all(char.isprintable() or char == "\n" for char in text)
    assert headings(text) == headings(as_markdown(report(problems=("x",)), SHIFTS))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6, 7, 14}
    assert "\\- item" in text
    assert "1\\. one" in text
    assert "\\=====" in text


def test_json_has_the_whole_model() -> None:
    assert json.loads(FORMATS["json"](report(), SHIFTS)) == report()


def test_all_formats_say_the_same() -> None:
    known = report()
    page = " ".join(Page(as_html(known, SHIFTS)).texts)
    text = as_markdown(known, SHIFTS).replace("\\", "")
    for each in (
        *known["still_open"],
        *known["runs"][0]["missing"],
        "called the DAQ",
        "Beam was lost twice.",
        known["summary"],
    ):
        assert each in page
        assert each in text


# Reading


def table_row(number: int, begin: timedelta, end: timedelta | None) -> dict[str, Any]:
    return {"run_number": number, "start_time": (END + begin).isoformat(),
            "end_time": (END + end).isoformat() if end is not None else None}  # fmt: skip


def test_runs_of_the_window_are_those_that_overlap_it() -> None:
    h = lambda hours: timedelta(hours=hours)  # noqa: E731
    rows = [
        table_row(1, h(-12), h(-9)), table_row(2, h(-12), h(-7)), table_row(3, h(-5), h(-4)), table_row(4, h(-1), None),
        table_row(5, h(-100), None), table_row(6, h(-20), None), table_row(7, h(1), None),
        {"run_number": "x", "start_time": END.isoformat()}, {"run_number": 8, "start_time": None},
    ]  # fmt: skip
    assert [row["run_number"] for row in runs_in(rows, WINDOW, END + h(2))] == [4, 3, 2, 6]
    assert [row["run_number"] for row in runs_in(rows, WINDOW, END)] == [7, 4, 3, 2, 6]  # its start is of another zone


def test_progress_is_told_after_two_seconds_and_then_every_two() -> None:
    told: list[str] = []
    at = 0.0
    progress = Progress(told.append, lambda: at)
    for at in (0.5, 1.9, 2.1, 3.9, 4.2):
        progress.at(f"{at}")
    assert told == ["2.1", "4.2"]


def test_older_runs_are_counted_not_listed() -> None:
    text = as_markdown(report(runs_omitted=7), SHIFTS)
    assert "7 older runs are not listed." in text
    assert MAX_RUNS == 200

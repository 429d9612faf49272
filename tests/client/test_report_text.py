"""Whole reports: every word of the text, every edge of what is in it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fastmon_client.journal_file import Journaled
from fastmon_client.report.model import Report, RunFacts, UnreadRun, distribution, overlaps
from fastmon_client.report.reading import begin_in, runs_in, unread
from fastmon_client.report.rendering import as_html, as_markdown
from fastmon_client.shifts import Shifts, Window
from tests.client.snapshots import agent, run, strip
from tests.client.test_report import END, SHIFTS, WINDOW, acknowledged, journal_alarm, report, table_row


def full_report() -> Report:
    """With each kind of row, and with what is not known."""
    unknown = run(
        "100016", began_at="2026-11-30T12:00:00+00:00", verified="UNKNOWN", doubt="not compared yet", state="paused",
        namespace=None, stfs_seen=None, stfs_expected=None, stfs_skipped=None, stfs_missing=None, missing=[],
        stfs_incomplete=0, strip=[], bytes=None, tf_files=7,
    )  # fmt: skip
    many = run(
        "100015", began_at="2026-11-29T23:30:00+00:00", ended_at="2026-11-30T05:45:00+00:00", state="ended",
        stfs_missing=130, missing=list(range(1, 104)), stfs_incomplete=2, tf_files_without_size=3,
        strip=strip(40, _38="incomplete", _39="incomplete"),
    )  # fmt: skip
    empty = run("100011", began_at=None, stfs_missing=1, missing=[3], tf_files=0, bytes=None, stfs_incomplete=0,
                strip=[])  # fmt: skip
    shown = {"what": "announced → shown", "count": None, "p50_s": 0.2, "p95_s": None, "max_s": None}
    outage = {"link": "new", "began_at": "2026-11-30T05:07:00+00:00", "ended_at": "2026-11-30T05:08:00+00:00",
              "reason": "why"}  # fmt: skip
    return report(
        runs=[
            RunFacts(unknown, {}, None, [shown]),  # type: ignore[list-item, arg-type]
            RunFacts(many, {number: f"s{number}" for number in range(1, 200)}, 1),  # type: ignore[arg-type]
            UnreadRun("100012", "2026-11-30T05:10:00+00:00", "2026-11-30T05:20:00+00:00", "not read"),
            RunFacts(empty),  # type: ignore[arg-type]
        ],
        runs_omitted=2,
        journal=Journaled(
            (END - timedelta(minutes=4)).isoformat(),
            [
                journal_alarm(acknowledged=acknowledged(note="")),
                journal_alarm(run=None, title="No data", since="2026-11-30T05:30:00+00:00"),
                journal_alarm(run=None, title="Short", since="2026-11-30T05:20:00+00:00",
                              until="2026-11-30T05:21:00+00:00", evidence="e"),
                journal_alarm(run=None, title="Lost sight", since="2026-11-30T05:10:00+00:00",
                              until="2026-11-30T05:11:00+00:00", is_end_known=False),
            ],
            [{"since": "2026-11-30T06:00:00+00:00", "until": None, "word": "NOT FLOWING", "reason": "no daemon",
              "is_end_known": True}],
        ),
        summaries={
            "100015": {
                "recovered": True,  # no number
                "timestamp": "no time",
                "latencies": [{"source": "received", "dest": "done", "count": -1, "p50_s": 1, "p95_s": "2"}, 5],
                "outages": [
                    {"link": "broker", "began_at": "2026-11-30T05:05:00+00:00", "ended_at": None, "blocked": True},
                    outage, {"link": "broker", "began_at": None},
                ],
            },
            "100012": {"recovered": 0, "outages": [outage]},
        },
        shifter="", notes=("one\n\n- two", "  "), problems=("part only",),
        daemons=[agent("a", state="warning", host=None, text="warns"), agent("b", state="unknown")],
    )  # fmt: skip


FULL = """\
# fastmon report: night shift of 2026-11-30

- From: 2026-11-30 00:00 EST
- To: 2026-11-30 08:00 EST
- Monitor: https://monitor.example
- Made: 2026-11-30 08:00 EST; times are those of America/New\\_York

8 h 0 min: 6 runs, missing STFs unknown, 4 alarms, 3 outages

## Still open

- outage: NOT FLOWING: no daemon
- daemon a: warns
- alarm: No data (not acknowledged): 3 STFs without TF files
- alarm: STFs are missing, run 100014 (acknowledged by Ana): 3 STFs without TF files
- run 100016: is paused; counts are UNKNOWN: not compared yet
- run 100015: 130 STFs missing; 2 STFs incomplete
- run 100012: counts are UNKNOWN: not read
- run 100011: is running; 1 STF missing

## Notes

one\x20\x20
\\- two

## Runs

2 older runs are not listed.

| Run | Start | End | State | Counts | STFs | Missing | Incomplete | Skipped | Recovered | Late | TF files | Size |
|---|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
| 100011 (epic) | - | - | running | VERIFIED | 117/120 | 1 | 0 | 0 | ? | ? | 0 | ? |
| 100012 | 00:10:00 | 00:20:00 | ended | UNKNOWN | ? | ? | ? | ? | 0 | ? | ? | ? |
| 100015 (epic) | 11-29 18:30:00 | 00:45:00 | ended | VERIFIED | 117/120 | 130 | 2 | 0 | ? | 1 | 819 | ≥41.3 GB |
| 100016 | 07:00:00 | - | paused | UNKNOWN | ? | ? | 0 | ? | ? | ? | 7 | ? |

- Run 100012 is UNKNOWN: not read
- Run 100016 is UNKNOWN: not compared yet

## Missing STFs by name

- run 100011, missing: STF 3 (not registered with the monitor)
- run 100015, missing: s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12
- run 100015, missing: s13, s14, s15, s16, s17, s18, s19, s20, s21, s22, s23, s24
- run 100015, missing: s25, s26, s27, s28, s29, s30, s31, s32, s33, s34, s35, s36
- run 100015, missing: s37, s38, s39, s40, s41, s42, s43, s44, s45, s46, s47, s48
- run 100015, missing: s49, s50, s51, s52, s53, s54, s55, s56, s57, s58, s59, s60
- run 100015, missing: s61, s62, s63, s64, s65, s66, s67, s68, s69, s70, s71, s72
- run 100015, missing: s73, s74, s75, s76, s77, s78, s79, s80, s81, s82, s83, s84
- run 100015, missing: s85, s86, s87, s88, s89, s90, s91, s92, s93, s94, s95, s96
- run 100015, missing: s97, s98, s99, s100 and 30 more
- run 100015, incomplete: s38, s39

## Alarms

| Alarm | From | To | Evidence | Acknowledged |
|---|---|---|---|---|
| Lost sight | 00:10:00 | 00:11:00 at least | 3 STFs without TF files | not acknowledged |
| Short | 00:20:00 | 00:21:00 | e | not acknowledged |
| No data | 00:30:00 | still active | 3 STFs without TF files | not acknowledged |
| STFs are missing, run 100014 | 01:00:00 | still active | 3 STFs without TF files | by Ana at 01:05:00 |

## Outages

| What | From | To | Reason | Told by |
|---|---|---|---|---|
| daemon to broker, blocked | 00:05:00 | 00:05:00 at least |  | daemon, run 100015 |
| new | 00:07:00 | 00:08:00 | why | daemon, run 100015 |
| NOT FLOWING | 01:00:00 | still active | no daemon | page |

## Latencies

| Run | What | STFs | Median | 95 % | Maximum |
|---|---|---:|---:|---:|---:|
| 100015 | received → done | - | 1.00 s | - | - |
| 100016 | announced → shown | - | 0.20 s | - | - |

## Not known

- part only
- alarms and outages: no dashboard has written its journal since 2026-11-30T12:56:00+00:00
"""


def test_every_word_of_a_report() -> None:
    assert as_markdown(full_report(), SHIFTS) == FULL


EMPTY = """\
# fastmon report: night shift of 2026-11-30

- From: 2026-11-30 05:00 UTC
- To: 2026-11-30 13:00 UTC
- Shifter: Ana
- Monitor: https://monitor.example
- Made: 2026-11-30 13:00 UTC; times are those of UTC

8 h 0 min: 0 runs, 0 TF files, no STF missing

## Still open

- Nothing.

## Notes

Beam was lost twice.

## Runs

None.

## Alarms

Not known.

## Outages

Not known.

## Latencies

None known.

## Not known

- alarms, acknowledgements and outages: not known without the folder of a dashboard (--state DIR)
"""


def test_every_word_of_a_report_of_nothing() -> None:
    found = report(runs=[], journal=None, summaries={}, daemons=None)
    assert as_markdown(found, Shifts.parse("", "UTC")) == EMPTY
    without_zone = as_markdown(found, Shifts.parse("", ""))
    assert "; times are in the time zone of its host\n" in without_zone
    quiet = report(runs=[], journal=Journaled(END.isoformat()), summaries={}, notes=())
    assert quiet["summary"] == "8 h 0 min: 0 runs, 0 TF files, no STF missing, 0 alarms, 0 outages"
    assert as_markdown(quiet, SHIFTS).split("## Runs")[1] == (
        "\n\nNone.\n\n## Alarms\n\nNone.\n\n## Outages\n\nNone.\n\n## Latencies\n\nNone known.\n"
    )


def test_every_field_of_a_run_and_of_an_alarm() -> None:
    found = full_report()
    unknown, many, not_read, _ = found["runs"]
    assert not_read == {
        "run": "100012", "namespace": None, "state": "ended", "began_at": "2026-11-30T05:10:00+00:00",
        "ended_at": "2026-11-30T05:20:00+00:00", "verified": "UNKNOWN", "doubt": "not read", "stfs_seen": None,
        "stfs_expected": None, "stfs_skipped": None, "stfs_missing": None, "stfs_incomplete": None, "missing": [],
        "incomplete": [], "tf_files": None, "bytes": None, "tf_files_without_size": None, "recovered": 0, "late": None,
        "latencies": [],
    }  # fmt: skip
    assert (unknown["namespace"], unknown["bytes"], many["bytes"], many["late"]) == (None, None, 41_300_000_000, 1)
    assert (len(many["missing"]), many["recovered"]) == (100, None)
    assert (found["alarms"] or [])[-1] == {
        "kind": "stfs_missing", "title": "STFs are missing", "severity": "bad", "run": "100014",
        "since": "2026-11-30T06:00:00+00:00", "until": None, "is_end_known": True,
        "evidence": "3 STFs without TF files", "acknowledged_by": "Ana",
        "acknowledged_at": "2026-11-30T06:05:00+00:00", "note": "",
    }  # fmt: skip
    assert {name: found[name] for name in ("version", "title", "made_at", "begin", "end", "notes", "daemons")} == {
        "version": 1, "title": "night shift of 2026-11-30", "made_at": "2026-11-30T13:00:00+00:00",
        "begin": "2026-11-30T05:00:00+00:00", "end": "2026-11-30T13:00:00+00:00", "notes": ["one\n\n- two"],
        "daemons": [agent("a", state="warning", host=None, text="warns"), agent("b", state="unknown")],
    }  # fmt: skip
    assert report(daemons=None)["daemons"] is None


def test_a_run_without_tf_files_adds_nothing_to_a_volume_that_is_known() -> None:
    none, some = run("1", tf_files=0, bytes=None), run("2", tf_files=2, bytes=10)
    assert report(runs=[RunFacts(none), RunFacts(some)])["totals"]["bytes"] == 10  # type: ignore[arg-type]
    unsized = run("3", tf_files=1, bytes=None)
    assert report(runs=[RunFacts(unsized), RunFacts(some)])["totals"]["bytes"] is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (None, None, False), (WINDOW.end, None, False), (WINDOW.end - timedelta(seconds=1), None, True),
        (WINDOW.begin - timedelta(1), WINDOW.begin, True),
        (WINDOW.begin - timedelta(1), WINDOW.begin - timedelta(seconds=1), False),
    ],
)  # fmt: skip
def test_the_edges_of_a_window(begin: datetime | None, end: datetime | None, expected: bool) -> None:
    assert overlaps(WINDOW, begin, end) is expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([3.0], (1, 3.0, 3.0, 3.0)), ([2.0, 1.0], (2, 1.0, 1.0, 2.0)), ([3.0, 1.0, 2.00049], (3, 2.0, 2.0, 3.0)),
        ([float(number) for number in range(1, 102)], (101, 51.0, 96.0, 101.0)),
    ],
)  # fmt: skip
def test_median_and_95_percent_of_a_latency(seconds: list[float], expected: tuple[float, ...]) -> None:
    [found] = distribution("x", seconds)
    assert found == dict(zip(("what", "count", "p50_s", "p95_s", "max_s"), ("x", *expected), strict=True))
    assert distribution("x", []) == []


def test_what_is_listed_is_limited_and_the_newest_stays() -> None:
    at = datetime.fromisoformat("2026-11-30T06:00:00+00:00")
    alarms = [journal_alarm(since=(at + timedelta(seconds=number)).isoformat()) for number in range(301)]
    outages = [{"since": alarm["since"], "until": None, "word": "DEGRADED", "reason": "", "is_end_known": True}
               for alarm in alarms]  # fmt: skip
    latencies = [{"source": "a", "dest": f"{number}", "count": 1} for number in range(21)]
    found = report(
        runs=[UnreadRun("1", None, None, "why")], journal=Journaled(END.isoformat(), alarms[::-1], outages[::-1]),
        summaries={"1": {"latencies": latencies}},
    )  # fmt: skip
    assert [each["since"] for each in found["alarms"] or ()] == [alarm["since"] for alarm in alarms[1:]]
    assert [each["since"] for each in found["outages"]] == [alarm["since"] for alarm in alarms[1:]]
    assert [each["what"] for each in found["runs"][0]["latencies"]] == [f"a → {number}" for number in range(20)]
    assert found["runs"][0]["state"] == "unknown"


@pytest.mark.parametrize(("age_s", "is_outdated"), [(180, False), (181, True)])
def test_a_journal_is_outdated_after_three_minutes(age_s: int, is_outdated: bool) -> None:
    saved = END - timedelta(seconds=age_s)
    expected = [f"alarms and outages: no dashboard has written its journal since {saved.isoformat()}"]
    assert report(journal=Journaled(saved.isoformat()))["problems"] == (expected if is_outdated else [])


def test_an_outage_without_an_end_lasted_until_the_summary_was_made() -> None:
    each = {"link": "monitor", "began_at": "2026-11-30T06:00:00+00:00", "ended_at": None}
    found = report(journal=None, summaries={"1": {"timestamp": "2026-11-30T06:30:00+00:00", "outages": [each]}})
    [outage] = found["outages"]
    assert outage == {
        "what": "daemon to monitor", "since": "2026-11-30T06:00:00+00:00", "until": "2026-11-30T06:30:00+00:00",
        "is_end_known": False, "reason": "", "told_by": "daemon, run 1",
    }  # fmt: skip
    assert found["still_open"] == report(journal=None, summaries={})["still_open"]


def names_of(count: int, missing: int) -> list[str]:
    row = run("1", missing=list(range(1, count + 1)), stfs_missing=missing, stfs_incomplete=0, strip=[])
    text = as_markdown(report(runs=[RunFacts(row, {n: f"s{n}" for n in range(1, count + 1)})]), SHIFTS)  # type: ignore[arg-type]
    return [line for line in text.splitlines() if line.startswith("- run 1, ")]


def test_names_stand_twelve_in_a_line() -> None:
    twelve = f"- run 1, missing: {', '.join(f's{number}' for number in range(1, 13))}"
    assert names_of(12, 12) == [twelve]
    assert names_of(12, 13) == [f"{twelve} and 1 more"]
    assert names_of(13, 14) == [twelve, "- run 1, missing: s13 and 1 more"]


def test_a_page_has_the_paragraphs_lists_and_tables_in_the_order_of_the_text() -> None:
    text = as_html(full_report(), SHIFTS)
    body = text.split("<main>\n")[1]
    assert body.startswith(
        "<h1>fastmon report: night shift of 2026-11-30</h1>\n<dl>\n<dt>From</dt><dd>2026-11-30 00:00 EST</dd>\n"
    )
    assert (
        '</dl>\n<section>\n<p class="note">8 h 0 min: 6 runs, missing STFs unknown, 4 alarms, 3 outages</p>\n'
        "</section>\n<section class=open>\n<h2>Still open</h2>\n<ul>\n<li>outage: NOT FLOWING: no daemon</li>\n"
    ) in body
    assert '<section>\n<h2>Notes</h2>\n<p class="note">one&#10;&#10;- two</p>\n</section>\n' in body
    assert (
        '<section>\n<h2>Latencies</h2>\n<div class="wide" role="region" aria-label="Latencies" tabindex="0"><table>\n'
        "<thead><tr><th scope=col>Run</th><th scope=col>What</th><th scope=col class=number>STFs</th>"
        "<th scope=col class=number>Median</th><th scope=col class=number>95 %</th>"
        "<th scope=col class=number>Maximum</th></tr></thead><tbody>\n"
        "<tr><th scope=row>100015</th><td>received → done</td><td class=number>-</td><td class=number>1.00 s</td>"
        "<td class=number>-</td><td class=number>-</td></tr>\n"
    ) in body
    assert body.endswith("</ul>\n</section>\n</main>\n</body>\n</html>\n")
    assert [line for line in body.splitlines() if line.startswith("<h2>")] == [
        f"<h2>{line[3:]}</h2>" for line in FULL.splitlines() if line.startswith("## ")
    ]


# What is read


def test_a_run_without_an_end_lasts_a_day_at_most() -> None:
    day = timedelta(days=1)
    rows = [table_row(1, -day, None), table_row(2, -day - timedelta(hours=8), None),
            table_row(3, -day - timedelta(hours=8, seconds=1), None)]  # fmt: skip
    assert [row["run_number"] for row in runs_in(rows, WINDOW, END)] == [1, 2]


@pytest.mark.parametrize(
    ("began_s", "ended_s", "expected_s"),
    [(-5, 0, -5), (0, 0, 0), (1, 0, -8 * 3600), (1, -60, -8 * 3600 - 60), (1, -61, 1)],
)
def test_a_start_that_is_still_to_come_is_the_begin_of_a_window_until_now(
    began_s: int, ended_s: int, expected_s: int
) -> None:
    end = END + timedelta(seconds=ended_s)
    window = Window(end - timedelta(hours=8), end, "last 8 h")
    assert begin_in(window, END + timedelta(seconds=began_s), END) == END + timedelta(seconds=expected_s)
    assert begin_in(window, None, END) is None


def test_a_run_that_is_not_read_has_the_times_of_its_row() -> None:
    row = table_row(5, timedelta(0), timedelta(hours=1))
    assert unread(row, "why") == UnreadRun("5", "2026-11-30T13:00:00+00:00", "2026-11-30T14:00:00+00:00", "why")
    assert unread({"run_number": 5, "start_time": "x"}, "why") == UnreadRun("5", None, None, "why")

"""What a page gets for hand-made answers of the tables: exact reports, exact JSON, and the reason of each failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from fastmon_client.dashboard import reports
from fastmon_client.dashboard.guide import GUIDE
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable
from fastmon_client.shifts import Shifts
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import alarm, run, snapshot
from tests.client.test_dashboard_api import ASKED, first_event, get, post, wait_for_incidents
from tests.processes import DEADLINE_S, wait_until

Failure = Exception | None


def before(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat(timespec="seconds")


class FakeDetails:
    """Has the runs *rows*; `fails` names the questions that fail, and how."""

    def __init__(self, rows: list[dict[str, Any]], table: list[dict[str, Any]] | None = None) -> None:
        self._rows, self._table = rows, table or []
        self.fails: dict[str, Exception] = {}
        self.asked: list[tuple[str, Any]] = []

    def _ask(self, what: str, of: Any = None) -> None:
        self.asked.append((what, of))
        if what in self.fails:
            raise self.fails[what]

    async def run(self, name: str, sequences: Iterable[int]) -> dict[str, Any]:
        numbers = list(sequences)
        self._ask("run", (name, numbers))
        names = {number: f"swf.{name}.{number:06d}.stf" for number in numbers if number != 15}
        return {"summary": None, "monitor_page": "http://m/", "stfs": 0, "names": names}

    async def runs(self) -> list[dict[str, Any]]:
        self._ask("runs")
        return self._table

    async def profile(self, run: str) -> Any:
        self._ask("profile", run)
        return {"run": run, "points": []}

    async def stf(self, run: str, name: str) -> dict[str, Any]:
        self._ask("stf", (run, name))
        return {"run": run, "stf_filename": name}

    def earlier_rates(self) -> Mapping[int, int]:
        return {}

    def rows(self, limit: int | None) -> list[Any]:
        return self._rows[:limit]

    def summaries(self) -> list[dict[str, Any]]:
        return [{"run": "100014", "completed": 7}]


NOW_RUN = {"began_at": before(minutes=30), "last_at": before(minutes=1)}


def asked_for(details: FakeDetails | None, path: str, shown: dict[str, Any] | None = None) -> requests.Response:
    found = shown or snapshot(runs=details.rows(30) if details else [run(**NOW_RUN)])
    with served(lambda: found, details=details) as server:  # type: ignore[arg-type]
        return requests.get(f"{server.url}/{path}", timeout=DEADLINE_S)


def report(details: FakeDetails | None, more: str = "", shown: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = asked_for(details, f"report?format=json{more}", shown)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# The report


def test_a_report_of_the_page_names_missing_stfs_and_the_runs_that_it_has_not_followed() -> None:
    table = [{"run_number": number, "start_time": before(minutes=40)} for number in (100014, 100009)]
    details = FakeDetails([run(**NOW_RUN)], table)
    found = report(details)
    assert details.asked == [("run", ("100014", [12, 15, 16, 12, 15, 16, 99])), ("runs", None)]
    followed, other = found["runs"]
    assert followed["missing"] == ["swf.100014.000012.stf", "STF 15 (not registered with the monitor)",
                                   "swf.100014.000016.stf"]  # fmt: skip
    assert followed["incomplete"] == ["swf.100014.000099.stf"]
    assert followed["latencies"] == [
        {"what": "announced → shown on the page", "count": None, "p50_s": 0.18, "p95_s": 1.42, "max_s": None}
    ]
    assert (other["run"], other["verified"], other["stfs_seen"]) == ("100009", "UNKNOWN", None)
    assert other["doubt"] == "this page has not followed it: fastmon-client summary --run 100009 reads it"
    assert (found["problems"], found["runs_omitted"]) == ([], 0)


@pytest.mark.parametrize("error", [MonitorUnavailable("no answer"), AccessDenied("no answer")])
@pytest.mark.parametrize(
    ("what", "problem", "asked"),
    [("run", "names of missing STFs: no answer", ["run"]),
     ("runs", "runs that this page has not followed: no answer", ["run", "run", "runs"])],
)  # fmt: skip
def test_what_a_report_of_the_page_could_not_read_is_said_once(
    error: Exception, what: str, problem: str, asked: list[str]
) -> None:
    details = FakeDetails([run(name, **NOW_RUN) for name in ("100014", "100013")])
    details.fails[what] = error
    found = report(details)
    assert found["problems"] == [problem]
    assert [each for each, _ in details.asked] == asked
    assert [each["run"] for each in found["runs"]] == ["100014", "100013"]


def test_a_report_without_tables_has_the_runs_of_the_snapshot() -> None:
    [only] = report(None)["runs"]
    assert only["run"] == "100014"
    assert only["missing"][0] == "STF 12 (not registered with the monitor)"


def test_the_names_of_few_runs_only_are_asked_for_and_many_runs_are_cut() -> None:
    details = FakeDetails([run(str(100300 - n), lag_p50_s=None, **NOW_RUN) for n in range(203)])
    found = report(details)
    assert len([what for what, _ in details.asked if what == "run"]) == reports.MAX_NAMED_RUNS == 20
    assert (len(found["runs"]), found["runs_omitted"]) == (200, 3)
    assert [each["missing"][0] for each in found["runs"][19:21]] == [
        "swf.100281.000012.stf", "STF 12 (not registered with the monitor)",
    ]  # fmt: skip
    assert found["runs"][0]["latencies"] == []


def test_clean_runs_use_up_no_names() -> None:
    clean = [run(str(100300 - n), missing=[], stfs_missing=0, strip=[], **NOW_RUN) for n in range(25)]
    details = FakeDetails([*clean, run("100001", **NOW_RUN)])
    assert report(details)["runs"][-1]["missing"][0] == "swf.100001.000012.stf"


@pytest.mark.parametrize(
    ("row", "since", "is_listed"),
    [({"began_at": before(hours=3), "ended_at": before(hours=2)}, "1h", False),
     ({"began_at": before(hours=3), "ended_at": before(hours=2)}, "8h", True),
     ({"began_at": before(hours=3), "ended_at": before(minutes=2)}, "1h", True),
     ({"began_at": before(hours=3), "last_at": before(hours=2), "is_past": True}, "1h", False),
     ({"began_at": before(hours=3), "last_at": before(hours=2), "is_past": False}, "1h", True),
     ({"began_at": None, "last_at": before(hours=2), "ended_at": before(hours=2)}, "1h", False),
     ({"began_at": None, "last_at": before(minutes=2)}, "1h", True),
     ({"began_at": before(hours=-5), "last_at": before(minutes=2)}, "1h", True)],
)  # fmt: skip
def test_the_runs_of_the_asked_time_are_listed(row: dict[str, Any], since: str, is_listed: bool) -> None:
    found = report(FakeDetails([run(**row)]), f"&range=since={since}")
    assert bool(found["runs"]) is is_listed


@pytest.mark.parametrize(
    ("query", "kind", "way", "name"),
    [("", "text/html", "inline", "fastmon-report-last-8-h.html"),
     ("?format=md&range=since=1h", "text/markdown", "attachment", "fastmon-report-last-1-h.md"),
     ("?format=json&range=since=24h", "application/json", "attachment", "fastmon-report-last-24-h.json")],
)  # fmt: skip
def test_a_report_has_a_type_and_a_name(query: str, kind: str, way: str, name: str) -> None:
    headers = asked_for(None, f"report{query}").headers
    assert headers["Content-Type"].partition(";")[0] == kind
    assert headers["Content-Disposition"] == f'{way}; filename="{name}"'
    assert headers["Content-Security-Policy"].endswith("frame-ancestors 'none'")


@pytest.mark.parametrize(
    ("query", "said"),
    [("format=pdf", "unknown format: use "),
     ("range=since=2h", "unknown range: use shift=NAME, or since= with one of 1h, 8h, 24h"),
     ("range=last=1h", "unknown range"), ("range=shift=owl", "no shift is called 'owl': use night, ")],
)  # fmt: skip
def test_a_report_that_there_is_not_is_refused_with_a_reason(query: str, said: str) -> None:
    answer = asked_for(None, f"report?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(said)


def test_name_and_note_of_a_report_are_bounded() -> None:
    found = report(None, f"&shifter={'x' * 70}&note={'y' * 3999}%0Ab%0Ac")
    assert (found["shifter"], found["notes"]) == ("x" * 60, ["y" * 3999])


def test_the_page_offers_the_shifts_of_a_day_the_newest_first_then_the_last_hours() -> None:
    found = asked_for(None, "api/report-ranges").json()["ranges"]
    shifts, hours = found[:-3], found[-3:]
    assert hours == [["since=1h", "last 1 h"], ["since=8h", "last 8 h"], ["since=24h", "last 24 h"]]
    known, at = Shifts.parse("", ""), datetime.now(UTC)
    begins = [known.of(value.removeprefix("shift="), at).begin for value, _ in shifts]
    assert sorted(value for value, _ in shifts) == ["shift=day", "shift=evening", "shift=night"]
    assert begins == sorted(begins, reverse=True)
    assert all(title.startswith(f"{value.removeprefix('shift=')} shift of 20") for value, title in shifts)


# Answers below /api


@pytest.mark.parametrize(
    ("path", "fails", "status", "body"),
    [
        ("runs/100014/profile", None, 200, {"run": "100014", "points": []}),
        ("runs/100014/profile", LookupError("no run"), 404, {"error": "no run"}),
        ("runs/100014/profile", MonitorUnavailable("no answer"), 502, {"error": "no answer"}),
        ("runs/100014/profile", AccessDenied("rejected"), 502, {"error": "rejected"}),
        ("runs/100014/stfs/5", None, 200, {"run": "100014", "stf_filename": "5"}),
        ("runs/100014/stfs/5", LookupError("no STF"), 404, {"error": "no STF"}),
        ("summaries", None, 200, {"summaries": [{"run": "100014", "completed": 7}]}),
        ("guide", None, 200, json.loads(json.dumps({kind: asdict(entry) for kind, entry in GUIDE.items()}))),
    ],
)
def test_answers_and_their_failures(path: str, fails: Failure, status: int, body: dict[str, Any]) -> None:
    details = FakeDetails([run(**NOW_RUN)])
    if fails:
        details.fails = {"profile": fails, "stf": fails}
    answer = asked_for(details, f"api/{path}")
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("runs/100014/profile", 404, {"error": "this server reads no tables"}),
        ("runs/100014/stfs/5", 404, {"error": "this server reads no tables"}),
        ("summaries", 200, {"summaries": []}),
        ("runs/7", 404, {"row": None, "tables": None, "problem": ""}),
    ],
)
def test_answers_without_tables(path: str, status: int, body: dict[str, Any]) -> None:
    answer = asked_for(None, f"api/{path}")
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize(
    "error", [MonitorUnavailable("no answer"), AccessDenied("no answer"), LookupError("no answer")]
)
@pytest.mark.parametrize("name", ["100014", "7"])
def test_a_run_whose_tables_cannot_be_read_says_why(error: Exception, name: str) -> None:
    details = FakeDetails([run(**NOW_RUN)])
    details.fails["run"] = error
    answer = asked_for(details, f"api/runs/{name}")
    assert (answer.status_code, answer.json()["problem"], answer.json()["tables"]) == (200, "no answer", None)
    assert bool(answer.json()["row"]) is (name == "100014")


def test_at_most_a_thousand_runs_are_listed() -> None:
    details = FakeDetails([run(str(n), strip=[]) for n in range(1002)])
    assert len(asked_for(details, "api/runs").json()["runs"]) == 1000
    assert asked_for(details, "api/runs/1001").json()["row"]["run"] == "1001"


# Alarms


def shown_when(server: Served, is_so: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The alarms of the page, as soon as they are so."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = first_event(server)["incidents"]
        return is_so(found)

    wait_until(look, "the page shows it")
    return found


def test_an_acknowledged_alarm_that_ends_and_comes_back_is_not_acknowledged() -> None:
    shown = {"now": snapshot()}
    with served(lambda: shown["now"]) as server:
        wait_for_incidents(server)
        assert post(server, ASKED).json()["by"] == "Ana"
        shown_when(server, lambda found: bool(found and found[0]["acknowledged"]))
        shown["now"] = snapshot(alarms=[])
        shown_when(server, lambda found: not found)
        shown["now"] = snapshot(alarms=[alarm(since="2026-11-21T20:56:00+00:00")])
        [again] = shown_when(server, bool)
    assert (again["since"], again["acknowledged"]) == ("2026-11-21T20:56:00+00:00", None)


def test_an_acknowledgement_of_the_page_is_answered_whole() -> None:
    with served(snapshot) as server:
        wait_for_incidents(server)
        answer = post(server, {**ASKED, "by": " Ana\tB ", "note": None})
        found = answer.json()
        late = post(server, {**ASKED, "subject": "1"})
        nobody = post(server, {**ASKED, "by": ""})
    assert datetime.fromisoformat(found.pop("at")).tzinfo is not None
    assert found == {
        "kind": "stfs_missing", "subject": "100014", "since": "2026-11-21T20:55:01+00:00", "by": "Ana B", "note": "",
        "until": None, "title": "STFs are missing", "evidence": "3 STFs without TF files: 12, 15, 16",
    }  # fmt: skip
    assert (late.json(), nobody.json()) == (
        {"error": "the alarm has ended"}, {"error": "by is empty: send a name"},
    )  # fmt: skip


def test_history_of_the_page_is_that_of_15_minutes_by_default() -> None:
    with served(snapshot) as server:
        wait_for_incidents(server)
        found = get(server, "history").json()
    assert (found["range"], found["step_s"], len(found["at"])) == ("15m", 5, 180)
    assert (found["missing"][-1], found["lag_p50_s"][-1]) == (3, 0.18)

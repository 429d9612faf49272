"""`acts`, `report` and `top`: what operators did, what the next shift must know, and the full screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fastmon_daemon.actions.operator_actions import ActionRequest
from fastmon_daemon.base.clock import format_timestamp, utcnow
from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.commands.formatting import sparkline
from fastmon_daemon.commands.inspect_tables import render_screen
from fastmon_daemon.outbox import DatabaseLock, Origin, Outbox
from tests.actions.test_operator_actions import actions_for
from tests.builders import FakeTestbed, HandClock, query, settle
from tests.client.terminal import Terminal
from tests.processes import run_in_process

Call = Callable[..., CompletedProcess[str]]


@pytest.fixture
def testbed(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path, time=HandClock(at=utcnow()))


@pytest.fixture
def call(tmp_path: Path) -> Call:
    environ = {"HOME": str(tmp_path), "FASTMON_NAMESPACE": "ns", "FASTMON_DB": str(tmp_path / "outbox.db"), "PATH": ""}
    return lambda *words: run_in_process(words, environ)


def shift(testbed: FakeTestbed) -> Outbox:
    """One STF completed, one recovered, two failed and one of them retried in two batches; an outage."""
    outbox = testbed.outbox()
    testbed.receive(outbox, 1)
    testbed.receive(outbox, 2, origin=Origin.RECOVERED)
    for sequence in (3, 4):
        testbed.monitor.trouble[testbed.receive(outbox, sequence)] = PermanentError("monitor said 400: *bad* | <b>")
    settle(testbed.engine(outbox))
    with outbox.transaction():
        outbox.outages.link_lost("monitor", "refused", testbed.time.at, blocked=False)
        outbox.outages.link_back("monitor", testbed.time.at)
    for stf in ("swf.100014.000003.stf", "swf.100014.000004.stf"):
        request = ActionRequest(
            action="retry", by="alice", reason="monitor fixed", stfs=(stf,), before=format_timestamp(testbed.time.at)
        )
        with outbox.transaction():
            actions_for(testbed).perform(request, outbox, testbed.time.at)
    return outbox


def test_acts_tell_who_did_what_when_and_why(testbed: FakeTestbed, call: Call) -> None:
    outbox = shift(testbed)
    with outbox.transaction():
        request = ActionRequest(action="purge", by="bob", run="100014", include_unfinished=True)
        actions_for(testbed).perform(request, outbox, testbed.time.at)
    outbox.close()
    acts = json.loads(call("acts", "--json").stdout)["acts"]
    assert [(act["who"], act["action"], act["reason"], act["count"]) for act in acts] == [
        ("bob", "purge", "", 1), ("alice", "retry", "monitor fixed", 2),
    ]  # fmt: skip
    shown = call("acts", "--since", "1h")
    assert shown.returncode == 0, shown.stderr
    assert "monitor fixed" in shown.stdout
    assert call("acts", "--since", "0.001s").stdout == "no acts\n"
    assert "8h, 30m, 2d" in call("acts", "--since", "yesterday").stderr


@pytest.mark.parametrize(
    "text", ["", "8", "h", "-5m", "+5m", "5h30m", "1e3s", "nan", "infs", "5 m", "3651d", "9" * 400 + "d"]
)
@pytest.mark.parametrize("command", ["acts", "report"])
def test_what_is_no_duration_is_a_usage_error_in_one_line(call: Call, command: str, text: str) -> None:
    done = call(command, f"--since={text}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a duration of at most 3650 days" in done.stderr.splitlines()[-1]


def test_acts_before_the_table_are_taken_over_from_the_history(testbed: FakeTestbed, call: Call) -> None:
    shift(testbed).close()
    path = testbed.folder / "outbox.db"
    query(path, "drop table act")
    query(path, "delete from _sqlite_migrations where name = 'acts'")
    query(path, "pragma user_version = 11")
    query(path, "insert into meta values ('purged:7', '2026-11-01T00:00:00.000+00:00 by bob: moved: away')")
    testbed.outbox().close()
    acts = json.loads(call("acts", "--json").stdout)["acts"]
    assert [(act["who"], act["action"], act["reason"], act["count"]) for act in acts] == [
        ("alice", "retry", "monitor fixed", 2), ("bob", "purge", "moved: away", 1),
    ]  # fmt: skip


def test_a_report_has_all_that_the_next_shift_must_know(testbed: FakeTestbed, call: Call) -> None:
    outbox = shift(testbed)
    with outbox.transaction():
        outbox.runs.record_message("ns", "100014", "running", testbed.time.at, None)
    outbox.close()
    view = json.loads(call("report", "--json").stdout)
    assert (view["received"], view["completed"], view["stuck_count"]) == (4, 2, 2)
    assert [run["run"] for run in view["runs"]] == ["100014"]
    assert [each["stf"] for each in view["recovered"]] == ["swf.100014.000002.stf"]
    assert [(each["reason"], each["count"]) for each in view["failures"]] == [("monitor said 400: *bad* | <b>", 2)]
    assert len(view["slowest"]) == 2
    assert [each["link"] for each in view["outages"]] == ["monitor"]
    assert [each["who"] for each in view["acts"]] == ["alice"]
    assert [problem["kind"] for problem in view["problems"]] == ["no daemon", "stuck"]
    text = call("report", "--since", "8h").stdout
    for part in ("no daemon is running", "4 STFs received, 2 completed", "outages: 1", "recovered STFs: 1", "failures"):
        assert part in text
    markdown = call("report", "--markdown").stdout
    assert markdown.startswith("# fastmon-daemon report\n")  # the shift report is that of the client
    assert "| 2 | " in markdown
    assert r"monitor said 400: \*bad\* \| &lt;b>" in markdown
    assert "## Acts of operators: 1" in markdown
    assert json.loads(call("report", "--json", "--since", "0s").stdout)["received"] == 0


def test_a_report_has_the_stfs_that_other_daemons_did_if_there_are_any(testbed: FakeTestbed, call: Call) -> None:
    outbox = shift(testbed)
    with outbox.transaction():
        outbox.runs.record_message("ns", "100014", "running", testbed.time.at, None)
    assert "elsewhere" not in call("report").stdout
    row = outbox.runs.get("ns", "100014")
    assert row
    with outbox.transaction():
        for sequence in (5, 6, 7):
            outbox.runs.record_elsewhere(row, f"swf.100014.{sequence:06d}.stf", "other", finished=True)
    outbox.close()
    lines = call("report", "--markdown").stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("| run | verdict |"))
    heads, cells = (lines[at].split(" | ") for at in (place, place + 2))
    assert cells[heads.index("elsewhere")] == "3"
    assert "elsewhere" in call("report").stdout


def test_without_a_daemon_nobody_knows_whether_a_link_is_still_down(testbed: FakeTestbed, call: Call) -> None:
    with closing(testbed.outbox()) as outbox, outbox.transaction():
        outbox.outages.link_lost("monitor", "refused", testbed.time.at, blocked=False)
    (line,) = (line for line in call("report").stdout.splitlines() if line.endswith("refused"))
    assert "unknown: no daemon is running" in line
    with DatabaseLock(testbed.folder / "outbox.db"):
        (line,) = (line for line in call("report").stdout.splitlines() if line.endswith("  refused"))
    assert "not ended" in line


def test_a_downtime_that_lasts_is_an_outage_too(testbed: FakeTestbed, call: Call) -> None:
    began = "2026-11-30T12:00:00.000+00:00"
    with closing(testbed.outbox()) as outbox, outbox.transaction():
        outbox.remember("listened_at", began)
    (outage,) = json.loads(call("report", "--json", "--since", "1d").stdout)["outages"]
    assert (outage["link"], outage["began_at"], outage["ended_at"]) == ("daemon", began, None)
    (line,) = (line for line in call("report").stdout.splitlines() if "(daemon down)" in line)
    assert "not ended" in line
    with DatabaseLock(testbed.folder / "outbox.db"):
        assert json.loads(call("report", "--json", "--since", "1d").stdout)["outages"] == []


def test_the_screen_of_80_by_24_has_rates_calls_and_the_oldest(testbed: FakeTestbed) -> None:
    shift(testbed).close()
    words = ("fastmon_daemon", "top", "--db", str(testbed.folder / "outbox.db"), "--every", "0.5")
    with Terminal(*words, HOME=str(testbed.folder), FASTMON_NAMESPACE="ns") as terminal:
        lines = terminal.wait_for(lambda seen: any(line.startswith("oldest: ") for line in seen))
    assert len(lines) <= 24
    received = next(line for line in lines if line.startswith("received  |"))
    assert received.endswith("0.07/s last minute, 4 in 5 min")
    assert next(line for line in lines if line.startswith("completed |")).endswith("2 in 5 min")


def test_a_screen_shows_calls_in_flight() -> None:
    view = {
        "at": "2026-11-30T12:00:00+00:00", "verdict": "all well", "problems": [], "states": {},
        "links": {"monitor": {"link": "monitor", "state": "up", "calls": {"in_flight": 3, "limit": 8}}},
        "rejected_count": 0, "stages": {}, "database": "outbox.db", "chosen_by": "--db", "daemon": 1, "runs": [],
        "stuck": [], "stuck_count": 0, "oldest": None,
        "rates": {"received": [0] * 24 + [1, 2, 3, 4, 5, 9], "completed": [0] * 30},
    }  # fmt: skip
    lines = render_screen(view, 80, 24)
    assert "links: monitor up (3 of at most 8 calls)" in lines
    assert max(map(len, lines)) <= 80


def test_a_sparkline_is_higher_for_more() -> None:
    line = sparkline([0, 1, 50, 100])
    assert (line[0], len(line)) == (" ", 4)
    assert len(set(line)) == 4
    assert sparkline([0, 0]) == "  "

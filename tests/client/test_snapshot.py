"""The whole snapshot of the client's state, its log and JSON lines, and the edges of its bounds."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from fastmon_client import app_state as module
from fastmon_client.alarms import Alarms
from fastmon_client.app_state import AppState, Earlier
from fastmon_client.message_filter import MessageFilter
from fastmon_client.output import JsonLines, Quiet, summary_object
from fastmon_client.session import StopConditions
from fastmon_client.tffile import TfFile
from tests.builders import logged
from tests.client.state_driver import LONG_AGO, T0, StateDriver, announcement, row, stf


def iso(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat()


def test_every_part_of_a_snapshot() -> None:
    driver = StateDriver(agents=("*",), namespace="ns")
    driver.wait(2)
    driver.tf(1, processed_by="a", status="odd", late=True)
    driver.tf(1, 2, file_size_bytes=None, tf_file_id=None)
    driver.receive(**announcement(9, 9) | {"namespace": "other", "run_id": 8})
    driver.wait(1)
    found: dict[str, Any] = dict(driver.state.snapshot(driver.now))
    assert [run["run"] for run in found.pop("runs")] == ["7"]
    assert (found.pop("verdict")["word"], found.pop("tiles")["flow"]["rate_hz"]) == ("UNKNOWN", 2.0)
    rates = found.pop("rates")
    assert (rates["bin_s"], rates["ends_at"], rates["tf_files"][-2:]) == (5, iso(5), [0, 2])
    name = "swf.7.000001_tf_00"
    assert found == {
        "at": iso(3), "uptime_s": 3.0, "monitor": "http://localhost",
        "filters": {"message_types": ["tf_file_registered"], "agents": ["*"], "run_ids": [], "namespace": "ns"},
        "connection": {"state": "LIVE", "since": iso(0), "heartbeat_age_s": 1.0, "reconnects": 0, "reason": ""},
        "runs_total": 1, "loading": {"runs": 1, "stfs": 0, "text": "reading 1 runs from the monitor's tables: 7"},
        "recent": [
            {"at": iso(2), "run": "7", "tf_filename": f"{name}2.tf", "stf_filename": stf(1), "size_bytes": None,
             "status": "registered", "backfilled": False, "late": False},
            {"at": iso(2), "run": "7", "tf_filename": f"{name}1.tf", "stf_filename": stf(1), "size_bytes": 10,
             "status": "odd", "backfilled": False, "late": True},
        ],
        "alarms": [], "reference": None,
        "totals": {"runs": 1, "stfs": 1, "tf_files": 2, "bytes": 10, "tf_files_without_size": 1, "backfilled": 0,
                   "duplicates": 0},
    }  # fmt: skip


def test_what_is_read_is_told_by_run_and_stf() -> None:
    driver = StateDriver()
    for number in range(1, 5):
        driver.receive(msg_type="start_run", run_id=number)
    driver.wait(60)
    driver.state.start_comparisons(driver.now)
    for run, count in (("1", 2), ("4", 3)):
        names = driver.state.record_stfs(run, [(stf(number), LONG_AGO) for number in range(count)], driver.now)
        driver.state.still_to_query(run, names)
    assert driver.state.snapshot(driver.now)["loading"] == {
        "runs": 4, "stfs": 5, "text": "reading 4 runs from the monitor's tables: 4, 3, 2 ..., 5 STFs to go",
    }  # fmt: skip
    driver.state.finish_comparison("4", None, driver.now)
    assert driver.state.snapshot(driver.now)["loading"] == {
        "runs": 3, "stfs": 2, "text": "reading 3 runs from the monitor's tables: 3, 2, 1, 2 STFs to go",
    }  # fmt: skip


def test_the_current_run_is_the_newest_that_takes_data() -> None:
    driver = StateDriver()
    assert driver.state.current_run("") is None
    for number, kind in ((1, "start_run"), (2, "pause_run"), (3, "end_run")):
        driver.wait(1)
        driver.receive(msg_type=kind, run_id=number)
    assert [driver.state.current_run(besides) for besides in ("", "2")] == ["2", "1"]
    driver.receive(msg_type="end_run", run_id=1)
    driver.receive(msg_type="end_run", run_id=2)
    assert [driver.state.current_run(besides) for besides in ("", "3")] == ["3", "2"]


def test_the_last_tf_files_are_recent_and_a_backfilled_one_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = StateDriver()
    driver.wait(40)
    driver.tf(1, tf_total=1)
    driver.state.record_stfs("7", [(stf(number), LONG_AGO) for number in (1, 2, 3)], driver.now)
    driver.state.record_tf_files("7", stf(2), [row(2, 1)], driver.now)
    driver.state.record_tf_files("7", stf(3), [row(3, 1) | {"created_at": iso(99)}], driver.now)
    recent = driver.state.snapshot(driver.now)["recent"]
    assert [(each["at"], each["backfilled"]) for each in recent] == [
        (iso(40), True), (iso(0), True), (iso(40), False),
    ]  # fmt: skip
    for number in range(4, 250):
        driver.tf(number)
    assert len(driver.state.snapshot(driver.now)["recent"]) == 200


def test_all_open_runs_lose_their_word_when_messages_may_be_lost() -> None:
    for lose, doubt in (
        (lambda state: state.lost("reset", T0), "stream lost: reset"),
        (lambda state: state.fell_behind(T0), "output was blocked: messages may have been lost"),
        (lambda state: state.refused("rejected (401)", T0), "rejected (401)"),
        (lambda state: state.connected(T0), "not compared since the stream reconnected"),
    ):
        driver = StateDriver()
        driver.send_run_event("start_run")
        driver.compare([], {})
        assert driver.row["verified"] == "VERIFIED"
        lose(driver.state)
        assert driver.row["doubt"] == doubt


@pytest.mark.parametrize(("total", "expected"), [(0, 0), (1, 1), (1_000_000, 1_000_000), (1_000_001, 0), (True, 0)])
def test_the_total_of_a_run_is_a_number_that_can_be(total: object, expected: int) -> None:
    driver = StateDriver()
    driver.send_run_event("end_run", total_stf_files=total)
    assert driver.state.runs["7"].stfs.highest == expected


# Which runs are kept


def test_eight_runs_are_kept_with_their_stfs_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = StateDriver()
    for number in range(10):
        driver.receive(msg_type="end_run", run_id=f"test-{number}")
        driver.receive(msg_type="end_run", run_id=number)
        driver.wait(1)
    driver.wait(700)
    driver.state.tick(driver.now)
    assert list(driver.state.runs) == [str(number) for number in range(10)]  # those are still to be compared
    for number in range(10):
        driver.state.start_comparisons(driver.now)
        driver.state.record_stfs(str(number), [], driver.now)
        driver.state.finish_comparison(str(number), None, driver.now)
    driver.state.tick(driver.now)
    assert list(driver.state.runs) == [str(number) for number in range(2, 10)]


def test_a_run_that_makes_room_keeps_its_row_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN_RUNS", 8)
    driver = StateDriver()
    with logged() as lines:
        for number in range(9):
            driver.wait(1)
            driver.receive(msg_type="start_run", run_id=number)
    assert list(driver.state.runs) == [str(number) for number in range(2, 9)]
    assert lines == ["run 0: not followed any more: more than 8 runs at a time\n"]
    found = driver.state.snapshot(driver.now)
    assert ([run["run"] for run in found["runs"]], found["runs_total"]) == ([str(n) for n in range(8, -1, -1)], 9)


def test_large_runs_make_room_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMORY", 4 << 20)
    driver = StateDriver()
    driver.receive(msg_type="start_run", run_id=1)
    with logged() as lines:
        for number in range(2, 7):
            driver.wait(1)
            driver.receive(msg_type="start_run", run_id=number, total_stf_files=1_000_000)
    assert list(driver.state.runs) == ["1", "4", "5", "6"]
    assert lines == ["run 2: not followed any more: the STFs of all runs take more than 4 MB\n"]


def test_the_last_run_is_never_dropped_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMORY", 1000)
    driver = StateDriver()
    driver.send_run_event("start_run", total_stf_files=100_000)
    assert list(driver.state.runs) == ["7"]


# Alarms


def alarms_of(count: int) -> Alarms:
    alarms = Alarms(lambda agent: agent.startswith("real"))
    for number in range(count):
        alarms.set("daemon_silent", f"x{number}", "e", T0, None)
    return alarms


def test_as_many_alarms_of_a_kind_are_active_as_fit() -> None:
    alarms = alarms_of(201)
    rows = alarms.rows(T0)
    assert (len(rows), rows[-1]["subject"], rows[-1]["until"], alarms.raised) == (201, "x0", iso(0), 201)
    alarms.set("run_stale", "7", "e", T0, "7")
    alarms.set("daemon_silent", "real", "e", T0, None)
    active = [each for each in alarms.rows(T0) if each["until"] is None]
    assert (len(active), alarms.raised) == (201, 203)
    assert [each["subject"] for each in alarms.rows(T0) if each["until"]] == ["x1", "x0"]
    real = Alarms(lambda agent: agent.startswith("real"))
    for number in range(200):
        real.set("daemon_silent", f"real{number}", "e", T0, None)
    real.set("daemon_silent", "invented", "e", T0, None)
    assert real.raised == 200
    real.set("daemon_silent", "real", "e", T0, None)
    assert [each["subject"] for each in real.rows(T0) if each["until"]] == ["real0"]


def test_every_field_of_an_alarm() -> None:
    alarms = Alarms()
    alarms.set("run_stale", "7", "e", T0, "7")
    alarms.set("run_stale", "7", None, T0 + timedelta(seconds=5), "7")
    alarms.set("run_stale", "8", None, T0, "8")
    assert alarms.rows(T0 + timedelta(seconds=5)) == [
        {"kind": "run_stale", "subject": "7", "run": "7", "since": iso(0), "until": iso(5), "evidence": "e"}
    ]
    assert len(alarms.rows(T0 + timedelta(seconds=604.9))) == 1
    assert alarms.rows(T0 + timedelta(seconds=605)) == []


def test_evidence_in_full() -> None:
    driver = StateDriver()
    driver.receive(msg_type="fastmon_status", sender="b", status="degraded", message="")
    driver.send_run_event("start_run")
    driver.tf(1, tf_total=1)
    driver.tf(8, tf_total=1)
    driver.compare([1, 8], {}, since=T0)
    driver.wait(70.6)
    driver.state.receive_heartbeat(driver.now)
    driver.compare([1, 8], {}, since=T0)
    driver.state.tick(driver.now)
    assert {each["kind"]: each["evidence"] for each in driver.state.snapshot(driver.now)["alarms"]} == {
        "daemon_degraded": "b degraded", "run_stale": "no TF file for 71 s",
        "stfs_missing": "6 STFs without TF files: 2, 3, 4, 5, 6 ...",
    }  # fmt: skip


def test_a_rate_below_half_is_told_with_both_rates() -> None:
    driver = StateDriver()
    driver.send_run_event("start_run")
    for second in range(240):
        driver.tf(second + 1, tf_total=1)
        driver.wait(1)
    for second in range(60):
        if second % 4 == 0:
            driver.tf(second + 300, tf_total=1)
        driver.wait(1)
    driver.state.receive_heartbeat(driver.now)
    driver.state.tick(driver.now)
    [alarm] = [each for each in driver.state.snapshot(driver.now)["alarms"] if each["kind"] == "rate_dropped"]
    assert alarm["evidence"] == "0.24 TF files/s over the last minute, usually 1.00"


# Output


def test_alarms_are_logged_with_their_run_ten_at_a_time() -> None:
    driver, output = StateDriver(), Quiet()
    for number in range(12):
        driver.receive(msg_type="fastmon_status", processed_by=f"a{number}", status="degraded")
        driver.wait(1)
    with logged() as lines:
        output.update(driver.state, driver.now)
        driver.state.alarms.set("run_stale", "7", "no TF file", driver.now, "7")
        output.update(driver.state, driver.now)
    assert lines == [
        *(f"alarm daemon_degraded: a{number} degraded\n" for number in range(2, 12)), "2 more alarms\n",
        "alarm run_stale (run 7): no TF file\n",
    ]  # fmt: skip


def test_the_comparison_with_a_reference_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    driver, output = StateDriver(), JsonLines()
    output.update(driver.state, driver.now)
    capsys.readouterr()
    reference: Any = {"run": "6", "text": "as usual", "current": None, "since_start_s": None, "now": None, "then": None}
    driver.state.reference = reference
    output.update(driver.state, driver.now)
    output.update(driver.state, driver.now)
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == [{"kind": "reference", **reference}]


def test_a_message_with_our_members_is_written_as_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    output = JsonLines()
    output.write({"msg_type": "tf_file_registered", "kind": "x"}, backfilled=True)
    output.write({"msg_type": "end_run", "a": float("nan")}, backfilled=False)
    output.flush()
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == [
        {"msg_type": "tf_file_registered", "kind": "tf_file", "backfilled": True},
        {"msg_type": "end_run", "a": None, "kind": "message", "backfilled": False},
    ]


def test_the_last_object_is_the_summary() -> None:
    driver = StateDriver()
    driver.tf(1)
    found = driver.state.snapshot(driver.now)
    [run] = found["runs"]
    assert summary_object(found) == {
        "kind": "summary", "at": found["at"], "uptime_s": 0.0, "connection": found["connection"],
        "totals": found["totals"], "runs": [{"kind": "run"} | {name: run[name] for name in run if name != "strip"}],
    }  # type: ignore[literal-required]  # fmt: skip


# When to stop


def test_only_tf_files_count_for_the_end() -> None:
    stop = StopConditions(count=2)
    kinds = ("tf_file_registered", "end_run", "tf_file_registered", "tf_file_registered")
    assert [stop.count_reached({"msg_type": kind}) for kind in kinds] == [False, False, True, True]
    assert not StopConditions().count_reached({"msg_type": "tf_file_registered"})


def test_the_first_final_run_ends_only_who_waits_for_it() -> None:
    driver = StateDriver()
    driver.receive(msg_type="end_run", run_id="test")
    assert StopConditions(until_end_run=True).run_is_final(driver.state, driver.now)
    assert not StopConditions().run_is_final(driver.state, driver.now)
    assert not StopConditions(until_end_run=True).run_is_final(StateDriver(run_ids=("8",)).state, driver.now)


# Which messages are shown


@pytest.mark.parametrize(
    ("chosen", "message", "expected"),
    [
        ({}, {"msg_type": "end_run"}, True), ({}, {"msg_type": "x"}, False),
        ({"types": ("x",)}, {"msg_type": "x"}, True),
        ({"types": ("x",), "agents": ("a*",)}, {"msg_type": "x", "processed_by": "ab"}, True),
        ({"types": ("x",), "agents": ("a*",)}, {"msg_type": "x", "processed_by": "Ab"}, False),
        ({"agents": ("a*",)}, {"msg_type": "end_run"}, True),
        ({"run_ids": ("7",)}, {"msg_type": "end_run", "run_number": "07"}, True),
        ({"run_ids": ("7",)}, {"msg_type": "end_run", "run_id": 8}, False),
        ({"namespace": "ns"}, {"msg_type": "end_run", "namespace": "ns"}, True),
        ({"namespace": "ns"}, {"msg_type": "end_run"}, False),
    ],
)  # fmt: skip
def test_what_a_filter_shows(chosen: dict[str, Any], message: dict[str, Any], expected: bool) -> None:
    filter_ = MessageFilter(**{"types": (), **chosen})
    assert filter_.matches(message) is expected
    assert filter_.restricts is bool(chosen.keys() - {"types"})


def test_run_events_and_summaries_are_always_asked_for_each_once() -> None:
    assert MessageFilter(types=("x", "end_run")).subscribed_types == (
        "x", "end_run", "run_imminent", "start_run", "pause_run", "resume_run", "stf_gen", "fastmon_status",
        "fastmon_run_summary",
    )  # fmt: skip


def test_a_kept_summary_is_that_of_its_own_run_only() -> None:
    summary = {"msg_type": "fastmon_run_summary", "run_number": 7, "namespace": "ns", "completed": 5}
    state = AppState("m", MessageFilter(types=()), T0, earlier=Earlier(5, {"7": summary}))
    rows = [{"run_number": number, "start_time": iso(-9), "end_time": iso(-5)} for number in (7, 8)]
    state.record_runs(rows, T0)
    kept = {run.name: run.summary and run.summary.completed for run in state.runs.values()}
    assert kept == {"7": 5, "8": None}


def test_the_fields_of_a_tf_file_are_those_of_its_message() -> None:
    found = TfFile.of(announcement(3, 4))
    assert (found.run, found.stf_filename, found.tf_filename, found.identity, found.tf_file_id, found.sequence) == (
        "7", stf(3), "swf.7.000003_tf_004.tf", "swf.7.000003_tf_004.tf", "3/4", 3,
    )  # fmt: skip

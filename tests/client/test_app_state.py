"""The client's state, driven by hand."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from fastmon_client.stfs import MAX_OPEN_STFS
from fastmon_client.tffile import run_name
from tests.client.state_driver import LONG_AGO, StateDriver, announcement, stf


def test_repeated_announcement_counts_as_duplicate():
    driver = StateDriver()
    assert [driver.tf(1), driver.tf(1), driver.tf(1, 2)] == [True, False, True]
    assert (driver.row["tf_files"], driver.row["duplicates"], driver.row["bytes"]) == (2, 1, 20)
    assert (driver.row["stfs_seen"], driver.row["tf_expected"], driver.row["state"]) == (1, 2, "running")


def test_numbers_are_unknown_until_compared():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    assert (driver.row["verified"], driver.row["stfs_missing"]) == ("UNKNOWN", None)
    driver.wait(5)
    assert driver.state.start_comparisons(driver.now) == ["7"]
    driver.compare([1], {1: 2})
    assert (driver.row["verified"], driver.row["stfs_missing"]) == ("VERIFIED", 0)


def test_missed_tf_files_are_backfilled_and_marked():
    driver = StateDriver()
    driver.tf(1)
    driver.wait(40)
    assert driver.compare([1, 2, 3], {1: 2, 2: 2, 3: 2}) == [stf(1), stf(2), stf(3)]
    assert (driver.row["tf_files"], driver.row["backfilled"], driver.row["stfs_seen"]) == (6, 5, 3)
    assert driver.strip == {1: "recovered", 2: "recovered", 3: "recovered"}
    assert [each["backfilled"] for each in driver.state.snapshot(driver.now)["recent"]] == [True] * 5 + [False]


def test_first_announcement_after_backfill_is_no_duplicate():
    driver = StateDriver()
    driver.tf(1)
    driver.wait(40)
    driver.compare([1], {1: 2})
    assert [driver.tf(1, 2), driver.tf(1, 2)] == [False, False]
    assert (driver.row["tf_files"], driver.row["duplicates"]) == (2, 1)


def test_tf_file_is_identified_with_or_without_id():
    driver = StateDriver()
    driver.tf(1, tf_file_id=None)
    driver.wait(40)
    driver.compare([1], {1: 2})
    assert [driver.tf(1, 2, tf_file_id=None), driver.tf(1, 2), driver.tf(1)] == [False, False, False]
    assert (driver.row["tf_files"], driver.row["backfilled"], driver.row["duplicates"]) == (2, 1, 2)


def test_skipped_differs_from_missing():
    driver = StateDriver()
    for sequence in (1, 11, 31):
        for number in (1, 2):
            driver.tf(sequence, number, selection_fraction=0.1)
    driver.wait(40)
    queried = driver.compare(list(range(1, 36)), {1: 2, 11: 2, 31: 2})
    assert set(queried) == {stf(n) for n in range(1, 36)} - {stf(n) for n in (1, 11, 31)}
    assert driver.compare(list(range(1, 36)), {1: 2, 11: 2, 31: 2}) == [stf(21)]  # a missing one may come any time
    assert (driver.row["stfs_missing"], driver.row["missing"], driver.row["stfs_skipped"]) == (1, [21], 31)
    assert (driver.row["stfs_expected"], driver.row["stfs_seen"]) == (4, 3)
    assert driver.strip == dict.fromkeys(range(1, 36), "skipped") | {1: "present", 11: "present", 31: "present"} | {
        21: "missing"
    }
    assert "stfs_missing" in driver.alarms()


def test_without_a_fraction_absent_stfs_are_unknown():
    driver = StateDriver()
    driver.tf(1, selection_fraction=None)
    driver.tf(1, 2, selection_fraction=None)
    driver.wait(40)
    driver.compare([1, 2], {1: 2})
    assert (driver.row["stfs_missing"], driver.row["stfs_expected"]) == (None, None)
    assert driver.strip == {1: "present", 2: "unknown"}
    assert "stfs_missing" not in driver.alarms()


def test_unregistered_stf_is_missing_by_its_number():
    driver = StateDriver()
    for number in (1, 2):
        driver.tf(1, number)
        driver.tf(3, number)
    driver.compare([1, 3], {1: 2, 3: 2}, since=driver.now)
    assert driver.row["missing"] == []
    driver.wait(40)
    assert driver.row["missing"] == [2]


def test_stf_with_too_few_tf_files_is_incomplete():
    driver = StateDriver()
    driver.tf(1)
    driver.wait(40)
    driver.compare([1], {1: 1})
    assert (driver.row["stfs_incomplete"], driver.strip) == (1, {1: "incomplete"})


def test_stf_without_total_is_queried_until_idle():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.compare([1], {1: 1})  # just registered, total unknown
    assert driver.row["tf_files"] == 1
    driver.wait(20)
    assert driver.compare([1], {1: 3}) == [stf(1)]
    driver.wait(20)
    assert driver.compare([1], {1: 3}) == [stf(1)]
    assert driver.compare([1], {1: 3}) == []
    driver.tf(1, 4, tf_total=None)
    driver.wait(40)
    assert driver.compare([1], {1: 6}) == [stf(1)]
    assert (driver.row["tf_files"], driver.row["backfilled"]) == (6, 5)


def test_young_stf_is_neither_queried_nor_missing():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    assert driver.compare([1, 2], {1: 2}, since=driver.now) == []
    assert driver.row["missing"] == []


def test_run_with_all_tf_files_is_complete():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.tf(1)
    driver.tf(1, 2)
    driver.send_run_event("end_run", total_stf_files=1)
    driver.wait(2)
    assert (driver.row["state"], driver.state.start_comparisons(driver.now)) == ("ended", ["7"])
    driver.compare([1], {1: 2})
    assert (driver.row["state"], driver.state.start_comparisons(driver.now + timedelta(days=1))) == ("complete", [])


def test_comparison_started_before_the_end_does_not_verify_the_end():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.tf(1, 1)
    driver.tf(1, 2)
    driver.wait(40)
    driver.compare([1], {1: 2})
    assert driver.row["verified"] == "VERIFIED"
    driver.wait(40)
    assert driver.state.start_comparisons(driver.now) == ["7"]
    driver.wait(1)
    driver.send_run_event("end_run", total_stf_files=1)
    assert driver.row["doubt"] == "not yet compared with the monitor since its end"
    driver.wait(1)
    driver.compare([1], {1: 2})
    assert (driver.row["verified"], driver.row["state"]) == ("UNKNOWN", "ended")
    driver.wait(2)
    assert driver.state.start_comparisons(driver.now) == ["7"]
    driver.compare([1], {1: 2})
    assert (driver.row["verified"], driver.row["state"]) == ("VERIFIED", "complete")


def test_run_with_a_gap_is_not_complete():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.send_run_event("end_run", total_stf_files=2)
    driver.compare([1], {1: 2})
    driver.wait(40)
    driver.compare([1], {1: 2})
    assert (driver.row["state"], driver.row["missing"]) == ("ended", [2])


def test_lost_stream_makes_numbers_unknown_until_the_next_comparison():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.compare([1], {1: 2})
    driver.state.lost("reset by peer", driver.now)
    row = driver.row
    assert (row["verified"], "reset by peer" in row["doubt"]) == ("UNKNOWN", True)
    assert driver.state.snapshot(driver.now)["connection"]["state"] == "DEAD"
    driver.wait(2)
    driver.state.connected(driver.now)
    driver.wait(2)
    assert driver.state.start_comparisons(driver.now) == ["7"]
    driver.compare([1], {1: 2})
    assert driver.row["verified"] == "VERIFIED"


def test_comparison_started_before_the_loss_does_not_verify():
    driver = StateDriver()
    driver.tf(1)
    driver.wait(2)
    driver.state.start_comparisons(driver.now)
    driver.wait(1)
    driver.state.lost("reset by peer", driver.now)
    driver.compare([1], {1: 1})
    assert driver.row["verified"] == "UNKNOWN"


def test_failed_comparison_is_an_alarm_and_numbers_stay_unknown():
    driver = StateDriver()
    driver.tf(1)
    driver.compare([1], {1: 1})
    driver.state.finish_comparison("7", "the monitor said 500", driver.now)
    assert (driver.row["verified"], driver.alarms()) == ("UNKNOWN", ["monitor_unreachable"])
    driver.compare([1], {1: 1})
    assert driver.alarms() == []


def test_stream_without_heart_beat_is_dead():
    driver = StateDriver()
    driver.tf(1)
    driver.wait(76)
    assert driver.alarms() == ["stream_dead"]
    connection = driver.state.snapshot(driver.now)["connection"]
    assert (connection["state"], connection["heartbeat_age_s"]) == ("DEAD", 76)
    driver.state.receive_heartbeat(driver.now)
    assert "stream_dead" not in driver.alarms()


def test_running_run_without_tf_files_is_stale_paused_is_not():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.wait(61)
    driver.state.receive_heartbeat(driver.now)
    assert (driver.alarms(), driver.row["stale"]) == (["run_stale"], True)
    driver.send_run_event("pause_run")
    assert (driver.alarms(), driver.row["stale"]) == ([], False)


def test_degraded_daemon_is_an_alarm_until_recovered():
    driver = StateDriver()
    driver.receive(msg_type="fastmon_status", processed_by="a", status="degraded", message="the monitor is away")
    assert driver.alarms() == ["daemon_degraded"]
    assert "the monitor is away" in driver.state.snapshot(driver.now)["alarms"][0]["evidence"]
    driver.receive(msg_type="fastmon_status", processed_by="a", status="recovered")
    assert driver.alarms() == []


def test_the_begin_of_a_run_ends_no_other():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.wait(1)
    driver.receive(msg_type="run_imminent", run_id=8, namespace="ns")
    driver.receive(msg_type="start_run", run_id=9, namespace="other")
    driver.tf(1)
    assert {run["run"]: run["state"] for run in driver.state.snapshot(driver.now)["runs"]} == {
        "9": "running", "8": "imminent", "7": "running",
    }  # fmt: skip


def test_repeated_start_of_an_ended_run_ends_no_other_run():
    driver = StateDriver()
    for kind, run in (("start_run", 7), ("end_run", 7), ("start_run", 8), ("start_run", 7)):
        driver.receive(msg_type=kind, run_id=run, namespace="ns")
    assert driver.state.runs["8"].state == "running"


def test_filters_limit_what_is_shown_not_what_is_counted():
    driver = StateDriver(run_ids=("8",))
    assert driver.tf(1) is False
    assert driver.state.snapshot(driver.now)["runs"] == []
    assert driver.state.runs["7"].tf_files == 1


def test_snapshot_is_json():
    driver = StateDriver()
    driver.tf(1)
    json.dumps(driver.state.snapshot(driver.now), allow_nan=False)


def test_old_stfs_and_runs_shrink_without_changing_totals():
    driver = StateDriver()
    for sequence in range(1, MAX_OPEN_STFS + 1001):
        driver.tf(sequence)
        driver.tf(sequence, 2)
    assert [driver.tf(sequence, 3) for sequence in (1, 1000, 1001)] == [False, False, True]  # 2000 are not compacted
    for number in range(100, 160):
        driver.receive(msg_type="tf_file_registered", run_id=number, tf_file_id=f"{number}", stf_filename="a.stf")
        driver.receive(msg_type="end_run", run_id=number)
        driver.state.record_stfs(str(number), [("a.stf", LONG_AGO)], driver.now + timedelta(minutes=1))
        driver.state.record_tf_files(str(number), "a.stf", [], driver.now + timedelta(minutes=1))
        driver.state.finish_comparison(str(number), None, driver.now + timedelta(minutes=1))
        driver.state.tick(driver.now + timedelta(minutes=1))
    assert len(driver.state.runs) == 8
    driver.send_run_event("end_run")
    totals = driver.state.snapshot(driver.now)["totals"]
    assert (totals["runs"], totals["tf_files"]) == (61, 2 * MAX_OPEN_STFS + 2000 + 1 + 60)


def test_late_tf_file_of_a_dropped_run_does_not_repeat_the_run():
    driver = StateDriver()
    for number in range(1, 12):
        driver.receive(msg_type="tf_file_registered", run_id=number, tf_file_id=f"{number}", stf_filename="a.1.stf")
        driver.receive(msg_type="end_run", run_id=number)
        driver.state.record_stfs(str(number), [("a.1.stf", LONG_AGO)], driver.now + timedelta(minutes=1))
        driver.state.record_tf_files(str(number), "a.1.stf", [], driver.now + timedelta(minutes=1))
        driver.state.finish_comparison(str(number), None, driver.now + timedelta(minutes=1))
    driver.state.tick(driver.now)
    assert "1" not in driver.state.runs
    late = {"msg_type": "tf_file_registered", "run_id": 1, "tf_file_id": "late", "stf_filename": "a.2.stf"}
    assert driver.receive(**late, late=True)
    assert driver.state.record_tf_files("1", "a.1.stf", [{"stf_file": "a.1.stf", "tf_file_id": "1"}], driver.now) == []
    totals = driver.state.snapshot(driver.now)["totals"]
    assert (totals["runs"], totals["tf_files"]) == (11, 12)


def test_totals_include_runs_that_are_no_longer_listed():
    driver = StateDriver()
    for number in range(60):
        driver.receive(msg_type="tf_file_registered", run_id=number, tf_file_id=f"{number}", stf_filename="a.1.stf")
    found = driver.state.snapshot(driver.now)
    assert (len(found["runs"]), found["totals"]["runs"], found["totals"]["tf_files"]) == (50, 60, 60)


def test_unnumbered_run_is_dropped_after_10_idle_minutes():
    driver = StateDriver()
    for number in range(9):
        driver.receive(
            msg_type="tf_file_registered", run_id=f"test-{number}", tf_filename="a.tf", stf_filename="a.1.stf"
        )
    driver.wait(600)
    driver.state.tick(driver.now)
    assert len(driver.state.runs) == 9
    driver.wait(1)
    driver.state.tick(driver.now)
    assert len(driver.state.runs) == 8


def test_filtered_run_stays_hidden_after_it_is_dropped():
    driver = StateDriver(run_ids=("test-0",))
    for number in range(9):
        driver.receive(
            msg_type="tf_file_registered", run_id=f"test-{number}", tf_filename="a.tf", stf_filename="a.1.stf"
        )
    driver.wait(3600)
    for number in range(9, 12):
        driver.receive(
            msg_type="tf_file_registered", run_id=f"test-{number}", tf_filename="a.tf", stf_filename="a.1.stf"
        )
    driver.state.tick(driver.now)
    assert [run["run"] for run in driver.state.snapshot(driver.now)["runs"]] == ["test-0"]


def test_filtered_tf_files_are_neither_recent_nor_in_the_rates():
    driver = StateDriver(run_ids=("8",))
    driver.tf(1)
    found = driver.state.snapshot(driver.now)
    assert (found["recent"], sum(found["rates"]["tf_files"])) == ([], 0)


def test_strips_exist_for_the_8_newest_runs():
    driver = StateDriver()
    for number in range(1, 11):
        driver.receive(msg_type="tf_file_registered", run_id=number, tf_filename="a.tf", stf_filename="a.1.stf")
    assert [bool(run["strip"]) for run in driver.state.snapshot(driver.now)["runs"]] == [True] * 8 + [False] * 2


def test_snapshot_contains_uptime():
    driver = StateDriver()
    driver.wait(90)
    assert driver.state.snapshot(driver.now)["uptime_s"] == 90


def test_idle_unnumbered_runs_stay_in_the_totals():
    driver = StateDriver()
    for hour in range(60):
        driver.receive(msg_type="tf_file_registered", run_id=f"test-{hour}", tf_filename="a.tf", stf_filename="a.1.stf")
        driver.wait(3600)
        driver.state.tick(driver.now)
    assert len(driver.state.runs) == 8
    for run in ("test-0", "test-30"):  # one without a row, one with a row
        driver.receive(msg_type="tf_file_registered", run_id=run, tf_filename="b.tf", stf_filename="a.1.stf")
    totals = driver.state.snapshot(driver.now)["totals"]
    assert totals["tf_files"] == 62


def test_stfs_with_the_same_number_are_all_counted():
    driver = StateDriver()
    names = ["east.000001.stf", "west.000001.stf", "north.000001.stf"]
    for name in names[:2]:
        assert driver.tf(1, stf_filename=name, tf_file_id=name, tf_total=1)
    driver.wait(40)
    queried = driver.state.record_stfs("7", [(name, LONG_AGO) for name in names], driver.now)
    assert queried == names[2:]
    assert driver.state.record_tf_files("7", names[2], [{"stf_file": names[2], "tf_filename": "n.tf"}], driver.now)
    driver.state.finish_comparison("7", None, driver.now)
    row = driver.row
    assert (row["tf_files"], row["stfs_seen"], row["stfs_expected"], row["duplicates"]) == (3, 3, 3, 0)


def test_old_stfs_without_a_number_are_counted_once():
    driver = StateDriver()
    names = [f"stf-{number}" for number in range(MAX_OPEN_STFS + 10)]
    for name in names:
        assert driver.tf(1, stf_filename=name, stf_sequence=None, tf_file_id=name, tf_total=1)
    driver.wait(40)
    assert driver.state.record_stfs("7", [(name, LONG_AGO) for name in names], driver.now) == []
    assert not driver.tf(1, stf_filename=names[0], stf_sequence=None, tf_file_id=names[0], tf_total=1)
    assert driver.row["stfs_seen"] == len(names)


@pytest.mark.parametrize("strange", ["\x1b[2J", 10**30, -1, None, [], {}, True, 1.5, float("inf")])
def test_any_value_in_a_message_leaves_a_valid_snapshot(strange):
    driver = StateDriver()
    keys = [*announcement(1, 1), "late", "total_stf_files"]
    for kind in ("tf_file_registered", "start_run", "end_run", "fastmon_status"):
        driver.receive(**dict.fromkeys(keys, strange) | {"msg_type": kind})
        for key in keys:
            driver.receive(**announcement(1, 1) | {key: strange} | ({"msg_type": kind} if key != "msg_type" else {}))
    driver.state.tick(driver.now)
    json.dumps(driver.state.snapshot(driver.now), allow_nan=False)


@pytest.mark.field("3")
@pytest.mark.parametrize("names", [("0300123", 300123), (300123, "0300123"), ("300123", "00300123")])
def test_run_with_leading_zeros_is_the_same_run(names: tuple[object, object]) -> None:
    driver = StateDriver(run_ids=("300123",))
    driver.receive(msg_type="start_run", run_id=names[0], namespace="ns")
    assert driver.tf(1, run_id=names[1])
    assert not driver.tf(1, run_id=names[0])
    driver.receive(msg_type="end_run", run_number=names[1], namespace="ns", total_stf_files=1)
    [run] = driver.state.snapshot(driver.now)["runs"]
    assert (run["run"], run["state"], run["tf_files"], run["duplicates"]) == ("300123", "ended", 1, 1)


def test_zero_and_text_are_names_of_runs() -> None:
    names = [run_name(value) for value in ("000", 0, "cosmic-01", "-7", "\u0663", "1" * 5000)]
    assert names == ["0", "0", "cosmic-01", "-7", "\u0663", "1" * 5000]

"""The picture, told by hand what came and when."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from fastmon_client.stfs import KEPT_WHOLE
from tests.client.told import LONG_AGO, Told, announcement, stf


def test_a_tf_file_is_counted_once_and_its_repetition_is_counted_as_such():
    told = Told()
    assert [told.tf(1), told.tf(1), told.tf(1, 2)] == [True, False, True]
    assert (told.row["tf_files"], told.row["duplicates"], told.row["bytes"]) == (2, 1, 20)
    assert (told.row["stfs_seen"], told.row["tf_expected"], told.row["state"]) == (1, 2, "running")


def test_numbers_are_unknown_until_they_were_compared():
    told = Told()
    told.tf(1)
    told.tf(1, 2)
    assert (told.row["verified"], told.row["stfs_missing"]) == ("UNKNOWN", None)
    told.wait(5)
    assert told.state.due(told.now) == ["7"]
    told.compare([1], {1: 2})
    assert (told.row["verified"], told.row["stfs_missing"]) == ("VERIFIED", 0)


def test_what_a_deaf_stream_kept_back_is_filled_and_marked():
    told = Told()
    told.tf(1)
    told.wait(40)
    assert told.compare([1, 2, 3], {1: 2, 2: 2, 3: 2}) == [stf(1), stf(2), stf(3)]
    assert (told.row["tf_files"], told.row["backfilled"], told.row["stfs_seen"]) == (6, 5, 3)
    assert told.strip == {1: "recovered", 2: "recovered", 3: "recovered"}
    assert [each["backfilled"] for each in told.state.snapshot(told.now)["recent"]] == [True] * 5 + [False]


def test_an_announcement_after_the_backfill_repeats_nothing():
    told = Told()
    told.tf(1)
    told.wait(40)
    told.compare([1], {1: 2})
    assert [told.tf(1, 2), told.tf(1, 2)] == [False, False]
    assert (told.row["tf_files"], told.row["duplicates"]) == (2, 1)


def test_a_tf_file_is_one_whether_its_id_is_told_or_not():
    told = Told()
    told.tf(1, tf_file_id=None)
    told.wait(40)
    told.compare([1], {1: 2})
    assert [told.tf(1, 2, tf_file_id=None), told.tf(1, 2), told.tf(1)] == [False, False, False]
    assert (told.row["tf_files"], told.row["backfilled"], told.row["duplicates"]) == (2, 1, 2)


def test_skipped_is_told_from_missing():
    told = Told()
    for sequence in (1, 11, 31):
        for number in (1, 2):
            told.tf(sequence, number, selection_fraction=0.1)
    told.wait(40)
    assert told.compare(list(range(1, 36)), {1: 2, 11: 2, 31: 2}) == [stf(21)]
    assert (told.row["stfs_missing"], told.row["missing"], told.row["stfs_skipped"]) == (1, [21], 31)
    assert (told.row["stfs_expected"], told.row["stfs_seen"]) == (4, 3)
    assert told.strip == dict.fromkeys(range(1, 36), "skipped") | {1: "present", 11: "present", 31: "present"} | {
        21: "missing"
    }
    assert "stfs_missing" in told.alarms()


def test_without_a_fraction_what_is_absent_may_have_been_skipped():
    told = Told()
    told.tf(1, selection_fraction=None)
    told.tf(1, 2, selection_fraction=None)
    told.wait(40)
    told.compare([1, 2], {1: 2})
    assert (told.row["stfs_missing"], told.row["stfs_expected"]) == (None, None)
    assert told.strip == {1: "present", 2: "unknown"}
    assert "stfs_missing" not in told.alarms()


def test_an_stf_that_nobody_registered_is_missing_by_its_number():
    told = Told()
    for number in (1, 2):
        told.tf(1, number)
        told.tf(3, number)
    told.compare([1, 3], {1: 2, 3: 2}, since=told.now)
    assert told.row["missing"] == []
    told.wait(40)
    assert told.row["missing"] == [2]


def test_an_stf_with_too_few_tf_files_is_incomplete():
    told = Told()
    told.tf(1)
    told.wait(40)
    told.compare([1], {1: 1})
    assert (told.row["stfs_incomplete"], told.strip) == (1, {1: "incomplete"})


def test_an_stf_without_a_stated_total_is_asked_for_again_until_nothing_new_came_for_a_while():
    told = Told()
    told.says("start_run")
    told.compare([1], {1: 1})  # its first TF file was registered just now, of who knows how many
    assert told.row["tf_files"] == 1
    told.wait(20)
    assert told.compare([1], {1: 3}) == [stf(1)]
    told.wait(20)
    assert told.compare([1], {1: 3}) == [stf(1)]
    assert told.compare([1], {1: 3}) == []
    told.tf(1, 4, tf_total=None)
    told.wait(40)
    assert told.compare([1], {1: 6}) == [stf(1)]
    assert (told.row["tf_files"], told.row["backfilled"]) == (6, 5)


def test_a_young_stf_is_neither_asked_for_nor_missing():
    told = Told()
    told.tf(1)
    told.tf(1, 2)
    assert told.compare([1, 2], {1: 2}, since=told.now) == []
    assert told.row["missing"] == []


def test_a_run_that_is_all_there_is_complete():
    told = Told()
    told.says("start_run")
    told.tf(1)
    told.tf(1, 2)
    told.says("end_run", total_stf_files=1)
    told.wait(2)
    assert (told.row["state"], told.state.due(told.now)) == ("ended", ["7"])
    told.compare([1], {1: 2})
    assert (told.row["state"], told.state.due(told.now + timedelta(days=1))) == ("complete", [])


def test_a_comparison_that_began_before_the_end_proves_nothing_about_the_end():
    told = Told()
    told.says("start_run")
    told.tf(1, 1)
    told.tf(1, 2)
    told.wait(40)
    told.compare([1], {1: 2})
    assert told.row["verified"] == "VERIFIED"
    told.wait(40)
    assert told.state.due(told.now) == ["7"]
    told.wait(1)
    told.says("end_run", total_stf_files=1)
    assert told.row["doubt"] == "not yet compared with the monitor since its end"
    told.wait(1)
    told.compare([1], {1: 2})
    assert (told.row["verified"], told.row["state"]) == ("UNKNOWN", "ended")
    told.wait(2)
    assert told.state.due(told.now) == ["7"]
    told.compare([1], {1: 2})
    assert (told.row["verified"], told.row["state"]) == ("VERIFIED", "complete")


def test_a_run_with_a_gap_is_not_complete():
    told = Told()
    told.tf(1)
    told.tf(1, 2)
    told.says("end_run", total_stf_files=2)
    told.compare([1], {1: 2})
    told.wait(40)
    told.compare([1], {1: 2})
    assert (told.row["state"], told.row["missing"]) == ("ended", [2])


def test_a_lost_stream_makes_the_numbers_unknown_until_the_next_comparison():
    told = Told()
    told.tf(1)
    told.tf(1, 2)
    told.compare([1], {1: 2})
    told.state.lost("reset by peer", told.now)
    row = told.row
    assert (row["verified"], "reset by peer" in row["doubt"]) == ("UNKNOWN", True)
    assert told.state.snapshot(told.now)["connection"]["state"] == "DEAD"
    told.wait(2)
    told.state.connected(told.now)
    told.wait(2)
    assert told.state.due(told.now) == ["7"]
    told.compare([1], {1: 2})
    assert told.row["verified"] == "VERIFIED"


def test_a_comparison_that_began_before_the_loss_proves_nothing():
    told = Told()
    told.tf(1)
    told.wait(2)
    told.state.due(told.now)
    told.wait(1)
    told.state.lost("reset by peer", told.now)
    told.compare([1], {1: 1})
    assert told.row["verified"] == "UNKNOWN"


def test_a_monitor_that_does_not_answer_is_an_alarm_and_leaves_the_numbers_unknown():
    told = Told()
    told.tf(1)
    told.compare([1], {1: 1})
    told.state.compared("7", "the monitor said 500", told.now)
    assert (told.row["verified"], told.alarms()) == ("UNKNOWN", ["monitor_unreachable"])
    told.compare([1], {1: 1})
    assert told.alarms() == []


def test_a_stream_without_heart_beat_is_dead_with_its_age():
    told = Told()
    told.tf(1)
    told.wait(76)
    assert told.alarms() == ["stream_dead"]
    connection = told.state.snapshot(told.now)["connection"]
    assert (connection["state"], connection["heartbeat_age_s"]) == ("DEAD", 76)
    told.state.receive_heartbeat(told.now)
    assert "stream_dead" not in told.alarms()


def test_a_running_run_without_tf_files_is_stale_and_a_paused_one_is_not():
    told = Told()
    told.says("start_run")
    told.wait(61)
    told.state.receive_heartbeat(told.now)
    assert (told.alarms(), told.row["stale"]) == (["run_stale"], True)
    told.says("pause_run")
    assert (told.alarms(), told.row["stale"]) == ([], False)


def test_a_degraded_daemon_is_an_alarm_until_it_has_recovered():
    told = Told()
    told.hear(msg_type="fastmon_status", processed_by="a", status="degraded", message="the monitor is away")
    assert told.alarms() == ["daemon_degraded"]
    assert "the monitor is away" in told.state.snapshot(told.now)["alarms"][0]["evidence"]
    told.hear(msg_type="fastmon_status", processed_by="a", status="recovered")
    assert told.alarms() == []


def test_the_next_run_ends_the_one_before():
    told = Told()
    told.says("start_run")
    told.hear(msg_type="start_run", run_id=8, namespace="ns")
    assert {run["run"]: run["state"] for run in told.state.snapshot(told.now)["runs"]} == {
        "8": "running", "7": "ended",
    }  # fmt: skip


def test_the_start_of_a_run_that_is_over_told_again_ends_no_other():
    told = Told()
    for kind, run in (("start_run", 7), ("end_run", 7), ("start_run", 8), ("start_run", 7)):
        told.hear(msg_type=kind, run_id=run, namespace="ns")
    assert told.state.runs["8"].state == "running"


def test_options_choose_what_is_shown_not_what_is_known():
    told = Told(run_ids=("8",))
    assert told.tf(1) is False
    assert told.state.snapshot(told.now)["runs"] == []
    assert told.state.runs["7"].tf_files == 1


def test_a_snapshot_is_json():
    told = Told()
    told.tf(1)
    json.dumps(told.state.snapshot(told.now), allow_nan=False)


def test_old_stfs_and_runs_shrink_and_nothing_of_their_numbers_is_lost():
    told = Told()
    for sequence in range(1, KEPT_WHOLE + 1001):
        told.tf(sequence)
        told.tf(sequence, 2)
    assert [told.tf(sequence, 3) for sequence in (1, 1000, 1001)] == [False, False, True]  # 2000 are kept whole
    for number in range(100, 160):
        told.hear(msg_type="tf_file_registered", run_id=number, tf_file_id=f"{number}", stf_filename="a.stf")
        told.hear(msg_type="end_run", run_id=number)
        told.state.listed(str(number), [("a.stf", LONG_AGO)], told.now + timedelta(minutes=1))
        told.state.filled(str(number), "a.stf", [], told.now + timedelta(minutes=1))
        told.state.compared(str(number), None, told.now + timedelta(minutes=1))
        told.state.tick(told.now + timedelta(minutes=1))
    assert len(told.state.runs) == 8
    told.says("end_run")
    totals = told.state.snapshot(told.now)["totals"]
    assert (totals["runs"], totals["tf_files"]) == (61, 2 * KEPT_WHOLE + 2000 + 1 + 60)


def test_a_late_tf_file_of_an_old_run_does_not_show_the_whole_run_again():
    told = Told()
    for number in range(1, 12):
        told.hear(msg_type="tf_file_registered", run_id=number, tf_file_id=f"{number}", stf_filename="a.1.stf")
        told.hear(msg_type="end_run", run_id=number)
        told.state.listed(str(number), [("a.1.stf", LONG_AGO)], told.now + timedelta(minutes=1))
        told.state.filled(str(number), "a.1.stf", [], told.now + timedelta(minutes=1))
        told.state.compared(str(number), None, told.now + timedelta(minutes=1))
    told.state.tick(told.now)
    assert "1" not in told.state.runs
    late = {"msg_type": "tf_file_registered", "run_id": 1, "tf_file_id": "late", "stf_filename": "a.2.stf"}
    assert told.hear(**late, late=True)
    assert told.state.filled("1", "a.1.stf", [{"stf_file": "a.1.stf", "tf_file_id": "1"}], told.now) == []
    totals = told.state.snapshot(told.now)["totals"]
    assert (totals["runs"], totals["tf_files"]) == (11, 12)


def test_runs_that_no_longer_fit_on_the_list_are_in_the_totals():
    told = Told()
    for number in range(60):
        told.hear(msg_type="tf_file_registered", run_id=number, tf_file_id=f"{number}", stf_filename="a.1.stf")
    found = told.state.snapshot(told.now)
    assert (len(found["runs"]), found["totals"]["runs"], found["totals"]["tf_files"]) == (50, 60, 60)


def test_a_run_whose_name_is_no_number_is_kept_whole_until_it_was_silent_for_10_minutes():
    told = Told()
    for number in range(9):
        told.hear(msg_type="tf_file_registered", run_id=f"test-{number}", tf_filename="a.tf", stf_filename="a.1.stf")
    told.wait(600)
    told.state.tick(told.now)
    assert len(told.state.runs) == 9
    told.wait(1)
    told.state.tick(told.now)
    assert len(told.state.runs) == 8


def test_a_run_that_is_not_shown_is_not_shown_either_when_only_its_row_is_left():
    told = Told(run_ids=("test-0",))
    for number in range(9):
        told.hear(msg_type="tf_file_registered", run_id=f"test-{number}", tf_filename="a.tf", stf_filename="a.1.stf")
    told.wait(3600)
    for number in range(9, 12):
        told.hear(msg_type="tf_file_registered", run_id=f"test-{number}", tf_filename="a.tf", stf_filename="a.1.stf")
    told.state.tick(told.now)
    assert [run["run"] for run in told.state.snapshot(told.now)["runs"]] == ["test-0"]


def test_what_is_known_but_not_wanted_is_neither_recent_nor_in_the_rates():
    told = Told(run_ids=("8",))
    told.tf(1)
    found = told.state.snapshot(told.now)
    assert (found["recent"], sum(found["rates"]["tf_files"])) == ([], 0)


def test_strips_are_drawn_for_the_8_newest_runs():
    told = Told()
    for number in range(1, 11):
        told.hear(msg_type="tf_file_registered", run_id=number, tf_filename="a.tf", stf_filename="a.1.stf")
    assert [bool(run["strip"]) for run in told.state.snapshot(told.now)["runs"]] == [True] * 8 + [False] * 2


def test_the_snapshot_tells_how_long_the_client_is_up():
    told = Told()
    told.wait(90)
    assert told.state.snapshot(told.now)["uptime_s"] == 90


def test_silent_runs_whose_name_is_no_number_shrink_and_stay_in_the_totals():
    told = Told()
    for hour in range(60):
        told.hear(msg_type="tf_file_registered", run_id=f"test-{hour}", tf_filename="a.tf", stf_filename="a.1.stf")
        told.wait(3600)
        told.state.tick(told.now)
    assert len(told.state.runs) == 8
    for run in ("test-0", "test-30"):  # one that no row is left of, and one that is still listed
        told.hear(msg_type="tf_file_registered", run_id=run, tf_filename="b.tf", stf_filename="a.1.stf")
    totals = told.state.snapshot(told.now)["totals"]
    assert totals["tf_files"] == 62


def test_stfs_that_share_a_number_are_both_counted():
    told = Told()
    names = ["east.000001.stf", "west.000001.stf", "north.000001.stf"]
    for name in names[:2]:
        assert told.tf(1, stf_filename=name, tf_file_id=name, tf_total=1)
    told.wait(40)
    asked = told.state.listed("7", [(name, LONG_AGO) for name in names], told.now)
    assert asked == names[2:]
    assert told.state.filled("7", names[2], [{"stf_file": names[2], "tf_filename": "n.tf"}], told.now)
    told.state.compared("7", None, told.now)
    row = told.row
    assert (row["tf_files"], row["stfs_seen"], row["stfs_expected"], row["duplicates"]) == (3, 3, 3, 0)


def test_stfs_without_a_number_are_counted_once_also_when_they_are_old():
    told = Told()
    names = [f"stf-{number}" for number in range(KEPT_WHOLE + 10)]
    for name in names:
        assert told.tf(1, stf_filename=name, stf_sequence=None, tf_file_id=name, tf_total=1)
    told.wait(40)
    assert told.state.listed("7", [(name, LONG_AGO) for name in names], told.now) == []
    assert not told.tf(1, stf_filename=names[0], stf_sequence=None, tf_file_id=names[0], tf_total=1)
    assert told.row["stfs_seen"] == len(names)


@pytest.mark.parametrize("strange", ["\x1b[2J", 10**30, -1, None, [], {}, True, 1.5, float("inf")])
def test_whatever_stands_in_a_message_the_picture_stands(strange):
    told = Told()
    keys = [*announcement(1, 1), "late", "total_stf_files"]
    for kind in ("tf_file_registered", "start_run", "end_run", "fastmon_status"):
        told.hear(**dict.fromkeys(keys, strange) | {"msg_type": kind})
        for key in keys:
            told.hear(**announcement(1, 1) | {key: strange} | ({"msg_type": kind} if key != "msg_type" else {}))
    told.state.tick(told.now)
    json.dumps(told.state.snapshot(told.now), allow_nan=False)

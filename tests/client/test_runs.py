"""One run: its state, its comparisons, its numbers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fastmon_client.runs import RunTable
from fastmon_client.selection import Selection
from fastmon_client.stfs import MAX_OPEN_STFS, STRIP_LENGTH
from fastmon_daemon.engine.sampling import is_selected
from tests.client.state_driver import LONG_AGO, T0, StateDriver, row, stf


def complete_run(driver: StateDriver) -> None:
    """Run 7 with one complete STF."""
    driver.send_run_event("start_run")
    driver.tf(1)
    driver.tf(1, 2)
    driver.send_run_event("end_run", total_stf_files=1)
    driver.wait(15)
    driver.compare([1], {1: 2})
    assert driver.row["state"] == "complete"


def due_within(driver: StateDriver, seconds: float) -> bool:
    """Whether a comparison of the run starts within that time."""
    driver.wait(seconds)
    return driver.state.start_comparisons(driver.now) == ["7"]


# Its numbers


def test_lag_is_median_and_95th_percentile_of_the_stream():
    driver = StateDriver()
    for seconds in range(1, 101):
        driver.now = T0 + timedelta(seconds=seconds)
        driver.tf(seconds)
    assert (driver.row["lag_p50_s"], driver.row["lag_p95_s"]) == (51, 96)


def test_late_and_backfilled_tf_files_do_not_count_for_the_lag():
    driver = StateDriver()
    driver.wait(2)
    driver.tf(1)
    driver.wait(3600)
    driver.tf(2, late=True)
    driver.wait(10)
    driver.compare([1, 2], {1: 2, 2: 2})
    assert driver.row["backfilled"] == 2
    assert (driver.row["lag_p50_s"], driver.row["lag_p95_s"]) == (2, 2)


def test_backfilled_tf_files_do_not_end_stale():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.wait(120)
    driver.state.receive_heartbeat(driver.now)
    driver.compare([1], {1: 2})  # registered two minutes ago
    driver.wait(10)
    assert (driver.row["tf_files"], driver.row["stale"], driver.row["rate_hz"]) == (2, True, 0)


def test_at_most_100_missing_stfs_are_named():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.wait(40)
    driver.compare(list(range(1, 202)), {1: 2})
    assert driver.row["stfs_missing"] == 200
    assert driver.row["missing"] == list(range(2, 102))


# Its state


def test_new_tf_file_makes_an_imminent_run_running():
    driver = StateDriver()
    driver.send_run_event("run_imminent")
    assert driver.row["state"] == "imminent"
    driver.tf(1)
    assert driver.row["state"] == "running"


def test_backfilled_tf_file_does_not_make_a_run_running():
    driver = StateDriver()
    driver.send_run_event("run_imminent")
    driver.wait(40)
    driver.compare([1], {1: 2})
    assert (driver.row["tf_files"], driver.row["state"]) == (2, "imminent")


def test_next_run_of_another_namespace_ends_no_run():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.receive(msg_type="start_run", run_id=8, namespace="another")
    assert driver.state.runs["7"].state == "running"


@pytest.mark.parametrize("name", ["12345678901", "run-7", "\u0663"])
def test_unnumbered_run_is_never_queried(name: str):
    driver = StateDriver()
    driver.receive(msg_type="start_run", run_id=name)
    driver.wait(600)
    driver.state.connected(driver.now)
    assert driver.state.start_comparisons(driver.now + timedelta(days=1)) == []
    assert driver.row["doubt"] == "run name is not a number: cannot query the monitor"


# When it is compared


def test_failed_comparison_is_retried_after_5_s():
    driver = StateDriver()
    driver.tf(1)
    assert due_within(driver, 2)
    driver.state.finish_comparison("7", "the monitor said 500", driver.now)
    assert not due_within(driver, 4)
    assert due_within(driver, 1)


def test_open_run_is_compared_every_30_s_an_idle_one_every_5_minutes():
    driver = StateDriver()
    driver.tf(1, tf_total=1)
    driver.compare([1], {1: 1})
    assert not due_within(driver, 29)
    assert due_within(driver, 1)
    driver.compare([1], {1: 1})
    assert due_within(driver, 600)
    driver.compare([1], {1: 1})
    assert not due_within(driver, 299)
    assert due_within(driver, 1)


def test_slow_listing_is_read_less_often():
    driver = StateDriver()
    driver.tf(1, tf_total=1)
    assert due_within(driver, 2)
    driver.wait(10)
    driver.compare([1], {1: 1})
    assert not due_within(driver, 99)
    assert due_within(driver, 1)


def test_frequent_reasons_do_not_delay_the_comparison():
    driver = StateDriver()
    driver.tf(1)
    for _ in range(4):
        driver.wait(0.3)
        driver.state.lost("reset by peer", driver.now)
        driver.state.connected(driver.now)
    assert driver.state.start_comparisons(driver.now) == ["7"]


def test_first_stf_of_a_run_can_be_the_missing_one():
    driver = StateDriver()
    driver.tf(2)
    driver.tf(2, 2)
    driver.tf(3)
    driver.tf(3, 2)
    driver.send_run_event("end_run")
    driver.wait(60)
    driver.compare([2, 3], {2: 2, 3: 2})
    assert driver.row["missing"] == [1]


def test_run_with_a_gap_is_compared_for_15_minutes():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.send_run_event("end_run", total_stf_files=2)
    driver.wait(60)
    driver.compare([1], {1: 2})
    driver.compare([1], {1: 2})
    assert driver.row["missing"] == [2]
    assert due_within(driver, 30)
    driver.wait(15 * 60)
    driver.compare([1], {1: 2})
    assert driver.state.start_comparisons(driver.now + timedelta(days=1)) == []


def test_ended_run_is_compared_every_second_then_every_30_s():
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.send_run_event("end_run", total_stf_files=2)
    driver.wait(2)
    driver.compare([1, 2], {}, since=driver.now)  # too young for a verdict
    assert due_within(driver, 1)
    driver.wait(60)
    driver.compare([1, 2, 3], {}, since=driver.now)
    assert not due_within(driver, 29)
    assert due_within(driver, 1)


def test_tf_file_after_the_end_starts_a_new_comparison():
    driver = StateDriver()
    complete_run(driver)
    assert not due_within(driver, 600)
    driver.tf(2, late=True)
    assert due_within(driver, 1)


def test_old_verified_run_survives_a_stream_loss():
    driver = StateDriver()
    complete_run(driver)
    driver.wait(16 * 60)
    driver.state.lost("reset by peer", driver.now)
    driver.state.connected(driver.now)
    assert driver.row["verified"] == "VERIFIED"
    assert driver.state.start_comparisons(driver.now + timedelta(days=1)) == []


def test_recently_ended_run_is_compared_after_a_reconnect():
    driver = StateDriver()
    complete_run(driver)
    driver.state.lost("reset by peer", driver.now)
    assert driver.row["verified"] == "VERIFIED"  # ended and complete
    driver.state.connected(driver.now)
    assert driver.row["doubt"] == "not compared since the stream reconnected"
    assert due_within(driver, 1)


def test_unlisted_stfs_make_numbers_unknown():
    driver = StateDriver()
    for sequence in (1, 2):
        driver.tf(sequence, tf_total=1)
    driver.compare([1], {1: 1})  # STF 2 may have been registered after the listing
    assert driver.row["doubt"] == ""
    driver.wait(40)
    driver.compare([1], {1: 1})
    assert driver.row["doubt"] == "1 announced STFs are not in the monitor's table"


def test_numbers_compared_too_long_ago_are_unknown():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.compare([1], {1: 2})
    driver.wait(90)
    assert driver.row["verified"] == "VERIFIED"
    driver.wait(1)
    assert driver.row["doubt"] == f"last compared at {T0.isoformat()}"


# Its STFs


def test_total_of_end_run_reveals_missing_stfs():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.send_run_event("end_run", total_stf_files=50)
    driver.wait(40)
    driver.compare([1], {1: 2})
    driver.wait(40)
    assert (driver.row["stfs_expected"], driver.row["missing"]) == (50, list(range(2, 51)))


def test_run_is_not_complete_within_the_grace_time():
    driver = StateDriver()
    for sequence in (1, 3):
        driver.tf(sequence, tf_total=1)
    driver.send_run_event("end_run", total_stf_files=3)
    driver.wait(2)
    driver.compare([1, 3], {1: 1, 3: 1}, since=driver.now)
    assert (driver.row["state"], driver.row["missing"]) == ("ended", [])
    driver.wait(15)
    driver.compare([1, 3], {1: 1, 3: 1})
    assert (driver.row["state"], driver.row["missing"]) == ("ended", [2])


def test_stf_is_missing_only_after_its_tf_files_were_queried():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.wait(40)
    driver.state.record_stfs("7", [(stf(n), LONG_AGO) for n in (1, 2)], driver.now)
    assert driver.row["missing"] == []
    driver.state.record_tf_files("7", stf(2), [], driver.now)
    assert driver.row["missing"] == [2]


def test_absent_stf_is_missing_only_after_the_grace_time():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.wait(40)
    assert driver.compare([1, 2], {1: 2}, since=driver.now - timedelta(seconds=29)) == [stf(2)]
    assert driver.row["missing"] == []
    driver.wait(1)
    assert driver.row["missing"] == [2]


def test_stf_is_incomplete_only_after_query_and_grace_time():
    driver = StateDriver()
    driver.tf(1)
    assert driver.compare([1], {1: 1}) == []
    driver.wait(40)
    assert driver.row["stfs_incomplete"] == 0
    driver.compare([1], {1: 1})
    assert driver.row["stfs_incomplete"] == 1
    driver.tf(2)
    driver.wait(10)
    driver.compare([1, 2], {1: 1, 2: 1})
    assert driver.row["stfs_incomplete"] == 1
    driver.wait(20)
    assert driver.row["stfs_incomplete"] == 2


def test_late_stf_is_no_longer_missing():
    driver = StateDriver()
    for number in (1, 2):
        driver.tf(1, number)
        driver.tf(3, number)
    driver.wait(40)
    driver.compare([1, 3], {1: 2, 3: 2}, since=driver.now)
    driver.wait(40)
    assert driver.row["missing"] == [2]
    driver.tf(2, late=True)
    driver.tf(2, 2, late=True)
    assert (driver.row["missing"], driver.strip[2]) == ([], "recovered")


def test_unlisted_stf_is_no_longer_missing():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(1, 2)
    driver.wait(40)
    names = [(name, LONG_AGO) for name in (stf(1), "swf.7.other.stf")]
    driver.state.record_stfs("7", names, driver.now)
    driver.state.record_tf_files("7", "swf.7.other.stf", [], driver.now)
    assert driver.row["stfs_missing"] == 1
    driver.state.record_stfs("7", names[:1], driver.now)
    assert driver.row["stfs_missing"] == 0


def test_included_stf_is_expected_in_addition_to_selected_ones():
    driver = StateDriver()
    for sequence in (1, 5, 11):
        for number in (1, 2):
            driver.tf(sequence, number, selection_fraction=0.1)
    row = driver.row
    assert (row["stfs_seen"], row["stfs_expected"], row["stfs_skipped"], row["tf_expected"]) == (3, 3, 8, 6)


def test_expected_tf_files_use_the_last_total():
    driver = StateDriver()
    driver.tf(1)
    driver.tf(3)
    assert (driver.row["stfs_expected"], driver.row["tf_expected"]) == (3, 6)
    driver.tf(2, tf_total=None)
    assert driver.row["tf_expected"] is None


def test_without_a_fraction_skipped_is_unknown_until_complete():
    driver = StateDriver()
    for number in (1, 2):
        driver.tf(1, number, selection_fraction=None)
    assert driver.row["stfs_skipped"] is None
    driver.wait(40)
    driver.compare([1], {1: 2})
    assert (driver.row["stfs_skipped"], driver.row["stfs_expected"]) == (0, 1)


def test_strip_shows_the_last_600():
    driver = StateDriver()
    for sequence in range(1, STRIP_LENGTH + 3):
        driver.tf(sequence, tf_total=1)
    assert (min(driver.strip), max(driver.strip), len(driver.strip)) == (3, STRIP_LENGTH + 2, STRIP_LENGTH)


def test_strip_shows_compacted_stfs():
    driver = StateDriver()
    for sequence in range(
        MAX_OPEN_STFS + STRIP_LENGTH, 0, -1
    ):  # the first ones are compacted and have the highest numbers
        driver.tf(sequence, tf_total=1)
    assert set(driver.strip.values()) == {"present"}


def test_a_compacted_stf_remains_recovered():
    driver = StateDriver()
    highest = MAX_OPEN_STFS + STRIP_LENGTH  # it comes first, and is compacted
    driver.tf(highest, tf_total=1, late=True)
    for sequence in range(highest - 1, 0, -1):
        driver.tf(sequence, tf_total=1)
    assert driver.strip[highest] == "recovered"


def test_stf_completed_by_the_stream_is_not_queried():
    driver = StateDriver()
    driver.tf(1)
    driver.wait(40)
    queried = driver.state.record_stfs("7", [(stf(n), LONG_AGO) for n in (1, 2)], driver.now)
    driver.tf(1, 2)
    assert driver.state.still_to_query("7", queried) == [stf(2)]


def test_incomplete_stf_is_not_compacted():
    driver = StateDriver()
    driver.tf(1)
    for sequence in range(2, MAX_OPEN_STFS + 10):
        driver.tf(sequence, tf_total=1)
    assert driver.tf(1, 2)
    assert driver.row["duplicates"] == 0


@pytest.mark.parametrize("fraction", [0.1, 0.3, 1 / 3, 0.07, 0.5, 1, 0.999])
def test_selection_equals_the_daemons(fraction):
    selection = Selection()
    selection.record_fraction(fraction)
    chosen = [n for n in range(1, 500) if is_selected(fraction, n, "")]
    assert [n for n in range(1, 500) if selection.by_all(n)] == chosen
    assert selection.counts(499) == (len(chosen), len(chosen))


def test_with_two_fractions_only_what_both_say_is_certain():
    selection = Selection()
    assert [selection.record_fraction(each) for each in (0.5, 0.2, 0.5, "x", 2, None)] == [True, True] + [False] * 4
    assert [n for n in range(1, 12) if selection.by_all(n)] == [1, 11]
    assert [n for n in range(1, 12) if selection.by_any(n)] == [1, 3, 5, 6, 7, 9, 11]
    assert [selection.counts(last) for last in (5, 11)] == [(1, 3), (2, 7)]


# The table of runs


def run_row(number: int, began: Any = T0 - timedelta(hours=1), end: str | None = None) -> dict[str, Any]:
    return {"run_number": number, "start_time": began and began.isoformat(), "end_time": end}


def test_first_table_adds_only_the_newest_run():
    assert RunTable().update([run_row(1), run_row(3), run_row(2)], T0)[0] == [3]


def test_first_table_adds_the_last_runs_by_their_own_time_and_those_that_are_named():
    rows = [run_row(number, T0 - timedelta(days=9 - number), end=T0.isoformat()) for number in (1, 2, 3, 4)]
    assert RunTable(last=2, named=["1", "77"]).update([rows[3], rows[0], rows[2], rows[1]], T0)[0] == [1, 3, 4]


@pytest.mark.parametrize(
    "newest",
    [run_row(3, T0 - timedelta(days=1)), run_row(3, None), run_row(3, end=T0.isoformat())],
    ids=["began long ago", "no start", "over"],
)
def test_first_table_adds_no_old_or_ended_run(newest):
    assert RunTable().update([run_row(2, T0 - timedelta(days=2)), newest], T0)[0] == []


def test_run_omitted_once_is_not_new():
    table = RunTable()
    rows = [run_row(number) for number in (1, 2, 3)]
    table.update(rows, T0)
    assert table.update([], T0) == ([], {})
    assert table.update([*rows, run_row(4)], T0)[0] == [4]


def test_table_adds_new_runs_and_ends_others():
    driver = StateDriver()
    driver.state.record_runs([run_row(6)], driver.now)
    driver.state.record_runs([run_row(6, end=T0.isoformat()), run_row(7)], driver.now)
    assert {name: run.state for name, run in driver.state.runs.items()} == {"6": "ended", "7": "unknown"}


def test_backfilled_tf_file_has_its_time_of_registration_and_enters_no_rate():
    driver = StateDriver()
    driver.wait(120)
    driver.state.run("7", driver.now)
    driver.state.record_stfs("7", [(stf(1), LONG_AGO)], driver.now)
    driver.state.record_tf_files("7", stf(1), [row(1, 1)], driver.now)
    found = driver.state.snapshot(driver.now)
    assert found["recent"][0]["at"] == T0.isoformat()
    assert sum(found["rates"]["tf_files"]) == 0
    assert (found["runs"][0]["rate_hz"], found["runs"][0]["last_at"]) == (0, T0.isoformat())

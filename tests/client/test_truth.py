"""What the client may claim: numbers, states, times and rates of runs, and when it must say UNKNOWN."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fastmon_client.app_state import MAX_OPEN_RUNS, MAX_RUNS, Earlier
from fastmon_client.archive import MAX_ROWS
from fastmon_client.runs import MAX_PAST_READS
from fastmon_client.session import StopConditions
from fastmon_client.stfs import MAX_ABSENT
from fastmon_client.summary import has_gaps, run_line
from tests.client.state_driver import LONG_AGO, T0, StateDriver, announcement, row, stf


def tf_both(driver: StateDriver, *sequences: int, fraction: float = 1.0) -> None:
    for sequence in sequences:
        for number in (1, 2):
            driver.tf(sequence, number, selection_fraction=fraction)


def ended_run_with_two_fractions() -> StateDriver:
    """Run 7: 1 to 10 by 1.0, then a restart: of 11 to 30 only 11 and 21 by 0.1."""
    driver = StateDriver()
    driver.send_run_event("start_run")
    tf_both(driver, *range(1, 11))
    tf_both(driver, 11, 21, fraction=0.1)
    driver.send_run_event("end_run", total_stf_files=30)
    driver.wait(40)
    driver.compare(list(range(1, 31)), dict.fromkeys([*range(1, 12), 21], 2))
    driver.wait(40)
    driver.compare(list(range(1, 31)), dict.fromkeys([*range(1, 12), 21], 2))
    return driver


def summary_message(**changes: Any) -> dict[str, Any]:
    return {
        "msg_type": "fastmon_run_summary", "run_number": 7, "namespace": "ns", "completed": 12, "skipped": 18,
        "missing": 0, "failed": 0, "discarded": 0, "tf_files": {"registered": 24}, **changes,
    }  # fmt: skip


# The first table


def ended_row(**changes: Any) -> dict[str, Any]:
    began, ended = (T0 - timedelta(hours=hours) for hours in (5, 4))
    return {"run_number": 7, "start_time": began.isoformat(), "end_time": ended.isoformat(), **changes}


@pytest.mark.parametrize("late", [True, False])
def test_a_run_that_was_over_is_past_also_if_a_late_announcement_came_before_the_first_table(late: bool) -> None:
    driver = StateDriver()
    driver.tf(1, late=late)
    driver.state.record_runs([ended_row()], driver.now)
    assert driver.row["is_past"] is late
    assert bool(driver.state.followed_runs()) is not late


# VERIFIED


def test_a_changed_fraction_is_unknown_not_missing() -> None:
    driver = ended_run_with_two_fractions()
    found = driver.row
    assert (found["stfs_seen"], found["tf_files"], found["stfs_missing"]) == (12, 24, 0)
    assert (found["verified"], found["stfs_expected"], found["stfs_skipped"]) == ("UNKNOWN", None, None)
    assert "the selection fraction changed (1, 0.1): 18 STFs" in found["doubt"]
    assert has_gaps(driver.state.rows(driver.now, strip=False)[0])
    assert {driver.strip[n] for n in (12, 20, 22, 30)} == {"unknown"}
    assert "stfs_missing" not in driver.alarms()


def test_a_late_client_tells_them_if_the_summary_was_kept() -> None:
    driver = StateDriver(earlier=Earlier(20, {"7": summary_message()}))
    driver.state.record_runs([ended_row()], driver.now)
    numbers = range(1, 31)
    for name in driver.state.record_stfs("7", [(stf(n), LONG_AGO) for n in numbers], driver.now):
        sequence = int(name.split(".")[2])
        fraction = 1.0 if sequence <= 10 else 0.1
        has_tf_files = sequence <= 11 or sequence == 21
        metadata = {"selection_fraction": fraction, "tf_files_per_stf": 2, "tf_count_per_stf": 9, "namespace": "ns"}
        rows = [row(sequence, number) | {"metadata": metadata} for number in (1, 2)] if has_tf_files else []
        driver.state.record_tf_files("7", name, rows, driver.now)
    driver.state.finish_comparison("7", None, driver.now)
    driver.wait(40)
    driver.compare(list(numbers), {})
    assert (driver.row["verified"], driver.row["stfs_skipped"], driver.row["state"]) == ("VERIFIED", 18, "complete")
    assert driver.row["is_past"]


def test_the_daemons_summary_tells_skipped_from_missing() -> None:
    driver = ended_run_with_two_fractions()
    driver.receive(**summary_message())
    driver.wait(2)
    driver.compare(list(range(1, 31)), dict.fromkeys([*range(1, 12), 21], 2))
    found = driver.row
    assert (found["verified"], found["stfs_expected"], found["stfs_skipped"], found["state"]) == (
        "VERIFIED", 12, 18, "complete",
    )  # fmt: skip
    assert driver.strip[12] == "skipped"


@pytest.mark.parametrize(
    "changes", [{"completed": 13}, {"discarded": 1, "skipped": 17}, {"failed": 1}, {"tf_files": {"registered": 25}}]
)
def test_a_summary_that_differs_is_unknown(changes: dict[str, Any]) -> None:
    driver = ended_run_with_two_fractions()
    driver.receive(**summary_message(**changes))
    for _ in range(3):
        driver.wait(40)
        driver.compare(list(range(1, 31)), dict.fromkeys([*range(1, 12), 21], 2))
    assert (driver.row["verified"], driver.row["state"]) == ("UNKNOWN", "ended")


def test_a_summary_that_differs_makes_all_stfs_be_read_again() -> None:
    driver = StateDriver()
    driver.send_run_event("start_run")
    tf_both(driver, 1, 11, fraction=0.1)
    driver.send_run_event("end_run", total_stf_files=12)
    for _ in range(2):
        driver.wait(40)
        driver.compare(list(range(1, 13)), {1: 2, 11: 2})
    assert driver.row["verified"] == "VERIFIED"
    driver.receive(**summary_message(completed=3, skipped=9, tf_files={"registered": 6}))
    for _ in range(3):  # STF 5 was included by an operator, unheard
        driver.wait(40)
        driver.compare(list(range(1, 13)), {1: 2, 5: 2, 11: 2})
    assert (driver.row["verified"], driver.row["stfs_seen"], driver.row["stfs_skipped"]) == ("VERIFIED", 3, 9)


@pytest.mark.parametrize("strange", [None, "x", -1, 1.5, [], {}, True, 10**30])
def test_any_value_in_a_summary_is_survived(strange: Any) -> None:
    driver = ended_run_with_two_fractions()
    for key in summary_message():
        driver.receive(**summary_message(**{key: strange}))
    driver.compare(list(range(1, 31)), dict.fromkeys([*range(1, 12), 21], 2))
    driver.alarms()


def test_a_summary_of_another_namespace_is_ignored() -> None:
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.receive(**summary_message(namespace="other"))
    assert driver.row["state"] == "running"


def test_tf_files_count_whatever_the_rule_says() -> None:
    driver = StateDriver()  # late: the fraction is learned from the first TF file
    driver.state.record_runs([{"run_number": 7, "start_time": LONG_AGO.isoformat(), "end_time": None}], driver.now)
    rows = {n: row(n, 1) | {"metadata": {"selection_fraction": 0.1}} for n in (1, 2, 3, 11)}
    names = driver.state.record_stfs("7", [(stf(n), LONG_AGO) for n in range(1, 13)], driver.now)
    assert len(names) == 12
    for name in names:
        number = int(name.split(".")[2])
        driver.state.record_tf_files("7", name, [rows[number]] if number in rows else [], driver.now)
    driver.state.finish_comparison("7", None, driver.now)
    assert (driver.row["tf_files"], driver.row["stfs_seen"], driver.row["stfs_skipped"]) == (4, 4, 8)


def test_the_rule_saves_calls_only_while_the_stream_is_read() -> None:
    driver = StateDriver()
    tf_both(driver, 1, fraction=0.1)
    driver.wait(60)
    tf_both(driver, 11, fraction=0.1)
    between = T0 + timedelta(seconds=30)
    assert driver.compare(list(range(1, 12)), {}, since=between) == []
    assert driver.row["stfs_skipped"] == 9
    driver.state.lost("reset", driver.now)
    driver.wait(60)
    driver.state.connected(driver.now)
    tf_both(driver, 21, fraction=0.1)
    since = driver.now - timedelta(seconds=50)
    queried = driver.state.record_stfs("7", [(stf(n), since) for n in range(1, 22)], driver.now)
    assert {stf(n) for n in range(12, 21)} <= set(queried)


def test_stfs_answered_before_the_fraction_was_known_are_missing_once_it_is() -> None:
    driver = StateDriver()
    driver.state.run("7", driver.now)
    driver.compare(list(range(1, 5)), {})
    tf_both(driver, 1)
    driver.wait(40)
    driver.compare(list(range(1, 5)), {1: 2})
    assert (driver.row["stfs_missing"], driver.row["missing"]) == (3, [2, 3, 4])


def test_more_absent_stfs_than_one_comparison_takes_are_not_verified() -> None:
    driver = StateDriver()
    tf_both(driver, 1)
    driver.wait(40)
    many = list(range(1, MAX_ABSENT + 12))
    assert len(driver.compare(many, {1: 2})) == MAX_ABSENT
    assert driver.row["verified"] == "UNKNOWN"
    assert driver.state.start_comparisons(driver.now) == ["7"]
    driver.compare(many, {1: 2})
    assert (driver.row["verified"], driver.row["stfs_missing"]) == ("VERIFIED", MAX_ABSENT + 10)


# Who comes late


def past_row(number: int, **changes: Any) -> dict[str, Any]:
    began = T0 - timedelta(hours=1000 - number)
    end = (began + timedelta(minutes=30)).isoformat()
    return {"run_number": number, "start_time": began.isoformat(), "end_time": end, **changes}


def late_driver(*rows: dict[str, Any], last: int = 20, **more: Any) -> StateDriver:
    driver = StateDriver(earlier=Earlier(last), **more)
    driver.state.record_runs(rows, driver.now)
    return driver


def test_past_runs_are_listed_at_once_and_read_one_after_the_other_newest_first() -> None:
    driver = late_driver(*map(past_row, range(1, 40)))
    found = driver.state.snapshot(driver.now)
    assert [run["run"] for run in found["runs"]] == [str(number) for number in range(39, 19, -1)]
    assert {(run["state"], run["verified"], run["is_past"]) for run in found["runs"]} == {("ended", "UNKNOWN", True)}
    assert (found["loading"]["runs"], found["runs"][0]["began_at"]) == (20, past_row(39)["start_time"])
    assert "reading 20 runs" in found["loading"]["text"]
    driver.wait(2)
    for number in (39, 38):
        assert driver.state.start_comparisons(driver.now) == [str(number)]
        assert driver.state.start_comparisons(driver.now) == []
        driver.state.record_stfs(str(number), [], driver.now)
        driver.state.finish_comparison(str(number), None, driver.now)
    assert driver.state.snapshot(driver.now)["loading"]["runs"] == 18


def test_tf_files_of_past_runs_are_counted_and_not_shown() -> None:
    driver = late_driver(past_row(7))
    driver.wait(40)
    assert driver.state.start_comparisons(driver.now) == ["7"]
    driver.state.record_stfs("7", [(stf(1), LONG_AGO)], driver.now)
    assert driver.state.record_tf_files("7", stf(1), [row(1, 1), row(1, 2)], driver.now) == []
    driver.state.finish_comparison("7", None, driver.now)
    assert (driver.row["tf_files"], driver.row["state"], driver.row["verified"]) == (2, "complete", "VERIFIED")
    assert driver.state.start_comparisons(driver.now + timedelta(hours=1)) == []
    assert driver.alarms() == []


def test_past_runs_end_no_session_and_spoil_no_exit_code_unless_they_are_named() -> None:
    for named, expected in ((("7",), True), ((), False)):
        driver = late_driver(past_row(7), run_ids=named)
        driver.wait(2)
        driver.state.start_comparisons(driver.now)
        driver.state.record_stfs("7", [], driver.now)
        driver.state.finish_comparison("7", None, driver.now)
        assert StopConditions(until_end_run=True).run_is_final(driver.state, driver.now) is expected
        assert [run.name for run in driver.state.followed_runs()] == ["7"] * expected


def test_reading_a_long_past_run_is_bounded() -> None:
    driver = late_driver(past_row(7))
    stfs = [(stf(n), LONG_AGO) for n in range(1, MAX_PAST_READS + 2000)]
    driver.wait(2)
    reads = 0
    while driver.state.start_comparisons(driver.now):
        names = driver.state.record_stfs("7", stfs, driver.now)
        reads += len(names)
        for name in names:
            driver.state.record_tf_files("7", name, [], driver.now)
        driver.state.finish_comparison("7", None, driver.now)
    assert reads == MAX_PAST_READS
    assert "fastmon-client summary --run 7" in driver.row["doubt"]


def test_named_runs_are_read_in_place_of_the_last_ones() -> None:
    driver = late_driver(*map(past_row, range(1, 40)), run_ids=("3", "7"))
    assert list(driver.state.runs) == ["3", "7"]


def test_runs_of_unknown_namespace_are_awaited_before_they_are_shown() -> None:
    driver = late_driver(past_row(7), namespace="ns")
    found = driver.state.snapshot(driver.now)
    assert (found["runs"], found["loading"]["runs"]) == ([], 1)
    driver.wait(40)
    driver.state.start_comparisons(driver.now)
    driver.state.record_stfs("7", [(stf(1), LONG_AGO)], driver.now)
    driver.state.record_tf_files("7", stf(1), [row(1, 1) | {"metadata": {"namespace": "ns"}}], driver.now)
    driver.state.finish_comparison("7", None, driver.now)
    assert (driver.row["run"], driver.state.snapshot(driver.now)["loading"]["text"]) == ("7", "")


def test_a_run_of_the_table_that_gets_stfs_is_running() -> None:
    driver = late_driver(past_row(7, end_time=None, start_time=(T0 - timedelta(minutes=5)).isoformat()))
    assert driver.row["state"] == "unknown"
    driver.compare([1], {1: 2}, since=driver.now - timedelta(seconds=5))
    assert (driver.row["state"], driver.row["is_past"]) == ("running", False)


def long_running_row() -> dict[str, Any]:
    """Of a run that takes data for so long that it seems to be forgotten."""
    return past_row(7, end_time=None, start_time=(T0 - timedelta(days=9)).isoformat())


@pytest.mark.parametrize("sign", ["tf_file_registered", "start_run", "pause_run", "resume_run", "end_run"])
def test_a_run_of_the_table_that_is_heard_is_followed(sign: str) -> None:
    driver = late_driver(long_running_row(), last=1)
    driver.wait(40)
    driver.state.start_comparisons(driver.now)
    driver.compare([], {})
    assert (driver.row["is_past"], driver.state.start_comparisons(driver.now + timedelta(hours=1))) == (True, [])
    if sign == "tf_file_registered":
        driver.tf(1, tf_total=1)
    else:
        driver.send_run_event(sign)
    driver.wait(2)
    assert driver.state.start_comparisons(driver.now) == ["7"]
    driver.compare([1, 2], {1: 1}, since=driver.now)
    assert driver.row["is_past"] is False
    driver.wait(40)
    assert driver.state.start_comparisons(driver.now) == ["7"]


@pytest.mark.parametrize("is_in_table_first", [True, False])
def test_no_tf_file_of_a_run_that_takes_data_is_dropped_for_other_runs(is_in_table_first: bool) -> None:
    driver = late_driver(*[long_running_row()] * is_in_table_first, run_ids=("7",))
    driver.tf(1, tf_total=1)
    driver.state.record_runs([long_running_row()], driver.now)
    driver.wait(2)
    driver.state.start_comparisons(driver.now)
    driver.compare([], {})
    for number in range(2, 4 * MAX_OPEN_RUNS):
        driver.tf(1, run_id=f"invented {number}", stf_filename=f"{number}.stf")
        driver.tf(number, tf_total=1)
        driver.state.tick(driver.now)
    assert driver.row["tf_files"] == 4 * MAX_OPEN_RUNS - 1


@pytest.mark.parametrize("late", [True, False])
def test_an_old_run_whose_late_tf_files_are_announced_stays_past(late: bool) -> None:
    driver = late_driver(long_running_row(), last=1)
    driver.tf(1, late=late)
    assert driver.row["is_past"] is late


def test_a_summary_ends_a_past_run_and_does_not_revive_it() -> None:
    driver = late_driver(long_running_row(), last=1)
    driver.receive(**summary_message())
    assert (driver.row["state"], driver.row["is_past"]) == ("ended", True)


def test_a_past_run_that_was_too_long_to_read_is_compared_when_it_goes_on() -> None:
    driver = late_driver(long_running_row(), last=1)
    driver.wait(2)
    stfs = [(stf(n), LONG_AGO) for n in range(1, MAX_PAST_READS + 100)]
    while driver.state.start_comparisons(driver.now):
        for name in driver.state.record_stfs("7", stfs, driver.now):
            driver.state.record_tf_files("7", name, [], driver.now)
        driver.state.finish_comparison("7", None, driver.now)
    assert "too many STFs" in driver.row["doubt"]
    driver.tf(MAX_PAST_READS + 100)
    driver.wait(2)
    assert driver.state.start_comparisons(driver.now) == ["7"]
    for _ in range(2):
        driver.wait(40)
        driver.compare(list(range(1, MAX_PAST_READS + 101)), {})
    assert driver.row["verified"] == "VERIFIED"


# Many runs


def test_runs_are_ordered_by_their_own_time() -> None:
    driver = StateDriver()
    for number in (3, 5):  # 5 was heard last, and began first
        driver.wait(1)
        driver.receive(msg_type="start_run", run_id=number, timestamp=(T0 + timedelta(seconds=-number)).isoformat())
    assert [run["run"] for run in driver.state.snapshot(driver.now)["runs"]] == ["3", "5"]


def test_totals_count_each_run_once_also_one_that_returns() -> None:
    driver = StateDriver()

    def play(number: int) -> None:
        driver.receive(msg_type="tf_file_registered", run_id=number, tf_filename="a", stf_filename="a.1.stf")
        driver.receive(msg_type="end_run", run_id=number)
        at = driver.now + timedelta(minutes=1)
        driver.state.record_stfs(str(number), [("a.1.stf", LONG_AGO)], at)
        driver.state.record_tf_files(str(number), "a.1.stf", [{"stf_file": "a.1.stf", "tf_filename": "a"}], at)
        driver.state.finish_comparison(str(number), None, at)
        driver.state._drop_old_runs(at)

    count = MAX_ROWS + 30
    for number in range(1, count + 1):
        driver.wait(1)
        play(number)
    found = driver.state.snapshot(driver.now)
    assert (found["totals"]["runs"], found["totals"]["tf_files"], len(found["runs"])) == (count, count, MAX_RUNS)
    assert found["runs"][0]["run"] == str(count)
    for number in (1, 500):  # without a row, and with one
        play(number)
    totals = driver.state.snapshot(driver.now)["totals"]
    assert (totals["runs"], totals["tf_files"]) == (count, count)


def test_pages_follow_each_other() -> None:
    driver = StateDriver()
    for number in range(60):
        driver.wait(1)
        driver.receive(msg_type="start_run", run_id=number)
    pages = [driver.state.page(driver.now, offset, 25) for offset in (0, 25, 50)]
    assert [int(run["run"]) for page in pages for run in page] == list(range(59, -1, -1))
    assert driver.state.snapshot(driver.now)["runs_total"] == 60


def test_runs_of_any_name_are_capped() -> None:
    driver = StateDriver()
    for number in range(3 * MAX_OPEN_RUNS):
        driver.receive(msg_type="tf_file_registered", run_id=f"x{number}", tf_filename="a", stf_filename="a.1.stf")
    assert len(driver.state.runs) == MAX_OPEN_RUNS
    assert driver.state.snapshot(driver.now)["totals"]["tf_files"] == 3 * MAX_OPEN_RUNS


# Times, rates, sizes


def test_rate_is_over_the_time_that_passed() -> None:
    driver = StateDriver()
    for number in range(4 * 28):
        driver.now = T0 + timedelta(seconds=number / 28)
        driver.tf(number // 7 + 1, number % 7, tf_total=7)
    assert driver.row["rate_hz"] == pytest.approx(28, rel=0.05)
    assert driver.state.snapshot(driver.now)["tiles"]["flow"]["rate_hz"] == driver.row["rate_hz"]
    driver.wait(61)
    assert driver.row["rate_hz"] == 0


def test_an_old_row_has_no_rate_and_a_true_age() -> None:
    driver = StateDriver()
    for number in range(1, 11):
        driver.wait(1)
        driver.receive(msg_type="tf_file_registered", run_id=f"t{number}", tf_filename="a", stf_filename="a.1.stf")
        driver.receive(msg_type="end_run", run_id=f"t{number}")
    driver.wait(601)
    driver.state.tick(driver.now)
    assert len(driver.state.runs) == 8
    assert {run["rate_hz"] for run in driver.state.rows(driver.now, strip=False)} == {0}
    assert driver.state.rows(driver.now + timedelta(seconds=9), strip=False)[-1]["last_age_s"] == 619


def test_last_is_when_the_newest_tf_file_was_made() -> None:
    driver = StateDriver()
    driver.wait(300)
    driver.compare([1], {1: 2})  # made at T0
    driver.state.run("7", driver.now)
    driver.compare([1], {1: 2})
    assert (driver.row["last_at"], driver.row["last_age_s"]) == (T0.isoformat(), 300)
    assert driver.state.snapshot(driver.now)["tiles"]["flow"]["age_s"] == 300


def test_unknown_sizes_are_not_zero() -> None:
    driver = StateDriver()
    driver.tf(1, 1, file_size_bytes=None)
    snapshot = driver.state.snapshot(driver.now)
    assert (snapshot["runs"][0]["bytes"], snapshot["totals"]["bytes"]) == (None, None)
    driver.tf(1, 2, file_size_bytes=50)
    found = driver.state.rows(driver.now, strip=False)[0]
    assert (found["bytes"], found["tf_files_without_size"]) == (50, 1)
    assert "≥50 B" in run_line(found)


# Filters and reasons


def test_a_namespace_filters_alarms_and_daemons() -> None:
    driver = StateDriver(namespace="mine", agents=("nobody",))
    driver.receive(msg_type="fastmon_status", processed_by="a", namespace="ns", status="degraded")
    for number in range(5):
        driver.tf(1, number)
    driver.wait(70)
    driver.state.receive_heartbeat(driver.now)
    assert driver.alarms() == []
    assert driver.state.snapshot(driver.now)["tiles"]["daemon"]["agents"] == []
    driver.receive(msg_type="fastmon_status", processed_by="b", namespace="mine", status="degraded")
    assert driver.alarms() == ["daemon_degraded"]


@pytest.mark.parametrize("later", ["connected", "lost", "listing"])
def test_the_reason_of_the_monitor_stands_until_it_answers(later: str) -> None:
    driver = StateDriver()
    driver.tf(1)
    html = "response to /api/stf-files/ is not JSON (login page or proxy?): '<html>'"
    driver.state.finish_comparison("7", html, driver.now)
    if later == "connected":
        driver.state.connected(driver.now)
    elif later == "lost":
        driver.state.lost("reset", driver.now)
    assert driver.row["doubt"] == html
    driver.state.finish_comparison("7", None, driver.now)
    assert driver.row["doubt"] != html


def test_the_refusal_stays_the_reason() -> None:
    driver = StateDriver()
    driver.tf(1)
    driver.state.refused("monitor rejected the token (401)", driver.now)
    driver.state.finish_comparison("7", "monitor answered 500", driver.now)
    assert driver.row["doubt"] == "monitor rejected the token (401)"


# Announcements with an id only


@pytest.mark.parametrize("first", ["announced", "backfilled"])
def test_a_tf_file_announced_by_its_id_and_found_by_its_name_counts_once(first: str) -> None:
    driver = StateDriver()
    message = announcement(1, 1) | {"tf_filename": None}
    driver.state.run("7", driver.now)
    if first == "announced":
        assert driver.receive(**message)
        assert driver.state.record_tf_files("7", stf(1), [row(1, 1)], driver.now) == []
    else:
        assert len(driver.state.record_tf_files("7", stf(1), [row(1, 1)], driver.now)) == 1
        assert not driver.receive(**message)
    assert (driver.row["tf_files"], driver.row["duplicates"]) == (1, 0)
    assert driver.receive(**announcement(1, 2) | {"tf_filename": None})
    assert driver.row["tf_files"] == 2


# The end of a session


def test_a_run_with_a_changed_fraction_waits_for_the_daemons_summary_before_it_is_final() -> None:
    stop = StopConditions(until_end_run=True)
    driver = ended_run_with_two_fractions()
    state = driver.state
    state.runs["7"].ended_at = driver.now - timedelta(seconds=59)
    assert not stop.run_is_final(state, driver.now)
    assert stop.run_is_final(state, driver.now + timedelta(seconds=2))
    driver.receive(**summary_message())
    driver.wait(1)
    driver.compare(list(range(1, 31)), dict.fromkeys([*range(1, 12), 21], 2))
    assert stop.run_is_final(state, driver.now)
    assert not has_gaps(state.rows(driver.now, strip=False)[0])


def test_an_open_run_counts_for_the_verdict_though_50_newer_ones_are_listed() -> None:
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.tf(1)
    for number in range(100, 100 + MAX_RUNS + 5):
        driver.wait(1)
        for kind in ("start_run", "end_run"):
            driver.receive(msg_type=kind, run_id=number, namespace="ns")
    driver.wait(70)
    driver.state.receive_heartbeat(driver.now)
    found = driver.state.snapshot(driver.now)
    assert "7" not in [run["run"] for run in found["runs"]]
    assert "run 7: no TF file" in found["tiles"]["flow"]["text"]


# The time before the start


def test_tf_files_of_the_tables_that_were_made_before_the_start_are_counted_once_by_time() -> None:
    driver = late_driver(ended_row())
    driver.state.record_stfs("7", [(stf(n), LONG_AGO) for n in (1, 2, 3)], driver.now)
    begin = int(T0.timestamp())
    for sequence, seconds in ((1, 3600), (2, 3597), (3, -1), (4, 2 * 86400)):
        made = (T0 - timedelta(seconds=seconds)).isoformat()
        rows = [row(sequence, number) | {"created_at": made} for number in (1, 2)]
        for _ in range(2):  # read twice, counted once
            driver.state.record_tf_files("7", stf(sequence), rows, driver.now)
    assert driver.state.earlier_rates == {begin - 3600: 4}


def test_announced_tf_files_are_not_of_the_time_before_the_start() -> None:
    driver = StateDriver()
    driver.tf(1, timestamp=(T0 - timedelta(seconds=30)).isoformat())
    assert driver.state.earlier_rates == {}

"""One run: its whole row, and the edges of its rules: when it is compared, final, finished, stale, in doubt."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from fastmon_client import runs as module
from fastmon_client.intervals import Intervals
from fastmon_client.monitor_tables import Tables
from fastmon_client.runs import NOT_COMPARED, NOT_NUMBERED, DaemonSummary, Run, RunTable
from fastmon_client.summary import has_gaps, read_run, run_line, summary_lines
from fastmon_client.tffile import TfFile
from tests.client.snapshots import run as run_row
from tests.client.snapshots import snapshot
from tests.client.state_driver import LONG_AGO, T0, StateDriver, announcement, row, stf

JUST_BEFORE = timedelta(microseconds=1)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def iso(seconds: float) -> str:
    return after(seconds).isoformat()


def new_run(name: str = "7", *, is_past: bool = False) -> Run:
    return Run(name, T0, Intervals(), is_past=is_past)


def ingest(
    run: Run, sequence: int, number: int = 1, at: datetime = T0, *, backfilled: bool = False, **changes: Any
) -> bool:
    return run.ingest(TfFile.of(announcement(sequence, number) | changes), at, backfilled=backfilled)


def compare(run: Run, at: datetime, *numbers: int, since: datetime = LONG_AGO) -> None:
    """A comparison with a monitor that has these STFs, without TF files."""
    assert run.start_comparison(at)
    for name in run.record_listing([(stf(number), since) for number in numbers], at, LONG_AGO):
        run.record_answer(name, at)
    run.finish_comparison(None, at)


def ended_run(*, whole: bool = True) -> Run:
    """Run 7 with STF 1, or half of it, ended and compared after 20 s."""
    run = new_run()
    ingest(run, 1)
    if whole:
        ingest(run, 1, 2)
    run.record_state("end_run", T0)
    compare(run, after(20), 1)
    return run


# Its row


def test_every_field_of_a_row() -> None:
    driver = StateDriver()
    driver.receive(msg_type="start_run", run_id=7, namespace="ns", timestamp=iso(-5))
    driver.wait(1.5)
    driver.tf(1)
    driver.tf(1, file_size_bytes=None)
    driver.wait(6.5)
    driver.tf(3, timestamp=iso(3), file_size_bytes=None)
    driver.wait(0.5)
    driver.receive(msg_type="stf_gen", run_id=7)
    driver.wait(51.5)
    metadata = {"tf_files_per_stf": 2, "tf_count_per_stf": 9}
    driver.state.record_stfs("7", [(stf(number), after(number)) for number in (1, 2, 3, 4)], driver.now)
    driver.state.record_tf_files(
        "7", stf(2), [row(2, number) | {"metadata": metadata} for number in (1, 2)], driver.now
    )
    for sequence in (1, 3, 4):
        driver.state.record_tf_files("7", stf(sequence), [], driver.now)
    driver.state.finish_comparison("7", None, driver.now)
    driver.wait(0.2)
    assert driver.row == {
        "run": "7", "namespace": "ns", "state": "running", "stale": False, "is_past": False, "verified": "VERIFIED",
        "verified_at": iso(60), "doubt": "", "stfs_seen": 3, "stfs_expected": 4, "stfs_skipped": 0, "stfs_missing": 1,
        "stfs_incomplete": 2, "missing": [4], "tf_files": 4, "tf_expected": 8, "bytes": 30, "tf_files_without_size": 1,
        "backfilled": 2, "duplicates": 1, "rate_hz": 0.018, "lag_p50_s": 5.0, "lag_p95_s": 5.0, "last_at": iso(3),
        "last_age_s": 57.2, "began_at": iso(-5), "ended_at": None, "stf_registered_at": iso(4),
        "stf_generated_at": iso(8.5),
        "strip": [{"sequence": 1, "kind": "incomplete"}, {"sequence": 2, "kind": "recovered"},
                  {"sequence": 3, "kind": "incomplete"}, {"sequence": 4, "kind": "missing"}],
    }  # fmt: skip


def test_every_field_of_a_row_of_which_nothing_is_known() -> None:
    driver = StateDriver()
    driver.state.run("7", driver.now)
    assert driver.row == {
        "run": "7", "namespace": None, "state": "unknown", "stale": False, "is_past": False, "verified": "UNKNOWN",
        "verified_at": None, "doubt": NOT_COMPARED, "stfs_seen": 0, "stfs_expected": None, "stfs_skipped": None,
        "stfs_missing": None, "stfs_incomplete": 0, "missing": [], "tf_files": 0, "tf_expected": None, "bytes": 0,
        "tf_files_without_size": 0, "backfilled": 0, "duplicates": 0, "rate_hz": 0.0, "lag_p50_s": None,
        "lag_p95_s": None, "last_at": None, "last_age_s": None, "began_at": None, "ended_at": None,
        "stf_registered_at": None, "stf_generated_at": None, "strip": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "is_numbered"),
    [("0", True), ("123456789", True), ("1234567890", False), ("", False), ("7a", False), ("٣", False), ("²", False)],
)
def test_a_run_of_up_to_nine_digits_can_be_queried(name: str, is_numbered: bool) -> None:
    run = new_run(name)
    assert (run.is_numbered, run.unknown_reason) == (is_numbered, NOT_COMPARED if is_numbered else NOT_NUMBERED)
    assert run.compare_at == (after(1) if is_numbered else None)


def test_a_run_has_the_earliest_begin_and_the_first_end_that_are_not_in_the_future() -> None:
    run = new_run()
    run.record_state("start_run", T0, after(5))
    assert run.began_at == T0
    run.record_state("start_run", after(9), after(8))
    run.record_state("pause_run", after(9), after(1))
    assert (run.began_at, run.state, run.active_at) == (T0, "paused", after(9))
    run.record_state("end_run", after(20), after(18))
    assert (run.ended_at, run.end_known_at, run.state) == (after(18), after(20), "ended")
    run.record_state("resume_run", after(21))
    run.record_row({"start_time": iso(-9), "end_time": iso(10)}, after(22))
    assert (run.began_at, run.ended_at, run.state, run.active_at) == (after(-9), after(18), "ended", after(20))
    run = new_run()
    run.record_state("end_run", T0, after(5))
    assert run.ended_at == T0
    resumed = new_run()
    resumed.record_state("resume_run", T0, after(-5))
    assert resumed.began_at is None


def test_the_begin_of_a_run_that_nobody_told_is_that_of_its_first_stf() -> None:
    run = new_run()
    run.record_listing([(stf(2), after(-5)), (stf(1), after(-9))], T0, None)
    assert (run.began_at, run.stf_registered_at, run.state) == (after(-9), after(-5), "running")
    run.record_listing([], T0, None)
    assert (run.began_at, run.stf_registered_at) == (after(-9), after(-5))


@pytest.mark.parametrize(("age_s", "state"), [(599.999, "running"), (600, "unknown")])
def test_a_run_that_got_stfs_within_ten_minutes_is_running(age_s: float, state: str) -> None:
    run = new_run()
    run.record_listing([(stf(1), after(-age_s))], T0, None)
    assert run.state == state


def test_the_volume_is_that_of_the_tf_files_whose_size_is_known() -> None:
    run = new_run()
    ingest(run, 1, file_size_bytes=None)
    assert run.row(T0, timedelta(minutes=1), strip=False)["bytes"] is None
    ingest(run, 1, 2, file_size_bytes=7)
    assert run.row(T0, timedelta(minutes=1), strip=False)["bytes"] == 7
    ingest(run, 2)
    ingest(run, 2, 2)
    assert (run.volume, run.unsized, run.tf_files) == (27, 1, 4)


# When it is compared


def test_a_comparison_starts_when_it_is_due_and_once() -> None:
    run = new_run()
    assert not run.start_comparison(after(1) - JUST_BEFORE)
    assert run.start_comparison(after(1))
    assert not run.start_comparison(after(9))


@pytest.mark.parametrize(("idle_s", "rest_s"), [(600, 30), (600.001, 300)])
def test_a_run_is_idle_after_ten_minutes(idle_s: float, rest_s: float) -> None:
    run = new_run()
    ingest(run, 1, tf_total=1)
    compare(run, after(idle_s), 1)
    assert run.compare_at == after(idle_s + rest_s)


@pytest.mark.parametrize(("listing_s", "rest_s"), [(3, 30), (3.5, 35)])
def test_the_rest_after_a_slow_listing_is_ten_times_its_duration(listing_s: float, rest_s: float) -> None:
    run = new_run()
    assert run.start_comparison(after(1))
    run.record_listing([], after(1), None)
    run.finish_comparison(None, after(1 + listing_s))
    assert (run.compare_at, run.verified_at) == (after(1 + listing_s + rest_s), after(1 + listing_s))


@pytest.mark.parametrize(
    ("since_end_s", "rest_s"),
    [(9.999, 1), (10, None), (10.001, None)],
)
def test_an_ended_run_is_compared_every_second_until_the_grace_time_is_over(
    since_end_s: float, rest_s: float | None
) -> None:
    run = new_run()
    ingest(run, 1, tf_total=1)
    ingest(run, 3, tf_total=1)
    ingest(run, 2, at=after(-1), tf_total=1)
    run.record_state("end_run", T0)
    ingest(run, 4, at=T0, tf_total=2, late=True)
    ingest(run, 4, 2, at=T0, tf_total=2, late=True)
    run.stfs.extend_to(5)
    assert run.start_comparison(after(since_end_s))
    run.record_listing([(stf(number), T0) for number in (1, 2, 3, 4, 5)], after(since_end_s), None)
    run.record_answer(stf(5), after(since_end_s))
    run.finish_comparison(None, after(since_end_s))
    is_settled = rest_s is None
    assert run.compare_at == after(since_end_s + (30 if is_settled else 1))  # STF 5 is missing then
    assert (run.is_settled(after(since_end_s)), run.state) == (is_settled, "ended")


@pytest.mark.parametrize(("since_end_s", "rest_s"), [(59.999, 1), (60, 30)])
def test_a_pending_ended_run_is_compared_every_second_for_a_minute(since_end_s: float, rest_s: float) -> None:
    run = new_run()
    run.record_state("end_run", T0)
    compare(run, after(since_end_s), 1, since=after(since_end_s))
    assert run.compare_at == after(since_end_s + rest_s)


def test_a_run_whose_end_was_learned_late_is_compared_every_second_from_then_on() -> None:
    run = new_run()
    run.record_state("end_run", T0, after(-900))
    compare(run, after(30), 1, since=after(30))
    assert run.compare_at == after(31)


@pytest.mark.parametrize(("since_end_s", "is_watched"), [(900, True), (900.001, False)])
def test_a_run_with_gaps_is_compared_for_15_minutes_after_its_end(since_end_s: float, is_watched: bool) -> None:
    run = ended_run(whole=False)
    assert run.compare_at == after(50)
    compare(run, after(since_end_s), 1)
    assert run.compare_at == (after(since_end_s + 30) if is_watched else None)
    assert run.state == "ended"


def test_a_whole_run_is_not_compared_again() -> None:
    run = ended_run()
    assert (run.compare_at, run.state, run.is_finished(after(20))) == (None, "complete", True)


@pytest.mark.parametrize(("since_end_s", "is_compared"), [(900, True), (900.001, False)])
def test_a_complete_run_is_compared_again_for_15_minutes_after_its_end(since_end_s: float, is_compared: bool) -> None:
    run = ended_run()
    run.mark_unverified("reconnected", after(since_end_s), compare=True)
    assert run.compare_at == (after(since_end_s + 1) if is_compared else None)
    assert run.unknown_reason == ("reconnected" if is_compared else "")


def test_a_failed_comparison_is_the_reason_until_one_succeeds() -> None:
    run = new_run()
    assert run.is_awaited
    assert run.start_comparison(after(1))
    run.finish_comparison("monitor answered 500", after(2))
    assert (run.compare_at, run.is_awaited) == (after(7), False)
    assert run.row(after(3), timedelta(minutes=1), strip=False)["doubt"] == "monitor answered 500"
    compare(run, after(7))
    assert run.row(after(7), timedelta(minutes=1), strip=False)["doubt"] == ""
    assert not run.is_awaited


def test_a_past_run_is_compared_once_and_followed_on_a_sign_of_data() -> None:
    run = new_run(is_past=True)
    assert (run.was_shown, run.is_finished(T0)) == (True, False)
    compare(run, after(1), 1)
    assert (run.compare_at, run.is_finished(after(1))) == (None, True)
    run.record_state("start_run", after(5))
    assert (run.is_past, run.compare_at, run.is_finished(after(5))) == (False, after(6), False)


@pytest.mark.parametrize(("since_end_s", "is_compared"), [(900, True), (900.001, False)])
def test_a_past_run_with_gaps_is_compared_for_15_minutes_after_its_own_end(
    since_end_s: float, is_compared: bool
) -> None:
    run = new_run(is_past=True)
    ingest(run, 1, at=after(-99), late=True)
    run.record_row({"start_time": iso(-5000), "end_time": iso(-since_end_s + 50)}, T0)
    compare(run, after(50), 1)
    assert (run.compare_at is not None, run.ended_at) == (is_compared, after(50 - since_end_s))


def test_reading_a_past_run_is_bounded_to_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAST_READS", 3)
    run = new_run(is_past=True)
    assert len(run.record_listing([(stf(number), LONG_AGO) for number in (1, 2)], T0, None)) == 2
    found = run.record_listing([(stf(number), LONG_AGO) for number in (1, 2, 3)], T0, None)
    assert found == [stf(1)]
    run.finish_comparison(None, T0)
    assert run.unknown_reason == "too many STFs to read: fastmon-client summary --run 7 reads them all"
    assert run.compare_at is None


# When it is final, finished, stale


@pytest.mark.parametrize(("waited_s", "is_final"), [(60, False), (60.001, True)])
def test_waiting_for_the_monitor_ends_a_minute_after_its_last_answer(waited_s: float, is_final: bool) -> None:
    run = new_run()
    run.record_state("end_run", after(5))
    assert run.is_final(after(5 + waited_s)) is is_final
    run.record_answer(stf(1), after(30))
    assert run.is_final(after(30 + waited_s)) is is_final
    run.record_listing([], after(40), None)
    assert run.is_final(after(40 + waited_s)) is is_final
    assert not new_run().is_final(after(999))


def test_a_settled_run_is_final_at_once_and_an_unnumbered_one_at_its_end() -> None:
    run = ended_run()
    assert run.is_settled(after(20))
    assert run.is_final(after(20))
    run = new_run("run-7")
    assert not run.is_final(T0)
    run.record_state("end_run", T0)
    assert (run.is_final(T0), run.is_settled(T0)) == (True, False)


@pytest.mark.parametrize(("idle_s", "is_finished"), [(600, False), (600.001, True)])
def test_an_unnumbered_run_is_finished_after_ten_idle_minutes(idle_s: float, is_finished: bool) -> None:
    assert new_run("run-7").is_finished(after(idle_s)) is is_finished
    assert not new_run("7").is_finished(after(idle_s))


@pytest.mark.parametrize(("idle_s", "is_stale"), [(60, False), (60.001, True)])
def test_a_running_run_is_stale_without_tf_files(idle_s: float, is_stale: bool) -> None:
    run = new_run()
    ingest(run, 1)
    assert run.is_stale(after(idle_s), timedelta(minutes=1)) is is_stale
    run.record_state("pause_run", T0)
    assert not run.is_stale(after(idle_s), timedelta(minutes=1))


def test_only_new_tf_files_that_are_not_late_make_a_run_running() -> None:
    for changes, state in (({}, "running"), ({"late": True}, "unknown")):
        run = new_run()
        assert ingest(run, 1, **changes)  # type: ignore[arg-type]
        assert run.state == state
    run = new_run()
    run.record_state("pause_run", T0)
    ingest(run, 1)
    assert run.state == "paused"


# Why it is in doubt


def doubt(run: Run, at: datetime) -> str:
    return run.row(at, timedelta(minutes=1), strip=False)["doubt"]


def test_a_refusal_is_the_reason_before_any_other() -> None:
    run = new_run()
    compare(run, after(1))
    planned = run.compare_at
    run.mark_unverified("rejected (401)", T0, compare=False, is_refusal=True)
    assert run.compare_at == planned
    run.finish_comparison("monitor answered 500", T0)
    run.mark_unverified("reset", T0, compare=True)
    assert doubt(run, T0) == "rejected (401)"


def test_the_summary_names_each_number_that_differs() -> None:
    run = ended_run()
    run.record_summary({"completed": 2, "skipped": 1, "tf_files": {"registered": 5}}, after(30))
    compare(run, after(40), 1)
    compare(run, after(50), 1)
    assert doubt(run, after(50)) == (
        "the daemon's summary differs: STFs completed 2, here 1; skipped 1, here 0; TF files 5, here 2"
    )
    run.record_summary({"completed": 1, "skipped": None, "tf_files": {"registered": 2}}, after(60))
    compare(run, after(70), 1)
    assert (doubt(run, after(70)), run.state) == ("", "complete")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, DaemonSummary(None, None, 0, None)),
        ({"completed": 0, "skipped": 0, "missing": 1, "failed": 2, "discarded": 4, "tf_files": {"registered": 0}},
         DaemonSummary(0, 0, 7, 0)),
        ({"completed": -1, "skipped": True, "missing": "1", "tf_files": 5}, DaemonSummary(None, None, 0, None)),
    ],
)  # fmt: skip
def test_what_the_daemon_s_summary_says(message: dict[str, Any], expected: DaemonSummary) -> None:
    assert DaemonSummary.of(message) == expected


# The table of runs


def table_row(number: int, began: datetime | None = T0, end: str | None = None) -> dict[str, Any]:
    return {"run_number": number, "start_time": began and began.isoformat(), "end_time": end}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (table_row(1, T0 - timedelta(days=1)), False), (table_row(1, T0 - timedelta(days=1) + JUST_BEFORE), True),
        (table_row(1, T0, iso(0)), False), (table_row(1, None), False), ({"run_number": 1}, False),
    ],
)  # fmt: skip
def test_a_run_of_the_table_takes_data_for_a_day_at_most(row: dict[str, Any], expected: bool) -> None:
    assert RunTable.may_run(row, T0) is expected


def test_later_tables_add_the_newest_50_runs_oldest_first() -> None:
    table = RunTable()
    assert not table.was_read
    table.update([], T0)
    assert (table.was_read, table.contains("7")) == (True, False)
    rows = [table_row(number, after(-number)) for number in range(1, 61)] + [table_row(99, None)]
    fresh, found = table.update(rows, T0)
    assert fresh == list(range(50, 0, -1))
    assert (set(found), table.contains("99"), table.contains("x9")) == ({*range(1, 61), 99}, True, False)
    strange: list[dict[str, Any]] = [
        {"run_number": True},
        {"run_number": "5"},
        {},
        {"run_number": 200, "start_time": 5},
    ]
    assert table.update(strange, T0) == ([200], {200: strange[3]})


def test_runs_of_the_same_begin_are_ordered_by_number() -> None:
    table = RunTable(last=2)
    assert table.update([table_row(number, end=iso(0)) for number in (3, 1, 2)], T0)[0] == [2, 3]


def test_a_table_that_is_too_long_is_forgotten_but_for_its_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN_RUNS", 3)
    table = RunTable()
    table.update([table_row(1), table_row(2)], T0)
    table.update([table_row(3)], T0)
    assert table.contains("1")
    table.update([table_row(4)], T0)
    assert [table.contains(name) for name in "1234"] == [False, False, False, True]


# Its line in the summary


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, ("run 100014 running: 819 TF files of 117 STFs, 41.3 GB, 3 missing in 2 gaps (12, 15-16), 1 incomplete, "
              "14 backfilled, lag 0.2 s (95 %: 1.4 s)")),
        ({"stfs_missing": 0, "missing": [], "stfs_incomplete": 0, "stfs_skipped": 5, "backfilled": 0, "lag_p50_s": None,
          "state": "complete", "tf_files_without_size": 1},
         "run 100014 complete: 819 TF files of 117 STFs, ≥41.3 GB, none missing, 5 skipped"),
        ({"stfs_missing": None, "missing": [], "verified": "UNKNOWN", "doubt": "x\x1b", "lag_p50_s": None,
          "bytes": None, "stfs_incomplete": 0, "backfilled": 0, "stfs_skipped": None},
         "run 100014 running: 819 TF files of 117 STFs, ?, missing unknown; UNKNOWN: x\\x1b"),
        ({"stfs_missing": 4, "missing": [12, 15, 16], "lag_p50_s": 0.0, "lag_p95_s": 0.0, "backfilled": 0},
         ("run 100014 running: 819 TF files of 117 STFs, 41.3 GB, 4 missing in 2 gaps (12, 15-16, ...), 1 incomplete, "
         "lag 0.0 s (95 %: 0.0 s)")),
        ({"stfs_missing": 2, "missing": [], "lag_p50_s": None, "backfilled": 0, "stfs_incomplete": 0},
         "run 100014 running: 819 TF files of 117 STFs, 41.3 GB, 2 missing"),
        ({"stfs_missing": 10, "missing": list(range(1, 20, 2)), "lag_p50_s": None, "backfilled": 0,
          "stfs_incomplete": 0},
         ("run 100014 running: 819 TF files of 117 STFs, 41.3 GB, 10 missing in 10 gaps "
         "(1, 3, 5, 7, 9, 11, 13, 15, 17, 19)")),
        ({"stfs_missing": 11, "missing": list(range(1, 22, 2)), "lag_p50_s": None, "backfilled": 0,
          "stfs_incomplete": 0},
         ("run 100014 running: 819 TF files of 117 STFs, 41.3 GB, 11 missing in 11 gaps "
         "(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, ...)")),
    ],
)  # fmt: skip
def test_every_word_of_the_line_of_a_run(changes: dict[str, Any], line: str) -> None:
    assert run_line(run_row(**changes)) == line  # type: ignore[arg-type]


def test_every_word_of_a_summary() -> None:
    quiet = {"stfs_missing": 0, "missing": [], "stfs_incomplete": 0, "backfilled": 0, "lag_p50_s": None}
    runs = [run_row("3", **quiet), run_row("2", is_past=True, **quiet), run_row("1", is_past=True, **quiet)]
    totals = {"runs": 3, "stfs": 3, "tf_files": 9, "bytes": 1500, "tf_files_without_size": 2, "backfilled": 4,
              "duplicates": 5}  # fmt: skip
    shown = snapshot(runs=runs, totals=totals, filters={"run_ids": ["1"]}, reference={"text": "as\x07usual"})
    assert summary_lines(shown) == [  # type: ignore[arg-type]
        "734 s: 9 TF files, ≥1.5 kB, 4 backfilled, 5 repeated",
        "run 1 running: 819 TF files of 117 STFs, 41.3 GB, none missing",
        "run 3 running: 819 TF files of 117 STFs, 41.3 GB, none missing",
        "as\\x07usual",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, False), ({"verified": "UNKNOWN"}, True), ({"stfs_missing": None}, True), ({"stfs_missing": 1}, True),
     ({"stfs_incomplete": 1}, True)],
)  # fmt: skip
def test_what_makes_a_run_not_whole(changes: dict[str, Any], expected: bool) -> None:
    assert has_gaps(run_row(**{"stfs_missing": 0, "stfs_incomplete": 0, **changes})) is expected  # type: ignore[arg-type]


def test_a_run_with_more_stfs_than_are_read_at_once_is_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeTables(Tables):
        def __init__(self) -> None:
            self.read: list[str] = []

        def stfs(self, run_number: int) -> list[tuple[str, datetime]]:
            assert run_number == 7
            return [(stf(number), LONG_AGO) for number in range(1, 6)]

        def tf_files(self, stf_filename: str) -> list[dict[str, Any]]:
            self.read.append(stf_filename)
            return [row(int(stf_filename.split(".")[2]), number) for number in (1, 2)]

    monkeypatch.setattr("fastmon_client.stfs.MAX_ABSENT", 2)
    tables = FakeTables()
    found = read_run(tables, "http://monitor", {"run_number": 7, "start_time": iso(-600), "end_time": iso(-60)})
    assert found is not None
    assert found["stfs_seen"] == 5
    assert sorted(tables.read) == [stf(number) for number in range(1, 6)]

"""The end of a run: when it has ended, when it is complete, and its summary."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, TransientError
from fastmon_daemon.outbox import Origin, RunRow, runs
from tests.builders import START, logged
from tests.reconciler.harness import Harness, file_name

# The end


def test_the_end_time_at_the_monitor_ends_a_run(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1, 2)
    harness.monitor.ended_at = format_timestamp(START + timedelta(seconds=5))
    harness.pass_time(40)
    assert harness.row.state == "ended"
    assert harness.row.ended_by == "end time at the monitor: 2026-11-21T20:00:05.000+00:00"
    harness.pass_time(40)
    assert (harness.row.state, harness.row.expected, harness.row.expected_by) == ("complete", 2, "monitor")


@pytest.mark.parametrize("trouble", [LinkDown("500"), LinkBlocked("404, and a page")])
def test_a_failed_query_for_the_end_time_hides_no_missed_stf_and_trips_no_breaker(
    harness: Harness, trouble: Exception
) -> None:
    harness.monitor.end_trouble = trouble
    harness.register(1, 2, 3)
    harness.stf_ready(1, 3)
    harness.pass_time(45)
    assert (harness.row.state, harness.stf(2).origin) == ("running", Origin.RECOVERED)
    assert harness.live_outbox.outages.open() == harness.live_outbox.outages.between("2000", "3000") == []


def test_a_run_that_is_idle_for_ten_minutes_with_all_stfs_received_has_ended(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.pass_time(590)
    assert harness.row.state == "running"
    harness.pass_time(150)
    assert harness.row.state == "complete"
    assert "no messages for 0:10:00" in (harness.row.ended_by or "")


@pytest.mark.parametrize("monitor_too", [False, True])
def test_a_run_does_not_end_while_the_broker_link_is_down(harness: Harness, monitor_too: bool) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.pass_time(40)
    harness.broker_is(harness.live_engine, up=False)
    harness.monitor.down = monitor_too
    harness.pass_time(900)
    assert harness.row.state == "running"
    harness.broker_is(harness.live_engine, up=True)
    harness.reconciler.link_restored()
    harness.monitor.down = False
    harness.pass_time(300)
    assert harness.row.state == "running"
    harness.pass_time(700)
    assert harness.row.state == "complete"


def test_a_clock_jump_ends_no_run_and_hides_no_missed_stf(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.tick()
    harness.time.at += timedelta(hours=2)
    harness.pass_time(45)
    assert (harness.row.state, harness.stf(2).origin) == ("running", Origin.RECOVERED)
    harness.time.at -= timedelta(hours=4)
    harness.register(3)
    harness.pass_time(120)
    assert (harness.row.state, harness.stf(3).origin) == ("running", Origin.RECOVERED)


@pytest.mark.parametrize("minutes", [11, 50])
def test_after_the_end_a_clock_jump_back_delays_recovery_by_a_minute_at_most(harness: Harness, minutes: int) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.tick()
    harness.process("end_run", total_stf_files=2)
    harness.tick()
    harness.time.at -= timedelta(minutes=minutes)
    harness.pass_time(60)
    assert harness.stf(2).origin is Origin.RECOVERED


def test_an_idle_paused_run_does_not_end(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("pause_run")
    for _ in range(60):
        harness.time.pass_(minutes=1)
        harness.tick()
    assert harness.row.state == "paused"


def test_the_total_of_a_late_end_run_overrides_the_monitors_count(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.monitor.ended_at = format_timestamp(START)
    harness.process("resume_run")
    harness.pass_time(35)
    assert harness.row.state == "ended"
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(60)
    assert (harness.row.state, harness.row.expected, harness.row.expected_by) == ("ended", 2, "end_run")
    harness.register(2)
    harness.pass_time(20)
    assert harness.row.state == "complete"


def test_a_further_end_run_with_a_higher_total_reopens_a_complete_run(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1, 2)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(3)
    assert (harness.row.state, harness.verdict.complete) == ("complete", True)
    harness.process("end_run", total_stf_files=3)
    harness.pass_time(20)
    assert (harness.row.state, harness.row.expected) == ("ended", 3)
    assert (harness.verdict.complete, harness.verdict.missing, harness.verdict.missing_sequences) == (False, 1, "3")
    harness.register(3)
    harness.pass_time(25)
    assert (harness.row.state, harness.verdict.complete, harness.stf(3).state) == ("complete", True, "completed")
    first, second = harness.summaries
    assert (first["expected"], second["expected"]) == (2, 3)
    assert first["event_id"] != second["event_id"]


def test_a_first_end_run_with_a_higher_total_reopens_a_complete_run(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.monitor.ended_at = format_timestamp(START)
    harness.pass_time(90)
    assert (harness.row.state, harness.row.expected_by) == ("complete", "monitor")
    harness.process("end_run", total_stf_files=2)
    assert (harness.row.state, harness.verdict.incomplete_reasons) == ("ended", ("missing: 1",))


@pytest.mark.parametrize("total", [1, 2])
def test_a_further_end_run_without_a_higher_total_changes_nothing(harness: Harness, total: int) -> None:
    harness.register(1, 2)
    harness.stf_ready(1, 2)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(3)
    before = harness.row
    harness.process("end_run", total_stf_files=total)
    assert (harness.row.state, harness.row.expected, harness.row.poll_at) == (before.state, 2, before.poll_at)


def test_polls_start_again_when_the_total_of_a_given_up_run_rises(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(1800)
    assert harness.row.poll_at is None
    harness.process("end_run", total_stf_files=3)
    harness.pass_time(600)
    harness.register(2, 3)
    harness.pass_time(30)
    assert harness.row.state == "complete"


def test_a_run_is_not_complete_while_an_stf_is_missing_failed_or_unfinished(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1, 2)
    harness.process("end_run", total_stf_files=4)
    harness.pass_time(30)
    assert harness.verdict.incomplete_reasons == ("missing: 2",)
    assert harness.verdict.missing_sequences == "3-4"
    harness.monitor.trouble[file_name(3)] = TransientError("500")
    harness.register(3, 4)
    harness.stf_ready(3, 4)
    assert harness.verdict.incomplete_reasons == ("completed: 3, listed by the monitor: 2", "unfinished: 1")
    harness.pass_time(11)
    assert harness.verdict.incomplete_reasons == ("unfinished: 1",)
    del harness.monitor.trouble[file_name(3)]
    harness.pass_time(120)
    assert harness.row.state == "complete"


@pytest.mark.field("1")
def test_a_run_is_not_complete_while_the_monitor_does_not_list_what_we_completed(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1, 2)  # another run has the name of the second
    with logged("WARNING") as lines:
        harness.process("end_run", total_stf_files=2)
        harness.pass_time(60)
    told = f"with TF files, but not listed by the monitor in this run: 1 ({file_name(2)} ...)"
    assert harness.verdict.incomplete_reasons == (told,)
    assert [line for line in lines if "not listed" in line] == [
        f"run 100014: 1 STFs with TF files are not listed by the monitor: {file_name(2)} ...\n"
    ]
    assert harness.row.state == "ended"
    harness.pass_time(1000)
    assert harness.row.poll_at is None  # given up
    assert (harness.verdict.incomplete_reasons, harness.summaries) == ((told,), [])
    harness.register(2)
    compare = harness.reconcile("alice")
    with harness.live_outbox.transaction():
        compare(harness.live_outbox, harness.time.at)
    harness.pass_time(30)
    assert harness.row.state == "complete"


@pytest.mark.field("1")
def test_names_of_a_run_that_the_monitor_does_not_list_make_its_stfs_doubtful(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1, 2)
    harness.pass_time(40)
    assert harness.row.unlisted == (file_name(2),)
    assert harness.stf(1).is_doubtful
    harness.register(2)
    harness.pass_time(40)
    assert not harness.stf(1).is_doubtful


def test_an_end_run_that_arrives_during_the_verdict_prevents_completion(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.monitor.ended_at = format_timestamp(START)
    window = harness.live_outbox.runs.window

    def slow(row: RunRow) -> tuple[str, str]:
        harness.deliver("end_run", total_stf_files=2)
        return window(row)

    harness.live_outbox.runs.window = slow  # type: ignore[method-assign]
    harness.pass_time(90)
    assert (harness.row.state, harness.row.expected, harness.summaries) == ("ended", 2, [])
    harness.register(2)
    harness.pass_time(30)
    assert harness.row.state == "complete"
    assert [summary["expected"] for summary in harness.summaries] == [2]


def test_a_run_is_not_given_up_while_the_monitor_is_down_at_its_end(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.tick()
    harness.monitor.down = True
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(30)
    for _ in range(60):
        harness.time.pass_(minutes=1)
        harness.tick()
    harness.monitor.down = False
    harness.pass_time(30)
    assert harness.row.state == "complete"


def test_a_run_is_not_given_up_when_the_monitor_was_down_after_its_end(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(5)
    harness.monitor.down = True
    for _ in range(60):
        harness.time.pass_(minutes=1)
        harness.tick()
    harness.monitor.down = False
    harness.pass_time(30)
    assert harness.row.state == "ended"
    harness.register(2)  # the data agent had to wait for the monitor as well
    harness.pass_time(30)
    assert (harness.row.state, harness.stf(2).origin) == ("complete", Origin.RECOVERED)


def test_an_ended_run_is_polled_for_a_quarter_of_an_hour(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    for _ in range(8):
        harness.pass_time(100)
    assert harness.live_outbox.runs.due_for_poll(harness.time.at + timedelta(minutes=1), nameless_only=False)
    harness.pass_time(100)
    harness.pass_time(100)
    assert harness.row.state == "ended"
    assert harness.row.poll_at is None


def test_an_inconsistent_list_is_recorded_and_polled_again(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.monitor.list_trouble = TransientError("the monitor counts 3 STFs in run 100014 but lists 2")
    harness.process("end_run", total_stf_files=2)
    assert harness.row.reconcile_error == "the monitor counts 3 STFs in run 100014 but lists 2"
    assert harness.live_engine.breakers.allows_calls("monitor")
    harness.monitor.list_trouble = None
    harness.pass_time(12)
    assert harness.row.reconcile_error is None


def test_after_an_end_run_without_a_total_the_monitors_count_is_expected(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1, 2)
    harness.process("end_run")
    assert (harness.row.state, harness.row.expected) == ("ended", None)
    assert harness.verdict.incomplete_reasons == ("total unknown",)
    harness.pass_time(60)
    assert (harness.row.state, harness.row.expected, harness.row.expected_by) == ("complete", 2, "monitor")


def test_a_further_end_run_without_a_total_keeps_the_total(harness: Harness) -> None:
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=3)
    harness.process("end_run")
    assert (harness.row.state, harness.row.expected, harness.row.expected_by) == ("ended", 3, "end_run")


def test_an_end_run_with_a_lower_total_overrides_the_monitors_count_and_reopens_nothing(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1, 2)
    harness.monitor.ended_at = format_timestamp(START)
    harness.pass_time(90)
    assert (harness.row.state, harness.row.expected, harness.row.expected_by) == ("complete", 2, "monitor")
    harness.process("end_run", total_stf_files=1)
    assert (harness.row.state, harness.row.expected, harness.row.expected_by) == ("complete", 1, "end_run")
    assert harness.verdict.complete


def test_a_run_with_overdue_stfs_is_polled_once_a_second_at_most(harness: Harness) -> None:
    harness.register(*range(1, 9))
    for n in (1, 2, 3):
        harness.stf_ready(n)
        harness.pass_time(20)
    polls = harness.monitor.polls
    for _ in range(100):
        harness.time.pass_(seconds=0.1)
        harness.tick(2)
    assert 1 <= harness.monitor.polls - polls <= 10


def test_a_run_is_not_complete_while_one_more_stf_is_looked_up(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=1)
    harness.begin_lookup()
    assert (harness.row.state, harness.verdict.complete) == ("ended", False)
    assert harness.verdict.incomplete_reasons == ("listed by the monitor, not received yet: 1",)
    harness.pool.resume()
    harness.pass_time(12)
    assert (harness.row.state, harness.verdict.complete, harness.stf(2).state) == ("complete", True, "completed")


def test_a_run_is_not_complete_while_more_stfs_are_absent_than_names_are_stored(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MAX_ABSENT", 1)
    harness.register(1, 2, 3)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=1)
    harness.begin_lookup()  # of both STFs
    harness.pool.paused = False
    harness.pool.calls.pop(0)()
    harness.pass_time(8)
    assert (harness.known(), harness.row.absent, harness.row.state) == ([file_name(1), file_name(2)], (), "ended")
    harness.pool.resume()
    harness.pass_time(12)
    assert (harness.row.state, harness.verdict.recovered) == ("complete", 2)


def test_queued_stfs_that_a_full_disk_dropped_are_found_again_even_beyond_the_total(harness: Harness) -> None:
    harness.register(1, 2, 3, 4)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=1)
    harness.begin_lookup()  # of two STFs: the third waits
    harness.disk_is_short = True
    harness.pool.resume()
    harness.tick()
    harness.disk_is_short = False
    harness.pass_time(60)
    assert harness.known() == [file_name(n) for n in (1, 2, 3, 4)]


# The summary


def test_the_summary_of_a_complete_run_is_sent_once_even_after_failures_and_restarts(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    send_summary = harness.send_summary
    harness.send_summary = lambda _body, _event_id: (_ for _ in ()).throw(LinkDown("stopped"))  # type: ignore[method-assign]
    harness.start()
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(3)
    assert (harness.row.state, harness.row.summary_at) == ("complete", None)
    harness.send_summary = send_summary  # type: ignore[method-assign]
    harness.start()
    harness.broker_is(harness.live_engine, up=True)
    harness.pass_time(3)
    harness.start()
    harness.pass_time(60)
    assert harness.row.summary_at is not None
    (summary,) = harness.summaries
    assert {"run_id", "agent_name"} & set(summary) == set()
    assert (summary["msg_type"], summary["run_number"], summary["complete"]) == ("fastmon_run_summary", 100014, True)
    assert (summary["expected"], summary["completed"], summary["tf_files"]["announced"]) == (1, 1, 7)


def test_an_outdated_verdict_is_not_sent(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.tick()
    harness.broker_is(harness.live_engine, up=False)
    harness.tick()
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(3)
    assert (harness.row.state, harness.summaries) == ("complete", [])
    harness.process("end_run", total_stf_files=2)
    harness.broker_is(harness.live_engine, up=True)
    harness.pass_time(20)
    assert (harness.row.state, harness.summaries) == ("ended", [])

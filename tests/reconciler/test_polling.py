"""Polls of runs: when they are due, and which STFs count as missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmon_daemon.base.errors import LinkDown, StorageUnavailable
from fastmon_daemon.messages import run_number
from fastmon_daemon.outbox import Origin
from tests.builders import logged
from tests.reconciler.harness import Harness, file_name

# Missed STFs


def test_an_stf_without_message_is_recovered_after_half_a_minute(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.pass_time(25)
    assert harness.known() == [file_name(1)]
    assert harness.row.absent == (file_name(2),)
    harness.pass_time(10)
    stf = harness.stf(2)
    assert (stf.state, stf.origin, stf.tf_count, stf.sequence) == ("completed", Origin.RECOVERED, 500, 2)
    assert harness.first_note(2) == "recovered: no message received"
    assert harness.row.absent == ()


def test_an_stf_whose_message_is_late_is_not_recovered(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.pass_time(20)
    harness.stf_ready(2)
    harness.pass_time(60)
    assert harness.stf(2).origin is Origin.MESSAGE


def test_an_absent_stf_whose_message_arrives_is_remove_absent_any_more(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    assert harness.row.absent == (file_name(2),)
    polls = harness.monitor.polls
    harness.stf_ready(2)
    assert (harness.monitor.polls, harness.verdict.incomplete_reasons, harness.verdict.missing_names) == (
        polls,
        ("not ended",),
        (),
    )


def test_nothing_is_stored_or_missed_while_disk_space_is_short(harness: Harness) -> None:
    harness.register(1, 2, 3)
    harness.stf_ready(1)
    harness.pass_time(20)
    harness.disk_is_short = True  # the messages of 2 and 3 wait at the broker
    harness.pass_time(60)
    assert harness.known() == [file_name(1)]
    reconcile = harness.reconcile("alice")
    with pytest.raises(StorageUnavailable, match="make room"):
        reconcile(harness.live_outbox, harness.time.at)
    harness.disk_is_short = False
    harness.pass_time(10)
    harness.stf_ready(2)
    harness.pass_time(60)
    assert (harness.stf(2).origin, harness.stf(3).origin) == (Origin.MESSAGE, Origin.RECOVERED)


def test_stfs_in_the_brokers_backlog_are_not_recovered(harness: Harness) -> None:
    harness.register(*range(1, 9))
    for n in range(1, 9):
        harness.stf_ready(n)
        harness.pass_time(20)
    assert harness.verdict.recovered == 0


def test_stfs_of_an_ended_run_are_recovered_after_five_seconds(harness: Harness) -> None:
    harness.register(1, 2, 3)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=3)
    harness.pass_time(4)
    assert harness.known() == [file_name(1)]
    harness.pass_time(3)
    assert harness.verdict.complete
    harness.pass_time(5)
    assert (harness.verdict.received, harness.verdict.recovered, harness.row.state) == (1, 2, "complete")


def test_the_stfs_of_an_open_run_are_counted_and_listed_only_if_they_are_more_or_after_some_minutes(
    harness: Harness,
) -> None:
    def polls_and_lists() -> tuple[int, int]:
        before = harness.monitor.polls, harness.monitor.polls - harness.monitor.counts
        for n in range(1, 8):  # the run is not idle
            harness.pass_time(30)
            harness.process("resume_run" if n % 2 else "pause_run")
        return harness.monitor.polls - before[0], harness.monitor.polls - harness.monitor.counts - before[1]

    harness.register(1, 2, 3)
    harness.stf_ready(1, 2, 3)
    harness.pass_time(60)
    polls, lists = polls_and_lists()
    assert polls >= 6
    assert lists == 0
    polls_and_lists()
    assert polls_and_lists()[1] == 1
    harness.register(4)
    harness.pass_time(31)
    assert harness.row.absent == (file_name(4),)
    harness.pass_time(60)
    assert harness.stf(4).origin is Origin.RECOVERED


def test_a_missed_stf_is_found_though_another_one_is_not_registered(harness: Harness) -> None:
    """The monitor lists as many as we know, of which one is another."""
    harness.register(1, 2, 3)
    harness.stf_ready(1, 2)
    harness.stf_ready(4)
    harness.pass_time(70)
    assert harness.stf(3).origin is Origin.RECOVERED


@pytest.mark.parametrize("is_restored", [True, False])
def test_after_an_outage_of_the_broker_a_run_is_listed_whole(harness: Harness, is_restored: bool) -> None:
    harness.register(1, 2)
    harness.stf_ready(1, 2)
    harness.pass_time(60)
    lists = harness.monitor.polls - harness.monitor.counts
    if is_restored:
        harness.reconciler.link_restored()
    harness.pass_time(60)
    assert harness.monitor.polls - harness.monitor.counts == lists + is_restored


def test_a_gap_in_the_sequence_triggers_an_early_poll(harness: Harness) -> None:
    harness.stf_ready(1)
    harness.tick()
    polls = harness.monitor.polls
    harness.stf_ready(3)
    harness.pass_time(8)
    assert harness.monitor.polls == polls + 1


def test_the_note_of_a_recovered_stf_names_the_broker_outage(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.pass_time(10)
    harness.broker_is(harness.live_engine, up=False)
    harness.tick()
    harness.pass_time(15)
    harness.register(2)
    harness.pass_time(15)
    harness.broker_is(harness.live_engine, up=True)
    harness.tick()
    harness.reconciler.link_restored()
    harness.pass_time(40)
    assert harness.stf(2).state == "completed"
    assert harness.first_note(2) == "recovered: the broker link was down 20:00:10 to 20:00:40Z"
    outages = {(outage.link, outage.began_at[11:19]) for outage in harness.verdict.outages}
    assert outages == {("broker", "20:00:10"), ("announcements", "20:00:10")}


@pytest.mark.parametrize(
    ("clean", "reason"), [(True, "it was stopped"), (False, "it was killed, or its host went down")]
)
def test_the_note_of_a_recovered_stf_names_the_downtime(harness: Harness, clean: bool, reason: str) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.pass_time(20)
    if clean:
        harness.reconciler.listening.end(harness.live_outbox)
    harness.time.pass_(seconds=60)
    harness.register(2)
    harness.time.pass_(seconds=60)
    harness.start()
    harness.pass_time(40)
    assert harness.first_note(2) == "recovered: the daemon was not running 20:00:20 to 20:02:20Z"
    assert [(outage.link, outage.reason) for outage in harness.verdict.outages] == [("daemon", reason)]


def test_a_downtime_trips_no_circuit_breaker(harness: Harness) -> None:
    harness.time.pass_(hours=1)
    harness.start()
    assert harness.live_engine.breakers.allows_calls("monitor")
    assert harness.live_outbox.outages.open() == []


def test_all_incomplete_runs_are_polled_at_startup(harness: Harness) -> None:
    harness.register(1)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(1000)
    assert harness.row.poll_at is None
    assert harness.verdict.missing_sequences == "2"
    harness.register(2)
    harness.start()
    harness.pass_time(10)
    assert harness.row.state == "complete"
    assert harness.stf(2).origin is Origin.RECOVERED


# Runs whose messages name no files


def test_a_run_without_file_names_is_polled_every_three_seconds_until_it_has_ended(harness: Harness) -> None:
    harness.process("stf_ready", req_id=1)
    assert harness.known() == []
    harness.register(1)
    harness.pass_time(4)
    assert (harness.stf(1).origin, harness.stf(1).state, harness.stf(1).run_id) == (
        Origin.POLLED,
        "completed",
        "100014",
    )
    harness.register(2)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(2)
    assert harness.row.state == "complete"
    harness.pass_time(5)
    polls = harness.monitor.polls
    harness.pass_time(100)
    assert harness.monitor.polls == polls
    assert (harness.verdict.received, harness.verdict.recovered) == (2, 0)


def test_with_reconcile_off_only_runs_without_file_names_are_polled_and_none_is_completed(tmp_path: Path) -> None:
    harness = Harness(tmp_path, polls_all_runs=False)
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(60)
    assert (harness.monitor.polls, harness.known(), harness.row.state) == (0, [file_name(1)], "ended")
    harness.process("stf_ready", req_id=1)
    harness.pass_time(5)
    assert harness.known() == [file_name(1), file_name(2)]
    assert harness.summaries == []


def test_a_run_whose_id_is_not_a_number_is_not_polled_and_becomes_complete(harness: Harness) -> None:
    harness.process("stf_ready", run_id="cosmics", filename="swf.cosmics.000001.stf")
    harness.process("end_run", run_id="cosmics", total_stf_files=1)
    harness.pass_time(3)
    row = harness.live_outbox.runs.get("ns", "cosmics")
    assert row is not None
    assert (row.state, row.poll_at, harness.monitor.polls) == ("complete", None, 0)
    assert row.reconcile_error == "run_id is not a number: the monitor cannot be queried"
    assert harness.summaries[0]["run_number"] is run_number("cosmics") is None


# Purged runs


def test_a_purged_run_that_starts_again_is_polled_like_a_new_run(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(1000)
    assert harness.row.poll_at is None, "polls have stopped"
    harness.purge()
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(60)
    harness.register(2)
    harness.pass_time(30)
    assert harness.row.state == "complete"


def test_a_poll_that_outlives_a_purge_does_not_give_up_the_new_run(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(890)
    harness.pool.paused = True
    harness.time.pass_(seconds=20)
    harness.tick(2)
    assert harness.pool.calls, "the poll after which it is given up"
    harness.purge()
    harness.deliver("stf_ready", filename=file_name(1), sequence=1)
    harness.deliver("end_run", total_stf_files=2)
    harness.pool.resume()
    harness.tick()
    harness.register(2)
    harness.pass_time(40)
    assert harness.row.state == "complete"


def test_queued_lookups_do_not_bring_back_a_purged_run(harness: Harness) -> None:
    harness.monitor.lookup_trouble[file_name(1)] = LinkDown("no answer")
    harness.register(1)
    harness.process("end_run", total_stf_files=1)
    harness.begin_lookup()
    harness.pool.resume()
    harness.live_engine.tick(0)  # it failed: it is queued again
    harness.purge()
    harness.pass_time(60)
    assert harness.live_outbox.runs.counts() == harness.live_outbox.counts_by_state() == {}


def test_a_lookup_that_outlives_a_purge_neither_brings_back_the_run_nor_disturbs_the_new_one(harness: Harness) -> None:
    harness.register(1)
    harness.process("end_run", total_stf_files=1)
    harness.begin_lookup()
    harness.purge()
    harness.pool.resume()
    harness.pass_time(30)
    assert harness.live_outbox.runs.counts() == harness.live_outbox.counts_by_state() == {}
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(30)
    assert (harness.row.state, harness.verdict.recovered) == ("complete", 1)


# Runs without any message


def unknown_runs(harness: Harness) -> int:
    return harness.live_outbox.counters().get("runs_unknown", 0)


def test_a_run_during_a_downtime_is_reported_once_and_not_stored(harness: Harness) -> None:
    harness.stf_ready(1)
    harness.monitor.runs.append(100014)
    harness.pass_time(70)
    assert unknown_runs(harness) == 0, "runs of the first list are not reported"
    harness.time.pass_(hours=1)
    harness.monitor.runs += [100015, 100016]
    harness.start()
    with logged("WARNING") as lines:
        harness.pass_time(70)
    assert unknown_runs(harness) == 2
    assert [line for line in lines if "100015, 100016" in line and "reconcile --run" in line]
    assert harness.live_outbox.runs.counts() == {"running": 1}
    harness.start()
    harness.pass_time(70)
    assert (unknown_runs(harness), harness.monitor.run_listings) == (2, 3)


def test_a_run_that_sends_a_message_soon_after_a_start_is_not_reported(harness: Harness) -> None:
    harness.pass_time(70)
    harness.monitor.runs.append(100014)
    harness.start()
    harness.pass_time(30)
    harness.stf_ready(7)
    harness.pass_time(60)
    assert unknown_runs(harness) == 0


def test_a_failed_list_of_runs_is_retried_later_and_trips_no_breaker(harness: Harness) -> None:
    harness.pass_time(70)
    harness.monitor.runs.append(100015)
    harness.start()
    harness.monitor.down = True
    harness.pass_time(100)
    assert (unknown_runs(harness), harness.live_outbox.outages.open()) == (0, [])
    harness.monitor.down = False
    harness.pass_time(700)
    assert unknown_runs(harness) == 1

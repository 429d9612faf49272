"""Stage reports, round by round: a real outbox and engine, the embedded monitor, and a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlite_utils import Database

from fastmon_daemon.base.clock import Clock, parse_timestamp
from fastmon_daemon.base.errors import PermanentError, StorageUnavailable
from fastmon_daemon.engine import sampling
from fastmon_daemon.outbox import OutboxReader
from fastmon_daemon.outbox.database import connect_read_only
from fastmon_daemon.presence import stages
from fastmon_daemon.presence.agent import Presence
from fastmon_daemon.service.factories import switch_stages
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import START, logged, named, query, settle, turn_until
from tests.presence.stage_bench import Bench, act, bench_with


def test_a_stage_follows_its_stf_through_an_outage(bench: Bench) -> None:
    bench.testbed.monitor.down = True
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (stage["status"], stage["stage_metadata"]["state"]) == ("fastmon_processing", "sampled")
    assert stage["completed_at"] is None
    bench.testbed.monitor.down = False
    bench.testbed.time.pass_(minutes=1)
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (stage["status"], stage["stage_metadata"]["state"]) == ("fastmon_complete", "completed")
    assert stage["processing_time_seconds"] == 180.0
    assert bench.pending() == 0


def test_a_stage_starts_with_the_first_step_of_the_current_life(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    bench.testbed.time.pass_(seconds=5)
    bench.testbed.monitor.trouble[name] = PermanentError("wrong size")
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (seconds_after_start(stage["received_at"]), seconds_after_start(stage["started_at"])) == (0, 5)
    del bench.testbed.monitor.trouble[name]
    act(bench, "retry", name)
    bench.round()
    assert (seconds_after_start(bench.stage()["received_at"]), bench.stage()["started_at"]) == (125, None)
    settle(bench.engine)
    bench.round()
    assert seconds_after_start(bench.stage()["started_at"]) == 245


def seconds_after_start(at: str) -> float:
    return (parse_timestamp(at) - START).total_seconds()


@pytest.mark.field("0a")
def test_a_transition_is_told_when_it_is_made_not_at_the_next_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "EVERY_S", 3600.0)
    reporter = bench.reporter(submit=bench.engine.inbox.submit)
    presence = Presence([], reporter, bench.testbed.time.clock().monotonic)
    presence.start()
    turn_until(bench.engine, lambda: presence.is_settled, "the first round")
    for n in (1, 2):
        bench.testbed.receive(bench.outbox, n)
        settle(bench.engine)
        presence.wake_stages()
        turn_until(bench.engine, lambda n=n: bench.pending() == 0 and len(bench.client.stages) == 5 * n, "told")  # type: ignore[misc]
    presence.announce_stop()
    turn_until(bench.engine, lambda: not presence.is_reporting)
    presence.stop(5)


def test_stfs_that_wait_are_not_read_at_each_transition_of_others(bench: Bench) -> None:
    for n in range(1, 6):
        bench.testbed.receive(bench.outbox, n)
        bench.workflow(f"swf.100014.{n:06d}.stf")
    settle(bench.engine)
    bench.client.tables_fail = True
    bench.round()  # all wait for a lookup of their ids
    bench.stages.tick()
    reports, asked = bench.checker.reports.stages, []
    pending = reports.pending
    reports.pending = lambda after, limit: asked.append(after) or pending(after, limit)  # type: ignore[method-assign,func-returns-value]
    bench.testbed.receive(bench.outbox, 6)
    settle(bench.engine)
    bench.stages.tick()
    assert (min(asked) >= 25, len(bench.client.stages)) == (True, 5)
    bench.testbed.time.pass_(seconds=1)
    bench.stages.tick()
    assert min(asked) == 0


def test_a_round_that_began_before_it_was_requested_settles_nothing(bench: Bench) -> None:
    def request_and_submit(write: Any) -> Future[Any]:
        reporter.report_now()
        return bench.submit(write)

    reporter = bench.reporter(submit=request_and_submit)
    assert not reporter.is_settled
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    reporter.tick()
    assert bench.pending() == 0
    assert not reporter.is_settled
    reporter.tick()
    assert reporter.is_settled


@pytest.mark.field("0d")
def test_an_answer_that_cannot_be_stored_is_kept_until_it_can(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "WRITE_PAUSE_S", 0.0)
    full = [OSError("no space"), StorageUnavailable("no space")]

    def submit(write: Any) -> Future[Any]:
        if not full:
            return bench.submit(write)
        result: Future[Any] = Future()
        result.set_exception(full.pop())
        return result

    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    with logged("WARNING") as lines:
        bench.reporter(submit=submit).tick()
    assert bench.pending() == 0
    assert len(lines) == 2
    assert all("answer not stored, retrying: no space" in line for line in lines)


def test_after_a_stop_without_a_report_in_flight_none_is_sent(bench: Bench) -> None:
    for reading in count(1):
        bench.round()  # what the round before left over
        bench.testbed.receive(bench.outbox, reading)
        settle(bench.engine)
        seen = round_stopped_at(bench, reading)
        if seen is None:
            assert reading > 20
            return
        assert seen.in_flight or bench.calls("POST /api/workflows/") == seen.sent


class Seen(NamedTuple):
    """What a drain sees just after it has stopped the reporter, and the number of reports sent until then."""

    in_flight: bool
    sent: int


def round_stopped_at(bench: Bench, reading: int) -> Seen | None:
    """Run a round and stop it, as a drain does, when it reads the clock for the *reading*-th time, if it does."""
    stops: Iterator[bool] = iter(())
    seen: list[Seen] = []

    def monotonic() -> float:
        if next(stops, False):
            reporter.worker.stop()
            seen.append(Seen(reporter.in_flight, bench.calls("POST /api/workflows/")))
        return bench.testbed.time.seconds

    reporter = bench.reporter(clock=Clock(now=lambda: bench.testbed.time.at, monotonic=monotonic))
    stops = iter([False] * (reading - 1) + [True])
    reporter.tick()
    return seen[0] if seen else None


def test_a_failed_stf_is_reported_with_its_reason_and_so_is_its_retry(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    bench.testbed.monitor.trouble[name] = PermanentError("wrong size")
    settle(bench.engine)
    bench.round()
    assert (bench.stage()["status"], bench.stage()["failure_reason"]) == ("failed", "wrong size")
    assert bench.stage()["failed_at"] is not None
    del bench.testbed.monitor.trouble[name]
    act(bench, "retry", name)
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (stage["status"], stage["failed_at"], stage["failure_reason"]) == ("fastmon_complete", None, None)
    assert [row["trigger"] for row in stage["stage_metadata"]["transitions"]].count("retry") == 1


@pytest.mark.parametrize("read", ["unreportable from", "from tf where", "from stf where"])
def test_an_stf_that_is_pruned_between_two_reads_has_no_pending_report_and_no_stage(bench: Bench, read: str) -> None:
    stf_id = named(bench.outbox, bench.testbed.receive(bench.outbox)).id
    settle(bench.engine)
    connection = connect_read_only(bench.outbox.path)
    reports = OutboxReader(Database(connection))

    def prune_before(statement: str) -> None:
        if read in statement:
            with bench.outbox.transaction():
                bench.outbox.retention.prune("ns", "100014", bench.testbed.time.at, 10)

    connection.set_trace_callback(prune_before)
    assert reports.stages.report(stf_id) is None
    assert reports.stages.keys(stf_id).stage_id is None
    reports.close()


def test_reports_are_retried_until_a_failing_monitor_accepts_them(bench: Bench) -> None:
    bench.monitor.faults(error_rate=1, endpoints=["/api/workflow"])
    for n in range(1, 4):
        bench.testbed.receive(bench.outbox, n)
    settle(bench.engine)
    bench.round()
    assert bench.calls("POST /api/workflows/") == 1  # one at a time tests whether it is up
    bench.monitor.faults()
    bench.monitor.stop()
    bench.round()
    assert bench.pending() == 15
    bench.monitor.start()
    bench.round()
    assert [row["status"] for row in bench.rows("workflow-stages")] == ["fastmon_complete"] * 3
    assert bench.pending() == 0


def test_stfs_finalized_while_stages_were_off_are_not_reported_later(bench: Bench) -> None:
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    for on in (False, True):  # one start with each
        with bench.outbox.transaction():
            switch_stages(bench.outbox, Settings(stages=on), bench.testbed.time.at)
    bench.testbed.receive(bench.outbox, 2)
    settle(bench.engine)
    bench.round()
    assert bench.stage()["input_message"] == {}
    assert [row["filename"] for row in bench.rows("workflows")] == ["swf.100014.000002.stf"]


def test_an_stf_that_waits_or_is_skipped_is_not_pending(tmp_path: Path, monitor: MonitorThread) -> None:
    bench = bench_with(tmp_path, monitor, selection_fraction=0.0)
    bench.testbed.receive(bench.outbox)
    assert bench.pending() == 0
    settle(bench.engine)
    assert (named(bench.outbox, "swf.100014.000001.stf").state, bench.pending()) == ("skipped", 0)


def test_an_stf_that_fails_before_it_has_a_sample_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise PermanentError("no sample")

    monkeypatch.setattr(sampling, "gets_tf_files", fail)
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    assert (bench.stages_sent()[-1], bench.pending()) == (("failed", "failed"), 0)
    monkeypatch.undo()
    act(bench, "retry", "swf.100014.000001.stf")
    bench.round()
    assert (bench.stages_sent()[-1], bench.pending()) == (("fastmon_received", "received"), 0), "failed no more"
    settle(bench.engine)
    bench.round()
    assert (bench.stages_sent()[-1], bench.pending()) == (("fastmon_complete", "completed"), 0)


def test_pending_reports_are_read_by_their_index(bench: Bench) -> None:
    query_pending = "select id, stf from history where reported_at is null and id > 5 order by id limit 9"
    assert "history_owed" in str(query(bench.outbox.path, f"explain query plan {query_pending}"))

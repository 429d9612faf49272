"""Stage reports, round by round: a real outbox and engine, the embedded monitor, and a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from sqlite_utils import Database

from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base.clock import Clock, parse_timestamp
from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import OutboxReader
from fastmon_daemon.outbox.database import connect_read_only
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.presence.stages import StageReporter, Submit
from fastmon_daemon.service.factories import switch_stages
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import START, FakeTestbed, named, query, settle
from tests.presence.builders import TOKEN, agent_client_for, checker_for

CHART = load_statechart("stf")


class Bench:
    """The outbox and engine of one daemon, and the monitor that its stages are reported to."""

    def __init__(self, folder: Path, monitor: MonitorThread, settings: Settings) -> None:
        self.testbed = FakeTestbed(folder, settings=settings)
        self.monitor = monitor
        self.outbox = self.testbed.outbox()
        self.engine = self.testbed.engine(self.outbox)
        self.stages = self.reporter()

    def reporter(self, *, submit: Submit | None = None, clock: Clock | None = None) -> StageReporter:
        """A new reporter, as after a restart."""
        return StageReporter(
            agent_client_for(self.monitor),
            "fastmon-agent-test-1",
            CHART,
            checker_for(self.testbed, clock=clock),
            submit=submit or self.submit,
            busy=lambda: False,
            errors=WorkerErrors(),
        )

    def submit(self, write: Any) -> Future[Any]:
        result: Future[Any] = Future()
        with self.outbox.transaction():
            result.set_result(write(self.outbox, self.testbed.time.at))
        return result

    def round(self) -> None:
        self.stages.tick()
        self.testbed.time.pass_(minutes=2)

    def pending(self) -> int:
        return self.outbox.stages.count_pending()

    def counters(self) -> dict[str, int]:
        return self.outbox.counters()

    def rows(self, path: str) -> list[dict[str, Any]]:
        return list(requests.get(f"{self.monitor.url}/api/{path}/", timeout=20).json())

    def stage(self) -> dict[str, Any]:
        (row,) = self.rows("workflow-stages")
        return row

    def post(self, path: str, **row: Any) -> dict[str, Any]:
        answer = requests.post(
            f"{self.monitor.url}/api/{path}/", json=row, headers={"Authorization": f"Token {TOKEN}"}, timeout=20
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def workflow(self, filename: str) -> str:
        """Create a workflow as another agent does; returns its id."""
        when = "2026-11-21T20:00:00+00:00"
        times = dict.fromkeys(("generated_time", "stf_start_time", "stf_end_time"), when)
        row = self.post("workflows", filename=filename, daq_state="run", daq_substate="physics", **times)
        return str(row["workflow_id"])

    def calls(self, call: str) -> int:
        return int(self.monitor.counts()["requests"].get(call, 0))


@pytest.fixture
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def bench_with(folder: Path, monitor: MonitorThread, **settings: Any) -> Bench:
    return Bench(folder, monitor, Settings(namespace="ns", **{"selection_fraction": 1.0, **settings}))


@pytest.fixture
def bench(tmp_path: Path, monitor: MonitorThread) -> Bench:
    return bench_with(tmp_path, monitor)


def test_the_transitions_of_an_stf_share_one_report_each_with_its_own_time(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    history = bench.outbox.history(named(bench.outbox, name).id)
    reported = bench.stage()["stage_metadata"]["transitions"]
    assert [(row["to"], row["at"]) for row in reported] == [(row.dest, row.at) for row in history]
    assert bench.calls("POST /api/workflow-stages/") == 1
    assert bench.calls("PATCH /api/workflow-stages/{id}/") == 0
    assert bench.pending() == 0


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


def test_after_a_stop_without_a_report_in_flight_none_is_sent(bench: Bench) -> None:
    for reading in count(1):
        bench.testbed.receive(bench.outbox, reading)
        settle(bench.engine)
        seen = round_stopped_at(bench, reading)
        if seen is None:
            assert reading > 3
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


def act(bench: Bench, action: str, name: str) -> None:
    handler = MessageHandler(
        bench.testbed.folder / "outbox.db", "ns", "fastmon-agent-test-1", (CHART, load_statechart("run"))
    )
    request = ActionRequest.parse({"action": action, "stfs": [name], "by": "tester", "reason": ""})
    result = bench.submit(
        lambda outbox, now: OperatorActions(CHART, handler, alone=False).perform(request, outbox, now)
    ).result()
    assert result.done == [name]


def test_a_skipped_stf_has_no_stage_until_it_is_included(tmp_path: Path, monitor: MonitorThread) -> None:
    bench = bench_with(tmp_path, monitor, selection_fraction=0.0)
    name = bench.testbed.receive(bench.outbox)
    bench.round()  # it may still be skipped
    settle(bench.engine)
    bench.round()
    assert (bench.rows("workflows"), bench.rows("workflow-stages"), bench.pending()) == ([], [], 0)
    act(bench, "include", name)
    settle(bench.engine)
    bench.round()
    assert bench.stage()["status"] == "fastmon_complete"


def test_the_workflow_in_the_stf_record_of_the_monitor_is_used(bench: Bench) -> None:
    theirs = bench.workflow("another name")
    name = bench.testbed.receive(bench.outbox)
    run = bench.post("runs", run_number=100014, start_time="2026-11-21T20:00:00")["run_id"]
    bench.post("stf-files", run=run, stf_filename=name, workflow_id=theirs)
    settle(bench.engine)
    bench.round()
    assert bench.stage()["workflow"] == theirs
    assert len(bench.rows("workflows")) == 1


def test_workflow_fields_missing_in_the_message_are_filled_in_and_listed(bench: Bench) -> None:
    body = (
        '{"state": "physics", "substate": "standby", "start": "2026-11-21T19:59:00+00:00", "end": "yesterday \\u0000"}'
    )
    bench.testbed.receive(bench.outbox, body=body)
    settle(bench.engine)
    bench.round()
    (workflow,) = bench.rows("workflows")
    assert workflow["stf_metadata"]["filled_in"] == ["daq_state", "generated_time", "stf_end_time"]
    assert (workflow["daq_state"], workflow["daq_substate"]) == ("run", "standby")
    assert bench.pending() == 0


def test_an_stf_whose_workflow_exists_under_an_unknown_id_is_unreportable_and_not_retried(
    bench: Bench,
) -> None:
    name = bench.testbed.receive(bench.outbox)
    bench.workflow(name)
    for _ in range(2):
        settle(bench.engine)
        bench.round()
    assert bench.counters()["stages_unreportable"] == 1
    assert bench.calls("POST /api/workflows/") == 2  # the other agent's, and our one attempt
    assert "already exists" in str(bench.outbox.stages.keys(named(bench.outbox, name).id).unreportable)
    assert bench.pending() == 0


def test_a_stage_whose_id_was_lost_in_a_crash_is_unreportable(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    # As if the process had been killed before it stored the answer.
    query(bench.outbox.path, "update stf set stage_id = null")
    query(bench.outbox.path, "update history set reported_at = null")
    bench.stages = bench.reporter()
    bench.round()
    assert bench.counters()["stages_unreportable"] == 1
    assert "unique set" in str(bench.outbox.stages.keys(named(bench.outbox, name).id).unreportable)


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


def test_pending_reports_are_read_by_their_index(bench: Bench) -> None:
    query_pending = "select id, stf from history where reported_at is null and id > 5 order by id limit 9"
    assert "history_owed" in str(query(bench.outbox.path, f"explain query plan {query_pending}"))

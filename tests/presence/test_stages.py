"""Stage reports, a round at a time by hand: a real outbox and engine, the embedded monitor, a clock that is moved."""

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
from fastmon_daemon.base.links import LINK_OF_STEP
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import AgentClient, RestClient
from fastmon_daemon.outbox import OutboxReader
from fastmon_daemon.outbox.database import connect_read_only
from fastmon_daemon.presence.health import HealthCheckConfig, HealthChecker
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.presence.stages import Ask, StageReporter, StageReporterConfig
from fastmon_daemon.presence.stuck import StuckRule
from fastmon_daemon.service.agent_factory import switch_stages
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import START, World, named, query, settle

TOKEN = "f" * 40
CHART = load_statechart("stf")


class Bench:
    """One daemon's outbox, and the monitor that is told of it."""

    def __init__(self, folder: Path, monitor: MonitorThread, settings: Settings) -> None:
        self.world = World(folder, settings=settings)
        self.monitor = monitor
        self.outbox = self.world.outbox()
        self.engine = self.world.engine(self.outbox)
        self.reports = self.reporter()

    def reporter(self, *, ask: Ask | None = None, clock: Clock | None = None) -> StageReporter:
        """As a process that just began has it."""
        agent_client = AgentClient(RestClient(self.monitor.url, lambda: TOKEN, connections=1, timeout_s=(5, 5)))
        errors = WorkerErrors()
        patient = HealthCheckConfig(
            database=self.world.folder / "outbox.db",
            stuck=StuckRule(chart=CHART, links=LINK_OF_STEP, stuck_after_s=60),
            errors=errors,
            connected=lambda: True,
            clock=clock or self.world.time.clock(),
        )
        trade = StageReporterConfig(
            agent_client=agent_client,
            agent_name="fastmon-agent-test-1",
            chart=CHART,
            ask=ask or self.ask,
            busy=lambda: False,
        )
        return StageReporter(trade, HealthChecker(patient), errors)

    def ask(self, act: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        with self.outbox.transaction():
            answer.set_result(act(self.outbox, self.world.time.at))
        return answer

    def round(self) -> None:
        self.reports.tick()
        self.world.time.pass_(minutes=2)

    def owed(self) -> int:
        return self.outbox.reports.stages.count_pending()

    def counters(self) -> dict[str, int]:
        return self.outbox.reports.counters()

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
        """A workflow that somebody else has made."""
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


def test_what_is_owed_of_an_stf_shares_one_report_with_its_own_times(bench: Bench) -> None:
    name = bench.world.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    history = bench.outbox.reports.history(named(bench.outbox, name).id)
    told = bench.stage()["stage_metadata"]["transitions"]
    assert [(row["to"], row["at"]) for row in told] == [(row.dest, row.at) for row in history]
    assert bench.calls("POST /api/workflow-stages/") == 1
    assert bench.calls("PATCH /api/workflow-stages/{id}/") == 0
    assert bench.owed() == 0


def test_a_stage_follows_its_stf_through_an_outage(bench: Bench) -> None:
    bench.world.monitor.down = True
    bench.world.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (stage["status"], stage["stage_metadata"]["state"]) == ("fastmon_processing", "sampled")
    assert stage["completed_at"] is None
    bench.world.monitor.down = False
    bench.world.time.pass_(minutes=1)
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (stage["status"], stage["stage_metadata"]["state"]) == ("fastmon_complete", "completed")
    assert stage["processing_time_seconds"] == 180.0
    assert bench.owed() == 0


def test_a_stage_is_started_when_the_first_step_of_the_present_life_is_done(bench: Bench) -> None:
    name = bench.world.receive(bench.outbox)
    bench.world.time.pass_(seconds=5)
    bench.world.monitor.trouble[name] = PermanentError("wrong size")
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (seconds_after_start(stage["received_at"]), seconds_after_start(stage["started_at"])) == (0, 5)
    del bench.world.monitor.trouble[name]
    act(bench, "retry", name)
    bench.round()
    assert (seconds_after_start(bench.stage()["received_at"]), bench.stage()["started_at"]) == (125, None)
    settle(bench.engine)
    bench.round()
    assert seconds_after_start(bench.stage()["started_at"]) == 245


def seconds_after_start(at: str) -> float:
    return (parse_timestamp(at) - START).total_seconds()


def test_a_round_that_began_before_it_was_asked_for_settles_nothing(bench: Bench) -> None:
    def look_again_and_ask(act: Any) -> Future[Any]:
        reports.retry_now()
        return bench.ask(act)

    reports = bench.reporter(ask=look_again_and_ask)
    assert not reports.settled
    bench.world.receive(bench.outbox)
    settle(bench.engine)
    reports.tick()
    assert bench.owed() == 0
    assert not reports.settled
    reports.tick()
    assert reports.settled


def test_who_stops_the_reports_and_sees_none_in_hand_may_rely_on_none_being_sent(bench: Bench) -> None:
    for look in count(1):
        bench.world.receive(bench.outbox, look)
        settle(bench.engine)
        seen = round_stopped_at(bench, look)
        if seen is None:
            assert look > 3
            return
        assert seen.in_hand or bench.calls("POST /api/workflows/") == seen.sent


class Seen(NamedTuple):
    """What a drain sees when it has stopped the reports, and how many were sent until then."""

    in_hand: bool
    sent: int


def round_stopped_at(bench: Bench, look: int) -> Seen | None:
    """A round in which the reports are stopped, as a drain does it, at their *look*-th look at the clock, if any."""
    stops: Iterator[bool] = iter(())
    seen: list[Seen] = []

    def monotonic() -> float:
        if next(stops, False):
            reports.worker.stop()
            seen.append(Seen(reports.in_hand, bench.calls("POST /api/workflows/")))
        return bench.world.time.seconds

    reports = bench.reporter(clock=Clock(now=lambda: bench.world.time.at, monotonic=monotonic))
    stops = iter([False] * (look - 1) + [True])
    reports.tick()
    return seen[0] if seen else None


def test_a_failed_stf_is_told_with_its_reason_and_its_retry_too(bench: Bench) -> None:
    name = bench.world.receive(bench.outbox)
    bench.world.monitor.trouble[name] = PermanentError("wrong size")
    settle(bench.engine)
    bench.round()
    assert (bench.stage()["status"], bench.stage()["failure_reason"]) == ("failed", "wrong size")
    assert bench.stage()["failed_at"] is not None
    del bench.world.monitor.trouble[name]
    act(bench, "retry", name)
    settle(bench.engine)
    bench.round()
    stage = bench.stage()
    assert (stage["status"], stage["failed_at"], stage["failure_reason"]) == ("fastmon_complete", None, None)
    assert [row["trigger"] for row in stage["stage_metadata"]["transitions"]].count("retry") == 1


@pytest.mark.parametrize("read", ["unreportable from", "from tf where", "from stf left join"])
def test_an_stf_that_is_pruned_between_two_reads_owes_nothing_and_its_stage_is_unknown(bench: Bench, read: str) -> None:
    stf_id = named(bench.outbox, bench.world.receive(bench.outbox)).id
    settle(bench.engine)
    connection = connect_read_only(bench.outbox.path)
    reports = OutboxReader(Database(connection))

    def prune_before(statement: str) -> None:
        if read in statement:
            with bench.outbox.transaction():
                bench.outbox.retention.prune("ns", "100014", bench.world.time.at, 10)

    connection.set_trace_callback(prune_before)
    assert reports.stages.report(stf_id) is None
    assert reports.stages.keys(stf_id).stage_id is None
    reports.close()


def act(bench: Bench, what: str, name: str) -> None:
    intake = MessageHandler(
        bench.world.folder / "outbox.db", "ns", "fastmon-agent-test-1", (CHART, load_statechart("run"))
    )
    request = ActionRequest.parse({"action": what, "stfs": [name], "by": "tester", "reason": ""})
    outcome = bench.ask(
        lambda outbox, now: OperatorActions(CHART, intake, alone=False).perform(request, outbox, now)
    ).result()
    assert outcome.done == [name]


def test_a_skipped_stf_has_no_stage_until_it_is_admitted(tmp_path: Path, monitor: MonitorThread) -> None:
    bench = bench_with(tmp_path, monitor, selection_fraction=0.0)
    name = bench.world.receive(bench.outbox)
    bench.round()  # nobody knows yet whether it is wanted
    settle(bench.engine)
    bench.round()
    assert (bench.rows("workflows"), bench.rows("workflow-stages"), bench.owed()) == ([], [], 0)
    act(bench, "include", name)
    settle(bench.engine)
    bench.round()
    assert bench.stage()["status"] == "fastmon_complete"


def test_the_workflow_that_the_record_of_the_stf_names_is_used(bench: Bench) -> None:
    theirs = bench.workflow("another name")
    name = bench.world.receive(bench.outbox)
    run = bench.post("runs", run_number=100014, start_time="2026-11-21T20:00:00")["run_id"]
    bench.post("stf-files", run=run, stf_filename=name, workflow_id=theirs)
    settle(bench.engine)
    bench.round()
    assert bench.stage()["workflow"] == theirs
    assert len(bench.rows("workflows")) == 1


def test_what_a_message_does_not_say_of_the_workflow_is_filled_in_and_named(bench: Bench) -> None:
    body = (
        '{"state": "physics", "substate": "standby", "start": "2026-11-21T19:59:00+00:00", "end": "yesterday \\u0000"}'
    )
    bench.world.receive(bench.outbox, body=body)
    settle(bench.engine)
    bench.round()
    (workflow,) = bench.rows("workflows")
    assert workflow["stf_metadata"]["filled_in"] == ["daq_state", "generated_time", "stf_end_time"]
    assert (workflow["daq_state"], workflow["daq_substate"]) == ("run", "standby")
    assert bench.owed() == 0


def test_where_the_workflow_exists_and_no_id_is_known_the_stf_is_unreportable_and_never_tried_again(
    bench: Bench,
) -> None:
    name = bench.world.receive(bench.outbox)
    bench.workflow(name)
    for _ in range(2):
        settle(bench.engine)
        bench.round()
    assert bench.counters()["stages_unreportable"] == 1
    assert bench.calls("POST /api/workflows/") == 2  # the other agent's, and our one try
    assert "already exists" in str(bench.outbox.reports.stages.keys(named(bench.outbox, name).id).unreportable)
    assert bench.owed() == 0


def test_a_stage_whose_id_died_with_the_process_is_unreportable(bench: Bench) -> None:
    name = bench.world.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    # As if the process had been killed before it kept what was answered.
    query(bench.outbox.path, "update stf set stage_id = null")
    query(bench.outbox.path, "update history set reported_at = null")
    bench.reports = bench.reporter()
    bench.round()
    assert bench.counters()["stages_unreportable"] == 1
    assert "unique set" in str(bench.outbox.reports.stages.keys(named(bench.outbox, name).id).unreportable)


def test_a_monitor_that_answers_500_or_is_away_is_tried_again_until_it_takes_the_reports(bench: Bench) -> None:
    bench.monitor.faults(error_rate=1, endpoints=["/api/workflow"])
    for n in range(1, 4):
        bench.world.receive(bench.outbox, n)
    settle(bench.engine)
    bench.round()
    assert bench.calls("POST /api/workflows/") == 1  # one at a time finds out whether it is back
    bench.monitor.faults()
    bench.monitor.stop()
    bench.round()
    assert bench.owed() == 15
    bench.monitor.start()
    bench.round()
    assert [row["status"] for row in bench.rows("workflow-stages")] == ["fastmon_complete"] * 3
    assert bench.owed() == 0


def test_what_came_to_rest_while_stages_were_off_is_not_told_when_they_are_on(bench: Bench) -> None:
    bench.world.receive(bench.outbox)
    settle(bench.engine)
    for on in (False, True):  # a start with each
        with bench.outbox.transaction():
            switch_stages(bench.outbox, Settings(stages=on), bench.world.time.at)
    bench.world.receive(bench.outbox, 2)
    settle(bench.engine)
    bench.round()
    assert bench.stage()["input_message"] == {}
    assert [row["filename"] for row in bench.rows("workflows")] == ["swf.100014.000002.stf"]


def test_the_debts_are_read_by_their_index(bench: Bench) -> None:
    owed = "select id, stf from history where reported_at is null and id > 5 order by id limit 9"
    assert "history_owed" in str(query(bench.outbox.path, f"explain query plan {owed}"))

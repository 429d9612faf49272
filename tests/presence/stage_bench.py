"""One daemon's outbox, engine and stage reporter, and the embedded monitor; the clock is moved by the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import requests

from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import AgentClient, OutcomeUnknown
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.presence.stages import StageReporter, Submit
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import FakeTestbed
from tests.presence.builders import TOKEN, agent_client_for, checker_for

Row = Mapping[str, Any]
CHART = load_statechart("stf")


class RecordingClient(AgentClient):
    """Remembers each stage and workflow row that it sends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stages: list[Row] = []
        self.workflows: list[Row] = []
        self.tables_fail = False

    def read_table(self, path: str, take: Callable[[Any], bool]) -> None:
        if self.tables_fail:
            raise OutcomeUnknown(f"{path}: 500")
        super().read_table(path, take)

    def create_stage(self, stage: Row) -> str:
        self.stages.append(stage)
        return super().create_stage(stage)

    def update_stage(self, stage_id: str, fields: Row) -> None:
        self.stages.append(fields)
        super().update_stage(stage_id, fields)

    def create_workflow(self, workflow: Row) -> str:
        self.workflows.append(workflow)
        return super().create_workflow(workflow)

    def update_workflow(self, workflow_id: str, fields: Row) -> None:
        self.workflows.append(fields)
        super().update_workflow(workflow_id, fields)


class Bench:
    """The outbox and engine of one daemon, and the monitor that its stages are reported to."""

    def __init__(self, folder: Path, monitor: MonitorThread, settings: Settings) -> None:
        self.testbed = FakeTestbed(folder, settings=settings)
        self.monitor = monitor
        self.outbox = self.testbed.outbox()
        self.engine = self.testbed.engine(self.outbox)
        self.own_reads: Counter[str] = Counter()
        """The reads of whole tables by `rows`."""
        self.rows_read: list[tuple[str, int | None]] = []
        """The STFs whose rows the reporter passed on, and the keys of their runs."""
        self.client = agent_client_for(monitor, RecordingClient)
        self.stages = self.reporter()

    def reporter(self, *, submit: Submit | None = None, clock: Clock | None = None) -> StageReporter:
        """A new reporter, as after a restart."""
        self.checker = checker_for(self.testbed, clock=clock)
        return StageReporter(
            self.client,
            "fastmon-agent-test-1",
            self.checker,
            submit=submit or self.submit,
            busy=lambda: False,
            row_was_read=lambda stf, run_key: self.rows_read.append((stf.filename, run_key)),
            errors=WorkerErrors(),
        )

    def submit(self, write: Any) -> Future[Any]:
        result: Future[Any] = Future()
        with self.outbox.transaction():
            result.set_result(write(self.outbox, self.testbed.time.at))
        return result

    def round(self) -> None:
        """Report what is pending; two minutes pass, so that a pause after a failure ends."""
        self.stages.tick()
        self.testbed.time.pass_(minutes=2)

    def pending(self) -> int:
        return self.outbox.stages.count_pending()

    def counters(self) -> dict[str, int]:
        return self.outbox.counters()

    def rows(self, path: str) -> list[dict[str, Any]]:
        self.own_reads[f"GET /api/{path}/"] += 1
        return list(requests.get(f"{self.monitor.url}/api/{path}/", timeout=20).json())

    def delete(self, path: str, key: str) -> None:
        headers = {"Authorization": f"Token {TOKEN}"}
        answer = requests.delete(f"{self.monitor.url}/api/{path}/{key}/", headers=headers, timeout=20)
        assert answer.status_code == 204, answer.text

    def stage(self) -> dict[str, Any]:
        (row,) = self.rows("workflow-stages")
        return row

    def post(self, path: str, **row: Any) -> dict[str, Any]:
        answer = requests.post(
            f"{self.monitor.url}/api/{path}/", json=row, headers={"Authorization": f"Token {TOKEN}"}, timeout=20
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def workflow(self, filename: str, *, minute: int = 0, **fields: Any) -> str:
        """Create a workflow as another agent does; returns its id."""
        when = f"2026-11-21T20:{minute:02d}:00+00:00"
        times = dict.fromkeys(("generated_time", "stf_start_time", "stf_end_time"), when)
        row = self.post("workflows", filename=filename, daq_state="run", daq_substate="physics", **times, **fields)
        return str(row["workflow_id"])

    def register_stf(self, filename: str, **fields: Any) -> dict[str, Any]:
        """Register an STF and its run, as the data agent does."""
        runs = {row["run_number"]: row["run_id"] for row in self.rows("runs")}
        run = runs.get(100014) or self.post("runs", run_number=100014, start_time="2026-11-21T20:00:00")["run_id"]
        return self.post("stf-files", run=run, stf_filename=filename, **fields)

    def stages_sent(self) -> list[tuple[str, str]]:
        """Status and finer state of each stage update, in order."""
        return [(str(row["status"]), str(row["stage_metadata"]["state"])) for row in self.client.stages]

    def calls(self, call: str) -> int:
        return int(self.monitor.counts()["requests"].get(call, 0))


def bench_with(folder: Path, monitor: MonitorThread, **settings: Any) -> Bench:
    return Bench(folder, monitor, Settings(namespace="ns", **{"selection_fraction": 1.0, **settings}))


def act(bench: Bench, action: str, name: str) -> None:
    handler = MessageHandler(
        bench.testbed.folder / "outbox.db", "ns", "fastmon-agent-test-1", (CHART, load_statechart("run"))
    )
    request = ActionRequest.parse({"action": action, "stfs": [name], "by": "tester", "reason": ""})
    result = bench.submit(
        lambda outbox, now: OperatorActions(CHART, handler, alone=False).perform(request, outbox, now)
    ).result()
    assert result.done == [name]

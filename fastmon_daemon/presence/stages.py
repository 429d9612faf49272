"""The stage reporter: tells the monitor the workflow stage of each STF, with lower priority than processing.

Reports are made from the database, and the monitor's answers are stored by the engine's thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from datetime import datetime
from typing import Any

from loguru import logger

from fastmon_daemon.base.backoff import backoff
from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.monitor import AgentClient, RequestRejected
from fastmon_daemon.outbox import UNREPORTABLE, Outbox, PendingReport, Stf
from fastmon_daemon.presence.health import HealthChecker
from fastmon_daemon.presence.identity import AGENT_TYPE
from fastmon_daemon.presence.periodic_worker import BestEffortCall, PeriodicWorker, WorkerErrors
from fastmon_daemon.statechart import StateMachine

EVERY_S = 1.0
"""Seconds between two rounds; transitions of an STF within one round share a request."""
_PAGE = 200
_YIELD = 9.0
"""The pause after a call, as a multiple of its duration, while the engine has calls in flight; else it is 1."""
_PAUSE_MAX_S = 5.0

DAQ_STATES = ("no_beam", "beam", "run", "calib", "test")
DAQ_SUBSTATES = ("not_ready", "ready", "physics", "standby", "lumi", "eic", "epic", "daq", "calib")
"""The DAQ states and substates that the monitor accepts."""

_TRANSITIONS_MAX = 200
"""Most transitions in a stage's metadata; only the last ones of an STF that was retried many times."""

Row = dict[str, Any]
Write = Callable[[Outbox, datetime], Any]
Submit = Callable[[Write], Future[Any]]
"""Runs a write in the engine's thread, in a transaction of its own."""


class StageReporter:
    """Reports the stages; `worker` runs it."""

    def __init__(
        self,
        client: AgentClient,
        agent_name: str,
        chart: StateMachine,
        health_checker: HealthChecker,
        *,
        submit: Submit,
        busy: Callable[[], bool],
        errors: WorkerErrors,
    ) -> None:
        """*busy* returns whether the engine has calls in flight."""
        self._client = client
        self._agent_name = agent_name
        self._chart = chart
        self._health_checker = health_checker
        self._submit = submit
        self._busy = busy
        self._monotonic = health_checker.clock.monotonic
        self._attempt = BestEffortCall("workflow stages", self._monotonic)
        self._postponed: dict[int, tuple[int, float]] = {}
        """STF id -> failed attempts, and the monotonic time of the next one."""
        self._requested = 1
        """Requested rounds; written only by `report_now`."""
        self._completed = 0
        """`_requested` when the last complete round began; written only by the worker."""
        self.in_flight = False
        """Whether an answer of the monitor may be due or not stored yet; written only by the worker."""
        self.worker = PeriodicWorker("stages", self.tick, health_checker.close, errors=errors)

    @property
    def is_settled(self) -> bool:
        """Whether a round that began after the last `report_now` has ended: no report can be sent now."""
        return self._completed == self._requested

    def tick(self) -> float:
        """Send the pending reports, oldest first, until a call fails; returns the seconds until the next tick."""
        begun_at, requested = self._monotonic(), self._requested
        self.in_flight = True  # set before the worker checks `stopping`; who stops it checks in the other order
        try:
            self._round()
        finally:
            self.in_flight = False
        self._completed = requested
        return max(EVERY_S - (self._monotonic() - begun_at), 0.1)

    def report_now(self) -> None:
        """Start a round now; `is_settled` tells when it has ended."""
        self._requested += 1
        self.worker.wake()

    def _round(self) -> None:
        after = 0
        while not (self._attempt.pause_s or self.worker.stopping.is_set()):
            stfs, last = self._health_checker.reports.stages.pending(after, _PAGE)
            if not stfs:
                break
            self._report_all(stfs)
            after = last

    def _report_all(self, stfs: list[int]) -> None:
        needless: list[PendingReport] = []
        for stf_id in stfs:
            if self._attempt.pause_s or self.worker.stopping.is_set():
                break
            report = self._health_checker.reports.stages.report(stf_id)
            if report is None or self._is_early(report):
                continue
            if self._is_needless(report):
                needless.append(report)
            elif self._postponed.get(stf_id, (0, 0.0))[1] <= self._monotonic():
                self._report(report)
        if needless:
            self._mark_reported(*needless)

    def _is_early(self, report: PendingReport) -> bool:
        """Whether the STF may still be skipped: a skipped STF has no stage."""
        return report.keys.stage_id is None and self._chart.may(report.stf.state, "skip")

    def _is_needless(self, report: PendingReport) -> bool:
        """Whether no report is needed (its state has no stage) or possible (it is unreportable)."""
        has_no_stage = report.keys.stage_id is None and self._chart.reported_as(report.stf.state) is None
        return has_no_stage or report.keys.unreportable is not None

    def _report(self, report: PendingReport) -> None:
        begun = self._monotonic()
        try:
            self._send(report)
        except RequestRejected as exc:
            if exc.endpoint_missing:
                self._attempt.failed(exc)
            else:
                self._give_up(report, str(exc))
        except FastmonError as exc:
            self._postpone(exc, report.stf.id)
        else:
            self._attempt.succeeded()
            self._postponed.pop(report.stf.id, None)
        self._yield(self._monotonic() - begun)

    def _send(self, report: PendingReport) -> None:
        """Create workflow and stage, or update the stage. A new id is stored at once: it cannot be looked up later."""
        stf, stage_id = report.stf, report.keys.stage_id
        if stage_id is not None:
            self._client.update_stage(stage_id, stage_row(report, self._chart))
            self._mark_reported(report)
            return
        workflow = report.keys.workflow_id or self._client.find_workflow(stf.filename)
        if workflow is None:
            workflow = self._client.create_workflow(workflow_row(stf))
        if workflow != report.keys.workflow_id:
            new_workflow = workflow
            self._write(lambda outbox, _: outbox.stages.set_workflow(stf.id, new_workflow))
        new_stage = self._client.create_stage(new_stage_row(report, self._chart, self._agent_name, workflow))
        self._mark_reported(report, first=lambda outbox: outbox.stages.set_stage(stf.id, new_stage))

    def _give_up(self, report: PendingReport, reason: str) -> None:
        """Mark an STF unreportable: the monitor rejects its stage, or has it under an id that cannot be looked up."""
        logger.warning("{}: stage not reportable: {}", report.stf.filename, reason)
        self._postponed.pop(report.stf.id, None)

        def give_up(outbox: Outbox) -> None:
            if outbox.stages.give_up(report.stf.id, reason):
                outbox.count(UNREPORTABLE)

        self._mark_reported(report, first=give_up)

    def _postpone(self, error: FastmonError, stf_id: int) -> None:
        self._attempt.failed(error)
        if isinstance(error, LinkDown):
            return
        attempts = self._postponed.get(stf_id, (0, 0.0))[0] + 1
        self._postponed[stf_id] = (attempts, self._monotonic() + backoff(attempts).total_seconds())

    def _mark_reported(self, *reports: PendingReport, first: Callable[[Outbox], None] = lambda _: None) -> None:
        def write(outbox: Outbox, now: datetime) -> None:
            first(outbox)
            for report in reports:
                outbox.stages.mark_reported(report.stf.id, report.last, now)

        self._write(write)

    def _write(self, write: Write) -> None:
        """Write and wait until it is committed: an id that is lost now cannot be looked up later."""
        while True:
            try:
                self._submit(write).result()
            except Exception as exc:  # noqa: BLE001 (most likely a full disk, which the engine logs)
                logger.warning("workflow stages: answer not stored, retrying: {}", exc)
                if self.worker.stopping.wait(5.0):
                    return
            else:
                return

    def _yield(self, took_s: float) -> None:
        """Leave the monitor to the engine, for longer the slower it answers."""
        pause = took_s * _YIELD if self._busy() else took_s
        self.worker.stopping.wait(min(pause, _PAUSE_MAX_S))


def workflow_row(stf: Stf) -> Row:
    """Return the workflow row of an STF that has none; fields missing in its message are filled in and listed."""
    message = _message(stf)
    known = {
        "daq_state": message.get("state") if message.get("state") in DAQ_STATES else None,
        "daq_substate": message.get("substate") if message.get("substate") in DAQ_SUBSTATES else None,
        "generated_time": _time(message.get("timestamp")),
        "stf_start_time": _time(message.get("start")),
        "stf_end_time": _time(message.get("end")),
    }
    filled = {"daq_state": "run", "daq_substate": "physics"}
    missing = [key for key, value in known.items() if value is None]
    return {
        "filename": stf.filename,
        "namespace": stf.namespace,
        "execution_id": stf.execution_id[:100] if stf.execution_id else None,
        "run_id": stf.run,
        **known,
        **{key: filled.get(key, stf.born_at) for key in missing},
        "current_status": "generated",
        "current_agent": AGENT_TYPE,
        "stf_metadata": {"created_by": AGENT_TYPE, "filled_in": missing},
    }


def stage_row(report: PendingReport, chart: StateMachine) -> Row:
    """Return the complete stage row of an STF: a lost report is made good by the next one."""
    stf = report.stf
    life = [row for row in report.history if row.life == stf.life]
    received_at = life[0].at
    step = next((row for row in life if row.trigger in chart.steps), None)
    completed = next((row for row in life if row.dest == chart.success_state), None)
    failed = next((row for row in life if chart.may(row.dest, "retry")), None)
    ended = completed or failed
    return {
        "status": next((name for row in reversed(report.history) if (name := chart.reported_as(row.dest))), None),
        "received_at": received_at,
        "started_at": step.at if step else None,
        "completed_at": completed.at if completed else None,
        "failed_at": failed.at if failed else None,
        "processing_time_seconds": _seconds(received_at, ended.at) if ended else None,
        "failure_reason": failed.note if failed else None,
        "output_message": _output(stf) if completed else None,
        "stage_metadata": _metadata(report),
    }


def new_stage_row(report: PendingReport, chart: StateMachine, agent_name: str, workflow_id: str) -> Row:
    """Return the stage row of an STF that has no stage yet."""
    keys = {"workflow": workflow_id, "agent_name": agent_name, "agent_type": AGENT_TYPE}
    return {**keys, **stage_row(report, chart), "input_message": _message(report.stf)}


def _output(stf: Stf) -> Row:
    files = [
        {"tf_filename": tf.filename, "tf_file_id": tf.monitor_id, "tf_first": tf.first, "tf_last": tf.last}
        for tf in stf.tfs
    ]
    return {"msg_type": "tf_file_registered", "count": len(files), "tf_files": files}


def _metadata(report: PendingReport) -> Row:
    stf = report.stf
    return {
        "state": stf.state,
        "since": stf.since,
        "life": stf.life,
        "attempts": stf.attempts,
        "origin": stf.origin,
        "remark": stf.remark,
        "tf_files": len(stf.tfs),
        "sample": asdict(stf.plan) if stf.plan else None,
        "transitions": [
            {"at": row.at, "trigger": row.trigger, "from": row.source, "to": row.dest, "note": row.note}
            for row in report.history[-_TRANSITIONS_MAX:]
        ],
    }


def _message(stf: Stf) -> Row:
    """Return the message, or the monitor's row, of the STF."""
    message: Row = json.loads(stf.body)
    return message


def _time(value: object) -> str | None:
    """Return *value* if it is an ISO 8601 time with an offset, else None."""
    try:
        read = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return read.isoformat() if read.tzinfo else None


def _seconds(begin: str, end: str) -> float:
    return round((parse_timestamp(end) - parse_timestamp(begin)).total_seconds(), 3)

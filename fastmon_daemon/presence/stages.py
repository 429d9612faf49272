"""The stages of the STFs: what is owed is told, in order, after the main path; facts are kept by the engine's thread.

The rows that the monitor gets are made below, of what stands on disk. It must not know HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from loguru import logger

from fastmon_daemon.base.backoff import backoff
from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.monitor import AgentClient, RequestRejected
from fastmon_daemon.outbox import UNREPORTABLE, HistoryRow, Outbox, PendingReport, Stf
from fastmon_daemon.presence.health import HealthChecker
from fastmon_daemon.presence.identity import AGENT_TYPE
from fastmon_daemon.presence.periodic_worker import BestEffortCall, PeriodicWorker, WorkerErrors
from fastmon_daemon.statechart import StateMachine

EVERY_S = 1.0
"""Between two rounds: transitions of an STF within it share a request."""
_PAGE = 200
_YIELD = 9.0
"""A pause is as long as the call before it, and so many times as long while the main path has a call under way."""
_PAUSE_MAX_S = 5.0

DAQ_STATES = ("no_beam", "beam", "run", "calib", "test")
DAQ_SUBSTATES = ("not_ready", "ready", "physics", "standby", "lumi", "eic", "epic", "daq", "calib")
"""What the monitor takes for the states of the DAQ."""

_TRANSITIONS_MAX = 200
"""An STF that a person retried over and over tells of its last transitions only."""

Row = dict[str, Any]
Act = Callable[[Outbox, datetime], Any]
Ask = Callable[[Act], Future[Any]]
"""Has something written in the engine's thread, in a transaction of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReporterConfig:
    """What the reports are made with."""

    agent_client: AgentClient
    agent_name: str
    chart: StateMachine
    ask: Ask
    busy: Callable[[], bool]
    """Whether the main path has calls under way."""


class StageReporter:
    """Tells the monitor of the STFs. `lane` runs it."""

    def __init__(self, config: StageReporterConfig, health_checker: HealthChecker, errors: WorkerErrors) -> None:
        self._config = config
        self._health_checker = health_checker
        self._monotonic = health_checker.clock.monotonic
        self._courtesy = BestEffortCall("workflow stages", self._monotonic)
        self._put_off: dict[int, tuple[int, float]] = {}
        """STF -> failed tries, and when the next one may be made."""
        self._asked = 1
        """Rounds that were asked for; written only by who asks."""
        self._answered = 0
        """As many had been asked for when the last whole round began; written only by the lane."""
        self.in_hand = False
        """Whether an answer of the monitor may be on its way, or is not kept yet; written only by the lane."""
        self.worker = PeriodicWorker("stages", self.tick, errors=errors)

    @property
    def settled(self) -> bool:
        """Whether a round that began after the last `look_again` left nothing that could be told now."""
        return self._answered == self._asked

    def tick(self) -> float:
        """A round: from the oldest debt to the newest, until one cannot be told."""
        begun_at, asked = self._monotonic(), self._asked
        self.in_hand = True  # before the lane looks whether it is stopping: who stops it looks in the other order
        try:
            self._round()
        finally:
            self.in_hand = False
        self._answered = asked
        return max(EVERY_S - (self._monotonic() - begun_at), 0.1)

    def retry_now(self) -> None:
        """Begin a round now; `settled` says when it is over."""
        self._asked += 1
        self.worker.wake()

    def _round(self) -> None:
        after = 0
        while not (self._courtesy.pause_s or self.worker.stopping.is_set()):
            stfs, last = self._health_checker.reports.stages.pending(after, _PAGE)
            if not stfs:
                break
            self._tell(stfs)
            after = last

    def _tell(self, stfs: list[int]) -> None:
        silent: list[PendingReport] = []
        for stf_id in stfs:
            if self._courtesy.pause_s or self.worker.stopping.is_set():
                break
            report = self._health_checker.reports.stages.report(stf_id)
            if report is None or self._is_early(report):
                continue
            if self._is_silent(report):
                silent.append(report)
            elif self._put_off.get(stf_id, (0, 0.0))[1] <= self._monotonic():
                self._report(report)
        if silent:
            self._keep(partial(_settle_all, silent))

    def _is_early(self, report: PendingReport) -> bool:
        """Whether it is not known yet if the STF is wanted: one that is skipped has no stage."""
        return report.keys.stage_id is None and self._config.chart.may(report.stf.state, "skip")

    def _is_silent(self, report: PendingReport) -> bool:
        """Whether nothing need be told: nobody wants it, or it can never be."""
        unwanted = report.keys.stage_id is None and self._config.chart.reported_as(report.stf.state) is None
        return unwanted or report.keys.unreportable is not None

    def _report(self, report: PendingReport) -> None:
        begun = self._monotonic()
        try:
            self._tell_one(report)
        except RequestRejected as exc:
            if exc.endpoint_missing:
                self._courtesy.failed(exc)
            else:
                self._give_up(report, str(exc))
        except FastmonError as exc:
            self._put_off_after(exc, report.stf.id)
        else:
            self._courtesy.succeeded()
            self._put_off.pop(report.stf.id, None)
        self._breathe(self._monotonic() - begun)

    def _tell_one(self, report: PendingReport) -> None:
        """Workflow, stage, or a change of it; each id is kept as soon as it is answered: it cannot be looked up."""
        config, stf = self._config, report.stf
        stage_id, last = report.keys.stage_id, report.last
        if stage_id is not None:
            config.agent_client.update_stage(stage_id, stage_row(report, config.chart))
            self._keep(lambda outbox, now: outbox.stages.mark_reported(stf.id, last, now))
            return
        workflow = report.keys.workflow_id or config.agent_client.find_workflow(stf.filename)
        if workflow is None:
            workflow = config.agent_client.create_workflow(workflow_row(stf))
        if workflow != report.keys.workflow_id:
            kept = workflow
            self._keep(lambda outbox, _: outbox.stages.set_workflow(stf.id, kept))
        made = config.agent_client.create_stage(new_stage_row(report, config.chart, config.agent_name, workflow))

        def keep(outbox: Outbox, now: datetime) -> None:
            outbox.stages.set_stage(stf.id, made)
            outbox.stages.mark_reported(stf.id, last, now)

        self._keep(keep)

    def _give_up(self, report: PendingReport, why: str) -> None:
        """The monitor will not have it, or has it under an id that we do not know and cannot ask for."""
        logger.warning("{}: no stage can be reported: {}", report.stf.filename, why)
        self._put_off.pop(report.stf.id, None)

        def keep(outbox: Outbox, now: datetime) -> None:
            if outbox.stages.give_up(report.stf.id, why):
                outbox.count(UNREPORTABLE)
            outbox.stages.mark_reported(report.stf.id, report.last, now)

        self._keep(keep)

    def _put_off_after(self, error: FastmonError, stf_id: int) -> None:
        self._courtesy.failed(error)
        if isinstance(error, LinkDown):
            return
        tries = self._put_off.get(stf_id, (0, 0.0))[0] + 1
        self._put_off[stf_id] = (tries, self._monotonic() + backoff(tries).total_seconds())

    def _keep(self, act: Act) -> None:
        """Have it written, and wait until it is: an id that is lost now cannot be asked for later."""
        while True:
            try:
                self._config.ask(act).result()
            except Exception as exc:  # noqa: BLE001 (a full disk, most likely; the engine speaks of it)
                logger.warning("workflow stages: not kept, tried again: {}", exc)
                if self.worker.stopping.wait(5.0):
                    return
            else:
                return

    def _breathe(self, took_s: float) -> None:
        """Leave the monitor to the main path, all the more the slower it answers."""
        pause = took_s * _YIELD if self._config.busy() else took_s
        self.worker.stopping.wait(min(pause, _PAUSE_MAX_S))


def _settle_all(reports: list[PendingReport], outbox: Outbox, now: datetime) -> None:
    for report in reports:
        outbox.stages.mark_reported(report.stf.id, report.last, now)


def workflow_row(stf: Stf) -> Row:
    """The workflow of an STF that nobody made one for; what its message does not say is filled in, and named."""
    told = _told(stf)
    known = {
        "daq_state": told.get("state") if told.get("state") in DAQ_STATES else None,
        "daq_substate": told.get("substate") if told.get("substate") in DAQ_SUBSTATES else None,
        "generated_time": _time(told.get("timestamp")),
        "stf_start_time": _time(told.get("start")),
        "stf_end_time": _time(told.get("end")),
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
    """The stage of an STF as it is now, whole: a report that got lost is made good by the next one."""
    stf = report.stf
    life = [row for row in report.history if row.life == stf.life]
    began = life[0]
    step = next((row for row in life if row.trigger in chart.steps), None)
    completed = next((row for row in life if row.dest == chart.success_state), None)
    failed = next((row for row in life if chart.may(row.dest, "retry")), None)
    ended = completed or failed
    return {
        "status": _status(report.history, chart),
        "received_at": began.at,
        "started_at": step.at if step else None,
        "completed_at": completed.at if completed else None,
        "failed_at": failed.at if failed else None,
        "processing_time_seconds": _seconds(began.at, ended.at) if ended else None,
        "failure_reason": failed.note if failed else None,
        "output_message": _output(stf) if completed else None,
        "stage_metadata": _metadata(report),
    }


def new_stage_row(report: PendingReport, chart: StateMachine, agent_name: str, workflow_id: str) -> Row:
    """The stage of an STF that has none yet."""
    keys = {"workflow": workflow_id, "agent_name": agent_name, "agent_type": AGENT_TYPE}
    return {**keys, **stage_row(report, chart), "input_message": _told(report.stf)}


def _status(history: Sequence[HistoryRow], chart: StateMachine) -> str | None:
    """What the chart calls the latest state that is told to the monitor."""
    return next((told for row in reversed(history) if (told := chart.reported_as(row.dest))), None)


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


def _told(stf: Stf) -> Row:
    """The message, or the monitor's own row, that the STF came by."""
    told: Row = json.loads(stf.body)
    return told


def _time(value: object) -> str | None:
    """*value* where it is a time that the monitor reads as we do: ISO 8601, with its offset."""
    try:
        read = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return read.isoformat() if read.tzinfo else None


def _seconds(begin: str, end: str) -> float:
    return round((parse_timestamp(end) - parse_timestamp(begin)).total_seconds(), 3)

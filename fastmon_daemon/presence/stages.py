"""The stage reporter: tells the monitor each transition of each STF, with lower priority than processing.

Reports are made from the database, and the monitor's answers are stored by the engine's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.base.backoff import backoff, retry_until_stopped
from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.messages import run_identity
from fastmon_daemon.monitor import AgentClient, RequestRejected
from fastmon_daemon.outbox import (
    COALESCED_UPDATES,
    SINGLE_UPDATES,
    UNREPORTABLE,
    Outbox,
    PendingReport,
    StageKeys,
    Stf,
)
from fastmon_daemon.presence.health import HealthChecker
from fastmon_daemon.presence.lost_ids import LostIds
from fastmon_daemon.presence.periodic_worker import BestEffortCall, PeriodicWorker, WorkerErrors
from fastmon_daemon.presence.stage_rows import new_stage_row, stage_row, workflow_row, workflow_status

EVERY_S = 1.0
"""Seconds between two rounds without a transition."""
BEHIND_AFTER = timedelta(seconds=3)
BEHIND_TRANSITIONS = 20
"""The reporter is behind with an STF whose oldest pending transition is older than `BEHIND_AFTER`, and with all STFs
while more than `BEHIND_TRANSITIONS` transitions are pending: then one update tells all of an STF."""
_PAGE = 200
_YIELD = 9
"""The longest pause after an update, in durations of it, while the engine has calls in flight; else it is one."""
_PAUSE_MAX_S = 5.0
_MAX_WRITES = 50
"""Writes that may wait for their transaction at once."""
WRITE_PAUSE_S = 5.0
"""Seconds between two attempts to store an answer."""

Write = Callable[[Outbox, datetime], Any]
Submit = Callable[[Write], Future[Any]]
"""Runs a write in the engine's thread; the future is done when it is on disk."""


class StageReporter:
    """Reports the stages; `worker` runs it."""

    def __init__(
        self,
        client: AgentClient,
        agent_name: str,
        health_checker: HealthChecker,
        *,
        submit: Submit,
        busy: Callable[[], bool],
        row_was_read: Callable[[Stf, int | None], object],
        errors: WorkerErrors,
    ) -> None:
        """*busy* returns whether the engine has calls in flight.

        *row_was_read* gets each STF whose row at the monitor was read, and the key of the run in that row.
        """
        self._client = client
        self._agent_name = agent_name
        self._chart = health_checker.chart
        self._health_checker = health_checker
        self._submit = submit
        self._busy = busy
        self._row_was_read = row_was_read
        self._monotonic = health_checker.clock.monotonic
        self._attempt = BestEffortCall("workflow stages", self._monotonic)
        self._postponed: dict[int, tuple[int, float]] = {}
        """STF id -> failed attempts, and the monotonic time of the next one."""
        self._writes: list[tuple[Write, Future[Any]]] = []
        """Those that may not be on disk yet: many share a transaction."""
        self._written: set[int] = set()
        """The STFs that they concern."""
        self._unregistered: set[int] = set()
        """Unfinished STFs that the monitor did not know when their workflow was created."""
        self._lost = LostIds(client, agent_name, self._monotonic)
        self._seen = 0
        """The last history row of the last round: the engine wakes the worker often, and many rows may wait."""
        self._rescan_at = self._monotonic()
        """When rows that wait are looked at again."""
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
            if requested != self._completed or begun_at >= self._rescan_at:
                self._seen, self._rescan_at = 0, begun_at + EVERY_S
            self._round()
            if self._find_lost():
                self._seen = 0
                self._round()
        finally:
            self.in_flight = False
        self._completed = requested
        return max(EVERY_S - (self._monotonic() - begun_at), 0.1)

    def report_now(self) -> None:
        """Start a round now; `is_settled` tells when it has ended."""
        self._requested += 1
        self.worker.wake()

    @property
    def _must_wait(self) -> bool:
        return bool(self._attempt.pause_s) or self.worker.stopping.is_set()

    def _round(self) -> None:
        while not self._must_wait:
            stfs, last = self._health_checker.reports.stages.pending(self._seen, _PAGE)
            if not stfs:
                break
            self._report_page(stfs)
            self._seen = last

    def _report_page(self, stfs: Sequence[int]) -> None:
        """Report the pending transitions of *stfs*, which has an STF once for each of them."""
        needless: dict[int, PendingReport] = {}
        stfs = [stf_id for stf_id in stfs if not self._waits(stf_id)]
        is_behind = len(stfs) > BEHIND_TRANSITIONS
        for stf_id in stfs:
            if self._must_wait:
                break
            if self._waits(stf_id) or stf_id in needless:
                continue
            if stf_id in self._written or len(self._writes) >= _MAX_WRITES:
                self._wait_for_writes()
            report = self._health_checker.reports.stages.report(stf_id)
            if report is None:
                continue
            if report.keys.unreportable is not None:
                needless[stf_id] = report
            else:
                self._report(report if is_behind or self._is_old(report) else report.first())
        if needless:
            self._mark_reported(*needless.values())
        self._wait_for_writes()

    def _waits(self, stf_id: int) -> bool:
        """Whether an STF waits after a failure, or for a lookup of its ids."""
        return stf_id in self._lost or self._postponed.get(stf_id, (0, 0.0))[1] > self._monotonic()

    def _is_old(self, report: PendingReport) -> bool:
        return self._health_checker.clock.now() - parse_timestamp(report.oldest.at) > BEHIND_AFTER

    def _report(self, report: PendingReport) -> None:
        begun = self._monotonic()
        try:
            if report.keys.stage_id is None:
                self._create(report)
            else:
                self._update(report, report.keys.stage_id)
        except RequestRejected as exc:
            if exc.endpoint_missing:
                self._attempt.failed(exc)
            else:
                self._rejected(report, exc)
        except FastmonError as exc:
            self._postpone(exc, report.stf.id)
        else:
            self._attempt.succeeded()
            self._postponed.pop(report.stf.id, None)
        self._yield(self._monotonic() - begun)

    def _create(self, report: PendingReport) -> None:
        """Create the stage, and the workflow unless there is one. A new id is stored at once."""
        stf, workflow = report.stf, report.keys.workflow_id
        file_id, is_new = None, False
        if workflow is None:
            record = self._client.find_stf(stf.filename)
            workflow, file_id = (record.workflow_id, record.file_id) if record else (None, None)
            if record is None:
                self._unregistered.add(stf.id)
            else:
                self._row_was_read(stf, record.run_key)
            if workflow is None:
                workflow, is_new = self._client.create_workflow(workflow_row(report, self._chart, file_id)), True
            elif (run := self._client.run_of_workflow(workflow)) and run_identity(run) != run_identity(stf.run_id):
                self._give_up(report, f"the monitor's row of this name names a workflow of run {run}")
                return
            self._set_keys({stf.id: StageKeys(workflow_id=workflow, stage_id=None, unreportable=None)})
        if not is_new:
            file = {"file_id": file_id} if file_id else {}
            self._client.update_workflow(workflow, {**workflow_status(report.history, self._chart), **file})
        new_stage = self._client.create_stage(new_stage_row(report, self._chart, self._agent_name, workflow))
        self._mark_told(report, first=lambda outbox: outbox.stages.set_stage(stf.id, new_stage))

    def _update(self, report: PendingReport, stage_id: str) -> None:
        """Update the stage, and the workflow if it follows."""
        self._client.update_stage(stage_id, stage_row(report, self._chart))
        status = workflow_status(report.history, self._chart)
        if report.keys.workflow_id is not None and status != workflow_status(report.reported, self._chart):
            self._client.update_workflow(report.keys.workflow_id, {**status, **self._file_id(report)})
        self._mark_told(report)

    def _file_id(self, report: PendingReport) -> dict[str, str]:
        """The file id of a finalized STF that was not registered when its workflow was created."""
        stf = report.stf
        if stf.id not in self._unregistered or not self._chart.is_finalized(report.history[-1].dest):
            return {}
        record = self._client.find_stf(stf.filename)
        self._unregistered.discard(stf.id)
        return {"file_id": record.file_id} if record else {}

    def _rejected(self, report: PendingReport, error: RequestRejected) -> None:
        """Handle a rejection: look up what exists, create again what is gone, else give up."""
        keys = report.keys
        self._postponed.pop(report.stf.id, None)
        exists = error.has_error("filename", "already exists") or error.has_error("non_field_errors", "unique set")
        is_gone = error.has_error("detail", "matches the given query") or error.has_error("workflow", "does not exist")
        self._wait_for_writes()
        if exists and not self._lost.hopeless:
            self._lost.add(report.stf, self._health_checker.reports.stages.keys(report.stf.id).workflow_id)
        elif exists:
            self._give_up(report, f"{self._lost.hopeless}: {error}")
        elif is_gone and keys.workflow_id is not None:
            logger.warning("{}: the monitor has its workflow stage no more, creating it again", report.stf.filename)
            self._set_keys({report.stf.id: StageKeys(workflow_id=None, stage_id=None, unreportable=None)})
        else:
            self._give_up(report, str(error))

    def _find_lost(self) -> bool:
        """Look up the ids that are lost, if it is time; returns whether there is something to report again."""
        found = {} if self._must_wait else self._lost.look_up()
        if found:
            self._set_keys(found)
            self._wait_for_writes()
        return bool(found)

    def _set_keys(self, found: dict[int, StageKeys]) -> None:
        """Store the ids of STFs; those that are unreportable are given up."""

        def write(outbox: Outbox, _now: datetime) -> None:
            for stf_id, keys in found.items():
                outbox.stages.set_workflow(stf_id, keys.workflow_id)
                outbox.stages.set_stage(stf_id, keys.stage_id)
                if keys.unreportable is not None and outbox.stages.give_up(stf_id, keys.unreportable):
                    outbox.count(UNREPORTABLE)

        self._write(write, *found)

    def _give_up(self, report: PendingReport, reason: str) -> None:
        """Mark an STF unreportable: the monitor rejects its stage, or has it under an id that cannot be found."""
        logger.warning("{}: stage not reportable: {}", report.stf.filename, reason)

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

    def _mark_told(self, report: PendingReport, first: Callable[[Outbox], None] = lambda _: None) -> None:
        """Mark an update of the stage as sent, and count it."""
        counter = SINGLE_UPDATES if len(report.pending) == 1 else COALESCED_UPDATES

        def count(outbox: Outbox) -> None:
            first(outbox)
            outbox.count(counter)

        self._mark_reported(report, first=count)

    def _mark_reported(self, *reports: PendingReport, first: Callable[[Outbox], None] = lambda _: None) -> None:
        def write(outbox: Outbox, now: datetime) -> None:
            first(outbox)
            for report in reports:
                outbox.stages.mark_reported(report.stf.id, report.pending[-1], now)

        self._write(write, *(report.stf.id for report in reports))

    def _write(self, write: Write, *stfs: int) -> None:
        """Write at once, because an id that is lost now is hard to find later; but do not wait until it is on disk."""
        self._writes.append((write, self._submit(write)))
        self._written.update(stfs)

    def _wait_for_writes(self) -> None:
        """Wait until all is on disk that was written; what could not be stored is written again until it is."""
        for write, future in self._writes:
            self._wait_for(write, future)
        self._writes.clear()
        self._written.clear()

    def _wait_for(self, write: Write, future: Future[Any]) -> None:
        def attempt() -> None:
            nonlocal future
            try:
                future.result()
            except Exception:
                future = self._submit(write)
                raise

        def failed(_attempt: int, error: BaseException) -> None:
            logger.warning("workflow stages: answer not stored, retrying: {}", error)

        stopping = self.worker.stopping
        # any error (most likely a full disk, which the engine logs); after a stop the next start reports again
        with suppress(Exception):
            policy = retry_until_stopped(stopping, pause_s=lambda _: WRITE_PAUSE_S, failed=failed, errors=Exception)
            policy(attempt)

    def _yield(self, took_s: float) -> None:
        """Leave the monitor to the engine, for longer the slower it answers."""
        pause_s = min(took_s, _PAUSE_MAX_S / _YIELD)
        for _ in range(_YIELD):
            if self.worker.stopping.wait(pause_s) or not self._busy():
                return

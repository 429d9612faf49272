"""Class Ledger: looks at the monitor for the STFs of each run, compares, and has the runs closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import LinkDown, StorageUnavailable, TransientError
from fastmon_daemon.engine.background_tasks import BackgroundTask
from fastmon_daemon.messages import run_number
from fastmon_daemon.monitor import StfFile
from fastmon_daemon.outbox import Outbox, RunRow
from fastmon_daemon.reconciler.backfill import BackfillQueue
from fastmon_daemon.reconciler.comparing import ReconcileResult, RunComparator
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.downtime import record_heartbeat, record_start, record_stop
from fastmon_daemon.reconciler.finishing import COMPLETE, RunFinalizer
from fastmon_daemon.reconciler.unknown_runs import UnknownRunDetector
from fastmon_daemon.runs.poll_state import RunListing, RunPollState
from fastmon_daemon.runs.run_events import END_RUN
from fastmon_daemon.runs.tracked_runs import TrackedRun, TrackedRuns

MAX_POLLS = 2
"""Runs that are looked at at the same time."""
NO_NUMBER = "its run_id is no number: the monitor cannot be asked"


class Reconciler:
    """A chore of the engine: all of it runs in the engine's thread, but for the calls and `heard_again`."""

    def __init__(self, means: ReconcilerConfig, runs: TrackedRuns) -> None:
        """*runs* is what else is remembered of the runs in this process, and is shared with the intake."""
        self._means = means
        self._runs = runs
        self.recovery = BackfillQueue(means, runs)
        self._comparing = RunComparator(means, runs, self.recovery)
        self._closing = RunFinalizer(means, runs)
        self._unheard = UnknownRunDetector(means)
        self._look_at_all = threading.Event()
        self._look_at_all.set()
        self._next_sign: float | None = None

    def begin_listening(self, outbox: Outbox) -> None:
        """We subscribe from now on: remember since when nobody did, and that we do until `end_listening`."""
        with outbox.transaction():
            record_start(outbox, self._means.clock.now())
        self._next_sign = self._means.clock.monotonic() + self._means.intervals.heartbeat_s

    def end_listening(self, outbox: Outbox) -> None:
        """We stop on purpose."""
        if self._next_sign is None:
            return
        try:
            with outbox.transaction():
                record_stop(outbox, self._means.clock.now())
        except StorageUnavailable as exc:  # the last sign of life says nearly the same, and a drain costs nothing
            logger.warning("that we stop could not be written down: {}", exc)

    def link_restored(self) -> None:
        """The link to the broker is back: look at every run that is not complete. Callable from any thread."""
        self._look_at_all.set()

    def tasks(self, outbox: Outbox, now: datetime) -> Iterator[BackgroundTask]:
        """What is due: lookups of missed STFs, looks at runs, summaries."""
        self._sign(outbox, now)
        if self._look_at_all.is_set():
            with outbox.transaction():
                outbox.runs.schedule_all(now, but=self._means.run_chart.leads_to(COMPLETE))
            self._look_at_all.clear()
            self._unheard.poll_soon()
        if self._has_room():
            yield from self.recovery.tasks(outbox, now)
            yield from self._looks(outbox, now)
        else:
            self.recovery.drop()
            for run in self._runs.all():
                run.poll_state.restart_grace()
        if self._means.polls_all_runs:
            self._closing.close(outbox, now)
            yield from self._closing.tasks(outbox)
            yield from self._unheard.tasks()

    def _has_room(self) -> bool:
        try:
            self._means.refuse_if_short()
        except StorageUnavailable:
            return False
        return True

    def _sign(self, outbox: Outbox, now: datetime) -> None:
        if self._next_sign is not None and self._means.clock.monotonic() >= self._next_sign:
            self._next_sign = self._means.clock.monotonic() + self._means.intervals.heartbeat_s
            with outbox.transaction():
                record_heartbeat(outbox, now)

    def _looks(self, outbox: Outbox, now: datetime) -> Iterator[BackgroundTask]:
        for row in outbox.runs.due_for_poll(now, nameless_only=not self._means.polls_all_runs):
            number = run_number(row.run_id)
            run = self._runs.get(row.namespace, row.run)
            if number is None:
                self._cannot_ask(outbox, row)
            elif self._may_look(run.poll_state):
                run.poll_state.is_polling = True
                yield self._look(row, number, run)

    def _cannot_ask(self, outbox: Outbox, row: RunRow) -> None:
        if row.reconcile_error != NO_NUMBER:
            logger.warning("run {}: {}", row.run, NO_NUMBER)
        with outbox.transaction():
            outbox.runs.schedule_poll(row, None, error=NO_NUMBER)

    def _may_look(self, watch: RunPollState) -> bool:
        if (
            watch.is_polling
            or self._means.clock.monotonic() < watch.not_before
            or not self._means.allows_calls("monitor")
        ):
            return False
        return sum(run.poll_state.is_polling for run in self._runs.all()) < MAX_POLLS

    def _look(self, row: RunRow, number: int, run: TrackedRun) -> BackgroundTask:
        means, watch = self._means, run.poll_state
        asked_at = means.clock.monotonic()
        is_open = means.run_chart.may(row.state, END_RUN)
        asks_end = means.polls_all_runs and is_open and asked_at - watch.end_asked >= means.intervals.open_run_s

        def call() -> RunListing:
            begun = means.clock.monotonic()  # it may have waited in the pool's queue
            stfs = means.monitor.stf_files(number, at_least=row.monitor_count or 0)
            key = next((stf.run_key for stf in stfs), None) if asks_end else None
            ended_at = None
            with suppress(TransientError):  # what was listed counts all the same; the end is asked for again
                ended_at = means.monitor.run_ended_at(key) if key is not None else None
            return RunListing(stfs, ended_at, means.clock.monotonic() - begun)

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            if run.purged:
                return
            watch.is_polling = False
            if isinstance(answer, RunListing):
                watch.end_asked = asked_at if asks_end else watch.end_asked
                self._comparing.compare(outbox, row, answer, run, now)
            else:
                error = None if isinstance(answer, LinkDown) else str(answer)
                outbox.runs.schedule_poll(row, now + timedelta(seconds=means.intervals.retry_s), error=error)

        return BackgroundTask("monitor", call, done)

    def reconcile(
        self, run: str, namespace: str, named: list[StfFile], by: str
    ) -> Callable[[Outbox, datetime], ReconcileResult]:
        """The act of a person who looked by hand and found *named*, for the engine's thread."""
        return lambda outbox, now: self._comparing.compare_now(outbox, (namespace, run), named, by, now)

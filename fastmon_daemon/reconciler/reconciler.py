"""Class Ledger: looks at the monitor for the STFs of each run, compares, and has the runs closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import LinkDown, StorageUnavailable, TransientError
from fastmon_daemon.engine.tasks import BackgroundTask
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

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns) -> None:
        """*runs* is what else is remembered of the runs in this process, and is shared with the intake."""
        self._config = config
        self._runs = runs
        self.backfill = BackfillQueue(config, runs)
        self._comparator = RunComparator(config, runs, self.backfill)
        self._finalizer = RunFinalizer(config, runs)
        self._unknown_runs = UnknownRunDetector(config)
        self._look_at_all = threading.Event()
        self._look_at_all.set()
        self._next_sign: float | None = None

    def begin_listening(self, outbox: Outbox) -> None:
        """We subscribe from now on: remember since when nobody did, and that we do until `end_listening`."""
        with outbox.transaction():
            record_start(outbox, self._config.clock.now())
        self._next_sign = self._config.clock.monotonic() + self._config.intervals.heartbeat_s

    def end_listening(self, outbox: Outbox) -> None:
        """We stop on purpose."""
        if self._next_sign is None:
            return
        try:
            with outbox.transaction():
                record_stop(outbox, self._config.clock.now())
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
                outbox.runs.schedule_all(now, but=self._config.run_chart.leads_to(COMPLETE))
            self._look_at_all.clear()
            self._unknown_runs.poll_soon()
        if self._has_room():
            yield from self.backfill.tasks(outbox, now)
            yield from self._looks(outbox, now)
        else:
            self.backfill.drop()
            for run in self._runs.all():
                run.poll_state.restart_grace()
        if self._config.polls_all_runs:
            self._finalizer.close(outbox, now)
            yield from self._finalizer.tasks(outbox)
            yield from self._unknown_runs.tasks()

    def _has_room(self) -> bool:
        try:
            self._config.refuse_if_short()
        except StorageUnavailable:
            return False
        return True

    def _sign(self, outbox: Outbox, now: datetime) -> None:
        if self._next_sign is not None and self._config.clock.monotonic() >= self._next_sign:
            self._next_sign = self._config.clock.monotonic() + self._config.intervals.heartbeat_s
            with outbox.transaction():
                record_heartbeat(outbox, now)

    def _looks(self, outbox: Outbox, now: datetime) -> Iterator[BackgroundTask]:
        for row in outbox.runs.due_for_poll(now, nameless_only=not self._config.polls_all_runs):
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

    def _may_look(self, poll_state: RunPollState) -> bool:
        if (
            poll_state.is_polling
            or self._config.clock.monotonic() < poll_state.not_before
            or not self._config.allows_calls("monitor")
        ):
            return False
        return sum(run.poll_state.is_polling for run in self._runs.all()) < MAX_POLLS

    def _look(self, row: RunRow, number: int, run: TrackedRun) -> BackgroundTask:
        config, poll_state = self._config, run.poll_state
        asked_at = config.clock.monotonic()
        is_open = config.run_chart.may(row.state, END_RUN)
        asks_end = config.polls_all_runs and is_open and asked_at - poll_state.end_asked >= config.intervals.open_run_s

        def call() -> RunListing:
            begun = config.clock.monotonic()  # it may have waited in the pool's queue
            stfs = config.monitor.stf_files(number, at_least=row.monitor_count or 0)
            key = next((stf.run_key for stf in stfs), None) if asks_end else None
            ended_at = None
            with suppress(TransientError):  # what was listed counts all the same; the end is asked for again
                ended_at = config.monitor.run_ended_at(key) if key is not None else None
            return RunListing(stfs, ended_at, config.clock.monotonic() - begun)

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            if run.purged:
                return
            poll_state.is_polling = False
            if isinstance(answer, RunListing):
                poll_state.end_asked = asked_at if asks_end else poll_state.end_asked
                self._comparator.compare(outbox, row, answer, run, now)
            else:
                error = None if isinstance(answer, LinkDown) else str(answer)
                outbox.runs.schedule_poll(row, now + timedelta(seconds=config.intervals.retry_s), error=error)

        return BackgroundTask("monitor", call, done)

    def reconcile(
        self, run: str, namespace: str, named: list[StfFile], by: str
    ) -> Callable[[Outbox, datetime], ReconcileResult]:
        """The act of a person who looked by hand and found *named*, for the engine's thread."""
        return lambda outbox, now: self._comparator.compare_now(outbox, (namespace, run), named, by, now)

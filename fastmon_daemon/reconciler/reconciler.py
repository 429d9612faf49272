"""Class Reconciler: polls the monitor for the STFs of each run, and supplies the engine with background tasks."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import LinkDown, StorageUnavailable, TransientError
from fastmon_daemon.engine import BackgroundTask
from fastmon_daemon.messages import run_number
from fastmon_daemon.outbox import Outbox, RunRow
from fastmon_daemon.reconciler.backfill import BackfillQueue
from fastmon_daemon.reconciler.comparing import ReconcileResult, RunComparator
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.downtime import ListeningLog
from fastmon_daemon.reconciler.finishing import COMPLETE, RunFinalizer
from fastmon_daemon.reconciler.listing import RunLister
from fastmon_daemon.reconciler.unknown_runs import UnknownRunDetector
from fastmon_daemon.runs.poll_state import RunListing
from fastmon_daemon.runs.run_events import END_RUN
from fastmon_daemon.runs.tracked_runs import TrackedRun, TrackedRuns

MAX_POLLS = 2
"""Runs that are polled at once."""
NO_NUMBER = "run_id is not a number: the monitor cannot be queried"


class Reconciler:
    """All but the calls of its background tasks, and `link_restored`, runs in the engine's thread."""

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns) -> None:
        """*runs* is shared with the intake."""
        self._config = config
        self._runs = runs
        self.listening = ListeningLog(config)
        self.backfill = BackfillQueue(config, runs)
        self._comparator = RunComparator(config, runs, self.backfill)
        self._finalizer = RunFinalizer(config, runs)
        self._unknown_runs = UnknownRunDetector(config)
        self._lister = RunLister(config, lambda: self.backfill.room)
        self._peers_due = -math.inf
        self._poll_all = threading.Event()
        self._poll_all.set()

    def link_restored(self) -> None:
        """The broker link is back: poll every run that is not complete. Thread-safe."""
        self._poll_all.set()

    def tasks(self, outbox: Outbox, now: datetime) -> Iterator[BackgroundTask]:
        """What is due: lookups of missed STFs, polls of runs, summaries."""
        self.listening.beat(outbox, now)
        if self._poll_all.is_set():
            with outbox.transaction():
                outbox.runs.schedule_all(now, but=self._config.run_chart.leads_to(COMPLETE))
            self._poll_all.clear()
            for run in self._runs.all():
                run.poll_state.listed_at = -math.inf
            self._unknown_runs.poll_soon()
        try:
            self._config.refuse_if_short()
        except StorageUnavailable:
            self.backfill.drop()
            for run in self._runs.all():
                run.poll_state.restart_grace()
        else:
            yield from self.backfill.tasks(outbox, now)
            yield from self._polls(outbox, now)
        if self._config.polls_all_runs:
            self._finalizer.complete_runs(outbox, now)
            yield from self._finalizer.tasks(outbox)
            yield from self._unknown_runs.tasks()
        yield from self._peers()

    def _peers(self) -> Iterator[BackgroundTask]:
        """Of a shared queue: who else is there, and who reconciles; it must be seen within a minute if nobody does."""
        peers, now = self._config.peers, self._config.clock.monotonic()
        if peers.shares and now >= self._peers_due and self._config.allows_calls("monitor"):
            self._peers_due = now + self._config.intervals.peers_s
            yield BackgroundTask("monitor", peers.refresh, lambda _outbox, _answer, _now: None)

    def list_run(self, number: int, run: str, namespace: str, recovering: set[str]) -> RunListing:
        """The monitor's list of a run, for `reconcile`; *recovering* as `recovering` returned it. For any thread."""
        return self._lister.read((namespace, run), number, recovering, self._config.clock.now())

    def recovering(self, run: str, namespace: str) -> Callable[[Outbox, datetime], set[str]]:
        """An action for the engine's inbox: the STFs of a run that are being stored."""
        return lambda _outbox, _now: self._runs.get(namespace, run).recovering

    def reconcile(
        self, run: str, namespace: str, listing: RunListing, by: str
    ) -> Callable[[Outbox, datetime], ReconcileResult]:
        """An action for the engine's inbox: compare *listing*, the monitor's list of a run, for the operator *by*."""
        return lambda outbox, now: self._comparator.compare_now(outbox, (namespace, run), listing, by, now)

    def _polls(self, outbox: Outbox, now: datetime) -> Iterator[BackgroundTask]:
        for row in outbox.runs.due_for_poll(now, nameless_only=not self._config.polls_all_runs):
            number = run_number(row.run_id)
            run = self._runs.get(row.namespace, row.run)
            if number is None:
                self._cannot_poll(outbox, row)
            elif self._may_poll(run):
                run.poll_state.is_polling = True
                yield self._poll(outbox, row, number, run)

    def _cannot_poll(self, outbox: Outbox, row: RunRow) -> None:
        if row.reconcile_error != NO_NUMBER:
            logger.warning("run {}: {}", row.run, NO_NUMBER)
        with outbox.transaction():
            outbox.runs.schedule_poll(row, None, error=NO_NUMBER)

    def _may_poll(self, run: TrackedRun) -> bool:
        return (
            not run.poll_state.is_polling
            and self._config.clock.monotonic() >= run.poll_state.not_before
            and self._config.allows_calls("monitor")
            and sum(each.poll_state.is_polling for each in self._runs.all()) < MAX_POLLS
        )

    def _may_count(self, outbox: Outbox, row: RunRow, run: TrackedRun, now: float) -> bool:
        """Whether it is enough for a poll of an open run to count its STFs: the list of a long run takes much time.

        As many as we know, without a gap in their sequence, can be others only if one was missed after the last, and
        one that we know is not registered: the next list shows that, after some minutes or at the end of the run.
        """
        is_settled = not (row.nameless or row.absent or row.unlisted or run.claims or run.is_recovering)
        is_recent = now - run.poll_state.listed_at < self._config.intervals.max_pause_s
        return is_settled and is_recent and outbox.runs.stored_count(row) >= (row.last_sequence or math.inf)

    def _poll(self, outbox: Outbox, row: RunRow, number: int, run: TrackedRun) -> BackgroundTask:
        config, poll_state, recovering = self._config, run.poll_state, run.recovering
        asked_at, asked_on = config.clock.monotonic(), config.clock.now()
        is_open = config.run_chart.may(row.state, END_RUN)
        may_count = is_open and self._may_count(outbox, row, run, asked_at)
        asks_end = config.polls_all_runs and is_open and asked_at - poll_state.end_asked >= config.intervals.open_run_s

        def call() -> RunListing:
            started_at = config.clock.monotonic()  # the call may have waited in the pool's queue
            listing = self._lister.count(row, number) if may_count else None
            listing = listing or self._lister.read(
                (row.namespace, row.run), number, recovering, asked_on, at_least=row.monitor_count or 0
            )
            if config.peers.shares or run.claims:
                config.peers.refresh()
            key = listing.run_key if asks_end else None
            ended_at = None
            with suppress(TransientError):  # the list counts anyway, and the next poll asks for the end again
                ended_at = config.monitor.run_ended_at(key) if key is not None else None
            return replace(listing, ended_at=ended_at, seconds=config.clock.monotonic() - started_at)

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

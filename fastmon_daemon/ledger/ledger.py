"""Class Ledger: looks at the monitor for the STFs of each run, compares, and has the runs closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.errands import Errand
from fastmon_daemon.errors import LinkDown, StorageFault, TransientError
from fastmon_daemon.ledger.absence import begin_listening, end_listening, sign_of_life
from fastmon_daemon.ledger.closing import COMPLETE, Closing
from fastmon_daemon.ledger.comparing import Comparing, Found
from fastmon_daemon.ledger.hearing import END_RUN
from fastmon_daemon.ledger.means import Means
from fastmon_daemon.ledger.recovery import Recovery
from fastmon_daemon.ledger.runs import TrackedRun, TrackedRuns
from fastmon_daemon.ledger.unheard import Unheard
from fastmon_daemon.ledger.watching import Look, Watch
from fastmon_daemon.messages import run_number
from fastmon_daemon.monitor import StfFile
from fastmon_daemon.outbox import Outbox, RunRow

MOST_LOOKS = 2
"""Runs that are looked at at the same time."""
NO_NUMBER = "its run_id is no number: the monitor cannot be asked"


class Ledger:
    """A chore of the engine: all of it runs in the engine's thread, but for the calls and `heard_again`."""

    def __init__(self, means: Means, runs: TrackedRuns) -> None:
        """*runs* is what else is remembered of the runs in this process, and is shared with the intake."""
        self._means = means
        self._runs = runs
        self.recovery = Recovery(means, runs)
        self._comparing = Comparing(means, runs, self.recovery)
        self._closing = Closing(means, runs)
        self._unheard = Unheard(means)
        self._look_at_all = threading.Event()
        self._look_at_all.set()
        self._next_sign: float | None = None

    def begin_listening(self, outbox: Outbox) -> None:
        """We subscribe from now on: remember since when nobody did, and that we do until `end_listening`."""
        with outbox.transaction():
            begin_listening(outbox, self._means.clock.now())
        self._next_sign = self._means.clock.monotonic() + self._means.paces.sign_s

    def end_listening(self, outbox: Outbox) -> None:
        """We stop on purpose."""
        if self._next_sign is None:
            return
        try:
            with outbox.transaction():
                end_listening(outbox, self._means.clock.now())
        except StorageFault as exc:  # the last sign of life says nearly the same, and a drain costs nothing
            logger.warning("that we stop could not be written down: {}", exc)

    def heard_again(self) -> None:
        """The link to the broker is back: look at every run that is not complete. Callable from any thread."""
        self._look_at_all.set()

    def errands(self, outbox: Outbox, now: datetime) -> Iterator[Errand]:
        """What is due: lookups of missed STFs, looks at runs, summaries."""
        self._sign(outbox, now)
        if self._look_at_all.is_set():
            with outbox.transaction():
                outbox.runs.look_at_all(now, but=self._means.run_chart.leads_to(COMPLETE))
            self._look_at_all.clear()
            self._unheard.look_soon()
        if self._has_room():
            yield from self.recovery.errands(outbox, now)
            yield from self._looks(outbox, now)
        else:
            self.recovery.drop()
            for run in self._runs.all():
                run.watch.begin_anew()
        if self._means.keeps_all:
            self._closing.close(outbox, now)
            yield from self._closing.errands(outbox)
            yield from self._unheard.errands()

    def _has_room(self) -> bool:
        try:
            self._means.refuse_if_short()
        except StorageFault:
            return False
        return True

    def _sign(self, outbox: Outbox, now: datetime) -> None:
        if self._next_sign is not None and self._means.clock.monotonic() >= self._next_sign:
            self._next_sign = self._means.clock.monotonic() + self._means.paces.sign_s
            with outbox.transaction():
                sign_of_life(outbox, now)

    def _looks(self, outbox: Outbox, now: datetime) -> Iterator[Errand]:
        for row in outbox.runs.to_look_at(now, nameless_only=not self._means.keeps_all):
            number = run_number(row.run_id)
            run = self._runs.get(row.namespace, row.run)
            if number is None:
                self._cannot_ask(outbox, row)
            elif self._may_look(run.watch):
                run.watch.looking = True
                yield self._look(row, number, run)

    def _cannot_ask(self, outbox: Outbox, row: RunRow) -> None:
        if row.look_error != NO_NUMBER:
            logger.warning("run {}: {}", row.run, NO_NUMBER)
        with outbox.transaction():
            outbox.runs.look(row, None, error=NO_NUMBER)

    def _may_look(self, watch: Watch) -> bool:
        if watch.looking or self._means.clock.monotonic() < watch.not_before or not self._means.is_open("monitor"):
            return False
        return sum(run.watch.looking for run in self._runs.all()) < MOST_LOOKS

    def _look(self, row: RunRow, number: int, run: TrackedRun) -> Errand:
        means, watch = self._means, run.watch
        asked_at = means.clock.monotonic()
        is_open = means.run_chart.may(row.state, END_RUN)
        asks_end = means.keeps_all and is_open and asked_at - watch.end_asked >= means.paces.open_s

        def call() -> Look:
            begun = means.clock.monotonic()  # it may have waited in the pool's queue
            stfs = means.monitor.stf_files(number, at_least=row.named or 0)
            key = next((stf.run_key for stf in stfs), None) if asks_end else None
            ended_at = None
            with suppress(TransientError):  # what was listed counts all the same; the end is asked for again
                ended_at = means.monitor.run_ended_at(key) if key is not None else None
            return Look(stfs, ended_at, means.clock.monotonic() - begun)

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            if run.purged:
                return
            watch.looking = False
            if isinstance(answer, Look):
                watch.end_asked = asked_at if asks_end else watch.end_asked
                self._comparing.compare(outbox, row, answer, run, now)
            else:
                error = None if isinstance(answer, LinkDown) else str(answer)
                outbox.runs.look(row, now + timedelta(seconds=means.paces.retry_s), error=error)

        return Errand("monitor", call, done)

    def reconcile(self, run: str, namespace: str, named: list[StfFile], by: str) -> Callable[[Outbox, datetime], Found]:
        """The act of a person who looked by hand and found *named*, for the engine's thread."""
        return lambda outbox, now: self._comparing.by_hand(outbox, (namespace, run), named, by, now)

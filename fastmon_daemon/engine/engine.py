"""The engine's loop: collect results, store them, start the calls that are due."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, StorageUnavailable
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.base.links import PIPELINED
from fastmon_daemon.base.metrics import count_attempt
from fastmon_daemon.engine.circuit_breakers import CircuitBreakers
from fastmon_daemon.engine.concurrency_limits import CallPools
from fastmon_daemon.engine.inbox import Inbox, LinkEvent, PendingAction
from fastmon_daemon.engine.outliers import OutlierDetector
from fastmon_daemon.engine.scheduler import Scheduler
from fastmon_daemon.engine.steps import EngineConfig, Sent
from fastmon_daemon.engine.tasks import BackgroundTask, CallResult, InFlight, StepExecution
from fastmon_daemon.engine.transitions import TransitionWriter
from fastmon_daemon.outbox import Outbox, StepResult, Stf, storage_errors

TICK_S = 1.0
"""Longest wait of a tick, in seconds."""
WRITE_RETRY_S = 1.0
"""Pause after a failed write to the database, in seconds."""


class Engine:
    """Drives the STFs of one outbox. `tick` is one round of the loop; tests call it directly."""

    def __init__(
        self,
        outbox: Outbox,
        config: EngineConfig,
        *,
        inbox: Inbox,
        breakers: CircuitBreakers,
        pools: CallPools,
        background_tasks: Callable[[Outbox, datetime], Iterable[BackgroundTask]] = lambda _outbox, _now: (),
        idle_work: Callable[[Outbox, datetime], None] = lambda _outbox, _now: None,
    ) -> None:
        """*background_tasks* returns those that are due.

        *idle_work* runs in a tick with no STF in work: one short step with its own transactions.
        """
        self.inbox = inbox
        self.breakers = breakers
        self._outbox = outbox
        self._config = config
        self._pools = pools
        self._background_tasks = background_tasks
        self._idle_work = idle_work
        self._active = InFlight(pools.workers)
        self._calls_in_flight = 0
        self._outliers = OutlierDetector(config.links)
        self._scheduler = Scheduler(outbox, config, breakers)
        self._writer = TransitionWriter(outbox, config, breakers, self._scheduler)
        self._unstored: list[CallResult | LinkEvent] = []
        self.fault = ""
        """Why the database is not writable now; empty if it is."""
        self._write_retry_at = 0.0
        self.stopping = threading.Event()

    @property
    def busy(self) -> int:
        """Calls in the pools, and results that are not stored yet."""
        return self._calls_in_flight + len(self._unstored)

    def calls_in_flight(self) -> dict[str, int]:
        """Link -> number of calls of STFs in flight. For any thread."""
        found = dict.fromkeys(self._config.links.values(), 0)
        for execution in list(self._active.values()):
            if link := self._config.links.get(execution.trigger):
                found[link] += execution.in_flight
        return found

    def call_limits(self) -> dict[str, int]:
        """Link -> how many calls of STFs may be in flight. For any thread."""
        return dict.fromkeys(self._config.links.values(), self._pools.workers)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight and no STF is due that could start now."""
        return not self.busy and not self._active and self._scheduler.may_announce_late and not self._scheduler.peek(())

    def tick(self, wait_s: float = TICK_S) -> bool:
        """One round: wait for results, store them, start what is due. True if anything is in flight."""
        items = self.inbox.collect(wait_s if self._scheduler.may_announce_late else min(wait_s, 0.05))
        self._unstored += [self._recorded(item) for item in items if not isinstance(item, PendingAction)]
        may_write = self._config.clock.monotonic() >= self._write_retry_at
        stored = may_write and self._try_write(self._store_results)
        for item in items:
            if isinstance(item, PendingAction):
                self._run_action(item)
        if stored and not self.stopping.is_set():
            self._try_write(self._start_due)
        return self.busy > 0

    def _try_write(self, write: Callable[[], None]) -> bool:
        """Run *write*; False if the database is not writable: results stay in memory until the next try."""
        try:
            with storage_errors(self._outbox.path):
                write()
        except StorageUnavailable as exc:
            if not self.fault:
                logger.error("database not writable; processing paused: {}", exc)
            self.fault = str(exc)
            self._write_retry_at = self._config.clock.monotonic() + WRITE_RETRY_S
            return False
        return True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction; if it fails, the STFs in work are restored in memory too."""
        before = dict(self._active)
        try:
            with self._outbox.transaction():
                yield
        except Exception:
            self._active.clear()
            self._active.update(before)
            raise

    def _store_results(self) -> None:
        """Store all results and link events that are not stored yet, in one transaction."""
        if self._unstored or self.fault:
            with self._transaction():
                for item in self._unstored:
                    self._store(item)
                owners = {id(item.owner): item.owner for item in self._unstored if isinstance(item, CallResult)}
                for execution in owners.values():
                    if isinstance(execution, StepExecution) and not execution.in_flight and not execution.waiting:
                        self._finish_step(execution)
                if self.fault:  # only a write proves that the database is writable again
                    self._outbox.remember("storage_fault", f"{self.fault} (until {format_timestamp(self._now())})")
            self._unstored.clear()
        if self.fault:
            logger.info("database writable; processing resumed")
            self.fault = ""

    def _start_due(self) -> None:
        for probe in self.breakers.probes():
            self._submit(self._pools.probes, probe, probe.call)
        for task in self._background_tasks(self._outbox, self._now()):
            self._submit(self._pools.background, task, task.call)
        while (room := self._pools.workers - self._active.call_count) > 0:
            if execution := self._active.next_ready():
                together = self._config.links[execution.trigger] in PIPELINED
                self._submit(self._pools.stf_calls, execution, *execution.next_calls(room if together else 1))
            elif not self._start_next_stf():
                break
        if not self._active:
            self._idle_work(self._outbox, self._now())

    def _run_action(self, pending: PendingAction) -> None:
        """Run an action in its own transaction; if it fails, only its sender gets the error."""
        try:
            with self._outbox.transaction():
                answer = pending.action(self._outbox, self._now())
        except Exception as exc:  # noqa: BLE001 (the sender gets it)
            pending.answer.set_exception(exc)
        else:
            pending.answer.set_result(answer)

    def _recorded(self, item: CallResult | LinkEvent) -> CallResult | LinkEvent:
        """Update memory for one item: exactly once, however often storing it is tried."""
        if isinstance(item, CallResult):
            self._calls_in_flight -= 1
            if isinstance(item.owner, StepExecution):
                item.owner.record(item)
                count_attempt(item.owner.trigger, item.answer)
                self._outliers.record(item.owner, item.answer)
        return item

    def _store(self, item: CallResult | LinkEvent) -> None:
        """Store one item; it may run again if the transaction could not be committed."""
        if isinstance(item, LinkEvent):
            self.breakers.link_changed(item)
            return
        if isinstance(item.answer, LinkDown):
            link = item.owner.link if isinstance(item.owner, BackgroundTask) else self._config.links[item.owner.trigger]
            blocked = isinstance(item.answer, LinkBlocked)
            self.breakers.link_changed(
                LinkEvent(link, up=False, reason=str(item.answer), blocked=blocked, started_at=item.started_at)
            )
        if isinstance(item.owner, BackgroundTask):
            item.owner.done(self._outbox, item.answer, self._now())
        elif not isinstance(item.answer, Exception):
            self._outbox.save_progress(item.owner.stf.id, item.answer, self._now())

    def _finish_step(self, execution: StepExecution) -> None:
        """All answers of a step are in: go on to the next step, or record the failure."""
        del self._active[execution.stf.id]
        stf = self._outbox.get(execution.stf.id)
        if execution.error is None:
            self._advance(stf)
        elif not isinstance(execution.error, LinkDown) or self._outliers.is_outlier(execution):
            # Otherwise the link is at fault: the STF stays due and no attempt is counted.
            charge = not self._outliers.is_systemic(execution)
            if self._writer.record_failure(stf, execution.error, execution.spent_s, charge=charge):
                self._outliers.forget(stf.id)

    def _advance(self, stf: Stf) -> None:
        if execution := self._writer.advance(stf):
            self._active[stf.id] = execution

    def _start_next_stf(self) -> bool:
        """Start the next STF that is due. False if there is none."""
        due = self._scheduler.next(self._active, retrying=self._active.has_room_for_retrying)
        if due is None:
            return False
        with self._transaction():
            self._advance(due)
        return True

    def _submit(self, pool: Executor, owner: StepExecution | BackgroundTask, *calls: Callable[[], Any]) -> None:
        """Make *calls* one after the other in one thread of *pool*."""
        self._calls_in_flight += len(calls)
        pool.submit(self._make_calls, owner, calls)

    def _make_calls(self, owner: StepExecution | BackgroundTask, calls: Iterable[Callable[[], Any]]) -> None:
        """Runs in a pool: network only, no database."""
        for call in calls:
            started_at = self._config.clock.monotonic()
            try:
                with failpoints_around("call"):
                    answer = self._config.in_process_retry()(call) if isinstance(owner, StepExecution) else call()
            except Exception as exc:  # noqa: BLE001 (the engine handles every failure)
                answer = exc
            if isinstance(answer, Sent):
                answer.confirmed.add_done_callback(partial(self._confirmed, owner, answer.result, started_at))
            else:
                self._deliver(owner, answer, started_at)

    def _confirmed(
        self, owner: StepExecution | BackgroundTask, result: StepResult, started_at: float, confirmed: Future[None]
    ) -> None:
        """Runs in the thread that got the confirmation."""
        self._deliver(owner, confirmed.exception() or result, started_at)

    def _deliver(self, owner: StepExecution | BackgroundTask, answer: Any, started_at: float) -> None:
        self.inbox.deliver(CallResult(owner, answer, started_at, self._config.clock.monotonic() - started_at))

    def _now(self) -> datetime:
        return self._config.clock.now()

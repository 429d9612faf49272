"""The loop: collect the news, write the facts down, send out what is due."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, StorageUnavailable
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.engine.background_tasks import BackgroundTask, BackgroundTaskSource
from fastmon_daemon.engine.circuit_breakers import CircuitBreakers
from fastmon_daemon.engine.concurrency_limits import CallPools
from fastmon_daemon.engine.config import EngineConfig
from fastmon_daemon.engine.in_flight import CallResult, InFlight, StepExecution
from fastmon_daemon.engine.inbox import Inbox, LinkEvent, PendingAction
from fastmon_daemon.engine.outliers import OutlierDetector
from fastmon_daemon.engine.scheduler import Scheduler
from fastmon_daemon.engine.transitions import TransitionWriter
from fastmon_daemon.outbox import Outbox, Stf, storage_errors

TICK_S = 1.0
"""Longest wait of a turn, in seconds."""
WRITE_AGAIN_S = 1.0
"""So long after a write that the disk did not take, it is tried again."""


class Engine:
    """Drives the STFs of one outbox. `turn` is one round of the loop; tests call it by hand."""

    def __init__(
        self,
        outbox: Outbox,
        config: EngineConfig,
        *,
        inbox: Inbox,
        breakers: CircuitBreakers,
        pools: CallPools,
        task_sources: Sequence[BackgroundTaskSource] = (),
        idle_work: Callable[[Outbox, datetime], None] = lambda _outbox, _now: None,
    ) -> None:
        """*spare* is done in a turn that has nothing else to do: one short step, with transactions of its own."""
        self.inbox = inbox
        self.breakers = breakers
        self._outbox = outbox
        self._config = config
        self._pools = pools
        self._task_sources = task_sources
        self._idle_work = idle_work
        self._active = InFlight(pools.workers)
        self._in_flight = 0
        self._outliers = OutlierDetector(config.links)
        self._picker = Scheduler(outbox, config, breakers.allows_calls)
        self._writer = TransitionWriter(outbox, config, breakers.allows_calls, self._picker.may_announce)
        self._unwritten: list[CallResult | LinkEvent] = []
        self._fault = ""
        self._write_again_at = 0.0
        self.stopping = threading.Event()

    @property
    def busy(self) -> int:
        """Calls that are in the pools now, and answers that could not be written down yet."""
        return self._in_flight + len(self._unwritten)

    @property
    def fault(self) -> str:
        """Why nothing can be written down now; empty where it can."""
        return self._fault

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing is due that could be done now."""
        return not self.busy and not self._active and self._picker.unhindered and not self._picker.due(())

    def tick(self, wait_s: float = TICK_S) -> bool:
        """One round: wait for news, write the facts down, send out what is due. True if anything is under way."""
        event = self.inbox.collect(wait_s if self._picker.unhindered else min(wait_s, 0.05))
        self._unwritten += [self._noted(item) for item in event if not isinstance(item, PendingAction)]
        rested = self._config.clock.monotonic() >= self._write_again_at
        written = rested and self._on_disk(self._write_down)
        for act in (item for item in event if isinstance(item, PendingAction)):
            self._do(act)
        if written and not self.stopping.is_set():
            self._on_disk(self._go_on)
        return self.busy > 0

    def _on_disk(self, write: Callable[[], None]) -> bool:
        """Do what writes; False where the disk does not take it now: it is kept, and written after a pause."""
        try:
            with storage_errors(self._outbox.path):
                write()
        except StorageUnavailable as exc:
            if not self._fault:
                logger.error("nothing can be written down, the work waits: {}", exc)
            self._fault = str(exc)
            self._write_again_at = self._config.clock.monotonic() + WRITE_AGAIN_S
            return False
        return True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction; where it could not be committed, memory has forgotten it too."""
        before = dict(self._active)
        try:
            with self._outbox.transaction():
                yield
        except Exception:
            self._active.clear()
            self._active.update(before)
            raise

    def _write_down(self) -> None:
        """What came back and is not on disk yet, in one transaction."""
        if self._unwritten or self._fault:
            with self._transaction():
                for item in self._unwritten:
                    self._settle(item)
                done = {id(item.owner): item.owner for item in self._unwritten if isinstance(item, CallResult)}
                for execution in done.values():
                    if isinstance(execution, StepExecution) and not execution.in_flight and not execution.waiting:
                        self._finish(execution)
                if self._fault:  # something is written in any case: only that proves that the disk takes it
                    self._outbox.remember("storage_fault", f"{self._fault} (until {format_timestamp(self._now())})")
            self._unwritten.clear()
        if self._fault:
            logger.info("the disk takes what is written again: the work goes on")
            self._fault = ""

    def _go_on(self) -> None:
        self._run_errands()
        self._dispatch()
        if not self._active:
            self._idle_work(self._outbox, self._now())

    def _do(self, act: PendingAction) -> None:
        """An act is a transaction of its own: where it fails, its sender hears of it and nobody else."""
        try:
            with self._outbox.transaction():
                answer = act.action(self._outbox, self._now())
        except Exception as exc:  # noqa: BLE001 (it goes to whoever asked)
            act.answer.set_exception(exc)
        else:
            act.answer.set_result(answer)

    def _noted(self, item: CallResult | LinkEvent) -> CallResult | LinkEvent:
        """What an answer changes in memory; that happens once, however often it has to be written down."""
        if isinstance(item, CallResult):
            self._in_flight -= 1
            if isinstance(item.owner, StepExecution):
                item.owner.record(item)
                self._outliers.record(item.owner, item.answer)
        return item

    def _settle(self, item: CallResult | LinkEvent) -> None:
        """Write one piece of news down; it may run again where the transaction could not be committed."""
        if isinstance(item, LinkEvent):
            self.breakers.link_changed(item)
            return
        if isinstance(item.answer, LinkDown):
            link = item.owner.link if isinstance(item.owner, BackgroundTask) else self._config.links[item.owner.trigger]
            blocked = isinstance(item.answer, LinkBlocked)
            self.breakers.link_changed(
                LinkEvent(link, up=False, reason=str(item.answer), blocked=blocked, started_at=item.begun)
            )
        if isinstance(item.owner, BackgroundTask):
            item.owner.done(self._outbox, item.answer, self._now())
        elif not isinstance(item.answer, Exception):
            self._outbox.save_progress(item.owner.stf.id, item.answer, self._now())

    def _finish(self, execution: StepExecution) -> None:
        """The last answer is in: on to the next step, or whose fault was it?"""
        del self._active[execution.stf.id]
        stf = self._outbox.get(execution.stf.id)
        if execution.error is None:
            self._begin(stf)
        elif not isinstance(execution.error, LinkDown) or self._outliers.is_outlier(execution):
            # A link's own fault burns no attempt: the STF stays due.
            given_up = self._writer.record_failure(
                stf, execution.error, execution.spent_s, pays=not self._outliers.is_systemic(execution)
            )
            if given_up:
                self._outliers.forget(stf.id)

    def _begin(self, stf: Stf) -> None:
        if execution := self._writer.advance(stf):
            self._active[stf.id] = execution

    def _run_errands(self) -> None:
        for probe in self.breakers.probes():
            self._submit(self._pools.probes, probe, probe.call)
        for chore in self._task_sources:
            for task in chore.tasks(self._outbox, self._now()):
                self._submit(self._pools.background, task, task.call)

    def _dispatch(self) -> None:
        while self._active.in_flight < self._pools.workers:
            execution = self._active.next()
            if execution is None:
                if not self._take_next():
                    return
                continue
            self._submit(self._pools.stf_calls, execution, execution.take())

    def _take_next(self) -> bool:
        """Begin with the next STF that is due. False if there is none."""
        due = self._picker.next(self._active, sick=self._active.has_room_for_retrying)
        if due is None:
            return False
        with self._transaction():
            self._begin(due)
        return True

    def _submit(self, pool: Executor, owner: StepExecution | BackgroundTask, call: Callable[[], Any]) -> None:
        self._in_flight += 1
        pool.submit(self._perform, owner, call)

    def _perform(self, owner: StepExecution | BackgroundTask, call: Callable[[], Any]) -> None:
        """Runs in a pool: network only, no database."""
        begun = self._config.clock.monotonic()
        try:
            with failpoints_around("effect"):
                answer = self._config.in_process_retry()(call) if isinstance(owner, StepExecution) else call()
        except Exception as exc:  # noqa: BLE001 (every failure goes back to the engine, which decides)
            answer = exc
        self.inbox.deliver(CallResult(owner, answer, begun, self._config.clock.monotonic() - begun))

    def _now(self) -> datetime:
        return self._config.clock.now()

"""The engine's loop: collect results, store them, start the calls that are due."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, ParentNotRegistered, StorageUnavailable, TransientError
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.base.links import ANNOUNCEMENTS, PIPELINED
from fastmon_daemon.base.metrics import count_attempt
from fastmon_daemon.engine.circuit_breakers import CircuitBreakers
from fastmon_daemon.engine.concurrency_limits import CallPools, ConcurrencyLimit
from fastmon_daemon.engine.inbox import Inbox, LinkEvent, PendingAction
from fastmon_daemon.engine.outliers import OutlierDetector
from fastmon_daemon.engine.scheduler import Scheduler
from fastmon_daemon.engine.steps import EngineConfig, Sent
from fastmon_daemon.engine.tasks import BackgroundTask, CallResult, InFlight, Room, StepExecution
from fastmon_daemon.engine.transitions import TransitionWriter
from fastmon_daemon.outbox import Outbox, StepResult, Stf, storage_errors

TICK_S = 1.0
"""Longest wait of a tick, in seconds."""
WRITE_RETRY_S = 1.0
"""Pause after a failed write to the database, in seconds."""
GROUP_S = 0.01
"""While calls are in flight, an STF waits so long for others that share its transaction, in seconds."""
SPARE_S = 0.05
"""The same for results for which no STF waits: the next transaction takes them along, in seconds."""
MAX_CLAIMS = 100
"""STFs that one transaction starts at most: thousands may be skipped in a row."""
ROW_S = 0.02
"""So long a thread makes the calls of an STF in a row, in seconds; it then returns those that remain."""
QUEUED_CALLS = {ANNOUNCEMENTS: 8}
"""Link -> calls that may wait at its other side: for a broker those of one STF, else `QUEUED_BY_DEFAULT`."""
QUEUED_BY_DEFAULT = 3


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
        self._monotonic = config.clock.monotonic
        self._limits = {
            link: ConcurrencyLimit(pools.workers, QUEUED_CALLS.get(link, QUEUED_BY_DEFAULT), self._monotonic)
            for link in config.links.values()
        }
        self._active = InFlight(self._limits)
        self._calls_in_flight = 0
        self._outliers = OutlierDetector()
        self._scheduler = Scheduler(outbox, config, breakers)
        self._writer = TransitionWriter(outbox, config, breakers, self._scheduler, self._active.may_queue)
        self._unstored: list[CallResult | LinkEvent] = []
        self._unstored_calls: Counter[str] = Counter()
        """Link -> results that count as in flight until they are stored: after a crash all see their repetition."""
        self._actions: list[PendingAction] = []
        self._write_at = math.inf
        """When what is not stored must be, in monotonic seconds."""
        self._full: dict[str, Room] = {}
        """Links for which the last transaction had no room to start more STFs, and which it had room for."""
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
        return {link: limit.in_flight for link, limit in self._limits.items()}

    def call_limits(self) -> dict[str, int]:
        """Link -> how many calls of STFs may be in flight. For any thread."""
        return {link: limit.limit for link, limit in self._limits.items()}

    def set_most_calls(self, most: int) -> None:
        """Make *most* calls of STFs at once on each link, at most. For the engine's thread."""
        for limit in self._limits.values():
            limit.set_most(most)

    def set_late_rate(self, rate: float) -> None:
        """Make *rate* late announcements per second at most; 0: no limit. For the engine's thread."""
        self._scheduler.set_late_rate(rate)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight and no STF is due that could start now."""
        is_working = self.busy or self._actions or self._active
        return not is_working and self._scheduler.may_announce_late and not self._scheduler.peek(())

    def tick(self, wait_s: float = TICK_S) -> bool:
        """One round: wait for results, store them, start what is due. True if anything is in flight."""
        for item in self.inbox.collect(self._patience_s(wait_s)):
            self._take_in(item)
        now = self._monotonic()
        if self._write_at > now:  # what follows a failure is not known before it is stored
            self._start_calls()
        may_write = now >= self._write_retry_at or bool(self._actions)
        if may_write and self._write_is_due(now) and self._try_write(self._write):
            self._start_calls()
            if not self.stopping.is_set():
                self._try_write(self._start_others)
        return self.busy > 0

    def _patience_s(self, wait_s: float) -> float:
        """How long to wait for results, *wait_s* at most."""
        if not self._scheduler.may_announce_late:
            wait_s = min(wait_s, 0.05)
        write_at = max(self._write_at, self._write_retry_at)
        return max(0.0, min(wait_s, write_at - self._monotonic()))

    def _take_in(self, item: CallResult | LinkEvent | PendingAction | None) -> None:
        """Update memory for one item, and decide how long it may wait for others that share its transaction."""
        patience_s = GROUP_S
        if isinstance(item, PendingAction):
            self._actions.append(item)
            patience_s = SPARE_S if item.may_wait else GROUP_S
        elif item is not None:
            self._unstored.append(item)
            patience_s = 0.0
            if isinstance(item, CallResult):
                self._calls_in_flight -= 1 + len(item.unmade)
                if isinstance(item.owner, StepExecution):
                    self._unstored_calls[item.owner.link] += item.owner.link in PIPELINED
                    patience_s = self._record(item.owner, item)
        self._write_at = min(self._write_at, self._monotonic() + patience_s)

    def _record(self, execution: StepExecution, result: CallResult) -> float:
        """Record the result of one call, exactly once, however often storing it is tried; returns its patience."""
        execution.record(result)
        answer = result.answer
        count_attempt(execution.trigger, answer)
        self._outliers.record(execution, answer)
        has_failed = isinstance(answer, TransientError) and not isinstance(answer, ParentNotRegistered)
        self._limits[execution.link].ended(
            result.seconds, succeeded=not isinstance(answer, Exception), failed=has_failed, count=result.ends
        )
        if execution.is_finished:
            execution.settle(format_timestamp(self._now()))
        if execution.error is not None:
            return 0.0
        if execution.is_finished:  # a step may make its first call alone
            execution.waiting += self._config.steps[execution.trigger](execution.stf)
        return GROUP_S if execution.is_finished and execution.link not in PIPELINED else SPARE_S

    def _write_is_due(self, now: float) -> bool:
        """Whether to write now: later, more results may share the transaction."""
        if not (self._unstored or self._actions) or self.stopping.is_set():
            return True
        may_wait = not self._unstored and all(each.may_wait for each in self._actions)
        if not (self._active.call_count or may_wait):
            return True
        soon = now + GROUP_S
        if self._write_at > soon and any(self._active.room(link) is not room for link, room in self._full.items()):
            self._write_at = soon
        return now >= self._write_at

    def _try_write(self, write: Callable[[], None]) -> bool:
        """Run *write*; False if the database is not writable: results stay in memory until the next try."""
        try:
            with storage_errors(self._outbox.path):
                write()
        except StorageUnavailable as exc:
            if not self.fault:
                logger.bind(error=str(exc)).error("database not writable; processing paused: {}", exc)
            self.fault = str(exc)
            self._write_at = self._write_retry_at = self._monotonic() + WRITE_RETRY_S
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

    def _write(self) -> None:
        """Store what is not stored yet, run actions, and start the STFs that are due: all in one transaction."""
        actions, self._actions, self._write_at = self._actions, [], math.inf
        if not (actions or self._unstored or self.fault) and (self.stopping.is_set() or self._next_due() is None):
            return
        answers: list[Any] = []
        try:
            with self._transaction():
                self._store_results()
                answers += [self._answer(pending) for pending in actions]
                if not self.stopping.is_set():
                    self._start_stfs()
        except Exception as exc:
            for pending in actions:
                pending.answer.set_exception(exc)
            raise
        self._unstored.clear()
        self._unstored_calls.clear()
        for pending, answer in zip(actions, answers, strict=True):
            self._reply(pending, answer)
        if self.fault:
            logger.info("database writable; processing resumed")
            self.fault = ""

    def _store_results(self) -> None:
        """Store all results and link events that are not stored yet."""
        progress: dict[int, list[StepResult]] = {}
        for item in self._unstored:
            if isinstance(item, CallResult) and isinstance(item.owner, StepExecution) and not item.has_failed:
                progress.setdefault(item.owner.stf.id, []).append(item.answer)
            else:
                self._store(item)
        for stf_id, results in progress.items():
            self._outbox.save_progress(stf_id, results, self._now())
        owners = {id(item.owner): item.owner for item in self._unstored if isinstance(item, CallResult)}
        for execution in owners.values():
            if isinstance(execution, StepExecution) and execution.is_finished:
                self._finish_step(execution)
        if self.fault:  # only a write proves that the database is writable again
            self._outbox.remember("storage_fault", f"{self.fault} (until {format_timestamp(self._now())})")

    def _answer(self, pending: PendingAction) -> Any:
        """What an action returns, or the exception that it raised: then nothing that it wrote stays."""
        try:
            with storage_errors(self._outbox.path), self._outbox.savepoint():
                return pending.action(self._outbox, self._now())
        except Exception as exc:
            if not self._outbox.in_transaction:
                raise  # a full disk has ended the transaction
            return exc

    def _reply(self, pending: PendingAction, answer: Any) -> None:
        """Answer an action whose transaction is on disk."""
        try:
            if isinstance(answer, Exception):
                raise answer
            pending.committed()
        except Exception as exc:  # noqa: BLE001 (the sender gets it)
            pending.answer.set_exception(exc)
        else:
            pending.answer.set_result(answer)

    def _start_stfs(self) -> None:
        """Start the STFs that are due and for whose calls there is room."""
        retrying = self._scheduler.has_retrying()  # one that fails in this transaction is due later
        for _ in range(MAX_CLAIMS):
            due = self._next_due(take=True, retrying=retrying)
            if due is None:
                break
            self._advance(due)
        else:
            self._write_at = -math.inf
        rooms = {link: self._active.room(link) for link in self._limits}
        self._full = {link: room for link, room in rooms.items() if room is not Room.FOR_ALL}

    def _next_due(self, *, take: bool = False, retrying: bool = True) -> Stf | None:
        look = self._scheduler.next if take else self._scheduler.peek
        retrying = retrying and self._active.has_room_for_retrying
        return look(self._active, retrying=retrying, room=self._active.room)

    def _start_calls(self) -> None:
        """Start the calls of STFs for which there is room."""
        if self.fault or self.stopping.is_set():
            return
        for execution, rows in self._active.start_calls(self._unstored_calls):
            for row in rows:
                self._submit(self._pools.stf_calls, execution, *row)

    def _start_others(self) -> None:
        """Start probes and background tasks that are due, and idle work."""
        for probe in self.breakers.probes():
            self._submit(self._pools.probes, probe, probe.call)
        for task in self._background_tasks(self._outbox, self._now()):
            self._submit(self._pools.background, task, task.call)
        if not self._active:
            self._idle_work(self._outbox, self._now())

    def _store(self, item: CallResult | LinkEvent) -> None:
        """Store one item, no progress of an STF; it may run again if the transaction could not be committed."""
        if isinstance(item, LinkEvent):
            self.breakers.link_changed(item)
            return
        if isinstance(item.answer, LinkDown) and item.answer.is_meaningless and self._is_outlier(item.owner):
            self.breakers.suspect(item.owner.link)  # it would go down at each attempt
        elif isinstance(item.answer, LinkDown):
            blocked = isinstance(item.answer, LinkBlocked)
            self.breakers.link_changed(
                LinkEvent(
                    item.owner.link, up=False, reason=str(item.answer), blocked=blocked, started_at=item.started_at
                )
            )
        if isinstance(item.owner, BackgroundTask):
            item.owner.done(self._outbox, item.answer, self._now())

    def _is_outlier(self, owner: StepExecution | BackgroundTask) -> bool:
        return isinstance(owner, StepExecution) and self._outliers.is_outlier(owner)

    def _finish_step(self, execution: StepExecution) -> None:
        """All answers of a step are in: go on to the next step, or record the failure."""
        stf = execution.stf
        del self._active[stf.id]
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

    def _submit(self, pool: Executor, owner: StepExecution | BackgroundTask, *calls: Callable[[], Any]) -> None:
        """Make *calls* one after the other in one thread of *pool*."""
        self._calls_in_flight += len(calls)
        pool.submit(self._make_calls, owner, calls)

    def _make_calls(self, owner: StepExecution | BackgroundTask, calls: tuple[Callable[[], Any], ...]) -> None:
        """Runs in a pool: the calls of STFs do not use the database, and background tasks at most read it."""
        if isinstance(owner, StepExecution) and owner.link in PIPELINED:
            with self._config.together():
                results = [found for call in calls if (found := self._make_call(owner, call))]
        else:
            results = self._make_in_a_row(owner, calls)
        if results:
            self.inbox.deliver(*results)

    def _make_in_a_row(
        self, owner: StepExecution | BackgroundTask, calls: tuple[Callable[[], Any], ...]
    ) -> list[CallResult]:
        """Make *calls* until one fails, or until they have taken too long."""
        results: list[CallResult] = []
        end = self._config.clock.monotonic() + ROW_S
        for number, call in enumerate(calls, start=1):
            result, unmade = self._make_call(owner, call), calls[number:]
            assert result is not None  # only STFs have calls that are answered later
            is_late = result.started_at + result.seconds > end
            if not unmade or is_late or result.has_failed or self.stopping.is_set():
                return [*results, replace(result, unmade=unmade)]
            results.append(replace(result, ends=0))
        return results

    def _make_call(self, owner: StepExecution | BackgroundTask, call: Callable[[], Any]) -> CallResult | None:
        """The result of one call; None: it is delivered when the call is confirmed."""
        started_at = self._config.clock.monotonic()
        try:
            with failpoints_around("call"):
                answer = self._config.in_process_retry(call) if isinstance(owner, StepExecution) else call()
        except Exception as exc:  # noqa: BLE001 (the engine handles every failure)
            answer = exc
        if isinstance(answer, Sent):
            answer.confirmed.add_done_callback(partial(self._confirmed, owner, answer.result, started_at))
            return None
        return CallResult(owner, answer, started_at, self._config.clock.monotonic() - started_at)

    def _confirmed(
        self, owner: StepExecution | BackgroundTask, result: StepResult, started_at: float, confirmed: Future[None]
    ) -> None:
        """Runs in the thread that got the confirmation."""
        seconds = self._config.clock.monotonic() - started_at
        self.inbox.deliver(CallResult(owner, confirmed.exception() or result, started_at, seconds))

    def _now(self) -> datetime:
        return self._config.clock.now()

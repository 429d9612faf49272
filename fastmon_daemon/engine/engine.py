"""The loop: collect the news, write the facts down, send out what is due."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from loguru import logger

from fastmon_daemon.engine.links import Links
from fastmon_daemon.engine.picking import Picker
from fastmon_daemon.engine.plant import Act, LinkNews, Plant, Result, Work, Works
from fastmon_daemon.errands import Errand
from fastmon_daemon.errors import LinkDown, LinkHeld, ParentMissing, PermanentError, StaleStf, TransientError
from fastmon_daemon.outbox import Fact, Outbox, Stf
from fastmon_daemon.retrying import backoff
from fastmon_daemon.seams import between
from fastmon_daemon.steps import Decision, Effect

BUDGET_S = 900.0
"""Seconds that an STF may fail by its own fault, with the gate open, before a person must look."""
TICK_S = 1.0
"""Longest wait of a turn, in seconds."""


class Engine:
    """Drives the STFs of one outbox. `turn` is one round of the loop; tests call it by hand."""

    def __init__(self, outbox: Outbox, plant: Plant) -> None:
        plant.chart.check_steps(set(plant.steps))
        self._outbox = outbox
        self._plant = plant
        self._news: queue.SimpleQueue[Result | LinkNews | Act | None] = queue.SimpleQueue()
        self._active = Works(plant.workers)
        self._in_flight = 0
        self._links = Links(outbox, plant)
        self._picker = Picker(outbox, plant, self._links.is_open)
        self.stopping = threading.Event()

    @property
    def busy(self) -> int:
        """Calls that are in the pool now."""
        return self._in_flight

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing is due that could be done now."""
        return not self._in_flight and not self._active and self._picker.unhindered and not self._picker.due(())

    def wake(self) -> None:
        """Say that there is something new; callable from any thread."""
        self._news.put(None)

    def tell(self, news: LinkNews) -> None:
        """Say that a link went or came back; callable from any thread."""
        self._news.put(news)

    def ask(self, act: Callable[[Outbox, datetime], Any]) -> Future[Any]:
        """Have *act* done in the engine's thread, in a transaction of its own; callable from any thread."""
        future: Future[Any] = Future()
        self._news.put(Act(act, future))
        return future

    def is_open(self, link: str | None) -> bool:
        """Whether the gate of *link* is open."""
        return self._links.is_open(link)

    def turn(self, wait_s: float = TICK_S) -> bool:
        """One round: wait for news, write the facts down, send out what is due. True if anything is under way."""
        news = self._collect(wait_s if self._picker.unhindered else min(wait_s, 0.05))
        acts = [item for item in news if isinstance(item, Act)]
        settled = [item for item in news if not isinstance(item, Act)]
        if settled:
            with self._outbox.transaction():
                for item in settled:
                    self._settle(item)
        for act in acts:
            self._do(act)
        if not self.stopping.is_set():
            self._run_errands()
            self._dispatch()
        return self._in_flight > 0

    def _do(self, act: Act) -> None:
        """An act is a transaction of its own: where it fails, its sender hears of it and nobody else."""
        try:
            with self._outbox.transaction():
                answer = act.act(self._outbox, self._now())
        except Exception as exc:  # noqa: BLE001 (it goes to whoever asked)
            act.answer.set_exception(exc)
        else:
            act.answer.set_result(answer)

    def _collect(self, wait_s: float) -> list[Result | LinkNews | Act]:
        found: list[Result | LinkNews | Act] = []
        try:
            item = self._news.get(timeout=wait_s) if wait_s > 0 else self._news.get_nowait()
            while True:
                if item is not None:
                    found.append(item)
                item = self._news.get_nowait()
        except queue.Empty:
            return found

    def _settle(self, item: Result | LinkNews) -> None:
        if isinstance(item, LinkNews):
            self._links.changed(item)
            return
        self._in_flight -= 1
        if isinstance(item.answer, LinkDown):
            link = item.owner.link if isinstance(item.owner, Errand) else self._plant.links[item.owner.trigger]
            held = isinstance(item.answer, LinkHeld)
            self._links.changed(LinkNews(link, up=False, reason=str(item.answer), held=held))
        if isinstance(item.owner, Errand):
            item.owner.done(self._outbox, item.answer, self._now())
        else:
            self._settle_work(item.owner, item)

    def _settle_work(self, work: Work, result: Result) -> None:
        work.in_flight -= 1
        work.spent_s = max(work.spent_s, result.seconds)
        if isinstance(result.answer, Exception):
            if work.error is None or isinstance(work.error, LinkDown):
                work.error = result.answer
            work.waiting.clear()
        else:
            self._outbox.keep(work.stf.id, result.answer, self._now())
        if work.in_flight or work.waiting:
            return
        del self._active[work.stf.id]
        stf = self._outbox.get(work.stf.id)
        if work.error is None:
            self._advance(stf)
        elif not isinstance(work.error, LinkDown):  # a link's fault burns no attempt: the STF stays due
            self._blame(stf, work.error, work.spent_s)

    def _blame(self, stf: Stf, error: Exception, spent_s: float) -> None:
        """It was the STF's own fault: try it again later, or leave it to a person."""
        if not isinstance(error, TransientError):
            if not isinstance(error, PermanentError):
                logger.opt(exception=error).error("{}: unexpected error", stf.filename)
            self._move(stf, "fail", note=_reason(error))
            return
        if stf.spent_s + spent_s >= BUDGET_S:
            kind = "stf_not_registered" if isinstance(error, ParentMissing) else "always_failing"
            self._move(stf, "fail", note=f"{kind}: {_reason(error)}")
            return
        delay = backoff(stf.attempts + 1, retry_after_s=error.retry_after_s)
        logger.warning("{}: attempt {} failed, next in {:.1f} s: {}",
                       stf.filename, stf.attempts + 1, delay.total_seconds(), _reason(error))  # fmt: skip
        self._outbox.postpone(stf, delay, _reason(error), spent_s + delay.total_seconds(), self._now())

    def _advance(self, stf: Stf) -> None:
        """Take an STF as far as it goes without a call, then put what its step owes on the list."""
        while trigger := self._plant.chart.step_from(stf.state):
            link = self._plant.links.get(trigger)
            if not self._links.is_open(link):
                return
            try:
                effects = list(self._plant.steps[trigger](stf))
                if effects and link is None:
                    stf = self._do_now(stf, trigger, effects[0])
                    continue
            except Exception as exc:  # noqa: BLE001 (one sick STF must not stop the engine; it ends in `failed`)
                self._blame(stf, exc, 0.0)
                return
            if effects:
                if not self._picker.may_announce(stf, trigger, len(effects)):
                    return
                self._active[stf.id] = Work(stf, trigger, effects)
                return
            if not self._move(stf, trigger):
                return
            stf = self._outbox.get(stf.id)

    def _do_now(self, stf: Stf, trigger: str, effect: Effect) -> Stf:
        """Run an effect that needs no link, in place."""
        answer: Fact | Decision = effect()
        if isinstance(answer, Decision):
            self._move(stf, answer.trigger, note=answer.note)
        else:
            self._outbox.keep(stf.id, answer, self._now())
            self._move(stf, trigger)
        return self._outbox.get(stf.id)

    def _move(self, stf: Stf, trigger: str, note: str | None = None) -> bool:
        chart = self._plant.chart
        dest = chart.after(stf.state, trigger)
        try:
            self._outbox.move(stf, trigger, dest, self._now(), rests=chart.is_resting(dest), note=note)
        except StaleStf as exc:
            logger.warning("{}", exc)
            return False
        say = logger.error if trigger == "fail" else logger.info
        say("{}: {} -> {}{}", stf.filename, stf.state, dest, f" ({note})" if note else "")
        return True

    def _run_errands(self) -> None:
        for probe in self._links.probes():
            self._submit(probe)
        for chore in self._plant.chores:
            for errand in chore.errands(self._outbox, self._now()):
                self._submit(errand)  # also past the number of workers: the pool queues it

    def _dispatch(self) -> None:
        while self._in_flight < self._plant.workers:
            work = self._active.next()
            if work is None:
                if not self._take_next():
                    return
                continue
            work.in_flight += 1
            self._submit(work, work.waiting.pop(0))

    def _take_next(self) -> bool:
        """Begin with the next STF that is due. False if there is none."""
        due = self._picker.take(self._active, sick=self._active.has_room_for_sick)
        if due is None:
            return False
        with self._outbox.transaction():
            self._advance(due)
        return True

    def _submit(self, owner: Work | Errand, effect: Effect | None = None) -> None:
        self._in_flight += 1
        call = owner.call if isinstance(owner, Errand) else effect
        assert call is not None
        self._plant.pool.submit(self._perform, owner, call)

    def _perform(self, owner: Work | Errand, call: Callable[[], Any]) -> None:
        """Runs in the pool: network only, no database."""
        begun = self._plant.clock.monotonic()
        try:
            with between("effect"):
                answer = self._plant.quick()(call) if isinstance(owner, Work) else call()
        except Exception as exc:  # noqa: BLE001 (every failure goes back to the engine, which decides)
            answer = exc
        self._news.put(Result(owner, answer, self._plant.clock.monotonic() - begun))

    def _now(self) -> datetime:
        return self._plant.clock.now()


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, (TransientError, PermanentError)) else f"{type(error).__name__}: {text}"

"""Moves STFs: to the next state, to a later retry, or to `failed`. Runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from loguru import logger

from fastmon_daemon.base.backoff import backoff, requested_pause
from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.base.errors import ParentNotRegistered, PermanentError, StaleStfError, TransientError
from fastmon_daemon.engine.circuit_breakers import CircuitBreakers
from fastmon_daemon.engine.scheduler import Scheduler
from fastmon_daemon.engine.steps import Call, EngineConfig, Sent, StepOutcome, is_late
from fastmon_daemon.engine.tasks import StepExecution
from fastmon_daemon.outbox import Outbox, StepResult, Stf

BUDGET_S = 900.0
"""Seconds that an STF may spend on its own failures while its link is up; then it fails and needs an operator."""


class TransitionWriter:
    """Moves the STFs of one outbox, in the engine's thread."""

    def __init__(
        self,
        outbox: Outbox,
        config: EngineConfig,
        breakers: CircuitBreakers,
        scheduler: Scheduler,
        may_queue: Callable[[str], bool],
    ) -> None:
        """*may_queue* returns whether one more STF may wait for a link."""
        self._outbox = outbox
        self._config = config
        self._breakers = breakers
        self._scheduler = scheduler
        self._may_queue = may_queue

    def record_failure(self, stf: Stf, error: Exception, spent_s: float, *, charge: bool = True) -> bool:
        """Postpone an STF that failed by its own fault, or move it to `failed` (then True).

        With *charge* False neither *spent_s* (seconds) nor the pause counts against its budget, nor does an answer
        that says nothing about the STF.
        """
        if not isinstance(error, TransientError):
            if not isinstance(error, PermanentError):
                bound = logger.bind(stf=stf.filename, run=stf.run)
                bound.opt(exception=error).error("{}: unexpected error", stf.filename)
            return self._fail(stf, _reason(error))
        charge = charge and not error.is_meaningless
        if charge and stf.spent_s + spent_s >= BUDGET_S:
            kind = "stf_not_registered" if isinstance(error, ParentNotRegistered) else "always_failing"
            return self._fail(stf, f"{kind}: {_reason(error)}")
        own_pause = backoff(stf.attempts + 1, jitter=self._config.jitter)
        delay = max(own_pause, requested_pause(error.retry_after_s))
        is_same = bool(stf.last_error) and _reason(error).startswith(stf.last_error or "")  # as stored, it may be cut
        level = "DEBUG" if is_same else "WARNING"
        reason, pause_s = _reason(error), delay.total_seconds()
        logger.bind(stf=stf.filename, run=stf.run, error=reason).log(
            level, "{}: attempt {} failed, next in {:.1f} s: {}", stf.filename, stf.attempts + 1, pause_s, reason
        )
        # A pause that the other side requests (Retry-After) is not the STF's fault: only our own pause is charged.
        spent_s = spent_s + own_pause.total_seconds() if charge else 0.0
        self._outbox.postpone(stf, delay, _reason(error), spent_s, self._now())
        return False

    def advance(self, stf: Stf) -> StepExecution | None:
        """Move an STF as far as possible without a call; return the step whose calls come next, or None.

        It may run again for the same STF if the transaction could not be committed.
        """
        current: Stf | None = stf
        while current is not None and (trigger := self._config.chart.step_from(current.state)):
            stf = current
            link = self._config.links.get(trigger)
            if not self._breakers.allows_calls(link):
                return None
            try:
                calls = list(self._config.steps[trigger](stf))
                answer = calls[0]() if calls and link is None else None
                assert not isinstance(answer, Sent)  # what needs no link is done at once
            except Exception as exc:  # noqa: BLE001 (one bad STF must not stop the engine; it ends in `failed`)
                self.record_failure(stf, exc, 0.0)
                return None
            if answer is not None:
                current = self._store(stf, trigger, answer)
            elif calls and link is not None:
                return self._execution(stf, trigger, link, calls)
            else:
                current = self._move(stf, trigger)
        return None

    def _execution(self, stf: Stf, trigger: str, link: str, calls: list[Call]) -> StepExecution | None:
        """The step, if its calls may be made now; else the STF is due, and the scheduler takes it in its turn."""
        late = is_late(stf, self._now())
        if not (self._may_queue(link) and self._scheduler.may_start(trigger, len(calls), is_late=late)):
            return None
        return StepExecution(stf, trigger, link, calls, is_late=late)

    def _store(self, stf: Stf, trigger: str, answer: StepResult | StepOutcome) -> Stf | None:
        """Store the answer of a call that needed no link."""
        if isinstance(answer, StepOutcome):
            return self._move(stf, answer.trigger, note=answer.note)
        now = self._now()
        self._outbox.save_progress(stf.id, [answer], now)
        return self._move(stf.with_results([answer], format_timestamp(now)), trigger)

    def _fail(self, stf: Stf, reason: str) -> bool:
        """Move an STF to `failed`; returns whether nobody else moved it."""
        failed = self._move(stf, "fail", note=reason) is not None
        if failed and stf.plan is None:
            self._outbox.stages.owe(stf.id)
        return failed

    def _move(self, stf: Stf, trigger: str, note: str | None = None) -> Stf | None:
        """Move an STF; return it as it is then, or None if somebody else moved it."""
        chart, now = self._config.chart, self._now()
        dest = chart.after(stf.state, trigger)
        finalized = chart.is_finalized(dest)
        try:
            self._outbox.move(stf, trigger, dest, now, finalized=finalized, note=note)
        except StaleStfError as exc:
            logger.warning("{}", exc)
            return None
        self._log_transition(stf, trigger, dest, now, note)
        return stf.moved_to(dest, format_timestamp(now), finalized=finalized)

    def _log_transition(self, stf: Stf, trigger: str, dest: str, now: datetime, note: str | None) -> None:
        """Log one line an STF at INFO, when it is done; every transition is in its history."""
        chart = self._config.chart
        level = "ERROR" if trigger == "fail" else "INFO" if dest == chart.success_state else "DEBUG"
        seconds = max(0.0, (now - parse_timestamp(stf.received_at)).total_seconds())
        logger.log(  # not by `bind`, which costs as much as a line, also for one that nobody reads
            level, "{}: {} -> {}{}", stf.filename, stf.state, dest, f" ({note})" if note else "",
            stf=stf.filename, run=stf.run, source=stf.state, dest=dest, seconds=seconds,
            error=note if trigger == "fail" else None,
        )  # fmt: skip

    def _now(self) -> datetime:
        return self._config.clock.now()


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, (TransientError, PermanentError)) else f"{type(error).__name__}: {text}"

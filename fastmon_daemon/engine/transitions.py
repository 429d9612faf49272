"""Where an STF goes: forward by its steps, later by its own fault, or to a person. Inside the caller's transaction.

It must not know the pool or the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from loguru import logger

from fastmon_daemon.base.backoff import backoff, requested_pause
from fastmon_daemon.base.errors import ParentNotRegistered, PermanentError, StaleStfError, TransientError
from fastmon_daemon.engine.config import EngineConfig
from fastmon_daemon.engine.in_flight import StepExecution
from fastmon_daemon.engine.steps import StepOutcome
from fastmon_daemon.outbox import Outbox, StepResult, Stf

BUDGET_S = 900.0
"""Seconds that an STF may fail by its own fault, with the gate open, before a person must look."""


class TransitionWriter:
    """Moves STFs of one outbox, in the engine's thread."""

    def __init__(
        self,
        outbox: Outbox,
        config: EngineConfig,
        is_open: Callable[[str | None], bool],
        may_announce: Callable[[Stf, str, int], bool],
    ) -> None:
        self._outbox = outbox
        self._config = config
        self._is_open = is_open
        self._may_announce = may_announce

    def record_failure(self, stf: Stf, error: Exception, spent_s: float, *, pays: bool = True) -> bool:
        """It was the STF's own fault: try it again later, or (True) leave it to a person.

        Unless it *pays*, what it has *spent_s* is not of its budget: others fail as well.
        """
        if not isinstance(error, TransientError):
            if not isinstance(error, PermanentError):
                logger.opt(exception=error).error("{}: unexpected error", stf.filename)
            return self._move(stf, "fail", note=_reason(error))
        if pays and stf.spent_s + spent_s >= BUDGET_S:
            kind = "stf_not_registered" if isinstance(error, ParentNotRegistered) else "always_failing"
            return self._move(stf, "fail", note=f"{kind}: {_reason(error)}")
        # The patience that the other side asked for is not the STF's fault: only our own pause is of its budget.
        own = backoff(stf.attempts + 1, jitter=self._config.jitter)
        delay = max(own, requested_pause(error.retry_after_s))
        logger.warning("{}: attempt {} failed, next in {:.1f} s: {}",
                       stf.filename, stf.attempts + 1, delay.total_seconds(), _reason(error))  # fmt: skip
        spent_s = spent_s + own.total_seconds() if pays else 0.0
        self._outbox.postpone(stf, delay, _reason(error), spent_s, self._now())
        return False

    def advance(self, stf: Stf) -> StepExecution | None:
        """Take an STF as far as it goes without a call; what its step owes then, or None where nothing is to be done.

        It may run again for the same STF, where its transaction could not be committed.
        """
        while trigger := self._config.chart.step_from(stf.state):
            link = self._config.links.get(trigger)
            if not self._is_open(link):
                return None
            try:
                effects = list(self._config.steps[trigger](stf))
                answer: StepResult | StepOutcome | None = effects[0]() if effects and link is None else None
            except Exception as exc:  # noqa: BLE001 (one sick STF must not stop the engine; it ends in `failed`)
                self.record_failure(stf, exc, 0.0)
                return None
            if answer is not None:
                stf = self._keep(stf, trigger, answer)
                continue
            if effects:
                return StepExecution(stf, trigger, effects) if self._may_announce(stf, trigger, len(effects)) else None
            if not self._move(stf, trigger):
                return None
            stf = self._outbox.get(stf.id)
        return None

    def _keep(self, stf: Stf, trigger: str, answer: StepResult | StepOutcome) -> Stf:
        """Write down what an effect gave that needs no link and was run in place."""
        if isinstance(answer, StepOutcome):
            self._move(stf, answer.trigger, note=answer.note)
        else:
            self._outbox.save_progress(stf.id, answer, self._now())
            self._move(stf, trigger)
        return self._outbox.get(stf.id)

    def _move(self, stf: Stf, trigger: str, note: str | None = None) -> bool:
        chart = self._config.chart
        dest = chart.after(stf.state, trigger)
        try:
            self._outbox.move(stf, trigger, dest, self._now(), finalized=chart.is_finalized(dest), note=note)
        except StaleStfError as exc:
            logger.warning("{}", exc)
            return False
        say = logger.error if trigger == "fail" else logger.info
        say("{}: {} -> {}{}", stf.filename, stf.state, dest, f" ({note})" if note else "")
        return True

    def _now(self) -> datetime:
        return self._config.clock.now()


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, (TransientError, PermanentError)) else f"{type(error).__name__}: {text}"

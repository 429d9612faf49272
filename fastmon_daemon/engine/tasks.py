"""What runs in the engine's pools: the calls of STFs, and background tasks (polls of runs, lookups, probes)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.engine.steps import Call
from fastmon_daemon.outbox import Outbox, Stf


@dataclass(frozen=True, slots=True)
class BackgroundTask:
    """One call over one link that belongs to no STF."""

    link: str
    call: Callable[[], Any]
    done: Callable[[Outbox, Any, datetime], None]
    """Handles the answer or exception in the engine's thread and transaction; runs again if the commit fails."""


@dataclass(slots=True)
class StepExecution:
    """An STF in its current step: the calls that remain, and the error if one failed."""

    stf: Stf
    trigger: str
    waiting: list[Call]
    in_flight: int = 0
    spent_s: float = 0.0
    error: Exception | None = None

    @property
    def retrying(self) -> bool:
        """Whether the STF failed before by its own fault."""
        return self.stf.attempts > 0

    def next_calls(self, most: int) -> list[Call]:
        """Take the next calls, *most* at most, and count them as in flight."""
        calls, self.waiting = self.waiting[:most], self.waiting[most:]
        self.in_flight += len(calls)
        return calls

    def record(self, result: CallResult) -> None:
        """Record the result of one call; after a failure no further call is made."""
        self.in_flight -= 1
        self.spent_s = max(self.spent_s, result.seconds)
        if isinstance(result.answer, Exception):
            if self.error is None or isinstance(self.error, LinkDown):
                self.error = result.answer
            self.waiting.clear()


class InFlight(dict[int, StepExecution]):
    """The STFs in work, by id. Those that failed before get at most half of the workers.

    Otherwise STFs whose calls hang until the deadline would take every worker and delay all others.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._max_retrying = max(1, workers // 2)

    @property
    def has_room_for_retrying(self) -> bool:
        """Whether another STF that failed before may start."""
        return sum(execution.retrying for execution in self.values()) < self._max_retrying

    @property
    def call_count(self) -> int:
        """Calls of STFs that are in the pool now."""
        return sum(execution.in_flight for execution in self.values())

    def next_ready(self) -> StepExecution | None:
        """An execution that has a call to make now."""
        retrying = sum(execution.in_flight for execution in self.values() if execution.retrying)
        ready = (
            execution
            for execution in self.values()
            if execution.waiting and (not execution.retrying or retrying < self._max_retrying)
        )
        return next(ready, None)


@dataclass(frozen=True, slots=True)
class CallResult:
    """The answer of one call, or the exception that it raised."""

    owner: StepExecution | BackgroundTask
    answer: Any
    started_at: float
    """Monotonic seconds."""
    seconds: float

"""The STFs that are being worked on, and what their calls bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.engine.background_tasks import BackgroundTask
from fastmon_daemon.engine.steps import Call
from fastmon_daemon.outbox import Stf


@dataclass(slots=True)
class StepExecution:
    """An STF that is being worked on: what its step still owes, and what went wrong."""

    stf: Stf
    trigger: str
    waiting: list[Call]
    in_flight: int = 0
    spent_s: float = 0.0
    error: Exception | None = None

    @property
    def retrying(self) -> bool:
        """Whether it failed before, by its own fault."""
        return self.stf.attempts > 0

    def take(self) -> Call:
        """The next of its calls, which goes out now."""
        self.in_flight += 1
        return self.waiting.pop(0)

    def record(self, result: CallResult) -> None:
        """One of its calls came back; after a failure no further one goes out."""
        self.in_flight -= 1
        self.spent_s = max(self.spent_s, result.seconds)
        if isinstance(result.answer, Exception):
            if self.error is None or isinstance(self.error, LinkDown):
                self.error = result.answer
            self.waiting.clear()


class InFlight(dict[int, StepExecution]):
    """The STFs that are being worked on, by id: at most half of the workers are left to those that failed before.

    One that hangs until its deadline each time would else take every worker, and delay all others.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._most_sick = max(1, workers // 2)

    @property
    def has_room_for_retrying(self) -> bool:
        """Whether another STF that failed before may be begun with."""
        return sum(execution.retrying for execution in self.values()) < self._most_sick

    @property
    def in_flight(self) -> int:
        """Their calls that are in the pool now."""
        return sum(execution.in_flight for execution in self.values())

    def next(self) -> StepExecution | None:
        """One that has something to be sent out now."""
        sick = sum(execution.in_flight for execution in self.values() if execution.retrying)
        able = (
            execution
            for execution in self.values()
            if execution.waiting and (not execution.retrying or sick < self._most_sick)
        )
        return next(able, None)


@dataclass(frozen=True, slots=True)
class CallResult:
    """What came back from a pool."""

    owner: StepExecution | BackgroundTask
    answer: Any
    begun: float
    """Monotonic seconds."""
    seconds: float

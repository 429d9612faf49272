"""What the engine works with, and the items that lie in its queue."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tenacity import Retrying

from fastmon_daemon.clock import Clock
from fastmon_daemon.errands import Chore, Errand
from fastmon_daemon.errors import LinkDown
from fastmon_daemon.gates import MOST_PROBES
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.outbox import Outbox, Stf
from fastmon_daemon.steps import Effect, Step


@dataclass(slots=True, kw_only=True)
class Plant:
    """What the engine works with; tests hand in their own."""

    chart: Chart
    steps: Mapping[str, Step]
    links: Mapping[str, str]
    """Step -> the link that its effects need; a step that is missing here needs none."""
    probes: Mapping[str, Callable[[], None]]
    """Link -> the call that returns when it is back. `LinkNews` of an edge may open and shut the gate sooner."""
    most_probes: int = MOST_PROBES
    """Of one link under way at once; with 1 there is a time between two in which the engine may be idle."""
    pool: Executor
    workers: int
    quick: Callable[[], Retrying]
    late_rate: float = 0.0
    """Announcements of late STFs per second; 0: no limit."""
    clock: Clock = field(default_factory=Clock)
    jitter: Callable[[], float] = random.random
    chores: Sequence[Chore] = ()
    spare: Callable[[Outbox, datetime], None] = lambda _outbox, _now: None
    """What is done in a turn that has nothing else to do: one short step, with transactions of its own."""


@dataclass(frozen=True, slots=True)
class LinkNews:
    """What an edge says of its link."""

    link: str
    up: bool
    reason: str = ""
    held: bool = False
    """It answers, but refuses us: a person must mend the configuration."""
    begun: float | None = None
    """When the call was begun that found it so, in monotonic seconds; None where the link itself says it."""


@dataclass(slots=True)
class Work:
    """An STF that is being worked on: what its step still owes, and what went wrong."""

    stf: Stf
    trigger: str
    waiting: list[Effect]
    in_flight: int = 0
    spent_s: float = 0.0
    error: Exception | None = None

    @property
    def sick(self) -> bool:
        """Whether it failed before, by its own fault."""
        return self.stf.attempts > 0

    def note(self, result: Result) -> None:
        """One of its calls came back; after a failure no further one goes out."""
        self.in_flight -= 1
        self.spent_s = max(self.spent_s, result.seconds)
        if isinstance(result.answer, Exception):
            if self.error is None or isinstance(self.error, LinkDown):
                self.error = result.answer
            self.waiting.clear()


class Works(dict[int, Work]):
    """The STFs that are being worked on, by id: at most half of the workers are left to those that failed before.

    One that hangs until its deadline each time would else take every worker, and delay all others.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._most_sick = max(1, workers // 2)

    @property
    def has_room_for_sick(self) -> bool:
        """Whether another STF that failed before may be begun with."""
        return sum(work.sick for work in self.values()) < self._most_sick

    @property
    def in_flight(self) -> int:
        """Their calls that are in the pool now."""
        return sum(work.in_flight for work in self.values())

    def next(self) -> Work | None:
        """One that has something to be sent out now."""
        sick = sum(work.in_flight for work in self.values() if work.sick)
        able = (work for work in self.values() if work.waiting and (not work.sick or sick < self._most_sick))
        return next(able, None)


@dataclass(frozen=True, slots=True)
class Result:
    """What came back from the pool."""

    owner: Work | Errand
    answer: Any
    begun: float
    """Monotonic seconds."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Act:
    """What a person wants done, and where the answer goes."""

    act: Callable[[Outbox, datetime], Any]
    answer: Future[Any]

"""What runs in the engine's pools: the calls of STFs, and background tasks (polls of runs, lookups, probes)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.links import PIPELINED
from fastmon_daemon.engine.concurrency_limits import ConcurrencyLimit
from fastmon_daemon.engine.steps import Call
from fastmon_daemon.outbox import Outbox, StepResult, Stf

OLDEST_EVERY = 4
"""One turn in so many is that of the oldest, or of a late STF; the others are those of the newest, or of fresh ones."""
MOST_QUEUED = 200
"""STFs that wait in memory for one link: more than may be taken at once, fewer than would take much memory."""


class Room(Enum):
    """Which STFs may be taken that need a link next."""

    FOR_NONE = 0
    FOR_FRESH = 1
    """Only those whose announcements are not late."""
    FOR_ALL = 2


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
    """With the results of its calls once no call is left, also with those that are not stored yet."""
    trigger: str
    link: str
    waiting: list[Call]
    is_late: bool = False
    in_flight: int = 0
    """Calls that were started and have not ended."""
    places: int = 0
    """How many of them are made at once; the others in a row with one of these."""
    results: list[StepResult] = field(default_factory=list)
    """Those that *stf* does not have yet."""
    spent_s: float = 0.0
    error: Exception | None = None
    _unregistered: int = 0

    @property
    def retrying(self) -> bool:
        """Whether the STF failed before by its own fault."""
        return self.stf.attempts > 0

    @property
    def is_finished(self) -> bool:
        """Whether no call remains."""
        return not self.in_flight and not self.waiting

    @property
    def claimed(self) -> int:
        """The calls that it makes, and those that it will make when the first one has succeeded.

        Without those that will be made in a row with others.
        """
        in_a_row = self.in_flight - self.places
        return max(self.places + len(self.waiting), self._unregistered - len(self.results) - in_a_row)

    def __post_init__(self) -> None:
        self._unregistered = sum(tf.registered_at is None for tf in self.stf.tfs)

    def next_calls(self, most: int) -> list[Call]:
        """Take the next calls, *most* at most, and count them as in flight."""
        calls, self.waiting = self.waiting[:most], self.waiting[most:]
        self.in_flight += len(calls)
        return calls

    def record(self, result: CallResult) -> None:
        """Record the result of one call; after a failure no further call is made."""
        self.in_flight -= 1 + len(result.unmade)
        self.places -= result.ends
        self.waiting[:0] = result.unmade
        self.spent_s = max(self.spent_s, result.seconds)
        if isinstance(result.answer, Exception):
            if self.error is None or isinstance(self.error, LinkDown):
                self.error = result.answer
            self.waiting.clear()
        else:
            self.results.append(result.answer)

    def settle(self, at: str) -> None:
        """No call is left at the time *at*: the STF is as its results say."""
        self.stf, self.results = self.stf.with_results(self.results, at), []
        self._unregistered = sum(tf.registered_at is None for tf in self.stf.tfs)


class InFlight(dict[int, StepExecution]):
    """The STFs in work, by id. Those that failed before get at most half of the calls of their link.

    Otherwise STFs whose calls hang until the deadline would take every one and delay all others.
    """

    def __init__(self, limits: Mapping[str, ConcurrencyLimit]) -> None:
        super().__init__()
        self._limits = limits
        self._turns: Counter[str] = Counter()
        """Link -> how often an STF could make calls."""

    @property
    def call_count(self) -> int:
        """Calls of STFs that are in the pool now."""
        return sum(limit.in_flight for limit in self._limits.values())

    def room(self, link: str | None) -> Room:
        """Which STFs that need *link* next may be taken: calls must be ready whenever one ends, but not many more.

        A fresh STF would have to wait for those of STFs that were taken before it. It does not wait for late ones.
        """
        if link is None:
            return Room.FOR_ALL
        limit = self._limits[link].limit
        startable, claimed, of_fresh = 0, 0, 0
        for each in self.values():
            if each.link == link:
                calls = each.claimed
                startable += each.places + len(each.waiting)
                claimed += calls
                of_fresh += 0 if each.is_late else calls
                if startable >= limit and claimed >= 2 * limit and of_fresh >= limit:
                    return Room.FOR_NONE
        if startable < limit or claimed < 2 * limit:
            return Room.FOR_ALL
        return Room.FOR_FRESH if of_fresh < limit else Room.FOR_NONE

    def may_queue(self, link: str) -> bool:
        """Whether an STF may wait in memory for its calls over *link*; else it waits in the database."""
        return sum(each.link == link for each in self.values()) < MOST_QUEUED

    @property
    def has_room_for_retrying(self) -> bool:
        """Whether another STF that failed before may start."""
        most = max(self._most_retrying(link) for link in self._limits)
        return sum(execution.retrying for execution in self.values()) < most

    def start_calls(self, unstored: Mapping[str, int]) -> Iterator[tuple[StepExecution, list[list[Call]]]]:
        """Take the calls for which there is room, and count them as in flight: executions in the order of their turns.

        *unstored*: link -> results that count as calls in flight. The calls in one list are for one thread, in a row.
        """
        for link, limit in self._limits.items():
            room = limit.limit - limit.in_flight - unstored.get(link, 0)
            if room > 0:
                yield from self._start_calls_of(link, room)

    def _start_calls_of(self, link: str, room: int) -> Iterator[tuple[StepExecution, list[list[Call]]]]:
        """Three of the newest of the fresh STFs, then one of a late one, or of the oldest.

        Late ones take their turns in the order in which their steps began. While a fresh one is in work, they get the
        same share of the places: all calls share the processor.
        """
        waiting = [each for each in self.values() if each.waiting and each.link == link]
        has_both = len({each.is_late for each in self.values()}) > 1
        in_flight = sum(each.places for each in self.values() if each.link == link and each.is_late) if has_both else 0
        late_room = max(1, self._limits[link].limit // OLDEST_EVERY) - in_flight if has_both else room
        fresh = deque(sorted((each for each in waiting if not each.is_late), key=lambda each: each.stf.born_at))
        late = deque(each for each in waiting if each.is_late)
        while room > 0 and (fresh or (late and late_room > 0)):
            takes_oldest = self._turns[link] % OLDEST_EVERY == OLDEST_EVERY - 1
            if late and late_room > 0 and (takes_oldest or not fresh):
                execution, most = late.popleft(), min(room, late_room)
            else:
                execution, most = fresh.popleft() if takes_oldest else fresh.pop(), room
            # A fresh STF among late ones must not wait for the end of a row, neither theirs nor its own.
            if rows := self._rows(execution, most, None if has_both else len(fresh) + len(late)):
                yield execution, rows
                places = self._places(link, rows)
                room -= places
                late_room -= places if execution.is_late else 0

    def _rows(self, execution: StepExecution, room: int, others: int | None) -> list[list[Call]]:
        """Start the next calls of *execution*: that was its turn. *others* wait for a turn of theirs.

        If its share of the places is less than its calls, each of its threads makes several: another one would cost
        more than it would gain. None: each makes one.
        """
        link = execution.link
        if execution.retrying:
            room = min(room, self._room_for_retrying(link))
        if room <= 0:
            return []
        if link in PIPELINED:
            rows = [execution.next_calls(room)]
        elif others is None:
            rows = [[call] for call in execution.next_calls(room)]
        else:
            calls = execution.next_calls(len(execution.waiting))
            count = max(1, min(len(calls), room // (others + 1)))
            rows = [calls[number::count] for number in range(count)]
        places = self._places(link, rows)
        self._turns[link] += 1
        self._limits[link].started(places)
        execution.places += places
        return rows

    @staticmethod
    def _places(link: str, rows: list[list[Call]]) -> int:
        """How many calls are in flight at once."""
        return sum(map(len, rows)) if link in PIPELINED else len(rows)

    def _room_for_retrying(self, link: str) -> int:
        retrying = (each for each in self.values() if each.retrying and each.link == link)
        return self._most_retrying(link) - sum(each.places for each in retrying)

    def _most_retrying(self, link: str) -> int:
        return max(1, self._limits[link].limit // 2)


@dataclass(frozen=True, slots=True)
class CallResult:
    """The answer of one call, or the exception that it raised."""

    owner: StepExecution | BackgroundTask
    answer: Any
    started_at: float
    """Monotonic seconds."""
    seconds: float
    ends: int = 1
    """How many places for calls at its link are free with it; 0: its thread makes another call."""
    unmade: tuple[Call, ...] = ()
    """Calls after it that were not made."""

    @property
    def has_failed(self) -> bool:
        """Whether the call raised an exception."""
        return isinstance(self.answer, Exception)

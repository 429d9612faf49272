"""Which STF is next: a fair share for new and old STFs, and a rate limit for late announcements."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fastmon_daemon.base.backoff import MAX_BACKOFF
from fastmon_daemon.base.links import ANNOUNCE_STEP
from fastmon_daemon.base.rate_limit import TokenBucket
from fastmon_daemon.engine.circuit_breakers import CircuitBreakers
from fastmon_daemon.engine.steps import LATE_AFTER, EngineConfig
from fastmon_daemon.engine.tasks import OLDEST_EVERY, Room
from fastmon_daemon.outbox import DueQuery, Outbox, Stf


class Scheduler:
    """Alternates by count, so that even a single worker starves no STF."""

    def __init__(self, outbox: Outbox, config: EngineConfig, breakers: CircuitBreakers) -> None:
        self._outbox = outbox
        self._config = config
        self._breakers = breakers
        self._picks = 0
        self._late_announcements = TokenBucket(config.late_rate, config.clock.monotonic)
        self._next_links = {state: self._next_link(state) for state in config.chart.states}

    @property
    def may_announce_late(self) -> bool:
        """Whether the rate limit allows late announcements now."""
        return self._late_announcements.is_ready

    def may_start(self, trigger: str, count: int, *, is_late: bool) -> bool:
        """Whether *count* calls of an STF may be made: False only for late announcements above the rate limit."""
        return not (is_late and trigger == ANNOUNCE_STEP) or self._late_announcements.take(count)

    def set_late_rate(self, rate: float) -> None:
        """Allow *rate* late announcements per second from now on; 0: no limit."""
        self._late_announcements.set_rate(rate)

    def has_retrying(self) -> bool:
        """Whether an unfinished STF has failed before in its state."""
        return self._outbox.has_retrying(self._config.chart.states)

    def _next_link(self, state: str) -> str | None:
        """The link that an STF in *state* needs first."""
        chart, links = self._config.chart, self._config.links
        while (step := chart.step_from(state)) and step not in links:
            (state,) = chart.leads_to(step)
        return links.get(step or "")

    def next(
        self,
        busy: Collection[int],
        *,
        retrying: bool = True,
        room: Callable[[str | None], Room] = lambda _: Room.FOR_ALL,
    ) -> Stf | None:
        """Take the STF to start now: none of *busy*, and with *retrying* False none that failed before.

        *room* returns which STFs that need a link next may be taken.
        """
        found = self.peek(busy, retrying=retrying, room=room)
        self._picks += found is not None
        return found

    def peek(
        self,
        busy: Collection[int],
        *,
        retrying: bool = True,
        room: Callable[[str | None], Room] = lambda _: Room.FOR_ALL,
    ) -> Stf | None:
        """The STF that `next` would take."""
        chart, now = self._config.chart, self._config.clock.now()
        newest = self._picks % OLDEST_EVERY != OLDEST_EVERY - 1
        rooms = {link: room(link) for link in {*self._next_links.values()}}
        open_states: list[str] = []
        fresh_states: list[str] = []
        for state in chart.states:
            step, found_room = chart.step_from(state), rooms[self._next_links[state]]
            if not step or found_room is Room.FOR_NONE or not self._breakers.allows_calls(self._config.links.get(step)):
                continue
            limited = step == ANNOUNCE_STEP and not self.may_announce_late
            (fresh_states if limited or found_room is Room.FOR_FRESH else open_states).append(state)

        found: list[tuple[str, int]] = []
        for states, fresh_since in ((open_states, None), (fresh_states, now - LATE_AFTER)):
            for has_failed in (False, True) if retrying else (False,):
                due = DueQuery(now=now, far=now + MAX_BACKOFF, retrying=has_failed, newest=newest, busy=busy,
                               fresh_since=fresh_since)  # fmt: skip
                if first := self._outbox.next_due(states, due):
                    found.append(first)
        if not found:
            return None
        first_at = (max if newest else min)(due_at for due_at, _ in found)
        return self._outbox.get(next(stf for due_at, stf in found if due_at == first_at))

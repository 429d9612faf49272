"""Which STF comes next: fairness between new and old, and the pace of late announcements."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime

from fastmon_daemon.base.backoff import MAX_BACKOFF
from fastmon_daemon.base.links import ANNOUNCE_STEP
from fastmon_daemon.base.rate_limit import TokenBucket
from fastmon_daemon.engine.config import EngineConfig
from fastmon_daemon.engine.steps import LATE_AFTER, is_late
from fastmon_daemon.outbox import DueQuery, Outbox, Stf

OLDEST_EVERY = 4
"""Of so many picks all but one are of the newest STFs, the last one of the oldest."""


class Scheduler:
    """Picks by count, so that one worker starves nobody."""

    def __init__(self, outbox: Outbox, config: EngineConfig, is_open: Callable[[str | None], bool]) -> None:
        self._outbox = outbox
        self._config = config
        self._is_open = is_open
        self._scheduler = 0
        self._bucket = TokenBucket(config.late_rate, config.clock.monotonic)

    @property
    def unhindered(self) -> bool:
        """Whether late announcements may go now."""
        return self._bucket.is_ready

    def may_announce(self, stf: Stf, trigger: str, count: int) -> bool:
        """Let *count* effects of an STF go, unless they are late announcements and too many went just now."""
        return trigger != ANNOUNCE_STEP or not is_late(stf, self._config.clock.now()) or self._bucket.take(count)

    def next(self, busy: Collection[int], *, sick: bool) -> Stf | None:
        """The STF to begin with now, not one of *busy*, nor with *sick* false one that failed before; None: none."""
        found = self.due(busy, sick=sick)
        self._scheduler += found is not None
        return found

    def due(self, busy: Collection[int], *, sick: bool = True) -> Stf | None:
        """What `take` would give."""
        chart, now = self._config.chart, self._config.clock.now()
        newest = self._scheduler % OLDEST_EVERY != OLDEST_EVERY - 1
        open_states: list[str] = []
        paced_states: list[str] = []
        for state in chart.states:
            step = chart.step_from(state)
            if step and self._is_open(self._config.links.get(step)):
                paced = step == ANNOUNCE_STEP and not self._bucket.is_ready
                (paced_states if paced else open_states).append(state)

        def look(states: list[str], fresh_since: datetime | None) -> list[Stf]:
            well = DueQuery(now=now, far=now + MAX_BACKOFF, retrying=False, newest=newest, limit=1, busy=tuple(busy),
                       fresh_since=fresh_since)  # fmt: skip
            lanes = [well, replace(well, retrying=True)] if sick else [well]
            return [stf for due in lanes for stf in self._outbox.next_due(states, due)]

        found = look(open_states, None) + look(paced_states, now - LATE_AFTER)
        found.sort(key=lambda stf: stf.due_at or "", reverse=newest)
        return found[0] if found else None

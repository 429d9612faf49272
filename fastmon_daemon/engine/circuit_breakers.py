"""Circuit breakers: which links may be used, which outages are open, and when the next probe is due."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from loguru import logger

from fastmon_daemon.base.backoff import Backoff
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.links import describe, remedy_if_down
from fastmon_daemon.base.text import count_of
from fastmon_daemon.engine.concurrency_limits import PROBES_PER_LINK
from fastmon_daemon.engine.inbox import LinkEvent
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.outbox import Outbox

MAX_PROBE_INTERVAL_S = 5.0
"""Longest wait between two probes of a link that is down, in seconds: recovery starts within this time."""
MAX_BLOCKED_PROBE_INTERVAL_S = 30.0
"""Longest wait between two probes of a blocked link, in seconds: an operator must fix a setting first."""
SHORTEST_PROBE_PAUSE_S = 0.2
"""Shortest wait from the answer to a probe to the next probe, in seconds."""
_DOWN = Backoff(first_s=1.0, longest_s=MAX_PROBE_INTERVAL_S)
_BLOCKED = Backoff(first_s=MAX_BLOCKED_PROBE_INTERVAL_S, longest_s=MAX_BLOCKED_PROBE_INTERVAL_S)


@dataclass(slots=True)
class CircuitBreaker:
    """The circuit breaker of one link. All times are monotonic, in seconds."""

    link: str
    max_probes: int
    """Probes at once: a probe that hangs until its deadline must not delay the next one."""
    jitter: Callable[[], float] = random.random
    allows_calls: bool = True
    blocked: bool = False
    """The other side answers but rejects us: an operator must fix the configuration."""
    on_trial: bool = False
    """Calls are allowed to find out whether the link is up again: its outage goes on until one has succeeded."""
    up_since: float = -math.inf
    """When calls were last allowed again."""
    next_probe: float = 0.0
    probing: set[float] = field(default_factory=set)
    """Start times of the probes in flight."""
    probed_at: float = -math.inf
    """Start time of the newest probe."""
    failures: int = 0
    """Failures in a row."""
    suspected: bool = False
    """Somebody else found the link down: a probe tells whether it is."""

    def trip(self, monotonic: float, blocked: bool) -> None:
        """Stop all calls. Further failures of calls that were in flight do not postpone the next probe."""
        allowed_calls, self.allows_calls, self.on_trial, self.blocked = self.allows_calls, False, False, blocked
        if allowed_calls:
            self._schedule_probe(monotonic, monotonic)

    def begin_trial(self, monotonic: float) -> None:
        """Allow calls, though the outage has not ended."""
        self.allows_calls = self.on_trial = True
        self.up_since = monotonic

    def reset(self, monotonic: float) -> None:
        """Allow calls: the link is back."""
        self.allows_calls, self.on_trial, self.blocked = True, False, False
        self.up_since, self.failures = monotonic, 0

    def probe_is_due(self, monotonic: float) -> bool:
        """Whether it is time for a probe."""
        if self.allows_calls:
            return self.suspected and not self.probing and monotonic >= self.probed_at + MAX_PROBE_INTERVAL_S
        return len(self.probing) < self.max_probes and monotonic >= self.next_probe

    def probe_started(self, monotonic: float) -> None:
        """Record the start of a probe, and schedule the next one in case this one hangs."""
        self.probing.add(monotonic)
        self.suspected = False
        self.probed_at = monotonic
        self.next_probe = monotonic + (MAX_BLOCKED_PROBE_INTERVAL_S if self.blocked else MAX_PROBE_INTERVAL_S)

    def probe_finished(self, started_at: float, monotonic: float) -> None:
        """Record the end of the probe that began at *started_at*; if the link is still down, schedule the next one."""
        self.probing.discard(started_at)
        if not self.allows_calls and started_at == self.probed_at:
            self._schedule_probe(started_at, monotonic)

    def _schedule_probe(self, since: float, monotonic: float) -> None:
        """Schedule the next probe after a pause that counts from *since*."""
        self.failures += 1
        pause_s = (_BLOCKED if self.blocked else _DOWN).pause_s(self.failures, self.jitter)
        self.next_probe = max(since + pause_s, monotonic + SHORTEST_PROBE_PAUSE_S)


class CircuitBreakers:
    """One circuit breaker per link; every change is stored as the start or end of an outage.

    Made before the engine, because others also ask whether a link may be used. Runs in the engine's thread.
    """

    def __init__(
        self,
        outbox: Outbox,
        probes: Mapping[str, Callable[[], None]],
        *,
        max_probes: int = PROBES_PER_LINK,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Make the breakers of the links in *probes*, and restore the outages that are still open.

        A probe returns when its link works, and raises otherwise. At most *max_probes* per link run at once; with 1,
        the engine can become idle between two probes. A `LinkEvent` may trip or reset a breaker before its probe does.
        """
        self._outbox = outbox
        self._probes = probes
        self._clock = clock
        self._breakers = {link: CircuitBreaker(link, max_probes, jitter) for link in probes}
        for outage in outbox.outages.open():
            if outage.link not in self._breakers:  # the settings changed: no step needs this link any more
                with outbox.transaction():
                    outbox.outages.link_back(outage.link, clock.now())
                continue
            self._breakers[outage.link] = CircuitBreaker(
                outage.link, max_probes, jitter, allows_calls=False, blocked=outage.blocked
            )
            state = "blocked" if outage.blocked else "down"
            logger.warning("{} was {} at the last stop: {}", describe(outage.link), state, outage.reason)

    def allows_calls(self, link: str | None) -> bool:
        """Whether a call that needs *link* may be made now; None needs no link."""
        return link is None or self._breakers[link].allows_calls

    def link_changed(self, event: LinkEvent) -> None:
        """Trip or reset a breaker, inside the engine's transaction.

        A failure of a call that started before the link came back is ignored: it says nothing about the link now.
        """
        breaker = self._breakers.get(event.link)
        if breaker is None:
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if event.on_trial:
            breaker.begin_trial(monotonic)
            return
        is_up = breaker.allows_calls and not breaker.on_trial
        if event.up:
            if not is_up or breaker.up_since == -math.inf:
                reason = f": {event.reason}" if event.reason else ""
                failed = f" ({count_of(breaker.failures - 1, 'probe')} failed)" if breaker.failures > 1 else ""
                logger.bind(link=event.link).info("{} is up{}{}", describe(event.link), failed, reason)
            breaker.reset(monotonic)
            self._outbox.outages.link_back(event.link, now)
            return
        if event.started_at is not None and event.started_at < breaker.up_since:
            return
        if is_up or event.blocked != breaker.blocked:  # a link that was down may now be blocked
            bound = logger.bind(link=event.link, error=event.reason)
            if event.blocked:
                bound.error("{} is blocked: {}", describe(event.link), event.reason)
            else:
                remedy = remedy_if_down(event.link, event.reason)
                bound.error("{} is down: {}: {}", describe(event.link), event.reason, remedy)
        breaker.trip(monotonic, event.blocked)
        self._outbox.outages.link_lost(event.link, event.reason, now, blocked=event.blocked)
        self._store_next_probe(breaker)

    def suspect(self, link: str) -> None:
        """Probe a link that is up: a call that does not trip its breaker found it down."""
        if breaker := self._breakers.get(link):
            breaker.suspected = True

    def probes(self) -> Iterator[BackgroundTask]:
        """The probes that are due, recorded as started."""
        for breaker in self._breakers.values():
            now = self._clock.monotonic()
            if breaker.probe_is_due(now):
                breaker.probe_started(now)
                yield BackgroundTask(breaker.link, self._probes[breaker.link], partial(self._probed, breaker, now))

    def _probed(self, breaker: CircuitBreaker, started_at: float, _outbox: Outbox, answer: Any, _now: datetime) -> None:
        if not isinstance(answer, Exception):
            if not breaker.allows_calls:  # else it was only suspected
                self.link_changed(LinkEvent(breaker.link, up=True))
        elif not isinstance(answer, LinkDown):  # the engine itself reports every LinkDown
            reason = f"{type(answer).__name__}: {answer}"
            self.link_changed(LinkEvent(breaker.link, up=False, reason=reason, started_at=started_at))
        breaker.probe_finished(started_at, self._clock.monotonic())
        self._store_next_probe(breaker)

    def _store_next_probe(self, breaker: CircuitBreaker) -> None:
        if not breaker.allows_calls:
            wait = max(0.0, breaker.next_probe - self._clock.monotonic())
            self._outbox.outages.next_probe(breaker.link, self._clock.now() + timedelta(seconds=wait))

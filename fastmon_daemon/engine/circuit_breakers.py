"""The links as the engine sees them: their gates, the outages that are remembered, the probes that are due."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from loguru import logger

from fastmon_daemon.base.backoff import Backoff
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.engine.background_tasks import BackgroundTask
from fastmon_daemon.engine.concurrency_limits import PROBES_PER_LINK
from fastmon_daemon.engine.inbox import LinkEvent
from fastmon_daemon.outbox import Outbox

MAX_PROBE_INTERVAL_S = 5.0
"""Longest wait between two probes of a link that is down, in seconds: recovery starts within this time."""
MAX_BLOCKED_PROBE_INTERVAL_S = 30.0
"""The same for a link that is held: somebody must mend a setting first."""
SHORTEST_PROBE_PAUSE_S = 0.2
"""From the answer to a probe to the next probe, in seconds."""
_DOWN = Backoff(first_s=1.0, longest_s=MAX_PROBE_INTERVAL_S)
_HELD = Backoff(first_s=MAX_BLOCKED_PROBE_INTERVAL_S, longest_s=MAX_BLOCKED_PROBE_INTERVAL_S)


@dataclass(slots=True)
class CircuitBreaker:
    """The gate of one link."""

    link: str
    max_probes: int
    """Under way at once: one that was begun while packets vanished must delay no other by its own deadline."""
    jitter: Callable[[], float] = random.random
    allows_calls: bool = True
    blocked: bool = False
    """It answers, but refuses us: a person must mend the configuration."""
    opened_at: float = -math.inf
    """When the link was last found to be back; all times here are monotonic, in seconds."""
    next_probe: float = 0.0
    probing: set[float] = field(default_factory=set)
    """When the probes began that are under way."""
    probed_at: float = 0.0
    """When the newest probe began."""
    failures: int = 0
    """Times in a row that the link was found down."""

    def trip(self, monotonic: float, blocked: bool) -> None:
        """Shut the gate. Calls that were under way then fail as well, and do not put the next probe off."""
        was_open, self.allows_calls, self.blocked = self.allows_calls, False, blocked
        if was_open:
            self._pause(monotonic, monotonic)

    def reset(self, monotonic: float) -> None:
        """The link is back."""
        self.allows_calls, self.blocked = True, False
        self.opened_at, self.failures = monotonic, 0

    def probe_is_due(self, monotonic: float) -> bool:
        """Whether it is time to ask whether the link is back."""
        return not self.allows_calls and len(self.probing) < self.max_probes and monotonic >= self.next_probe

    def probe_started(self, monotonic: float) -> None:
        """Somebody asks now whether the link is back; the next one does so even where this one hears nothing."""
        self.probing.add(monotonic)
        self.probed_at = monotonic
        self.next_probe = monotonic + (MAX_BLOCKED_PROBE_INTERVAL_S if self.blocked else MAX_PROBE_INTERVAL_S)

    def probe_finished(self, begun: float, monotonic: float) -> None:
        """The probe that was *begun* then has its answer; where that was no, the next follows after a pause."""
        self.probing.discard(begun)
        if not self.allows_calls and begun == self.probed_at:
            self._pause(begun, monotonic)

    def _pause(self, since: float, monotonic: float) -> None:
        """Plan the next probe, by a pause that counts from the beginning of the last one."""
        self.failures += 1
        pause_s = (_HELD if self.blocked else _DOWN).pause_s(self.failures, self.jitter)
        self.next_probe = max(since + pause_s, monotonic + SHORTEST_PROBE_PAUSE_S)


class CircuitBreakers:
    """One gate a link; every change is written down as the beginning or the end of an outage.

    Made before the engine, for whoever else asks whether a link may be used; all of it runs in the engine's thread.
    """

    def __init__(
        self,
        outbox: Outbox,
        links: Collection[str],
        *,
        probes: Mapping[str, Callable[[], None]],
        most_probes: int = PROBES_PER_LINK,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """The gates of *links* and of all that have a probe, which returns when its link is back.

        Up to *most_probes* of one link are under way at once; with 1 there is a time between two in which the engine
        may be idle. `LinkEvent` of an edge may open and shut a gate sooner than its probe.
        """
        self._outbox = outbox
        self._probes = probes
        self._clock = clock
        self._breakers = {link: CircuitBreaker(link, most_probes, jitter) for link in {*links, *probes}}
        for outage in outbox.outages.open():  # as the process before us left them
            if outage.link in self._breakers:
                self._breakers[outage.link] = CircuitBreaker(
                    outage.link, most_probes, jitter, allows_calls=False, blocked=outage.blocked
                )
                state = "blocked" if outage.blocked else "down"
                logger.warning("link to the {} was {} at the last stop: {}", outage.link, state, outage.reason)
            else:  # the settings were changed: nothing needs that link any more
                with outbox.transaction():
                    outbox.outages.link_back(outage.link, clock.now())

    def allows_calls(self, link: str | None) -> bool:
        """Whether what needs *link* may be done now."""
        return link is None or self._breakers[link].allows_calls

    def link_changed(self, event: LinkEvent) -> None:
        """Open or shut a gate, inside the engine's transaction.

        A call that was begun before the link came back, and failed since, says nothing of how the link is now.
        """
        breaker = self._breakers.get(event.link)
        if breaker is None:
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if event.up:
            if not breaker.allows_calls:
                logger.info("link to the {} is up", event.link)
            breaker.reset(monotonic)
            self._outbox.outages.link_back(event.link, now)
            return
        if event.started_at is not None and event.started_at < breaker.opened_at:
            return
        if (
            breaker.allows_calls or event.blocked != breaker.blocked
        ):  # what a person must mend is said also where it was down before
            logger.error("link to the {} is {}: {}", event.link, "blocked" if event.blocked else "down", event.reason)
        breaker.trip(monotonic, event.blocked)
        self._outbox.outages.link_lost(event.link, event.reason, now, blocked=event.blocked)
        self._write_next_probe(breaker)

    def probes(self) -> Iterator[BackgroundTask]:
        """The probes that are due."""
        for breaker in self._breakers.values():
            probe = self._probes.get(breaker.link)
            now = self._clock.monotonic()
            if probe is not None and breaker.probe_is_due(now):
                breaker.probe_started(now)
                yield BackgroundTask(breaker.link, probe, partial(self._probed, breaker, now))

    def _probed(self, breaker: CircuitBreaker, begun: float, _outbox: Outbox, answer: Any, _now: datetime) -> None:
        if not isinstance(answer, Exception):
            self.link_changed(LinkEvent(breaker.link, up=True))
        elif not isinstance(answer, LinkDown):  # of a LinkDown the engine has told already
            self.link_changed(
                LinkEvent(breaker.link, up=False, reason=f"{type(answer).__name__}: {answer}", started_at=begun)
            )
        breaker.probe_finished(begun, self._clock.monotonic())
        self._write_next_probe(breaker)

    def _write_next_probe(self, breaker: CircuitBreaker) -> None:
        if breaker.link in self._probes and not breaker.allows_calls:
            wait = max(0.0, breaker.next_probe - self._clock.monotonic())
            self._outbox.outages.next_probe(breaker.link, self._clock.now() + timedelta(seconds=wait))

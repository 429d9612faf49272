"""The links as the engine sees them: their gates, the outages that are remembered, the probes that are due."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from loguru import logger

from fastmon_daemon.clock import Clock
from fastmon_daemon.engine.concurrency_limits import PROBES_PER_LINK
from fastmon_daemon.engine.inbox import LinkEvent
from fastmon_daemon.errands import BackgroundTask
from fastmon_daemon.errors import LinkDown
from fastmon_daemon.gates import CircuitBreaker
from fastmon_daemon.outbox import Outbox


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
        self._gates = {link: CircuitBreaker(link, most_probes, jitter) for link in {*links, *probes}}
        for outage in outbox.outages.open():  # as the process before us left them
            if outage.link in self._gates:
                self._gates[outage.link] = CircuitBreaker(
                    outage.link, most_probes, jitter, allows_calls=False, blocked=outage.blocked
                )
                state = "held" if outage.blocked else "down"
                logger.warning("link to the {} was {} at the last stop: {}", outage.link, state, outage.reason)
            else:  # the settings were changed: nothing needs that link any more
                with outbox.transaction():
                    outbox.outages.link_back(outage.link, clock.now())

    def allows_calls(self, link: str | None) -> bool:
        """Whether what needs *link* may be done now."""
        return link is None or self._gates[link].allows_calls

    def link_changed(self, news: LinkEvent) -> None:
        """Open or shut a gate, inside the engine's transaction.

        A call that was begun before the link came back, and failed since, says nothing of how the link is now.
        """
        gate = self._gates.get(news.link)
        if gate is None:
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if news.up:
            if not gate.allows_calls:
                logger.info("link to the {} is up", news.link)
            gate.reset(monotonic)
            self._outbox.outages.link_back(news.link, now)
            return
        if news.started_at is not None and news.started_at < gate.opened_at:
            return
        if (
            gate.allows_calls or news.blocked != gate.blocked
        ):  # what a person must mend is said also where it was down before
            logger.error("link to the {} is {}: {}", news.link, "held" if news.blocked else "down", news.reason)
        gate.trip(monotonic, news.blocked)
        self._outbox.outages.link_lost(news.link, news.reason, now, held=news.blocked)
        self._write_next_probe(gate)

    def probes(self) -> Iterator[BackgroundTask]:
        """The probes that are due."""
        for gate in self._gates.values():
            probe = self._probes.get(gate.link)
            now = self._clock.monotonic()
            if probe is not None and gate.probe_is_due(now):
                gate.probe_started(now)
                yield BackgroundTask(gate.link, probe, partial(self._probed, gate, now))

    def _probed(self, gate: CircuitBreaker, begun: float, _outbox: Outbox, answer: Any, _now: datetime) -> None:
        if not isinstance(answer, Exception):
            self.link_changed(LinkEvent(gate.link, up=True))
        elif not isinstance(answer, LinkDown):  # of a LinkDown the engine has told already
            self.link_changed(
                LinkEvent(gate.link, up=False, reason=f"{type(answer).__name__}: {answer}", started_at=begun)
            )
        gate.probe_finished(begun, self._clock.monotonic())
        self._write_next_probe(gate)

    def _write_next_probe(self, gate: CircuitBreaker) -> None:
        if gate.link in self._probes and not gate.allows_calls:
            wait = max(0.0, gate.next_probe - self._clock.monotonic())
            self._outbox.outages.next_probe(gate.link, self._clock.now() + timedelta(seconds=wait))

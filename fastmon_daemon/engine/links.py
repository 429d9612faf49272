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
from fastmon_daemon.engine.inbox import LinkNews
from fastmon_daemon.errands import Errand
from fastmon_daemon.errors import LinkDown
from fastmon_daemon.gates import Gate
from fastmon_daemon.outbox import Outbox


class Links:
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
        may be idle. `LinkNews` of an edge may open and shut a gate sooner than its probe.
        """
        self._outbox = outbox
        self._probes = probes
        self._clock = clock
        self._gates = {link: Gate(link, most_probes, jitter) for link in {*links, *probes}}
        for outage in outbox.outages.open():  # as the process before us left them
            if outage.link in self._gates:
                self._gates[outage.link] = Gate(outage.link, most_probes, jitter, open=False, held=outage.held)
                state = "held" if outage.held else "down"
                logger.warning("link to the {} was {} at the last stop: {}", outage.link, state, outage.reason)
            else:  # the settings were changed: nothing needs that link any more
                with outbox.transaction():
                    outbox.outages.link_back(outage.link, clock.now())

    def is_open(self, link: str | None) -> bool:
        """Whether what needs *link* may be done now."""
        return link is None or self._gates[link].open

    def changed(self, news: LinkNews) -> None:
        """Open or shut a gate, inside the engine's transaction.

        A call that was begun before the link came back, and failed since, says nothing of how the link is now.
        """
        gate = self._gates.get(news.link)
        if gate is None:
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if news.up:
            if not gate.open:
                logger.info("link to the {} is up", news.link)
            gate.reopen(monotonic)
            self._outbox.outages.link_back(news.link, now)
            return
        if news.begun is not None and news.begun < gate.opened_at:
            return
        if gate.open or news.held != gate.held:  # what a person must mend is said also where it was down before
            logger.error("link to the {} is {}: {}", news.link, "held" if news.held else "down", news.reason)
        gate.shut(monotonic, news.held)
        self._outbox.outages.link_lost(news.link, news.reason, now, held=news.held)
        self._write_next_probe(gate)

    def probes(self) -> Iterator[Errand]:
        """The probes that are due."""
        for gate in self._gates.values():
            probe = self._probes.get(gate.link)
            now = self._clock.monotonic()
            if probe is not None and gate.wants_probe(now):
                gate.probe_begins(now)
                yield Errand(gate.link, probe, partial(self._probed, gate, now))

    def _probed(self, gate: Gate, begun: float, _outbox: Outbox, answer: Any, _now: datetime) -> None:
        if not isinstance(answer, Exception):
            self.changed(LinkNews(gate.link, up=True))
        elif not isinstance(answer, LinkDown):  # of a LinkDown the engine has told already
            self.changed(LinkNews(gate.link, up=False, reason=f"{type(answer).__name__}: {answer}", begun=begun))
        gate.probe_ends(begun, self._clock.monotonic())
        self._write_next_probe(gate)

    def _write_next_probe(self, gate: Gate) -> None:
        if gate.link in self._probes and not gate.open:
            wait = max(0.0, gate.next_probe - self._clock.monotonic())
            self._outbox.outages.next_probe(gate.link, self._clock.now() + timedelta(seconds=wait))

"""The connections of the daemon to its broker: one that messages arrive on, and one that messages are sent on.

A broker answers a message that it does not take with an ERROR, and closes the connection: on a connection of its own,
that ends no intake.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.links import ANNOUNCEMENTS, INTAKE
from fastmon_daemon.base.text import count_of
from fastmon_daemon.broker import BrokerConnection, LinkStateChange
from fastmon_daemon.broker.unacked_buffer import Accept
from fastmon_daemon.service.clients import broker_parameters
from fastmon_daemon.service.process import ProcessContext

_NO_SENDER = "not connected to the broker: FASTMON_NOTIFY is not stomp"


class Brokers:
    """The connections that the settings need; either may be None."""

    def __init__(
        self,
        intake: BrokerConnection | None,
        sender: BrokerConnection | None,
        runs: BrokerConnection | None = None,
        *,
        announces: bool,
    ) -> None:
        """*announces*: work waits for *sender*; else only status messages use it.

        *runs* receives run messages, if *intake* is a queue that we share.
        """
        self._runs = runs
        self._intake = intake
        self._sender = sender
        self._announces = announces

    @property
    def in_use(self) -> bool:
        """Whether the broker is needed: for the intake or for announcements."""
        return bool(self._links())

    @property
    def connected(self) -> bool:
        """Whether messages arrive; without an intake, whether they can be sent."""
        return self._intake.up if self._intake else self.in_use and self.up

    @property
    def up(self) -> bool:
        """Whether every needed connection is up."""
        return all(each.up for each in self._links().values())

    def unconnected(self) -> tuple[str, ...]:
        """The needed links that are not up. For any thread."""
        return tuple(name for name, each in self._links().items() if not each.up)

    @property
    def can_send(self) -> bool:
        """Whether there is a connection to send on."""
        return self._sender is not None

    @property
    def buffered(self) -> int:
        """Number of messages that arrived and cannot be stored. For any thread."""
        return self._intake.buffered if self._intake else 0

    @property
    def intake_fault(self) -> str:
        """Why no message is stored; empty while messages are stored. For any thread."""
        reason = self._intake.storage_error if self._intake else ""
        count = self.buffered
        return f"{count_of(count, 'message')} not stored, {reason}" if reason and count else ""

    def send(self, body: str, event_id: str) -> Future[None]:
        """See `BrokerConnection.send`."""
        if self._sender is None:
            raise LinkDown(_NO_SENDER)
        return self._sender.send(body, event_id)

    def together(self) -> AbstractContextManager[None]:
        """See `BrokerConnection.together`."""
        return self._sender.together() if self._sender else nullcontext()

    def announce(self, body: str, event_id: str) -> None:
        """See `BrokerConnection.announce`."""
        if self._sender is None:
            raise LinkDown(_NO_SENDER)
        self._sender.announce(body, event_id)

    def probes(self) -> dict[str, Callable[[], None]]:
        """Link -> a call that returns when it is up, for the links that are needed."""
        return {name: each.probe for name, each in self._links().items()}

    def start(self) -> None:
        """Connect."""
        for each in self._all():
            each.start()

    def stop(self, deadline_s: float) -> bool:
        """Disconnect within *deadline_s* seconds; returns as `BrokerConnection.stop`, for all connections."""
        until = time.monotonic() + deadline_s
        for each in self._all():
            each.begin_stop()
        clean = [each.stop(max(0.1, until - time.monotonic())) for each in self._all()]
        return all(clean)

    def _all(self) -> Iterator[BrokerConnection]:
        """The sender first: messages that arrive are announced on it."""
        return (each for each in (self._sender, self._runs, self._intake) if each is not None)

    def _links(self) -> dict[str, BrokerConnection]:
        """Those that are needed, by the name of the link."""
        links = {INTAKE: self._intake, ANNOUNCEMENTS: self._sender if self._announces else None}
        return {name: each for name, each in links.items() if each}


def make_brokers(  # noqa: PLR0913 (all by name but the first two)
    context: ProcessContext,
    instance: str,
    *,
    accept: Accept,
    accept_runs: Accept,
    may_subscribe: Callable[[], None],
    changed: Callable[[str, LinkStateChange], None],
    stopping: threading.Event,
    once: bool,
) -> Brokers:
    """Make the connections. *accept* gets each message, *changed* the link and each change of it.

    If several daemons share a queue, *accept_runs* gets the messages of the topic, of which each needs all that are
    about runs, and *may_subscribe* raises LinkBlocked if we would take the messages of others.

    With *once* nothing arrives, and no status is sent.
    """
    settings = context.settings
    parameters = partial(broker_parameters, context, instance)
    intake = sender = runs = None
    if settings.mode == "message" and not once:
        intake = BrokerConnection(
            replace(parameters(subscribe=True), may_subscribe=may_subscribe),
            accept=accept, changed=partial(changed, INTAKE), stopping=stopping,
        )  # fmt: skip
    if settings.shared_queue and not once:
        runs = BrokerConnection(
            parameters(subscribe=True).for_runs(settings.topic_of_runs, durable=settings.durable),
            accept=accept_runs, changed=None, stopping=stopping, name="run message link",
        )  # fmt: skip
    announces = settings.notify == "stomp"
    if announces or (intake is not None and settings.notify == "off"):
        sender = BrokerConnection(
            parameters(subscribe=False),
            accept=lambda _: None,
            changed=partial(changed, ANNOUNCEMENTS) if announces else None,
            stopping=stopping,
            name="announcement link",
        )
    return Brokers(intake, sender, runs, announces=announces)

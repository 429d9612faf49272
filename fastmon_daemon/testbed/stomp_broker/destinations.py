"""Queues, topics and durable subscriptions: where a message goes and who may subscribe.

Owns everything that outlives a connection. It must not know sockets or frames; texts of refusals are those of
ActiveMQ Classic where it has one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from fastmon_daemon.testbed.stomp_broker.frames import ProtocolError
from fastmon_daemon.testbed.stomp_broker.message_queue import Consumer, Message, MessageQueue, SubscriptionOptions

DEAD_LETTERS = "/queue/DLQ"
DUPLICATE_ID = "_AMQ_DUPL_ID"
DUPLICATE_IDS_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it stands now, for people and tests; numbers count messages.

    A durable one whose client is away is not *active*; *id* and *ack* are then None.
    """

    destination: str
    client_id: str | None
    durable_name: str | None
    active: bool
    id: str | None
    ack: str | None
    waiting: int
    unacknowledged: int


class Destinations:
    """All queues, live topic subscriptions and durable subscriptions."""

    def __init__(self, *, duplicate_detection: bool) -> None:
        self._queues: dict[str, MessageQueue] = {}
        self._topics: dict[str, dict[MessageQueue, None]] = {}
        self._durables: dict[tuple[str, str], MessageQueue] = {}
        self._owners: dict[Consumer, str | None] = {}
        self._seen: dict[str, OrderedDict[str, None]] | None = {} if duplicate_detection else None
        self._numbers = count(1)

    def accept(self, destination: str, headers: dict[str, str], body: bytes) -> bool:
        """Route one message; False where it repeats one that this destination has seen, and is dropped.

        Raises:
            Refused: *destination* is neither a queue nor a topic.
        """
        check(destination)
        if self._is_repeat(destination, headers.get(DUPLICATE_ID)):
            return False
        message = Message(f"ID:fastmon-broker-{next(self._numbers)}", destination, headers, body)
        if destination.startswith("/queue/"):
            self.queue(destination).put(message)
        for backlog in list(self._topics.get(destination, ())):
            backlog.put(message)
        return True

    def bury(self, message: Message) -> None:
        """Put a rejected message on the dead-letter queue, whatever its persistence."""
        headers = {**message.headers, "original-destination": message.destination}
        self.queue(DEAD_LETTERS).put(Message(message.id, DEAD_LETTERS, headers, message.body))

    def subscribe(
        self, terms: SubscriptionOptions, client_id: str | None, deliver: Callable[[SubscriptionOptions, Message], None]
    ) -> Consumer:
        """Begin a subscription; *deliver* is called for each message, the first perhaps before this returns.

        Raises:
            Refused: the destination is none, or a durable subscription is impossible or in use.
        """
        check(terms.destination)
        if terms.destination.startswith("/queue/"):
            backlog = self.queue(terms.destination)
        elif terms.durable_name is not None:
            backlog = self._durable(terms.destination, client_id, terms.durable_name)
        else:
            backlog = self._open_topic(terms.destination)
        consumer = Consumer(terms, backlog, deliver)
        self._owners[consumer] = client_id
        backlog.join(consumer)
        return consumer

    def leave(self, *consumers: Consumer) -> None:
        """End subscriptions: a durable one is kept, inactive; a live topic subscription takes its messages along."""
        leaving = [consumer for consumer in consumers if consumer in self._owners]
        for consumer in leaving:
            del self._owners[consumer]
            consumer.backlog.leave(consumer)
        # Only when all have left: else one would be given what the other gave back.
        for consumer in leaving:
            self._settle_remainder(consumer.backlog)

    def leave_all(self) -> None:
        """End every subscription."""
        self.leave(*self._owners)

    def remove_durable(self, client_id: str | None, name: str) -> None:
        """Forget a durable subscription and what waits in it.

        Raises:
            Refused: there is none of that name, or its consumer is still there.
        """
        backlog = self._durables.get((client_id or "", name))
        if backlog is None:
            raise ProtocolError(
                f"No durable subscription exists for clientID: {client_id} and subscriptionName: {name}"
            )
        _check_unused(backlog, client_id, name)
        del self._durables[client_id or "", name]
        self._close_topic(backlog)

    def queue(self, destination: str) -> MessageQueue:
        """The backlog of a queue, made when first named."""
        return self._queues.setdefault(destination, MessageQueue(destination))

    def forget_volatile(self) -> None:
        """Drop what is not persistent, as a restart of the broker does."""
        for backlog in (*self._queues.values(), *self._durables.values()):
            backlog.forget_volatile()

    def subscriptions(self) -> Iterator[Subscription]:
        """Every active subscription, then every durable one that waits for its client."""
        for consumer, client_id in self._owners.items():
            yield _active(consumer, client_id)
        for (client_id, name), backlog in self._durables.items():
            if not backlog.consumers:
                yield Subscription(
                    backlog.destination,
                    client_id,
                    name,
                    False,
                    None,
                    None,
                    len(backlog.waiting),
                    backlog.unacknowledged,
                )

    def _durable(self, destination: str, client_id: str | None, name: str) -> MessageQueue:
        if not client_id:
            raise ProtocolError(f"A durable subscription needs a client-id in CONNECT (subscriptionName: {name})")
        backlog = self._durables.get((client_id, name))
        if backlog is not None:
            _check_unused(backlog, client_id, name)
        if backlog is None or backlog.destination != destination:
            if backlog is not None:
                self._close_topic(backlog)
            backlog = self._durables[client_id, name] = self._open_topic(destination)
        return backlog

    def _open_topic(self, destination: str) -> MessageQueue:
        backlog = MessageQueue(destination)
        self._topics.setdefault(destination, {})[backlog] = None
        return backlog

    def _settle_remainder(self, backlog: MessageQueue) -> None:
        if backlog in self._queues.values() or backlog in self._durables.values():
            backlog.dispatch()
        else:
            self._close_topic(backlog)

    def _close_topic(self, backlog: MessageQueue) -> None:
        listening = self._topics[backlog.destination]
        del listening[backlog]
        if not listening:
            del self._topics[backlog.destination]

    def _is_repeat(self, destination: str, duplicate_id: str | None) -> bool:
        if self._seen is None or duplicate_id is None:
            return False
        seen = self._seen.setdefault(destination, OrderedDict())
        if duplicate_id in seen:
            return True
        seen[duplicate_id] = None
        if len(seen) > DUPLICATE_IDS_KEPT:
            seen.popitem(last=False)
        return False


def check(destination: str) -> None:
    """Refuse what is neither ``/queue/...`` nor ``/topic/...``."""
    if not destination.startswith(("/queue/", "/topic/")) or len(destination) == len("/queue/"):
        raise ProtocolError(f"Illegal destination name: [{destination}]: write /queue/NAME or /topic/NAME")


def _check_unused(backlog: MessageQueue, client_id: str | None, name: str) -> None:
    if backlog.consumers:
        raise ProtocolError(f"Durable consumer is in use for client: {client_id} and subscriptionName: {name}")


def _active(consumer: Consumer, client_id: str | None) -> Subscription:
    terms = consumer.terms
    waiting, unacknowledged = len(consumer.backlog.waiting), len(consumer.unacknowledged)
    return Subscription(
        terms.destination, client_id, terms.durable_name, True, terms.id, terms.ack, waiting, unacknowledged
    )

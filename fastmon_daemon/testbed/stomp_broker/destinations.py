"""Queues, topics and durable subscriptions: routes messages and keeps everything that outlives a connection.

Error texts are those of ActiveMQ Classic where it has one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from fastmon_daemon.testbed.stomp_broker.frames import ProtocolError
from fastmon_daemon.testbed.stomp_broker.message_queue import Consumer, Message, MessageQueue, SubscriptionOptions
from fastmon_daemon.testbed.stomp_broker.selector import Selector

DEAD_LETTERS = "/queue/DLQ"
DUPLICATE_ID = "_AMQ_DUPL_ID"
MAX_DUPLICATE_IDS = 20_000


@dataclass(frozen=True, slots=True)
class Subscription:
    """A snapshot of a subscription; *waiting* and *unacknowledged* are numbers of messages.

    A durable one whose client is not connected is not *active*; *id* and *ack* are then None.
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
        self._client_ids: dict[Consumer, str | None] = {}
        self._seen: dict[str, OrderedDict[str, None]] | None = {} if duplicate_detection else None
        self._numbers = count(1)

    def accept(self, destination: str, headers: dict[str, str], body: bytes) -> bool:
        """Route one message; return False if it is dropped as a duplicate.

        Raises: ProtocolError if *destination* is neither a queue nor a topic.
        """
        check_destination(destination)
        if self._is_repeat(destination, headers.get(DUPLICATE_ID)):
            return False
        message = Message(f"ID:fastmon-broker-{next(self._numbers)}", destination, headers, body)
        if destination.startswith("/queue/"):
            self.queue(destination).put(message)
        for queue in list(self._topics.get(destination, ())):
            if queue.selector is None or queue.selector(headers):
                queue.put(message)
        return True

    def dead_letter(self, message: Message) -> None:
        """Put a rejected message on the dead-letter queue."""
        headers = {**message.headers, "original-destination": message.destination}
        self.queue(DEAD_LETTERS).put(Message(message.id, DEAD_LETTERS, headers, message.body))

    def subscribe(
        self,
        options: SubscriptionOptions,
        client_id: str | None,
        deliver: Callable[[SubscriptionOptions, Message], None],
    ) -> Consumer:
        """Begin a subscription; *deliver* is called for each message, possibly before this returns.

        Raises: ProtocolError for an illegal destination, or a durable subscription without client id or in use.
        """
        check_destination(options.destination)
        if options.destination.startswith("/queue/"):
            queue = self.queue(options.destination)
        elif options.durable_name is not None:
            queue = self._durable(options.destination, client_id, options.durable_name)
        else:
            queue = self._open_topic(options.destination, options.selector)
        consumer = Consumer(options, queue, deliver)
        self._client_ids[consumer] = client_id
        queue.join(consumer)
        return consumer

    def leave(self, *consumers: Consumer) -> None:
        """End subscriptions: durable ones become inactive, other topic subscriptions are dropped."""
        leaving = [consumer for consumer in consumers if consumer in self._client_ids]
        for consumer in leaving:
            del self._client_ids[consumer]
            consumer.queue.leave(consumer)
        # Only when all have left: otherwise one would get the messages that another returned.
        for consumer in leaving:
            self._dispatch_or_drop(consumer.queue)

    def leave_all(self) -> None:
        """End every subscription."""
        self.leave(*self._client_ids)

    def remove_durable(self, client_id: str | None, name: str) -> None:
        """Remove a durable subscription and its messages.

        Raises: ProtocolError if it does not exist or has a consumer.
        """
        queue = self._durables.get((client_id or "", name))
        if queue is None:
            raise ProtocolError(
                f"No durable subscription exists for clientID: {client_id} and subscriptionName: {name}"
            )
        _check_unused(queue, client_id, name)
        del self._durables[client_id or "", name]
        self._close_topic(queue)

    def queue(self, destination: str) -> MessageQueue:
        """Return the message queue of *destination*, created at the first use."""
        return self._queues.setdefault(destination, MessageQueue(destination))

    def drop_nonpersistent(self) -> None:
        """Drop messages that are not persistent, as a restart does."""
        for queue in (*self._queues.values(), *self._durables.values()):
            queue.drop_nonpersistent()

    def subscriptions(self) -> Iterator[Subscription]:
        """All active subscriptions, then the inactive durable ones."""
        for consumer, client_id in self._client_ids.items():
            yield _active(consumer, client_id)
        for (client_id, name), queue in self._durables.items():
            if not queue.consumers:
                yield Subscription(
                    queue.destination,
                    client_id,
                    name,
                    False,
                    None,
                    None,
                    len(queue.waiting),
                    queue.unacknowledged,
                )

    def _durable(self, destination: str, client_id: str | None, name: str) -> MessageQueue:
        if not client_id:
            raise ProtocolError(f"A durable subscription needs a client-id in CONNECT (subscriptionName: {name})")
        queue = self._durables.get((client_id, name))
        if queue is not None:
            _check_unused(queue, client_id, name)
        if queue is None or queue.destination != destination:
            if queue is not None:
                self._close_topic(queue)
            queue = self._durables[client_id, name] = self._open_topic(destination)
        return queue

    def _open_topic(self, destination: str, selector: Selector | None = None) -> MessageQueue:
        queue = MessageQueue(destination, selector)
        self._topics.setdefault(destination, {})[queue] = None
        return queue

    def _dispatch_or_drop(self, queue: MessageQueue) -> None:
        if queue in self._queues.values() or queue in self._durables.values():
            queue.dispatch()
        else:
            self._close_topic(queue)

    def _close_topic(self, queue: MessageQueue) -> None:
        queues = self._topics[queue.destination]
        del queues[queue]
        if not queues:
            del self._topics[queue.destination]

    def _is_repeat(self, destination: str, duplicate_id: str | None) -> bool:
        if self._seen is None or duplicate_id is None:
            return False
        seen = self._seen.setdefault(destination, OrderedDict())
        if duplicate_id in seen:
            return True
        seen[duplicate_id] = None
        if len(seen) > MAX_DUPLICATE_IDS:
            seen.popitem(last=False)
        return False


def check_destination(destination: str) -> None:
    """Raise `ProtocolError` unless *destination* is ``/queue/...`` or ``/topic/...``."""
    if not destination.startswith(("/queue/", "/topic/")) or len(destination) == len("/queue/"):
        raise ProtocolError(f"Illegal destination name: [{destination}]: write /queue/NAME or /topic/NAME")


def _check_unused(queue: MessageQueue, client_id: str | None, name: str) -> None:
    if queue.consumers:
        raise ProtocolError(f"Durable consumer is in use for client: {client_id} and subscriptionName: {name}")


def _active(consumer: Consumer, client_id: str | None) -> Subscription:
    options = consumer.options
    waiting, unacknowledged = len(consumer.queue.waiting), len(consumer.unacknowledged)
    return Subscription(
        options.destination, client_id, options.durable_name, True, options.id, options.ack, waiting, unacknowledged
    )

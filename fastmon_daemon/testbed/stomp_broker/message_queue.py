"""A queue of messages with its consumers, and the messages that are delivered but not acknowledged.

A STOMP queue, a durable subscription and a plain topic subscription each are one `MessageQueue`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fastmon_daemon.testbed.stomp_broker.frames import ProtocolError
from fastmon_daemon.testbed.stomp_broker.selector import Selector


@dataclass(frozen=True, slots=True)
class Message:
    """One accepted message; *headers* are the sender's."""

    id: str
    destination: str
    headers: dict[str, str]
    body: bytes
    redelivered: bool = False

    @property
    def persistent(self) -> bool:
        """Whether the message survives a restart of the broker."""
        return self.headers.get("persistent") == "true"


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """The options of a SUBSCRIBE; *prefetch* limits the unacknowledged messages (None: no limit)."""

    id: str
    destination: str
    ack: str = "auto"
    prefetch: int | None = None
    durable_name: str | None = None
    selector: Selector | None = None
    """None: every message is delivered."""


class Consumer:
    """One subscription of one session: gets the messages of one queue and acknowledges them."""

    def __init__(
        self, options: SubscriptionOptions, queue: MessageQueue, deliver: Callable[[SubscriptionOptions, Message], None]
    ) -> None:
        self.options = options
        self.queue = queue
        # OrderedDict: ack:client removes from the front, which gets slower and slower with a plain dict.
        self.unacknowledged: OrderedDict[str, Message] = OrderedDict()
        self._deliver = deliver

    @property
    def has_capacity(self) -> bool:
        """Whether the prefetch limit allows one more message."""
        return self.options.prefetch is None or len(self.unacknowledged) < self.options.prefetch

    def deliver(self, message: Message) -> None:
        """Deliver *message*; it awaits an acknowledgement unless ack is auto."""
        if self.options.ack != "auto":
            self.unacknowledged[message.id] = message
        self._deliver(self.options, message)

    def acknowledge(self, message_id: str) -> list[Message]:
        """Remove and return the messages that an ACK or NACK of *message_id* covers; ack:client covers all up to it.

        Raises: ProtocolError if the message is not unacknowledged.
        """
        if message_id not in self.unacknowledged:
            raise ProtocolError(f"Unexpected ACK received for message-id [{message_id}]")
        if self.options.ack == "client-individual":
            covered = [self.unacknowledged.pop(message_id)]
        else:
            covered = self._pop_up_to(message_id)
        self.queue.dispatch()
        return covered

    def _pop_up_to(self, message_id: str) -> list[Message]:
        covered: list[Message] = []
        while not covered or covered[-1].id != message_id:
            covered.append(self.unacknowledged.popitem(last=False)[1])
        return covered


@dataclass(eq=False, slots=True)
class MessageQueue:
    """Messages in order, and the consumers that get them in turn."""

    destination: str
    selector: Selector | None = None
    """Which messages of its topic are put into it; None: all."""
    waiting: deque[Message] = field(default_factory=deque)
    consumers: deque[Consumer] = field(default_factory=deque)

    @property
    def depth(self) -> int:
        """Number of unacknowledged messages, delivered or not."""
        return len(self.waiting) + self.unacknowledged

    @property
    def unacknowledged(self) -> int:
        """Number of messages that are delivered but not acknowledged."""
        return sum(len(consumer.unacknowledged) for consumer in self.consumers)

    def put(self, message: Message) -> None:
        """Append *message* and dispatch."""
        self.waiting.append(message)
        self.dispatch()

    def join(self, consumer: Consumer) -> None:
        """Add *consumer* and dispatch."""
        self.consumers.append(consumer)
        self.dispatch()

    def leave(self, consumer: Consumer) -> None:
        """Remove *consumer*; its unacknowledged messages return to the front, marked as redelivered."""
        self.consumers.remove(consumer)
        returned = [replace(message, redelivered=True) for message in consumer.unacknowledged.values()]
        self.waiting.extendleft(reversed(returned))
        consumer.unacknowledged.clear()

    def dispatch(self) -> None:
        """Deliver waiting messages to the consumers in turn, as far as their prefetch limits allow."""
        while self.waiting and (consumer := self._next_with_capacity()):
            consumer.deliver(self.waiting.popleft())

    def drop_nonpersistent(self) -> None:
        """Drop messages that are not persistent, as a restart does."""
        self.waiting = deque(message for message in self.waiting if message.persistent)

    def _next_with_capacity(self) -> Consumer | None:
        for _ in range(len(self.consumers)):
            self.consumers.rotate(-1)
            if self.consumers[-1].has_capacity:
                return self.consumers[-1]
        return None

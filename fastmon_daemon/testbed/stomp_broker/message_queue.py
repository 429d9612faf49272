"""Messages that wait, who consumes them, and what is delivered but not yet acknowledged.

A queue, a durable subscription and a live topic subscription are the same thing here: a backlog with consumers.
This module must not know sockets, frames or versions.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from fastmon_daemon.testbed.stomp_broker.frames import ProtocolError


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
        """Whether the sender asked that it survive a restart of the broker."""
        return self.headers.get("persistent") == "true"


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """What a SUBSCRIBE asked for; *prefetch* is the most messages in flight unacknowledged (None: no limit)."""

    id: str
    destination: str
    ack: str = "auto"
    prefetch: int | None = None
    durable_name: str | None = None


class Consumer:
    """One subscription of one session: gets messages of one backlog and settles them."""

    def __init__(
        self, terms: SubscriptionOptions, backlog: MessageQueue, deliver: Callable[[SubscriptionOptions, Message], None]
    ) -> None:
        self.terms = terms
        self.backlog = backlog
        # Ordered: ack:client takes from the front, where a plain dict grows slower with each removal.
        self.unacknowledged: OrderedDict[str, Message] = OrderedDict()
        self._deliver = deliver

    @property
    def has_room(self) -> bool:
        """Whether its prefetch allows one more message."""
        return self.terms.prefetch is None or len(self.unacknowledged) < self.terms.prefetch

    def take(self, message: Message) -> None:
        """Deliver *message*; with ack:auto that is the end of it."""
        if self.terms.ack != "auto":
            self.unacknowledged[message.id] = message
        self._deliver(self.terms, message)

    def settle(self, message_id: str) -> list[Message]:
        """Forget what an ACK or NACK of *message_id* covers, and return it: ack:client means all up to it.

        Raises:
            Refused: no such message waits for an acknowledgement.
        """
        if message_id not in self.unacknowledged:
            raise ProtocolError(f"Unexpected ACK received for message-id [{message_id}]")
        if self.terms.ack == "client-individual":
            settled = [self.unacknowledged.pop(message_id)]
        else:
            settled = self._pop_up_to(message_id)
        self.backlog.dispatch()
        return settled

    def _pop_up_to(self, message_id: str) -> list[Message]:
        settled: list[Message] = []
        while not settled or settled[-1].id != message_id:
            settled.append(self.unacknowledged.popitem(last=False)[1])
        return settled


@dataclass(eq=False, slots=True)
class MessageQueue:
    """Messages in order, and the consumers that share them in turn."""

    destination: str
    waiting: deque[Message] = field(default_factory=deque)
    consumers: deque[Consumer] = field(default_factory=deque)

    @property
    def depth(self) -> int:
        """How many messages are not acknowledged yet, delivered or not."""
        return len(self.waiting) + self.unacknowledged

    @property
    def unacknowledged(self) -> int:
        """How many messages are delivered and not acknowledged."""
        return sum(len(consumer.unacknowledged) for consumer in self.consumers)

    def put(self, message: Message) -> None:
        """Add *message* at the end, and deliver what can be delivered."""
        self.waiting.append(message)
        self.dispatch()

    def join(self, consumer: Consumer) -> None:
        """Let *consumer* have its share from now on."""
        self.consumers.append(consumer)
        self.dispatch()

    def leave(self, consumer: Consumer) -> None:
        """*consumer* goes: what it did not acknowledge will come first again, marked as redelivered."""
        self.consumers.remove(consumer)
        self._put_back(consumer.unacknowledged.values())
        consumer.unacknowledged.clear()

    def dispatch(self) -> None:
        """Deliver in turn to consumers that have room, until nothing waits or nobody has."""
        while self.waiting and (consumer := self._next_with_room()):
            consumer.take(self.waiting.popleft())

    def forget_volatile(self) -> None:
        """Keep only persistent messages, as a restart does."""
        self.waiting = deque(message for message in self.waiting if message.persistent)

    def _next_with_room(self) -> Consumer | None:
        for _ in range(len(self.consumers)):
            self.consumers.rotate(-1)
            if self.consumers[-1].has_room:
                return self.consumers[-1]
        return None

    def _put_back(self, messages: Iterable[Message]) -> None:
        returned = [replace(message, redelivered=True) for message in messages]
        self.waiting.extendleft(reversed(returned))

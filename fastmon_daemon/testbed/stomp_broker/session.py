"""One client's conversation: CONNECT and its negotiations, then each command, receipts and transactions.

It must not know how messages are routed or kept; it asks the house.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

from fastmon_daemon.testbed.stomp_broker.destinations import Destinations
from fastmon_daemon.testbed.stomp_broker.frames import Frame, ProtocolError
from fastmon_daemon.testbed.stomp_broker.headers import (
    authenticate,
    choose_version,
    durable_name,
    heart_beat,
    interval_s,
    required,
    subscription_id,
    subscription_options,
)
from fastmon_daemon.testbed.stomp_broker.message_queue import Consumer, Message, SubscriptionOptions
from fastmon_daemon.testbed.stomp_broker.transport import Transport

_HOP_HEADERS = frozenset({"destination", "content-length", "receipt", "transaction"})  # not part of the message

Verdict = Literal["drop", "refuse"] | None
Hook = Callable[[Literal["receive", "send"], "Session", Frame], Verdict]


@dataclass
class Counters:
    """What the broker has seen since it was made."""

    accepted: Counter[str] = field(default_factory=Counter)
    """Messages by destination; a dropped duplicate does not count."""
    connections: int = 0
    received: Counter[str] = field(default_factory=Counter)
    """Frames by command."""
    sent: Counter[str] = field(default_factory=Counter)


class SessionContext(Protocol):
    """What a session needs of its broker."""

    user: str
    password: str
    versions: tuple[str, ...]
    heart_beat_ms: int
    no_receipts: bool
    hook: Hook | None
    destinations: Destinations
    counters: Counters
    sessions: dict[Session, None]

    def is_silent(self) -> bool:
        """Whether nothing may be answered now."""

    def welcome(self, session: Session) -> None:
        """A socket stands."""

    def publish(self, destination: str, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        """Accept one message."""


class Session:
    """A client from its first byte to its last; *client_id* and *login* are known after CONNECT."""

    def __init__(self, house: SessionContext) -> None:
        self.client_id: str | None = None
        self.login: str | None = None
        self.version: str | None = None
        self.gone = False
        self.wire = Transport(self, house.is_silent)
        self._house = house
        self._consumers: dict[str, Consumer] = {}
        self._transactions: dict[str, list[Callable[[], object]]] = {}
        self._verbs: dict[str, Callable[[Frame], None]] = {
            "SEND": partial(self._in_transaction, self._send_message),
            "ACK": partial(self._in_transaction, self._settle),
            "NACK": partial(self._in_transaction, self._nack),
            "SUBSCRIBE": self._subscribe,
            "UNSUBSCRIBE": self._unsubscribe,
            "BEGIN": self._begin,
            "COMMIT": self._commit,
            "ABORT": self._abort,
            "DISCONNECT": self._disconnect,
        }

    def on_open(self) -> None:
        """The wire says: the socket stands."""
        self._house.welcome(self)

    def on_frame(self, frame: Frame) -> None:
        """The wire says: a frame came. The fault hook sees it first."""
        self._house.counters.received[frame.command] += 1
        if not self._intercepted("receive", frame):
            self.obey(frame)

    def on_garbage(self, refusal: ProtocolError) -> None:
        """The wire says: no STOMP."""
        self._refuse(refusal, None)

    def on_lost(self) -> None:
        """The wire says: the socket is gone."""
        self.leave()

    def obey(self, frame: Frame) -> None:
        """Do what *frame* asks and confirm it, or refuse and end the session."""
        if self.gone:
            return
        receipt = frame.headers.get("receipt")
        try:
            self._verb(frame.command)(frame)
        except ProtocolError as refusal:
            self._refuse(refusal, receipt)
            return
        if receipt is not None and frame.command not in {"CONNECT", "STOMP"} and not self._house.no_receipts:
            self.send(Frame("RECEIPT", {"receipt-id": receipt}))
        if self.gone:
            self.wire.finish()

    def send(self, frame: Frame) -> None:
        """Send *frame* unless the fault hook takes it."""
        if not self._intercepted("send", frame):
            self._house.counters.sent[frame.command] += 1
            self.wire.write(frame, self.version or "1.0")

    def leave(self) -> None:
        """Give back what is unacknowledged and free the client-id, at once."""
        if self.gone:
            return
        self.gone = True
        self._house.sessions.pop(self, None)
        self._transactions.clear()
        self._house.destinations.leave(*self._consumers.values())
        self._consumers.clear()

    def _intercepted(self, what: Literal["receive", "send"], frame: Frame) -> bool:
        verdict = self._house.hook(what, self, frame) if self._house.hook else None
        if verdict == "refuse":
            self._refuse(ProtocolError(f"Fault at {frame.command}"), frame.headers.get("receipt"))
        return verdict is not None

    def _refuse(self, refusal: ProtocolError, receipt: str | None) -> None:
        headers = {"message": refusal.message, "content-type": "text/plain", **refusal.headers}
        if receipt is not None:
            headers["receipt-id"] = receipt
        body = (refusal.detail or refusal.message).encode()
        self.leave()
        self.send(Frame("ERROR", {**headers, "content-length": str(len(body))}, body))
        self.wire.finish()

    def _verb(self, command: str) -> Callable[[Frame], None]:
        if command in {"CONNECT", "STOMP"}:
            return self._connect
        if self.version is None:
            raise ProtocolError(f"Not connected: {command[:40]!r} came before CONNECT")
        if command not in self._verbs or (command == "NACK" and self.version == "1.0"):
            raise ProtocolError(f"Unknown STOMP action: {command[:40]} (version {self.version})")
        return self._verbs[command]

    def _connect(self, frame: Frame) -> None:
        if self.version is not None:
            raise ProtocolError("Already connected.")
        version = choose_version(frame.headers.get("accept-version", "1.0"), self._house.versions)
        self.login = authenticate(frame.headers, self._house.user, self._house.password)
        sends_ms, wants_ms = heart_beat(frame.headers.get("heart-beat", "0,0"))
        self._claim(frame.headers.get("client-id"))
        self.version = self.wire.parser.version = version
        offer = self._house.heart_beat_ms if version != "1.0" else 0
        headers = {"version": version, "server": "fastmon-testbed", "session": self.wire.peer}
        self.send(Frame("CONNECTED", {**headers, "heart-beat": f"{offer},{offer}"}))
        self.wire.start_heart_beats(interval_s(offer, wants_ms), interval_s(sends_ms, offer))

    def _claim(self, client_id: str | None) -> None:
        for other in self._house.sessions:
            if client_id is not None and other.client_id == client_id:
                text = f"Broker: fastmon-testbed - Client: {client_id} already connected from {other.wire.peer}"
                raise ProtocolError(text, f"javax.jms.InvalidClientIDException: {text}")
        self.client_id = client_id

    def _in_transaction(self, act: Callable[[Frame], object], frame: Frame) -> None:
        name = frame.headers.get("transaction")
        if name is None:
            act(frame)
        else:
            self._transaction(name).append(partial(act, frame))

    def _transaction(self, name: str) -> list[Callable[[], object]]:
        if name not in self._transactions:
            raise ProtocolError(f"Invalid transaction id: {name}")
        return self._transactions[name]

    def _begin(self, frame: Frame) -> None:
        name = required(frame, "transaction")
        if name in self._transactions:
            raise ProtocolError(f"The transaction was already started: {name}")
        self._transactions[name] = []

    def _commit(self, frame: Frame) -> None:
        name = required(frame, "transaction")
        acts = self._transaction(name)
        del self._transactions[name]
        for act in acts:
            act()

    def _abort(self, frame: Frame) -> None:
        name = required(frame, "transaction")
        self._transaction(name)
        del self._transactions[name]

    def _send_message(self, frame: Frame) -> None:
        headers = {name: value for name, value in frame.headers.items() if name not in _HOP_HEADERS}
        self._house.publish(required(frame, "destination"), frame.body, headers)

    def _subscribe(self, frame: Frame) -> None:
        terms = subscription_options(frame, self.version)
        if terms.id in self._consumers:
            raise ProtocolError(f"There already is a subscription for: {terms.id}. Use unique subscription ids.")
        self._consumers[terms.id] = self._house.destinations.subscribe(terms, self.client_id, self._deliver)

    def _unsubscribe(self, frame: Frame) -> None:
        name = durable_name(frame)
        if name is not None:
            self._house.destinations.remove_durable(self.client_id, name)
            return
        self._house.destinations.leave(self._consumers.pop(self._known(subscription_id(frame, self.version))))

    def _disconnect(self, _frame: Frame) -> None:
        self.leave()

    def _deliver(self, terms: SubscriptionOptions, message: Message) -> None:
        headers = {**message.headers, "message-id": message.id, "destination": message.destination}
        headers |= {"subscription": terms.id, "content-length": str(len(message.body))}
        if terms.ack != "auto" and self.version == "1.2":
            headers["ack"] = f"{message.id}@{terms.id}"
        if message.redelivered:
            headers["redelivered"] = "true"
        self.send(Frame("MESSAGE", headers, message.body))

    def _nack(self, frame: Frame) -> None:
        for message in self._settle(frame):
            self._house.destinations.bury(message)

    def _settle(self, frame: Frame) -> list[Message]:
        if self.version == "1.2":
            message_id, _, subscription = required(frame, "id").partition("@")
        else:
            message_id, subscription = required(frame, "message-id"), frame.headers.get("subscription", "")
            if self.version == "1.0" and not subscription:
                subscription = self._holder(message_id)
        return self._consumers[self._known(subscription)].settle(message_id)

    def _holder(self, message_id: str) -> str:
        return next((id_ for id_, consumer in self._consumers.items() if message_id in consumer.unacknowledged), "")

    def _known(self, subscription: str) -> str:
        if subscription not in self._consumers:
            raise ProtocolError(f"No subscription matched: {subscription!r}")
        return subscription

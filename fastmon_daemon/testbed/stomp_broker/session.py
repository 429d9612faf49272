"""The session of one client: CONNECT and its negotiation, then commands, receipts and transactions."""

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

HookResult = Literal["drop", "refuse"] | None
Hook = Callable[[Literal["receive", "send"], "Session", Frame], HookResult]


@dataclass
class Counters:
    """Counters since the broker was created."""

    accepted: Counter[str] = field(default_factory=Counter)
    """Messages by destination, without dropped duplicates."""
    connections: int = 0
    received: Counter[str] = field(default_factory=Counter)
    """Frames by command."""
    sent: Counter[str] = field(default_factory=Counter)


class SessionContext(Protocol):
    """What a session needs from its broker."""

    user: str
    password: str
    versions: tuple[str, ...]
    heart_beat_ms: int
    no_receipts: bool
    refuse_send: str
    refuse_in_transaction: bool
    hook: Hook | None
    destinations: Destinations
    counters: Counters
    sessions: dict[Session, None]

    def is_silent(self) -> bool:
        """Whether nothing may be sent now."""

    def add_session(self, session: Session) -> None:
        """Accept a new connection."""

    def publish(self, destination: str, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        """Accept one message."""


class Session:
    """One client; *client_id* and *login* are known after CONNECT."""

    def __init__(self, broker: SessionContext) -> None:
        self.client_id: str | None = None
        self.login: str | None = None
        self.version: str | None = None
        self.ended = False
        self.transport = Transport(self, broker.is_silent)
        self._broker = broker
        self._consumers: dict[str, Consumer] = {}
        self._transactions: dict[str, list[Callable[[], object]]] = {}
        self._handlers: dict[str, Callable[[Frame], None]] = {
            "SEND": self._send,
            "ACK": partial(self._in_transaction, self._acknowledge),
            "NACK": partial(self._in_transaction, self._nack),
            "SUBSCRIBE": self._subscribe,
            "UNSUBSCRIBE": self._unsubscribe,
            "BEGIN": self._begin,
            "COMMIT": self._commit,
            "ABORT": self._abort,
            "DISCONNECT": self._disconnect,
        }

    def on_open(self) -> None:
        """See `transport.Owner`."""
        self._broker.add_session(self)

    def on_frame(self, frame: Frame) -> None:
        """See `transport.Owner`; the fault hook is called first."""
        self._broker.counters.received[frame.command] += 1
        if not self._intercepted("receive", frame):
            self.execute(frame)

    def on_protocol_error(self, error: ProtocolError) -> None:
        """See `transport.Owner`."""
        self._refuse(error, None)

    def on_lost(self) -> None:
        """See `transport.Owner`."""
        self.leave()

    def execute(self, frame: Frame) -> None:
        """Execute *frame* and confirm it, or send an ERROR and end the session."""
        if self.ended:
            return
        receipt = frame.headers.get("receipt")
        try:
            self._handler(frame.command)(frame)
        except ProtocolError as error:
            self._refuse(error, receipt)
            return
        if receipt is not None and frame.command not in {"CONNECT", "STOMP"} and not self._broker.no_receipts:
            self.send(Frame("RECEIPT", {"receipt-id": receipt}))
        if self.ended:
            self.transport.close_gracefully()

    def send(self, frame: Frame) -> None:
        """Send *frame*, unless the fault hook drops it."""
        if not self._intercepted("send", frame):
            self._broker.counters.sent[frame.command] += 1
            self.transport.write(frame, self.version or "1.0")

    def leave(self) -> None:
        """End the session: return unacknowledged messages and free the client id."""
        if self.ended:
            return
        self.ended = True
        self._broker.sessions.pop(self, None)
        self._transactions.clear()
        self._broker.destinations.leave(*self._consumers.values())
        self._consumers.clear()

    def _intercepted(self, what: Literal["receive", "send"], frame: Frame) -> bool:
        result = self._broker.hook(what, self, frame) if self._broker.hook else None
        if result == "refuse":
            self._refuse(ProtocolError(f"Fault at {frame.command}"), frame.headers.get("receipt"))
        return result is not None

    def _refuse(self, error: ProtocolError, receipt: str | None) -> None:
        headers = {"message": error.message, "content-type": "text/plain", **error.headers}
        if receipt is not None:
            headers["receipt-id"] = receipt
        body = (error.detail or error.message).encode()
        self.leave()
        self.send(Frame("ERROR", {**headers, "content-length": str(len(body))}, body))
        self.transport.close_gracefully()

    def _handler(self, command: str) -> Callable[[Frame], None]:
        if command in {"CONNECT", "STOMP"}:
            return self._connect
        if self.version is None:
            raise ProtocolError(f"Not connected: {command[:40]!r} came before CONNECT")
        if command not in self._handlers or (command == "NACK" and self.version == "1.0"):
            raise ProtocolError(f"Unknown STOMP action: {command[:40]} (version {self.version})")
        return self._handlers[command]

    def _connect(self, frame: Frame) -> None:
        if self.version is not None:
            raise ProtocolError("Already connected.")
        version = choose_version(frame.headers.get("accept-version", "1.0"), self._broker.versions)
        self.login = authenticate(frame.headers, self._broker.user, self._broker.password)
        sends_ms, wants_ms = heart_beat(frame.headers.get("heart-beat", "0,0"))
        self._set_client_id(frame.headers.get("client-id"))
        self.version = self.transport.parser.version = version
        offer = self._broker.heart_beat_ms if version != "1.0" else 0
        headers = {"version": version, "server": "fastmon-testbed", "session": self.transport.peer}
        self.send(Frame("CONNECTED", {**headers, "heart-beat": f"{offer},{offer}"}))
        self.transport.start_heart_beats(interval_s(offer, wants_ms), interval_s(sends_ms, offer))

    def _set_client_id(self, client_id: str | None) -> None:
        for other in self._broker.sessions:
            if client_id is not None and other.client_id == client_id:
                text = f"Broker: fastmon-testbed - Client: {client_id} already connected from {other.transport.peer}"
                raise ProtocolError(text, f"javax.jms.InvalidClientIDException: {text}")
        self.client_id = client_id

    def _in_transaction(self, action: Callable[[Frame], object], frame: Frame) -> None:
        name = frame.headers.get("transaction")
        if name is None:
            action(frame)
        else:
            self._transaction(name).append(partial(action, frame))

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
        actions = self._transaction(name)
        del self._transactions[name]
        for action in actions:
            action()

    def _abort(self, frame: Frame) -> None:
        name = required(frame, "transaction")
        self._transaction(name)
        del self._transactions[name]

    def _send(self, frame: Frame) -> None:
        if self._broker.refuse_send and (self._broker.refuse_in_transaction or "transaction" not in frame.headers):
            raise ProtocolError(self._broker.refuse_send)
        self._in_transaction(self._send_message, frame)

    def _send_message(self, frame: Frame) -> None:
        headers = {name: value for name, value in frame.headers.items() if name not in _HOP_HEADERS}
        self._broker.publish(required(frame, "destination"), frame.body, headers)

    def _subscribe(self, frame: Frame) -> None:
        options = subscription_options(frame, self.version)
        if options.id in self._consumers:
            raise ProtocolError(f"There already is a subscription for: {options.id}. Use unique subscription ids.")
        self._consumers[options.id] = self._broker.destinations.subscribe(options, self.client_id, self._deliver)

    def _unsubscribe(self, frame: Frame) -> None:
        name = durable_name(frame)
        if name is not None:
            self._broker.destinations.remove_durable(self.client_id, name)
            return
        self._broker.destinations.leave(self._consumers.pop(self._checked(subscription_id(frame, self.version))))

    def _disconnect(self, _frame: Frame) -> None:
        self.leave()

    def _deliver(self, options: SubscriptionOptions, message: Message) -> None:
        headers = {**message.headers, "message-id": message.id, "destination": message.destination}
        headers |= {"subscription": options.id, "content-length": str(len(message.body))}
        if options.ack != "auto" and self.version == "1.2":
            headers["ack"] = f"{message.id}@{options.id}"
        if message.redelivered:
            headers["redelivered"] = "true"
        self.send(Frame("MESSAGE", headers, message.body))

    def _nack(self, frame: Frame) -> None:
        for message in self._acknowledge(frame):
            self._broker.destinations.dead_letter(message)

    def _acknowledge(self, frame: Frame) -> list[Message]:
        if self.version == "1.2":
            message_id, _, subscription = required(frame, "id").partition("@")
        else:
            message_id, subscription = required(frame, "message-id"), frame.headers.get("subscription", "")
            if self.version == "1.0" and not subscription:
                subscription = self._subscription_of(message_id)
        return self._consumers[self._checked(subscription)].acknowledge(message_id)

    def _subscription_of(self, message_id: str) -> str:
        return next((id_ for id_, consumer in self._consumers.items() if message_id in consumer.unacknowledged), "")

    def _checked(self, subscription: str) -> str:
        if subscription not in self._consumers:
            raise ProtocolError(f"No subscription matched: {subscription!r}")
        return subscription

"""One connection to the broker: CONNECT, SUBSCRIBE, messages and their ACKs, announcements and their RECEIPTs, the end.

stomp.py's thread runs the `on_` methods: they store, acknowledge and wake, and never raise, wait or reconnect. This
module must not know who reconnects.
"""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from loguru import logger
from stomp.exception import StompException
from stomp.listener import ConnectionListener
from stomp.utils import Frame

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.broker.frame_filter import FrameTooLong
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.transport import StompTransport, stomp_connection
from fastmon_daemon.broker.unacked_buffer import Accept, StorageErrorLog, UnackedBuffer

MAX_MISSED_BEATS = 2.9
"""Heart-beat intervals without a byte after which the broker counts as gone; a healthy one can be two late."""
_SUBSCRIPTION = "fastmon"
_CHECK_INTERVAL_S = 1.0
# What the broker may send before it has our ACKs: messages (ActiveMQ Classic), bytes (Artemis). Enough for thousands of
# messages a second, and the bound of the buffer while nothing can be stored.
_WINDOW = {"activemq.prefetchSize": "1000", "consumer-window-size": "1048576"}
_SHARED_WINDOW = {"activemq.prefetchSize": "10", "consumer-window-size": "10240"}
# AttributeError: another thread closed the connection while stomp.py was using its socket or queue.
_SEND_ERRORS = (OSError, StompException, AttributeError)


@dataclass(frozen=True, slots=True)
class _PendingReceipt:
    """A frame whose RECEIPT has not arrived; *due* is by the monotonic clock, in seconds."""

    command: str
    arrived: Future[None]
    due: float


class Session(ConnectionListener):
    """A connection that is opened once and ends once; keeps the first reason for its end."""

    def __init__(
        self,
        parameters: ConnectionParameters,
        accept: Accept,
        monotonic: Callable[[], float],
        answered: threading.Event,
        storage_error_log: StorageErrorLog,
    ) -> None:
        """*answered* is set when the broker has answered CONNECT, and at the end; several sessions may share it."""
        self._parameters = parameters
        self._buffer = UnackedBuffer(accept, self._acknowledge, storage_error_log)
        self._monotonic = monotonic
        self._transport = StompTransport(
            (parameters.host, parameters.port),
            parameters.tls_context(),
            parameters.connect_s,
            monotonic,
            before_receiving=self._finish_storing,
        )
        self._connection = stomp_connection(self._transport, parameters.heart_beat_s)
        self._connection.set_listener("session", self)
        self.is_clean = False
        """Whether the broker has confirmed DISCONNECT."""
        self._receipt_ids = itertools.count(1)
        self._pending: dict[str, _PendingReceipt] = {}
        self._lock = threading.Lock()
        self._version = ""
        self._answered = answered
        self.begun_at = monotonic()
        self._wake = threading.Event()
        self._receiver_ended = threading.Event()
        self._closing = False
        self._end: LinkDown | None = None
        self.send_failed = False
        """Whether the broker has rejected a message, or not confirmed one in time."""
        self.on_trial = False
        """Whether the broker, which rejected messages before, has not confirmed one yet."""
        self._max_silence_s = 0.0
        self._storing = False

    def open(self) -> None:
        """Connect and send CONNECT; the broker has responded when `is_answered`.

        Raises: LinkDown; LinkBlocked if an operator must fix login, permissions or TLS.
        """
        parameters = self._parameters
        headers = {"client-id": parameters.client_id} if parameters.durable else {}
        password = parameters.secret()
        try:
            self._connection.connect(parameters.user or None, password, headers=headers, with_connect_command=True)
        except _SEND_ERRORS as exc:
            if not self._transport.was_connected:
                raise parameters.connect_error(exc if isinstance(exc, OSError) else OSError(str(exc))) from exc
            # The connection ended while CONNECT was sent: `on_disconnected` gets the reason.

    @property
    def is_answered(self) -> bool:
        """Whether the broker has answered CONNECT, or the connection has ended before."""
        return bool(self._version) or self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._end is not None

    @property
    def buffered(self) -> int:
        """Number of unacknowledged messages in the buffer; 0 after the end, when the broker redelivers them."""
        return 0 if self.is_closed else self._buffer.count

    def subscribe(self) -> None:
        """Subscribe, once `is_answered`; return when the broker has confirmed. Raises as `open` does."""
        parameters, name = self._parameters, self._parameters.client_id
        if self._end is not None:
            raise self._reason()
        if not parameters.subscribe:
            return
        parameters.may_subscribe()
        headers = {
            "destination": parameters.subscribe,
            "id": _SUBSCRIPTION,
            "ack": "client-individual",
            **({"activemq.subscriptionName": name, "durable-subscription-name": name} if parameters.durable else {}),
            **(_SHARED_WINDOW if parameters.shares_queue else _WINDOW),
            **({"selector": parameters.selector} if parameters.selector else {}),
        }
        self._wait_for_receipt(self._request_receipt("SUBSCRIBE", headers), "SUBSCRIBE")

    def check_liveness(self, report: Callable[[], object] = lambda: None) -> LinkDown:
        """Watch the connection until it ends, aborting it if the broker is gone; return the reason of the end.

        *report* is called at once, and whenever `on_trial` may have changed.
        """
        while self._end is None and not self._closing:
            report()
            pause_s = self._check_once()
            self._wake.wait(min(pause_s, self._buffer.retry()))
            self._wake.clear()
        if self._closing and self._end is None:
            self._disconnect()
        self._receiver_ended.wait(self._parameters.receipt_s)
        return LinkDown("stopped") if self.is_clean else self._reason()

    def send(self, destinations: tuple[str, ...], body: str, headers: dict[str, str]) -> list[Future[None]]:
        """Send *body* to each destination; each future is done when the broker has confirmed that message.

        If the connection ends first, they fail with LinkDown or LinkBlocked. Raises: the same, if it has ended.
        """
        sent = []
        for destination in destinations:
            with failpoints_around("send"):
                sent.append(self._request_receipt("SEND", {**headers, "destination": destination}, body))
        return sent

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread sends in the block is sent at its end, in one piece."""
        try:
            with self._transport.together():
                yield
        except _SEND_ERRORS as exc:
            self.abort(LinkDown(f"cannot send to the broker at {self._parameters.address}: {exc}"))

    def announce(self, destinations: tuple[str, ...], body: str, headers: dict[str, str]) -> None:
        """As `send`, but return when the broker has confirmed each message."""
        for arrived in self.send(destinations, body, headers):
            self._wait_for_receipt(arrived, "SEND")

    def try_sending(self, destinations: tuple[str, ...]) -> None:
        """Return if the broker takes messages to *destinations*: each is sent in a transaction that is aborted.

        It is then on trial: some brokers reject only a message that is not taken back.

        Raises: LinkDown; LinkBlocked if the broker rejects it.
        """
        transaction = {"transaction": "fastmon"}
        self._wait_for_receipt(self._request_receipt("BEGIN", transaction), "BEGIN")
        self.announce(destinations, "{}", {**transaction, "content-type": "application/json"})
        self._wait_for_receipt(self._request_receipt("ABORT", transaction), "ABORT")
        self.on_trial = True

    def close(self) -> None:
        """Make `check_liveness` disconnect and return."""
        self._closing = True
        self._buffer.close()  # else the receiving thread might not read the RECEIPT of DISCONNECT
        self._wake.set()

    def abort(self, reason: LinkDown) -> None:
        """End the connection now, from any thread."""
        self._record_end(reason)
        self._transport.abort()

    def on_connected(self, frame: Frame) -> None:
        """Keep what was negotiated."""
        version = frame.headers.get("version", "1.0")
        if version not in {"1.1", "1.2"}:
            self.abort(
                LinkDown(f"the broker at {self._parameters.address} speaks STOMP {version}: 1.1 or 1.2 is needed")
            )
            return
        sends_ms = frame.headers.get("heart-beat", "0,0").partition(",")[0].strip()
        if sends_ms.isdigit() and int(sends_ms):
            self._max_silence_s = MAX_MISSED_BEATS * max(self._parameters.heart_beat_s, int(sends_ms) / 1000)
        self._version = version
        self._answered.set()

    def on_message(self, frame: Frame) -> None:
        """Begin to store the message, or buffer it."""
        self._store(partial(self._buffer.receive, frame))

    def _finish_storing(self) -> None:
        """Acknowledge the messages that arrived together, once they are stored."""
        if self._buffer.has_begun:
            self._store(self._buffer.finish)

    def _store(self, step: Callable[[], None]) -> None:
        self._storing = True
        try:
            step()
        except Exception as exc:  # noqa: BLE001 (any error on this thread would end the connection)
            logger.opt(exception=exc).error("message not acknowledged: the broker will redeliver it (unexpected error)")
        finally:
            self._transport.last_byte_at = self._monotonic()
            self._storing = False

    def on_receipt(self, frame: Frame) -> None:
        """Tell who waits for this RECEIPT."""
        with self._lock:
            receipt = frame.headers.get("receipt-id", "")
            found = self._pending.pop(receipt, None) if self._end is None else None
        if found is not None:
            found.arrived.set_result(None)
            if self.on_trial and found.command == "SEND":
                self.on_trial = False
                self._wake.set()

    def on_error(self, frame: Frame) -> None:
        """End the connection: the broker closes it after an ERROR."""
        text = self._parameters.redact(_error_text(frame))
        with self._lock:
            found = self._pending.get(frame.headers.get("receipt-id", ""))
            commands = {found.command} if found else {each.command for each in self._pending.values()}
        if "SEND" in commands:
            self.send_failed = True
        parameters = self._parameters
        self.abort(parameters.send_error(text) if self.send_failed else parameters.broker_error(text))

    def on_receiver_loop_completed(self, _frame: Frame) -> None:
        """Note that stomp.py's thread is done; only `on_disconnected` may still follow."""
        self._receiver_ended.set()

    def on_disconnected(self) -> None:
        """Note the end of the connection."""
        error = self._transport.receive_error
        if isinstance(error, ssl.SSLError):
            self._record_end(self._parameters.connect_error(error))
        if isinstance(error, FrameTooLong):
            self._record_end(LinkDown(f"the broker at {self._parameters.address} {error}"))
        self._record_end(LinkDown(f"the broker at {self._parameters.address} closed the connection"))

    def _disconnect(self) -> None:
        try:
            self._wait_for_receipt(self._request_receipt("DISCONNECT", {}), "DISCONNECT")
        except LinkDown as exc:
            self.abort(exc)
            return
        self.is_clean = True  # before the abort: the broker may close first
        self.abort(LinkDown("stopped"))

    def _request_receipt(self, command: str, headers: dict[str, str], body: str = "") -> Future[None]:
        """Send a frame that requests a RECEIPT; the future is done when it comes, and fails if the connection ends."""
        receipt, arrived = str(next(self._receipt_ids)), Future[None]()
        with self._lock:
            if self._end is not None:
                raise self._reason()
            due = self._monotonic() + self._parameters.receipt_s
            self._pending[receipt] = _PendingReceipt(command, arrived, due)
        try:
            self._connection.send_frame(command, {**headers, "receipt": receipt}, body)
        except _SEND_ERRORS as exc:
            self.abort(LinkDown(f"cannot send {command} to the broker at {self._parameters.address}: {exc}"))
        return arrived

    def _wait_for_receipt(self, arrived: Future[None], command: str) -> None:
        with suppress(TimeoutError):
            arrived.result(self._parameters.receipt_s)
            return
        self.send_failed |= command == "SEND"
        self.abort(self._parameters.receipt_error(command))
        arrived.result()

    def _reason(self) -> LinkDown:
        """A new error each time, since several threads may raise it."""
        return type(self._end)(str(self._end)) if self._end is not None else LinkDown("closed")

    def _acknowledge(self, frame: Frame) -> None:
        names = ("ack",) if self._version == "1.2" else ("message-id", "subscription")
        if missing := [name for name in names if name not in frame.headers]:
            address = self._parameters.address
            self.abort(LinkDown(f"the broker at {address} sent a MESSAGE without the header {missing[0]}"))
            return
        headers = {"id" if name == "ack" else name: frame.headers[name] for name in names}
        try:
            with failpoints_around("ack"):
                self._connection.send_frame("ACK", headers)
        except _SEND_ERRORS as exc:
            self.abort(LinkDown(f"cannot send ACK to the broker at {self._parameters.address}: {exc}"))

    def _check_once(self) -> float:
        """Abort the connection if the broker is silent or a RECEIPT is overdue; return seconds until the next check."""
        now, parameters = self._monotonic(), self._parameters
        silent_s = now - self._transport.last_byte_at
        if self._max_silence_s and not self._storing and silent_s >= self._max_silence_s:
            self.abort(LinkDown(f"no data from the broker at {parameters.address} for {silent_s:.1f} s"))
        with self._lock:
            overdue = [each.command for each in self._pending.values() if now > each.due]
        if overdue:
            self.send_failed |= "SEND" in overdue
            self.abort(parameters.receipt_error(overdue[0]))
        if not self._max_silence_s:
            return _CHECK_INTERVAL_S
        return min(_CHECK_INTERVAL_S, max(0.01, self._max_silence_s - silent_s))

    def _record_end(self, reason: LinkDown) -> None:
        with self._lock:
            waiting = list(self._pending.values()) if self._end is None else []
            self._end = self._end or reason
        self._buffer.close()
        for event in (self._answered, self._wake):
            event.set()
        for each in waiting:
            each.arrived.set_exception(self._reason())


def _error_text(frame: Frame) -> str:
    """What an ERROR says, on one line: its header, and the first line of its body if that says more."""
    message = " ".join(frame.headers.get("message", "").split())
    body = (frame.body or b"").decode(errors="replace").strip()
    detail = " ".join(body.partition("\n")[0].split())
    parts = (message[:200], "" if message and message in detail else detail[:300])
    return ": ".join(filter(None, parts)) or "no message"

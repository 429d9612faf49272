"""One connection's life: CONNECT, SUBSCRIBE, messages and their ACKs, announcements and their RECEIPTs, the end.

stomp.py's thread runs the `on_` methods: they store, acknowledge and wake, and never raise, wait or reconnect. It must
not know who connects again.
"""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Callable

from loguru import logger
from stomp.exception import StompException
from stomp.listener import ConnectionListener
from stomp.utils import Frame

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.transport import StompTransport, connection_over
from fastmon_daemon.broker.unacked_buffer import Accept, LogThrottle, UnackedBuffer

SILENT_BEATS = 2.9
"""So many heart-beat intervals without a byte mean that the broker has gone; a healthy one can be two late."""
_SUBSCRIPTION = "fastmon"
_TURN_S = 1.0
# What the broker may send before it has our ACKs: messages (ActiveMQ Classic), bytes (Artemis). Enough for thousands of
# messages a second, and a bound on what is held here while nothing can be stored.
_WINDOW = {"activemq.prefetchSize": "1000", "consumer-window-size": "1048576"}
# AttributeError: another thread ended the connection while stomp.py was using its socket or queue.
_SEND_FAULTS = (OSError, StompException, AttributeError)


class Session(ConnectionListener):
    """A connection that is opened once and ends once; the first reason for its end is kept."""

    def __init__(
        self,
        parameters: ConnectionParameters,
        accept: Accept,
        monotonic: Callable[[], float],
        answered: threading.Event,
        trouble: LogThrottle | None = None,
    ) -> None:
        """*answered* is set when the broker has answered CONNECT, and at the end; several may share it."""
        self._parameters = parameters
        self._held = UnackedBuffer(accept, self._acknowledge, trouble or LogThrottle())
        self._monotonic = monotonic
        self._transport = StompTransport(
            (parameters.host, parameters.port), parameters.tls_context(), parameters.connect_s, monotonic
        )
        self._connection = connection_over(self._transport, parameters.heart_beat_s)
        self._connection.set_listener("session", self)
        self.is_clean = False
        """Whether the broker confirmed our goodbye."""
        self._numbers = itertools.count(1)
        self._pending: dict[str, tuple[threading.Event, float]] = {}
        self._lock = threading.Lock()
        self._version = ""
        self._answered = answered
        self.begun_at = monotonic()
        self._news = threading.Event()
        self._over = threading.Event()
        self._ending = False
        self._end: LinkDown | None = None
        self._silence_s = 0.0
        self._storing = False

    def open(self) -> None:
        """Connect and send CONNECT; whether the broker lets us in is known when `is_answered`.

        Raises:
            LinkBlocked: a person must mend login, permissions or TLS.
            LinkDown: anything else.
        """
        parameters = self._parameters
        headers = {"client-id": parameters.client_id} if parameters.durable else {}
        password = parameters.secret()
        try:
            self._connection.connect(parameters.user or None, password, headers=headers, with_connect_command=True)
        except _SEND_FAULTS as exc:
            if not self._transport.stood:
                raise parameters.connect_error(exc if isinstance(exc, OSError) else OSError(str(exc))) from exc
            # It ended while CONNECT was sent: stomp.py's thread knows why, and tells `on_disconnected`.

    @property
    def is_answered(self) -> bool:
        """Whether the broker has answered CONNECT, or the connection has ended before it did."""
        return bool(self._version) or self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._end is not None

    @property
    def buffered(self) -> int:
        """How many messages of this connection wait unacknowledged; none once it is over: the broker has them."""
        return 0 if self.is_closed else self._held.count

    def subscribe(self) -> None:
        """Subscribe, when `is_answered`; return when the broker has confirmed it. Raises as `knock` does."""
        if self._end is not None:
            raise self._reason()
        if self._parameters.subscribe:
            self._subscribe()

    def check_liveness(self) -> LinkDown:
        """Wait until the connection has ended, cutting it where it is unfit; the reason."""
        while self._end is None and not self._ending:
            pause = self._look()
            if not self._held.retry():
                self._news.wait(pause)
            self._news.clear()
        if self._ending and self._end is None:
            self._disconnect()
        self._over.wait(self._parameters.receipt_s)
        return LinkDown("stopped") if self.is_clean else self._reason()

    def announce(self, destinations: tuple[str, ...], body: str, headers: dict[str, str]) -> None:
        """SEND to each destination; return when the RECEIPT of each has come.

        Raises:
            LinkDown: the connection ended first.
        """
        sent = []
        for destination in destinations:
            with failpoints_around("send"):
                sent.append(self._request_receipt("SEND", {**headers, "destination": destination}, body))
        for receipt in sent:
            self._wait_for_receipt(receipt, "SEND")

    def close(self) -> None:
        """Ask `watch` to say goodbye and return."""
        self._ending = True
        self._news.set()

    def abort(self, reason: LinkDown) -> None:
        """End the connection now, from any thread."""
        self._ended(reason)
        self._transport.abort()

    def on_connected(self, frame: Frame) -> None:
        """The broker accepts us: keep what was negotiated."""
        version = frame.headers.get("version", "1.0")
        if version not in {"1.1", "1.2"}:
            self.abort(
                LinkDown(f"the broker at {self._parameters.address} speaks STOMP {version}; 1.1 or 1.2 is needed")
            )
            return
        sends_ms = frame.headers.get("heart-beat", "0,0").partition(",")[0].strip()
        if sends_ms.isdigit() and int(sends_ms):
            self._silence_s = SILENT_BEATS * max(self._parameters.heart_beat_s, int(sends_ms) / 1000)
        self._version = version
        self._answered.set()

    def on_message(self, frame: Frame) -> None:
        """Store, then acknowledge; what could not be stored is held, unacknowledged."""
        self._storing = True
        try:
            self._held.receive(frame)
        except Exception as exc:  # noqa: BLE001 (on this thread an error ends the connection, whatever it is)
            logger.opt(exception=exc).error("a message was not acknowledged, the broker will send it again")
        finally:
            self._transport.heard_at = self._monotonic()
            self._storing = False

    def on_receipt(self, frame: Frame) -> None:
        """The broker has done what we asked."""
        with self._lock:
            found = self._pending.pop(frame.headers.get("receipt-id", ""), None)
        if found is not None:
            found[0].set()

    def on_error(self, frame: Frame) -> None:
        """The broker refuses; the connection is over."""
        text = frame.headers.get("message") or (frame.body or b"").decode(errors="replace")
        self.abort(self._parameters.broker_error(" ".join(text.split())[:300] or "without a word"))

    def on_receiver_loop_completed(self, _frame: Frame) -> None:
        """No method of ours is called any more, but `on_disconnected`."""
        self._over.set()

    def on_disconnected(self) -> None:
        """The connection is gone."""
        fault = self._transport.fault
        if isinstance(fault, ssl.SSLError):
            self._ended(self._parameters.connect_error(fault))
        self._ended(LinkDown(f"the broker at {self._parameters.address} closed the connection"))

    def _subscribe(self) -> None:
        name = self._parameters.client_id
        durable = (
            {"activemq.subscriptionName": name, "durable-subscription-name": name} if self._parameters.durable else {}
        )
        headers = {
            "destination": self._parameters.subscribe,
            "id": _SUBSCRIPTION,
            "ack": "client-individual",
            **durable,
            **_WINDOW,
        }
        self._wait_for_receipt(self._request_receipt("SUBSCRIBE", headers), "SUBSCRIBE")

    def _disconnect(self) -> None:
        try:
            self._wait_for_receipt(self._request_receipt("DISCONNECT", {}), "DISCONNECT")
        except LinkDown as exc:
            self.abort(exc)
            return
        self.is_clean = True  # the broker may close before we do: that is no loss any more
        self.abort(LinkDown("stopped"))

    def _request_receipt(self, command: str, headers: dict[str, str], body: str = "") -> tuple[str, threading.Event]:
        """Send a frame that wants a RECEIPT; its number, and the event of its arrival or of the end."""
        receipt, arrived = str(next(self._numbers)), threading.Event()
        with self._lock:
            if self._end is not None:
                raise self._reason()
            self._pending[receipt] = arrived, self._monotonic() + self._parameters.receipt_s
        try:
            self._connection.send_frame(command, {**headers, "receipt": receipt}, body)
        except _SEND_FAULTS as exc:
            self.abort(LinkDown(f"{command} to the broker at {self._parameters.address} failed: {exc}"))
        return receipt, arrived

    def _wait_for_receipt(self, sent: tuple[str, threading.Event], command: str) -> None:
        receipt, arrived = sent
        if not arrived.wait(self._parameters.receipt_s):
            self.abort(self._parameters.receipt_error(command))
        with self._lock:
            if receipt in self._pending:
                raise self._reason()

    def _reason(self) -> LinkDown:
        """Why it ended: a fresh error each time, since several threads may raise it."""
        return type(self._end)(str(self._end)) if self._end is not None else LinkDown("closed")

    def _acknowledge(self, frame: Frame) -> None:
        headers = {"message-id": frame.headers["message-id"], "subscription": frame.headers["subscription"]}
        try:
            with failpoints_around("ack"):
                self._connection.send_frame("ACK", {"id": frame.headers["ack"]} if self._version == "1.2" else headers)
        except _SEND_FAULTS as exc:
            self.abort(LinkDown(f"ACK to the broker at {self._parameters.address} failed: {exc}"))

    def _look(self) -> float:
        """Cut the connection if it is unfit; the seconds until the next look."""
        now, parameters = self._monotonic(), self._parameters
        quiet = now - self._transport.heard_at
        if self._silence_s and not self._storing and quiet >= self._silence_s:
            self.abort(LinkDown(f"nothing was heard from the broker at {parameters.address} for {quiet:.1f} s"))
        with self._lock:
            due = min((due for _, due in self._pending.values()), default=None)
        if due is not None and now > due:
            self.abort(parameters.receipt_error("a frame"))
        return min(_TURN_S, max(0.01, self._silence_s - quiet)) if self._silence_s else _TURN_S

    def _ended(self, reason: LinkDown) -> None:
        with self._lock:
            self._end = self._end or reason
            waiting = [arrived for arrived, _ in self._pending.values()]
        for event in (*waiting, self._answered, self._news):
            event.set()

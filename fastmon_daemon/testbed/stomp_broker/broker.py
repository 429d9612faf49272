"""A small STOMP broker on loopback with faults on demand, for the tests, the demo and newcomers; stored in memory.

`Broker` runs in one event loop: from another thread use `BrokerThread.call`. Only the switches `no_receipts`, `refuse`,
`refuse_send` and `hook` may be set from any thread.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from fastmon_daemon.testbed.loop_thread import LoopThread
from fastmon_daemon.testbed.stomp_broker.destinations import Destinations, Subscription
from fastmon_daemon.testbed.stomp_broker.listener import Listener
from fastmon_daemon.testbed.stomp_broker.session import Counters, Hook, Session
from fastmon_daemon.testbed.stomp_broker.transport import Transport

OnSend = Callable[[str, str, dict[str, str]], None]


class Broker:
    """STOMP 1.0 to 1.2 with topics, queues, durable subscriptions and all ack modes.

    *heart_beat_ms* is the shortest interval that the broker offers and requests (0: no heart-beats); with the small
    default the client's interval applies. *on_send* is called in the loop with each accepted message (destination,
    body, the sender's headers). *duplicate_detection* drops a SEND whose ``_AMQ_DUPL_ID`` is among the last 20 000 of
    its destination, as Artemis documents; its RECEIPT is still sent.

    Faults, which may be changed at any time: *no_receipts*: no RECEIPT is sent. *refuse*: new connections are reset.
    *refuse_send*: each SEND is answered with an ERROR of this text that ends the session, as Artemis and Classic do for
    a login that may not send, and for a full disk; with *refuse_in_transaction* also a SEND in a transaction, which
    Classic with a full disk takes.
    *hook*: called with ``("receive" | "send", session, frame)`` for every frame; "drop" loses the frame, "refuse"
    answers a received one with an ERROR that ends the session, None lets it pass.
    """

    def __init__(
        self,
        *,
        user: str,
        password: str,
        versions: tuple[str, ...] = ("1.2", "1.1", "1.0"),
        heart_beat_ms: int = 100,
        on_send: OnSend | None = None,
        duplicate_detection: bool = False,
    ) -> None:
        self.user = user
        self.password = password
        self.versions = versions
        self.heart_beat_ms = heart_beat_ms
        self.on_send = on_send
        self.no_receipts = False
        self.refuse = False
        self.refuse_send = ""
        self.refuse_in_transaction = True
        self.hook: Hook | None = None
        self.destinations = Destinations(duplicate_detection=duplicate_detection)
        self.counters = Counters()
        self.sessions: dict[Session, None] = {}
        self.port = 0
        self._transports: dict[Transport, None] = {}
        self._listener: Listener | None = None
        self._silence: asyncio.TimerHandle | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0, ssl: ssl.SSLContext | None = None) -> int:
        """Listen and return the port; *port* 0 means the previous port, or any free one.

        Raises: OSError if the port is taken; RuntimeError if the broker is listening already.
        """
        if self._listener is not None:
            raise RuntimeError(f"the broker is already listening on port {self.port}: stop it first")
        self._listener = Listener(host, port or self.port, lambda: Session(self).transport, ssl)
        self.port = self._listener.port
        return self.port

    async def stop(self) -> None:
        """Stop as if killed: connections are cut; only durable subscriptions and persistent messages are kept."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        await listener.close()
        self._end_silence()
        lost = [transport.lost for transport in self._transports]
        self.drop_connections()
        await asyncio.gather(*lost)
        self.destinations.drop_nonpersistent()

    def publish(self, destination: str, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        """Accept one message, like a SEND.

        Raises: ProtocolError unless *destination* is ``/queue/NAME`` or ``/topic/NAME``.
        """
        raw = body.encode() if isinstance(body, str) else body
        if not self.destinations.accept(destination, headers or {}, raw):
            return
        self.counters.accepted[destination] += 1
        if self.on_send is not None:
            self.on_send(destination, raw.decode(errors="replace"), headers or {})

    def queue_depth(self, destination: str) -> int:
        """Number of unacknowledged messages of a queue, delivered or not; *destination* may be ``DEAD_LETTERS``."""
        return self.destinations.queue(destination).depth

    def queued(self, destination: str) -> list[str]:
        """Bodies of the undelivered messages of a queue, oldest first."""
        return [message.body.decode(errors="replace") for message in self.destinations.queue(destination).waiting]

    def subscriptions(self, destination: str | None = None) -> list[Subscription]:
        """All subscriptions (of *destination*), including durable ones whose client is not connected."""
        return [each for each in self.destinations.subscriptions() if destination in {None, each.destination}]

    def silent(self, seconds: float) -> None:
        """Hang for *seconds*: accept connections and bytes, but send nothing, not even heart-beats. 0 ends it now.

        Frames that arrived meanwhile are processed afterwards, even those of clients that have disconnected, as after
        a pause of a real broker's process.
        """
        self._end_silence()
        if seconds > 0:
            self._silence = asyncio.get_running_loop().call_later(seconds, self.silent, 0)
            return
        for transport in list(self._transports):
            transport.wake()

    def drop_connections(self) -> None:
        """Cut all connections (RST); clients may reconnect."""
        self.destinations.leave_all()
        for transport in list(self._transports):
            transport.abort()

    def is_silent(self) -> bool:
        """Whether the broker hangs, see `silent`."""
        return self._silence is not None

    def add_session(self, session: Session) -> None:
        """Accept a new connection, unless *refuse* is set (called by the session)."""
        transport = session.transport
        if self.refuse or self._listener is None:
            transport.abort()
            return
        self.counters.connections += 1
        self.sessions[session] = None
        self._transports[transport] = None
        transport.lost.add_done_callback(lambda _: self._transports.pop(transport, None))

    def _end_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None


class BrokerThread(LoopThread):
    """Context manager: inside it *broker* listens on 127.0.0.1 at `port`, in its own thread."""

    def __init__(self, broker: Broker, *, port: int = 0, ssl: ssl.SSLContext | None = None) -> None:
        self.broker = broker
        self._requested_port = port
        self._ssl = ssl
        super().__init__("stomp-broker", asyncio.new_event_loop())

    @property
    def port(self) -> int:
        """The port; the same after `stop` and `start`."""
        return self.broker.port

    def start(self) -> int:
        """Listen, after a `stop` on the same port, and return the port. Raises: OSError if the port is taken."""
        return self.run(self.broker.start(port=self._requested_port, ssl=self._ssl))

    def stop(self) -> None:
        """Begin an outage: cut the connections and close the port until `start`."""
        self.run(self.broker.stop())

"""A small STOMP broker on loopback for tests, the demo and newcomers: no third-party package, faults on demand.

Owns listening, restarting and the fault switches; what it keeps lives in memory, as long as the object does.
Everything here runs in one event loop: from another thread go through `BrokerThread.call`. (The plain switches
`no_receipts`, `refuse` and `hook` may be set from anywhere.)
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from fastmon_daemon.testbed.stomp_broker.destinations import Destinations, Subscription
from fastmon_daemon.testbed.stomp_broker.session import Counters, Hook, Session
from fastmon_daemon.testbed.stomp_broker.transport import Transport

OnSend = Callable[[str, str, dict[str, str]], None]


class Broker:
    """STOMP 1.0 to 1.2 with topics, queues, durable subscriptions and every ack mode.

    *heart_beat_ms* is the shortest interval that the broker offers and asks for (0: no heart-beats), so with its small
    default a client gets what it wants. *on_send* is told each accepted message (destination, body, the sender's
    headers) in the loop. *duplicate_detection* drops a SEND whose ``_AMQ_DUPL_ID`` its destination has seen among
    the last 20 000, as Artemis documents; its RECEIPT still comes.

    Faults, all changeable while it runs: *no_receipts*: no RECEIPT is sent. *refuse*: new connections are reset.
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
        self.hook: Hook | None = None
        self.destinations = Destinations(duplicate_detection=duplicate_detection)
        self.counters = Counters()
        self.sessions: dict[Session, None] = {}
        self.port = 0
        self._wires: dict[Transport, None] = {}
        self._server: asyncio.Server | None = None
        self._silence: asyncio.TimerHandle | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0, ssl: ssl.SSLContext | None = None) -> int:
        """ListenAddress, and return the port; *port* 0 means the one of the last time, or else a free one.

        Raises:
            OSError: the port is taken.
            RuntimeError: it listens already.
        """
        if self._server is not None:
            raise RuntimeError(f"The broker listens already, at port {self.port}: stop it first")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Session(self).wire, host, port or self.port, ssl=ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Go down at once, as if killed: connections are cut; durable subscriptions and persistent messages stay."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._end_silence()
        lost = [wire.lost for wire in self._wires]
        self.drop_connections()
        await asyncio.gather(*lost)
        self.destinations.forget_volatile()

    def publish(self, destination: str, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        """Accept one message as a SEND does.

        Raises:
            Refused: *destination* is neither ``/queue/NAME`` nor ``/topic/NAME``.
        """
        raw = body.encode() if isinstance(body, str) else body
        if not self.destinations.accept(destination, headers or {}, raw):
            return
        self.counters.accepted[destination] += 1
        if self.on_send is not None:
            self.on_send(destination, raw.decode(errors="replace"), headers or {})

    def queue_depth(self, destination: str) -> int:
        """How many messages of a queue are not acknowledged yet, delivered or not (also of ``DEAD_LETTERS``)."""
        return self.destinations.queue(destination).depth

    def queued(self, destination: str) -> list[str]:
        """The bodies that wait in a queue, oldest first, without those in flight."""
        return [message.body.decode(errors="replace") for message in self.destinations.queue(destination).waiting]

    def subscriptions(self, destination: str | None = None) -> list[Subscription]:
        """All subscriptions, durable ones of absent clients too; only those of *destination* where it is given."""
        return [each for each in self.destinations.subscriptions() if destination in {None, each.destination}]

    def silent(self, seconds: float) -> None:
        """Play dead: take connections and bytes, answer nothing, no heart-beats; then go on where it stood.

        0 ends a silence now. What clients sent meanwhile is done afterwards, even if they have gone, as after a pause
        of a real broker's process.
        """
        self._end_silence()
        if seconds > 0:
            self._silence = asyncio.get_running_loop().call_later(seconds, self.silent, 0)
            return
        for wire in list(self._wires):
            wire.wake()

    def drop_connections(self) -> None:
        """Cut every connection (RST); new ones are welcome."""
        self.destinations.leave_all()
        for wire in list(self._wires):
            wire.abort()

    def is_silent(self) -> bool:
        """Whether the broker plays dead just now."""
        return self._silence is not None

    def welcome(self, session: Session) -> None:
        """A socket stands (called by the session)."""
        wire = session.wire
        if self.refuse or self._server is None:
            wire.abort()
            return
        self.counters.connections += 1
        self.sessions[session] = None
        self._wires[wire] = None
        wire.lost.add_done_callback(lambda _: self._wires.pop(wire, None))

    def _end_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

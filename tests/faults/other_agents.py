"""The other agents on the topic, on each kind of broker: a sender of STFs and a listener for announcements."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import ExitStack
from typing import Protocol

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.broker import BrokerConnection, ConnectionParameters, LinkStateChange
from fastmon_daemon.testbed.stomp_broker import Broker as StompBroker
from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.processes import TOPIC, wait_until
from tests.real_brokers.servers import Server

_PERSISTENT = {"persistent": "true"}


class BrokerControl(Protocol):
    """Address of a broker, and what a row does to it."""

    kind: str
    host: str
    port: int
    user: str
    password: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class OtherAgents(Protocol):
    """Sender and listener."""

    def send(self, body: str) -> None:
        """Send *body*, repeatedly while the broker is down, until the broker has accepted it."""

    def announcements(self) -> list[str]:
        """Bodies of all announcements that the broker accepted, one per SEND of the daemon."""

    def wait_for_delivery(self) -> None:
        """Wait until all messages that the broker has accepted are delivered."""

    def close(self) -> None: ...


def is_announcement(body: str) -> bool:
    """Whether *body* is a daemon's announcement of a TF file."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, dict) or message.get("msg_type") != "tf_file_registered":
        return False
    return str(message.get("sender")).startswith("fastmon-agent-")


class EmbeddedBroker:
    """The embedded broker of one row, and the other agents: it reports each message that it accepts."""

    kind = "embedded"
    host = "127.0.0.1"
    user = "daq"
    password = "secret-word"

    def __init__(self) -> None:
        self._announcements: list[str] = []
        self._stack = ExitStack()
        broker = StompBroker(user=self.user, password=self.password, on_send=self._on_send)
        self.thread = self._stack.enter_context(BrokerThread(broker))
        self.port = self.thread.port

    @property
    def broker(self) -> StompBroker:
        """For faults that only the embedded broker has."""
        return self.thread.broker

    def _on_send(self, _destination: str, body: str, _headers: dict[str, str]) -> None:
        if is_announcement(body):
            self._announcements.append(body)

    def send(self, body: str) -> None:
        self.thread.call(lambda: self.broker.publish(TOPIC, body, _PERSISTENT))

    def announcements(self) -> list[str]:
        return self.thread.call(lambda: list(self._announcements))

    def wait_for_delivery(self) -> None:
        """Nothing to wait for: the broker reports a message when it accepts it."""

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.thread.stop()

    def kill(self) -> None:
        self.thread.stop()

    def pause(self) -> None:
        self.thread.call(lambda: self.broker.silent(3600))

    def resume(self) -> None:
        self.thread.call(lambda: self.broker.silent(0))

    def close(self) -> None:
        self._stack.close()


class AgentsOnServer:
    """Sender and durable listener on a real broker, with the daemon's `BrokerConnection`.

    A redelivered message has the same body; a second SEND has a later `timestamp`, hence another body.
    """

    def __init__(self, server: Server, topic: str, name: str) -> None:
        self._bodies: dict[str, None] = {}
        self._markers: set[str] = set()
        self._numbers = itertools.count(1)
        self._name = name
        parameters = ConnectionParameters(
            host=server.host, port=server.port, user=server.user, password=lambda: server.password, subscribe=topic,
            announce=(topic,), durable=True, client_id=name, use_ssl=False, ca_file=None, cert_file=None, key_file=None,
        )  # fmt: skip
        self._broker = BrokerConnection(
            parameters, accept=self._accept, changed=self._changed, stopping=threading.Event()
        )
        self._broker.start()
        wait_until(lambda: self._broker.up, "the other agents are connected")

    def _changed(self, change: LinkStateChange) -> None:
        """Ignored: the link logs its changes."""

    def _accept(self, body: bytes) -> None:
        if is_announcement(body.decode()):
            self._bodies[body.decode()] = None
        elif b"marker" in body:
            self._markers.add(body.decode())

    def send(self, body: str) -> None:
        number = next(self._numbers)

        def accepted() -> bool:
            try:
                self._broker.announce(body, f"{self._name}-{number}")
            except LinkDown:
                return False
            return True

        wait_until(accepted, "the broker accepts the message", deadline_s=120)

    def announcements(self) -> list[str]:
        return list(self._bodies)

    def wait_for_delivery(self) -> None:
        marker = json.dumps({"msg_type": "marker", "number": next(self._numbers)})
        self.send(marker)
        wait_until(lambda: marker in self._markers, "the marker is delivered")

    def close(self) -> None:
        self._broker.stop(10.0)

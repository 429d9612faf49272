"""The other agents on the topic: the DAQ that sends STFs, and an ear that hears every announcement.

Owns the brokers' sides of a row. It must not know faults, the monitor or the daemon.
"""

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


class Acts(Protocol):
    """What a row does to a broker, and where it is."""

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


class Agents(Protocol):
    """DAQ and ear."""

    def send(self, body: str) -> None:
        """Return when the broker has taken it; while the broker is away, try again."""

    def heard(self) -> list[str]:
        """The bodies of all announcements that the broker took, each SEND of the daemon once."""

    def hear_out(self) -> None:
        """Return when all that the broker has taken until now is heard."""

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


class OwnBroker:
    """The embedded broker of one row, with both its sides: it is told of each message that it takes."""

    kind = "embedded"
    host = "127.0.0.1"
    user = "daq"
    password = "secret-word"

    def __init__(self) -> None:
        self._heard: list[str] = []
        self._life = ExitStack()
        broker = StompBroker(user=self.user, password=self.password, on_send=self._hear)
        self.thread = self._life.enter_context(BrokerThread(broker))
        self.port = self.thread.port

    @property
    def broker(self) -> StompBroker:
        """For the faults that only the embedded one has."""
        return self.thread.broker

    def _hear(self, _destination: str, body: str, _headers: dict[str, str]) -> None:
        if is_announcement(body):
            self._heard.append(body)

    def send(self, body: str) -> None:
        self.thread.call(lambda: self.broker.publish(TOPIC, body, _PERSISTENT))

    def heard(self) -> list[str]:
        return self.thread.call(lambda: list(self._heard))

    def hear_out(self) -> None:
        """The broker itself tells of each message that it takes."""

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
        self._life.close()


class Neighbours:
    """DAQ and ear on a real broker, by the product's own edge. The ear is durable, so that it misses nothing.

    What is delivered to the ear again after a cut is the same body, and the same SEND; a second SEND has a later
    `timestamp`.
    """

    def __init__(self, server: Server, topic: str, name: str) -> None:
        self._bodies: dict[str, None] = {}
        self._last_words: set[str] = set()
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
        """The link's own log line says it all."""

    def _accept(self, body: bytes) -> None:
        if is_announcement(body.decode()):
            self._bodies[body.decode()] = None
        elif b"last_word" in body:
            self._last_words.add(body.decode())

    def send(self, body: str) -> None:
        number = next(self._numbers)

        def taken() -> bool:
            try:
                self._broker.announce(body, f"{self._name}-{number}")
            except LinkDown:
                return False
            return True

        wait_until(taken, "the broker takes the message", deadline_s=120)

    def heard(self) -> list[str]:
        return list(self._bodies)

    def hear_out(self) -> None:
        word = json.dumps({"msg_type": "last_word", "number": next(self._numbers)})
        self.send(word)
        wait_until(lambda: word in self._last_words, "the ear has heard all that came before")

    def close(self) -> None:
        self._broker.stop(10.0)

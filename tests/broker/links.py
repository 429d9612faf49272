"""Links to a broker for the tests: their parameters, a recorder of what they report, and a scripted broker."""

from __future__ import annotations

import dataclasses
import json
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import trustme

from fastmon_daemon.broker import BrokerConnection, ConnectionParameters, LinkStateChange
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread

DEADLINE_S = 20.0
TOPIC = "/topic/epictopic"
QUEUE = "/queue/work"
BODY = json.dumps({"msg_type": "tf_file_registered", "tf_filename": "a_tf_001.tf"})


class LinkRecorder:
    """Keeps the state changes and the message bodies of a link."""

    def __init__(self) -> None:
        self.changes: queue.Queue[LinkStateChange] = queue.Queue()
        self.bodies: queue.Queue[bytes] = queue.Queue()

    def accept(self, body: bytes) -> None:
        self.bodies.put(body)

    def next_change(self) -> LinkStateChange:
        return self.changes.get(timeout=DEADLINE_S)

    def wait_until(self, wanted: Callable[[LinkStateChange], bool]) -> LinkStateChange:
        while not wanted(change := self.next_change()):
            pass
        return change

    def wait_until_up(self) -> None:
        self.wait_until(lambda change: change.up)

    def next_body(self) -> bytes:
        return self.bodies.get(timeout=DEADLINE_S)


def parameters(port: int, **changes: Any) -> ConnectionParameters:
    defaults = ConnectionParameters(
        host="127.0.0.1",
        port=port,
        user="fastmon",
        password=lambda: "secret",
        subscribe=TOPIC,
        announce=(TOPIC,),
        durable=False,
        client_id="fastmon-test",
        use_ssl=False,
        ca_file=None,
        cert_file=None,
        key_file=None,
    )
    return dataclasses.replace(defaults, **changes)


@contextmanager
def running_link(
    link_parameters: ConnectionParameters, recorder: LinkRecorder, **changes: Any
) -> Iterator[BrokerConnection]:
    """A started link without jitter that reports to *recorder*; *changes* replace arguments of `BrokerConnection`."""
    defaults: dict[str, Any] = {
        "accept": recorder.accept,
        "changed": recorder.changes.put,
        "stopping": threading.Event(),
        "jitter": lambda: 0.0,
    }
    link = BrokerConnection(link_parameters, **defaults | changes)
    link.start()
    try:
        yield link
    finally:
        link.stop(DEADLINE_S)


@contextmanager
def connected_link(
    link_parameters: ConnectionParameters, recorder: LinkRecorder, **changes: Any
) -> Iterator[BrokerConnection]:
    """A running link that is up."""
    with running_link(link_parameters, recorder, **changes) as link:
        recorder.wait_until_up()
        yield link


def embedded_broker(**changes: Any) -> Broker:
    return Broker(user="fastmon", password="secret", **changes)


def publish(server: BrokerThread, destination: str, body: str) -> None:
    server.call(lambda: server.broker.publish(destination, body, {"persistent": "true"}))


@dataclasses.dataclass(frozen=True)
class CertificateAuthority:
    """A private CA, whose certificate is in the file *path*."""

    issuer: trustme.CA
    path: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of a link over TLS that trusts this CA."""
        return {"host": "localhost", "use_ssl": True, "ca_file": self.path}

    def server_context(self, name: str = "localhost") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.issuer.issue_cert(name).configure_cert(context)
        return context


class FakeBroker:
    """A port whose connections the test answers itself."""

    def __init__(self, listening: socket.socket) -> None:
        listening.settimeout(DEADLINE_S)
        self.port: int = listening.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._listening = listening

    def next_connection(self) -> socket.socket:
        connection, _ = self._listening.accept()
        self.connections.append(connection)
        return connection


def answer_frames(connection: socket.socket) -> None:
    """Answer CONNECT with CONNECTED, and each frame that requests a RECEIPT with one, on a thread."""
    connection.settimeout(None)

    def serve() -> None:
        received = b""
        with suppress(OSError):  # the test has ended
            while data := connection.recv(4096):
                *frames, received = (received + data).split(b"\0")
                for frame in frames:
                    connection.sendall(reply(frame))

    def reply(frame: bytes) -> bytes:
        lines = frame.strip().split(b"\n")
        receipt = next((line.partition(b":")[2] for line in lines if line.startswith(b"receipt:")), None)
        if lines[0] in {b"CONNECT", b"STOMP"}:
            return b"CONNECTED\nversion:1.2\n\n\0"
        return b"RECEIPT\nreceipt-id:" + receipt + b"\n\n\0" if receipt else b""

    threading.Thread(target=serve, daemon=True).start()


def is_closed_by_peer(connection: socket.socket) -> bool:
    """Wait until the peer has closed the connection."""
    connection.settimeout(DEADLINE_S)
    while connection.recv(4096):
        pass
    return True

"""A broker that is not what it should be, and whoever may publish on the topic."""

from __future__ import annotations

import itertools
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.hostile.attack import Scene, attack
from tests.hostile.hostile_broker import HostileBroker
from tests.processes import TOPIC, wait_until

SECONDS = 8.0
CONNECTED = b"CONNECTED\nversion:1.2\nheart-beat:8000,8000\n\n\0"
MESSAGE = b"MESSAGE\nsubscription:fastmon\nmessage-id:1\nack:1\n"


@pytest.fixture
def broker(scene: Scene) -> Iterator[HostileBroker]:
    with HostileBroker(scene.broker.port) as made:
        yield made


def sends(head: bytes, piece: bytes, count: int) -> Callable[[socket.socket], None]:
    """*head*, then *count* times *piece*; then nothing until the client has gone."""

    def answer(client: socket.socket) -> None:
        client.sendall(head)
        block = piece * max(1, 65536 // len(piece))
        for _ in range(count * len(piece) // len(block) + 1):
            client.sendall(block)
        while client.recv(65536):
            pass

    return answer


FLOODS = [
    sends(b"", b"x", 600_000_000),
    sends(b"CONNECTED\n", b"x", 600_000_000),
    sends(b"CONNECTED\nversion:1.2\n", b"a:" + b"x" * 60_000 + b"\n", 10_000),
    sends(b"CONNECTED\nversion:1.2\nheart-beat:99999999999999999999,a\n\n\0", b"\n", 600_000_000),
    sends(CONNECTED + MESSAGE + b"\n", b"x", 600_000_000),
    sends(CONNECTED + MESSAGE + b"content-length:999999999999\n\n", b"\0", 600_000_000),
    sends(CONNECTED, MESSAGE + b"\n{}\0", 3000),
    sends(CONNECTED, b"MESSAGE\n\n{}\0", 3000),
    sends(CONNECTED, b"NONSENSE\nx:y\n\nx\0RECEIPT\n\n\0MESSAGE\n\n{}\0", 1000),
]


@attack("600 MB without end from the broker, before CONNECTED and after, in lines, headers, bodies and heart-beats")
def test_floods_of_the_broker_take_no_memory(scene: Scene, broker: HostileBroker) -> None:
    daemon = scene.daemon(ACTIVEMQ_PORT=str(broker.port))
    scene.send()
    scene.wait_for(completed=1)
    connections = itertools.count()

    def flood(client: socket.socket) -> None:
        FLOODS[next(connections) % len(FLOODS)](client)

    with scene.attacked(daemon):
        broker.answer = flood
        broker.cut()
        threading.Event().wait(2 * SECONDS)
        broker.answer = None
        broker.cut()
    assert "Traceback" not in scene.log()
    scene.note = f"{next(connections)} connections"


def publish(server: BrokerThread, body: str | bytes, headers: dict[str, str] | None = None) -> None:
    server.call(lambda: server.broker.publish(TOPIC, body, headers))


def unacknowledged(server: BrokerThread) -> int:
    return sum(each.waiting + each.unacknowledged for each in server.broker.subscriptions(TOPIC))


def odd_bodies() -> Iterator[str]:
    """Messages that are not what they claim to be."""
    values = [{"a": 1}, [1], True, 10**24, 1e999, "\0", "\x1b[2J", "\ud800", "x" * 100_000, None]
    for kind in ("stf_ready", "start_run", "end_run"):
        for field in ("run_id", "filename", "sequence", "size_bytes", "checksum", "tf_count", "total_stf_files"):
            for value in values:
                yield json.dumps(
                    {"msg_type": kind, "run_id": "9", "filename": "a.stf", "namespace": "ns", field: value}
                )
    yield from ["[" * 100_000, "[]," * 300_000, "NaN", "", "\0", '{"msg_type": "stf_ready", "a":' + "[" * 400]


@attack("publisher: 15 000 malformed messages, 40 of 3 MB, headers of 5 MB, 300 invented runs")
def test_what_a_publisher_sends_neither_stops_nor_floods(scene: Scene) -> None:
    daemon = scene.daemon()
    server, bodies = scene.broker, list(odd_bodies())
    long = json.dumps({"msg_type": "stf_ready", "namespace": "ns", "run_id": "9", "filename": "x" * 3_000_000})
    with scene.attacked(daemon):
        for number in range(15_000):
            publish(server, random.Random(number).choice(bodies) if number % 20 == 0 else '{"msg_type": "stf_ready"}')
        for _ in range(40):
            publish(server, long)
        publish(server, bodies[0], {f"x{number}": "y" * 60_000 for number in range(90)})
        for number in range(300):
            publish(server, json.dumps({"msg_type": "start_run", "run_id": f"invented {number}", "namespace": "ns"}))
        wait_until(lambda: not server.call(lambda: unacknowledged(server)), "all is acknowledged", 60)
    assert scene.log().count("message rejected: run_id") == 1
    assert "Traceback" not in scene.log()

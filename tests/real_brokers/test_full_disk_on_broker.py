"""Messages that cannot be stored, on each broker: buffered in a bounded window, in order, without loss."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fastmon_daemon.broker import BrokerConnection, ConnectionParameters
from tests.broker.test_unacked_buffer import FakeStorage
from tests.processes import wait_until
from tests.real_brokers.conftest import Names
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]
SENT = 3000
BODY = "x" * 1000


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def links(broker: Server, names: Names, storage: FakeStorage) -> Iterator[tuple[BrokerConnection, BrokerConnection]]:
    """A durable subscriber, and another agent that only sends."""
    ours = ConnectionParameters(
        host=broker.host, port=broker.port, user=broker.user, password=lambda: broker.password, subscribe=names.topic,
        announce=(names.topic,), durable=True, client_id=names.client_id, use_ssl=False, ca_file=None, cert_file=None,
        key_file=None,
    )  # fmt: skip
    agents = [
        BrokerConnection(parameters, accept=storage.accept, changed=storage.changes.put, stopping=threading.Event())
        for parameters in (ours, dataclasses.replace(ours, subscribe="", durable=False))
    ]
    for agent in agents:
        agent.start()
        wait_until(lambda agent=agent: agent.up, "connected")  # type: ignore[misc]
    yield agents[0], agents[1]
    for agent in agents:
        agent.stop(20.0)


def test_a_full_disk_holds_a_bounded_window_and_what_waited_comes_in_order(
    links: tuple[BrokerConnection, BrokerConnection], storage: FakeStorage, note: Callable[[str, object], None]
) -> None:
    ours, other = links
    storage.full.set()
    for n in range(SENT):
        other.announce(f'{{"n": {n}, "pad": "{BODY}"}}', f"id-{n}-{time.monotonic()}")
    first = storage.failed.get(timeout=60)
    for _ in range(12):  # one try a second: more than the ten times that a broker would repeat it
        assert storage.failed.get(timeout=60) == first
    buffered = ours.buffered
    note("buffered unacknowledged in the window, of 3000 messages of 1 kB", buffered)
    assert 500 <= buffered <= 1100
    storage.full.clear()
    began = time.monotonic()
    got = [storage.stored.get(timeout=60) for _ in range(SENT)]
    note("messages a second when there is room again", round(SENT / (time.monotonic() - began)))
    assert [f'{{"n": {n}, ' in body.decode() for n, body in enumerate(got)] == [True] * SENT
    assert ours.up
    assert [change.up for change in list(storage.changes.queue)] == [True, True]

"""Messages that cannot be stored: they stay unacknowledged in the window, the connection stands, none is lost."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from loguru import logger

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.broker import BrokerConnection, LinkStateChange
from fastmon_daemon.testbed.stomp_broker import Broker as Server
from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.broker.test_connection import DEADLINE_S, QUEUE, parameters, publish

WINDOW = 1000


class Shelf:
    """Stores bodies while there is room; "foreign" ones need none; those in *sick* it never stores, and none is read
    while it is *confused*."""

    def __init__(self) -> None:
        self.full = threading.Event()
        self.confused = threading.Event()
        self.sick: set[bytes] = set()
        self.stored: queue.Queue[bytes] = queue.Queue()
        self.foreign: queue.Queue[bytes] = queue.Queue()
        self.refused: queue.Queue[bytes] = queue.Queue()
        self.changes: queue.Queue[LinkStateChange] = queue.Queue()

    def accept(self, body: bytes) -> Callable[[], None] | None:
        if self.confused.is_set():
            self.refused.put(body)
            raise ZeroDivisionError("confused")
        if body.startswith(b"foreign"):
            self.foreign.put(body)
            return None
        return lambda: self._store(body)

    def _store(self, body: bytes) -> None:
        if self.full.is_set():
            self.refused.put(body)
            raise StorageUnavailable(f"disk full, {self.refused.qsize()} were refused")
        if body in self.sick:
            self.refused.put(body)
            raise ZeroDivisionError(f"of {body!r}")
        self.stored.put(body)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def server() -> Iterator[BrokerThread]:
    with BrokerThread(Server(user="fastmon", password="secret")) as thread:
        yield thread


@pytest.fixture
def link(server: BrokerThread, shelf: Shelf) -> Iterator[BrokerConnection]:
    link = BrokerConnection(parameters(server.port, subscribe=QUEUE), accept=shelf.accept, changed=shelf.changes.put,
                  stopping=threading.Event())  # fmt: skip
    link.start()
    assert shelf.changes.get(timeout=DEADLINE_S).up
    yield link
    link.stop(DEADLINE_S)


@pytest.fixture
def told() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda text: lines.append(str(text)), format="{message}", level="INFO")
    yield lines
    logger.remove(sink)


def depth(server: BrokerThread) -> int:
    return server.call(lambda: server.broker.queue_depth(QUEUE))


def test_messages_wait_while_the_disk_is_full_and_are_stored_in_order_over_the_same_connection(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection
) -> None:
    shelf.full.set()
    for n in range(300):
        publish(server, QUEUE, f"m{n}")
    assert shelf.refused.get(timeout=DEADLINE_S) == b"m0"
    assert shelf.refused.get(timeout=DEADLINE_S) == b"m0"  # tried again, and still the first
    assert depth(server) == 300
    shelf.full.clear()
    assert [shelf.stored.get(timeout=DEADLINE_S) for _ in range(300)] == [f"m{n}".encode() for n in range(300)]
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
    publish(server, QUEUE, "after")
    assert shelf.stored.get(timeout=DEADLINE_S) == b"after"
    assert link.up
    assert shelf.changes.empty()
    assert not server.call(lambda: server.broker.counters.received["NACK"])


def test_the_link_says_how_many_messages_it_holds(server: BrokerThread, shelf: Shelf, link: BrokerConnection) -> None:
    assert link.buffered == 0
    shelf.full.set()
    for n in range(3):
        publish(server, QUEUE, f"m{n}")
    publish(server, QUEUE, "foreign, behind them")
    shelf.foreign.get(timeout=DEADLINE_S)
    assert link.buffered == 3
    server.call(server.broker.drop_connections)
    assert not shelf.changes.get(timeout=DEADLINE_S).up
    assert shelf.changes.get(timeout=DEADLINE_S).up
    shelf.foreign.queue.clear()
    publish(server, QUEUE, "foreign, behind them again")
    shelf.foreign.get(timeout=DEADLINE_S)
    assert link.buffered == 3  # and not 6: what an earlier connection held is the broker's again
    shelf.full.clear()
    server.wait_until(lambda: link.buffered == 0)
    assert shelf.stored.qsize() == 3


def test_a_full_disk_is_told_once_also_where_the_connection_is_lost_meanwhile(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection, told: list[str]
) -> None:
    for episode in range(2):
        shelf.full.set()
        publish(server, QUEUE, f"m{episode}")
        shelf.refused.get(timeout=DEADLINE_S)
        server.call(server.broker.drop_connections)
        for up in (False, True):
            assert shelf.changes.get(timeout=DEADLINE_S).up is up
        shelf.refused.queue.clear()
        shelf.refused.get(timeout=DEADLINE_S)
        shelf.full.clear()
        assert shelf.stored.get(timeout=DEADLINE_S) == f"m{episode}".encode()
        server.wait_until(lambda: "messages are stored again" in told[-1])
    assert len([line for line in told if "wait unacknowledged at the broker" in line]) == 2
    assert len([line for line in told if "messages are stored again" in line]) == 2


def test_how_many_had_waited_is_told_of_each_episode(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection, told: list[str]
) -> None:
    for waiting in (3, 2):
        shelf.full.set()
        for n in range(waiting):
            publish(server, QUEUE, f"m{n}")
        server.wait_until(lambda waiting=waiting: link.buffered == waiting)
        shelf.full.clear()
        server.wait_until(lambda waiting=waiting: f"messages are stored again: {waiting} had waited" in told[-1])


def test_each_kind_of_trouble_is_told_once(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection, told: list[str]
) -> None:
    shelf.sick = {b"one", b"two"}
    publish(server, QUEUE, "one")
    publish(server, QUEUE, "two")
    for _ in range(6):  # when they came, and twice more
        shelf.refused.get(timeout=DEADLINE_S)
    why = [line.split(": ")[-1].strip() for line in told if "cannot be stored" in line]
    assert why == ["of b'one'", "of b'two'"]


def test_what_needs_no_storage_is_acknowledged_while_the_disk_is_full(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection
) -> None:
    shelf.full.set()
    publish(server, QUEUE, "ours")
    for n in range(2 * WINDOW):
        publish(server, QUEUE, f"foreign {n}")
    for _ in range(2 * WINDOW):
        shelf.foreign.get(timeout=DEADLINE_S)
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 1)
    assert link.up


def test_no_more_is_held_than_the_window(server: BrokerThread, shelf: Shelf, link: BrokerConnection) -> None:
    shelf.full.set()
    for n in range(WINDOW + 50):
        publish(server, QUEUE, f"m{n}")
    assert shelf.refused.get(timeout=DEADLINE_S) == b"m0"
    publish(server, QUEUE, "foreign, behind the window")
    assert shelf.refused.get(timeout=DEADLINE_S) == b"m0"
    assert shelf.foreign.empty()
    shelf.full.clear()
    for _ in range(WINDOW + 50):
        shelf.stored.get(timeout=DEADLINE_S)
    assert shelf.foreign.get(timeout=DEADLINE_S)
    assert link.up


def test_a_message_that_could_not_be_read_is_read_again(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection
) -> None:
    shelf.confused.set()
    publish(server, QUEUE, "ours")
    assert shelf.refused.get(timeout=DEADLINE_S) == b"ours"
    shelf.confused.clear()
    assert shelf.stored.get(timeout=DEADLINE_S) == b"ours"
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
    assert link.up


def test_one_message_that_can_never_be_stored_keeps_no_other(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection
) -> None:
    shelf.sick = {b"sick"}
    publish(server, QUEUE, "sick")
    for n in range(3):
        publish(server, QUEUE, f"m{n}")
    assert [shelf.stored.get(timeout=DEADLINE_S) for _ in range(3)] == [b"m0", b"m1", b"m2"]
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 1)
    shelf.sick = set()
    assert shelf.stored.get(timeout=DEADLINE_S) == b"sick"
    assert link.up


def test_one_message_that_can_never_be_stored_is_tried_again_after_a_pause(
    server: BrokerThread, shelf: Shelf, link: BrokerConnection
) -> None:
    shelf.sick = {b"sick"}
    publish(server, QUEUE, "sick")
    for _ in range(2):  # where it came, and the first time that it is tried again
        shelf.refused.get(timeout=DEADLINE_S)
    tried_at = time.monotonic()
    shelf.refused.get(timeout=DEADLINE_S)
    assert time.monotonic() - tried_at > 0.7

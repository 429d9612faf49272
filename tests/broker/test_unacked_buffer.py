"""Messages that cannot be stored are buffered without acknowledgement: the connection stays, none is lost."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from stomp.utils import Frame

from fastmon_daemon.base.errors import DaemonStops, EnoughWork, StorageUnavailable
from fastmon_daemon.broker import BrokerConnection, LinkStateChange, unacked_buffer
from fastmon_daemon.broker.unacked_buffer import ENOUGH_PAUSE_S, StorageErrorLog, UnackedBuffer
from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.broker.links import DEADLINE_S, QUEUE, LinkRecorder, parameters, publish, running_link
from tests.builders import logged
from tests.processes import wait_until

WINDOW = 1000


class FakeStorage:
    """Stores message bodies, unless the disk is *full* or the body is one of *unstorable*.

    Bodies that begin with "ignored" need no storage; while *unparsable* is set, parsing fails.
    """

    def __init__(self) -> None:
        self.full = threading.Event()
        self.unparsable = threading.Event()
        self.unstorable: set[bytes] = set()
        self.stored: queue.Queue[bytes] = queue.Queue()
        self.ignored: queue.Queue[bytes] = queue.Queue()
        self.failed: queue.Queue[bytes] = queue.Queue()
        self.changes: queue.Queue[LinkStateChange] = queue.Queue()

    def accept(self, body: bytes) -> Callable[[], Future[None]] | None:
        if self.unparsable.is_set():
            self.failed.put(body)
            raise ZeroDivisionError("unparsable")
        if body.startswith(b"ignored"):
            self.ignored.put(body)
            return None
        return lambda: self._store(body)

    def next_stored(self) -> bytes:
        return self.stored.get(timeout=DEADLINE_S)

    def next_failed(self) -> bytes:
        return self.failed.get(timeout=DEADLINE_S)

    def _store(self, body: bytes) -> Future[None]:
        if self.full.is_set():
            self.failed.put(body)
            raise StorageUnavailable(f"disk full, {self.failed.qsize()} failures")
        if body in self.unstorable:
            self.failed.put(body)
            raise ZeroDivisionError(f"of {body!r}")
        self.stored.put(body)
        stored = Future[None]()
        stored.set_result(None)
        return stored


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def link(server: BrokerThread, storage: FakeStorage) -> Iterator[BrokerConnection]:
    with running_link(
        parameters(server.port, subscribe=QUEUE), LinkRecorder(), accept=storage.accept, changed=storage.changes.put
    ) as link:
        assert storage.changes.get(timeout=DEADLINE_S).up
        yield link


@pytest.fixture
def log() -> Iterator[list[str]]:
    with logged() as lines:
        yield lines


def depth(server: BrokerThread) -> int:
    return server.call(lambda: server.broker.queue_depth(QUEUE))


def test_messages_are_buffered_while_the_disk_is_full_and_stored_in_order(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection
) -> None:
    storage.full.set()
    for n in range(300):
        publish(server, QUEUE, f"m{n}")
    assert storage.next_failed() == b"m0"
    assert storage.next_failed() == b"m0"  # retried, and still the first
    assert depth(server) == 300
    storage.full.clear()
    assert [storage.next_stored() for _ in range(300)] == [f"m{n}".encode() for n in range(300)]
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
    publish(server, QUEUE, "after")
    assert storage.next_stored() == b"after"
    assert link.up
    assert storage.changes.empty()
    assert not server.call(lambda: server.broker.counters.received["NACK"])


def test_the_link_counts_its_buffered_messages(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection
) -> None:
    assert link.buffered == 0
    storage.full.set()
    for n in range(3):
        publish(server, QUEUE, f"m{n}")
    publish(server, QUEUE, "ignored, behind them")
    storage.ignored.get(timeout=DEADLINE_S)
    assert link.buffered == 3
    server.call(server.broker.drop_connections)
    assert not storage.changes.get(timeout=DEADLINE_S).up
    assert storage.changes.get(timeout=DEADLINE_S).up
    storage.ignored.queue.clear()
    publish(server, QUEUE, "ignored, behind them again")
    storage.ignored.get(timeout=DEADLINE_S)
    assert link.buffered == 3  # not 6: the broker redelivers the messages of the earlier connection
    storage.full.clear()
    server.wait_until(lambda: link.buffered == 0)
    assert storage.stored.qsize() == 3


def test_a_full_disk_is_logged_once_even_if_the_connection_is_lost_meanwhile(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection, log: list[str]
) -> None:
    for outage in range(2):
        storage.full.set()
        publish(server, QUEUE, f"m{outage}")
        storage.next_failed()
        server.call(server.broker.drop_connections)
        for up in (False, True):
            assert storage.changes.get(timeout=DEADLINE_S).up is up
        storage.failed.queue.clear()
        storage.next_failed()
        storage.full.clear()
        assert storage.next_stored() == f"m{outage}".encode()
        server.wait_until(lambda: "storage recovered" in log[-1])
    assert len([line for line in log if "cannot be stored" in line]) == 2
    assert len([line for line in log if "storage recovered" in line]) == 2


def test_the_number_of_buffered_messages_is_logged_for_each_outage(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection, log: list[str]
) -> None:
    for count in (3, 2):
        storage.full.set()
        for n in range(count):
            publish(server, QUEUE, f"m{n}")
        server.wait_until(lambda count=count: link.buffered == count)
        storage.full.clear()
        server.wait_until(lambda count=count: f"storage recovered: {count} buffered" in log[-1])


def test_each_kind_of_error_is_logged_once(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection, log: list[str]
) -> None:
    storage.unstorable = {b"one", b"two"}
    publish(server, QUEUE, "one")
    publish(server, QUEUE, "two")
    for _ in range(6):  # on arrival, and twice more
        storage.next_failed()
    why = [line.split(": ")[-1].strip() for line in log if "cannot be stored" in line]
    assert why == ["of b'one'", "of b'two'"]


def test_ignored_messages_are_acknowledged_while_the_disk_is_full(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection
) -> None:
    storage.full.set()
    publish(server, QUEUE, "ours")
    for n in range(2 * WINDOW):
        publish(server, QUEUE, f"ignored {n}")
    for _ in range(2 * WINDOW):
        storage.ignored.get(timeout=DEADLINE_S)
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 1)
    assert link.up


def test_the_buffer_is_limited_by_the_window(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection
) -> None:
    storage.full.set()
    for n in range(WINDOW + 50):
        publish(server, QUEUE, f"m{n}")
    assert storage.next_failed() == b"m0"
    publish(server, QUEUE, "ignored, behind the window")
    assert storage.next_failed() == b"m0"
    assert storage.ignored.empty()
    storage.full.clear()
    for _ in range(WINDOW + 50):
        storage.next_stored()
    assert storage.ignored.get(timeout=DEADLINE_S)
    assert link.up


def test_the_buffer_is_limited_in_bytes_though_the_broker_keeps_no_window(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacked_buffer, "MAX_BUFFERED_BYTES", 100_000)
    storage.full.set()
    for n in range(50):
        publish(server, QUEUE, f"m{n} {'x' * 10_000}")
    for _ in range(3):
        storage.next_failed()
    assert link.buffered <= 11
    storage.full.clear()
    for _ in range(50):
        storage.next_stored()
    assert link.up


def test_a_link_whose_buffer_is_full_ends_cleanly(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacked_buffer, "MAX_BUFFERED_BYTES", 0)
    storage.full.set()
    publish(server, QUEUE, "m1")
    publish(server, QUEUE, "m2")
    storage.next_failed()
    assert link.stop(DEADLINE_S)


def test_a_message_that_could_not_be_parsed_is_parsed_again(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection
) -> None:
    storage.unparsable.set()
    publish(server, QUEUE, "ours")
    assert storage.next_failed() == b"ours"
    storage.unparsable.clear()
    assert storage.next_stored() == b"ours"
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
    assert link.up


def test_one_unstorable_message_does_not_block_the_others(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection
) -> None:
    storage.unstorable = {b"bad"}
    publish(server, QUEUE, "bad")
    for n in range(3):
        publish(server, QUEUE, f"m{n}")
    assert [storage.next_stored() for _ in range(3)] == [b"m0", b"m1", b"m2"]
    server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 1)
    storage.unstorable = set()
    assert storage.next_stored() == b"bad"
    assert link.up


def test_an_unstorable_message_is_retried_after_a_pause(
    server: BrokerThread, storage: FakeStorage, link: BrokerConnection
) -> None:
    storage.unstorable = {b"bad"}
    publish(server, QUEUE, "bad")
    for _ in range(2):  # on arrival, and at the first retry
        storage.next_failed()
    retried_at = time.monotonic()
    storage.next_failed()
    assert time.monotonic() - retried_at > 0.7


class Begun:
    """A buffer whose messages are on disk only when the test says so."""

    def __init__(self) -> None:
        self.stored: dict[bytes, list[Future[None]]] = {}
        self.acknowledged: list[bytes] = []
        self.log = StorageErrorLog()
        self.buffer = UnackedBuffer(
            lambda body: lambda: self._begin(body), lambda frame: self.acknowledged.append(frame.body), self.log
        )

    def receive(self, *bodies: bytes) -> None:
        for body in bodies:
            self.buffer.receive(Frame("MESSAGE", {}, body))

    def _begin(self, body: bytes) -> Future[None]:
        future = Future[None]()
        self.stored.setdefault(body, []).append(future)
        return future


def buffered(*bodies: bytes) -> Begun:
    """Messages whose transaction failed for want of room."""
    begun = Begun()
    begun.receive(*bodies)
    for body in bodies:
        begun.stored[body][0].set_exception(StorageUnavailable("disk full"))
    begun.buffer.finish()
    return begun


def test_messages_that_arrive_together_are_begun_together_and_acknowledged_once_they_are_on_disk() -> None:
    begun = Begun()
    begun.receive(b"one", b"two")
    assert list(begun.stored) == [b"one", b"two"]
    assert begun.acknowledged == []
    finisher = threading.Thread(target=begun.buffer.finish)
    finisher.start()
    begun.stored[b"two"][0].set_result(None)
    assert begun.acknowledged == [], "the first is not on disk"
    begun.stored[b"one"][0].set_result(None)
    finisher.join(DEADLINE_S)
    assert begun.acknowledged == [b"one", b"two"]
    assert not begun.buffer.has_begun


def test_messages_whose_transaction_failed_are_buffered_in_order() -> None:
    begun = buffered(b"one", b"two")
    begun.receive(b"three")
    assert begun.buffer.count == 3
    assert begun.log.latest == "disk full"
    retrying = threading.Thread(target=begun.buffer.retry)
    retrying.start()
    for body, tries in ((b"one", 2), (b"two", 2), (b"three", 1)):
        wait_until(lambda body=body, tries=tries: len(begun.stored.get(body, ())) == tries)  # type: ignore[misc]
        begun.stored[body][-1].set_result(None)
    retrying.join(DEADLINE_S)
    assert begun.acknowledged == [b"one", b"two", b"three"]
    assert begun.log.latest == ""


@pytest.mark.parametrize(
    ("outcome", "pause_s"),
    [(EnoughWork("20 STFs wait"), ENOUGH_PAUSE_S), (DaemonStops(), math.inf), (StorageUnavailable("full"), math.inf),
     (ZeroDivisionError("unstorable"), math.inf), (None, 0.0)],
)  # fmt: skip
def test_when_a_message_is_tried_again_depends_on_why_it_waits(
    outcome: Exception | None, pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(body: bytes) -> Future[None]:
        begun.stored[body].append(done := Future[None]())
        done.set_exception(outcome) if outcome else done.set_result(None)
        return done

    begun = buffered(b"one", b"two")
    monkeypatch.setattr(begun, "_begin", store)
    monkeypatch.setattr(unacked_buffer, "RETRY_BATCH_SIZE", 1)
    assert begun.buffer.retry() == pause_s
    assert begun.acknowledged == ([] if outcome else [b"one"])


def test_a_retry_stores_what_is_behind_an_unstorable_message_at_once() -> None:
    begun = buffered(b"bad", b"good")
    retrying = threading.Thread(target=begun.buffer.retry)
    retrying.start()
    wait_until(lambda: len(begun.stored[b"bad"]) == 2)
    begun.stored[b"bad"][1].set_exception(ZeroDivisionError("unstorable"))
    wait_until(lambda: len(begun.stored[b"good"]) == 2)
    begun.stored[b"good"][1].set_result(None)
    retrying.join(DEADLINE_S)
    assert (begun.acknowledged, begun.buffer.count) == ([b"good"], 1)


def test_a_message_that_comes_while_the_daemon_stops_is_left_to_the_broker() -> None:
    begun = Begun()
    begun.receive(b"late")
    begun.stored[b"late"][0].set_exception(DaemonStops())
    with logged() as lines:
        begun.buffer.finish()
    assert (begun.acknowledged, begun.buffer.count, lines) == ([], 0, [])

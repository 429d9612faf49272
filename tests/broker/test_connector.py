"""Attempts to connect that overlap, are answered late, never, or with an error, or are stopped."""

from __future__ import annotations

import gc
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from fastmon_daemon.broker import ConnectionParameters, LinkStateChange
from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.broker.links import (
    DEADLINE_S,
    CertificateAuthority,
    FakeBroker,
    LinkRecorder,
    answer_frames,
    embedded_broker,
    is_closed_by_peer,
    parameters,
    running_link,
)


@pytest.fixture
def no_overlap(fake_broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 1000.0)


class RecordedPauses(threading.Event):
    """A `stopping` event whose `wait` returns at once and records its timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: queue.Queue[float] = queue.Queue()

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.put(timeout or 0.0)
        return self.is_set()

    def next(self, count: int) -> list[float]:
        return [self.pauses.get(timeout=DEADLINE_S) for _ in range(count)]


@contextmanager
def link_without_pauses(
    link_parameters: ConnectionParameters, recorder: LinkRecorder, now: list[float]
) -> Iterator[RecordedPauses]:
    """A link whose clock reads *now*, and whose recorded pauses are the longest that jitter allows."""
    pauses = RecordedPauses()
    with running_link(link_parameters, recorder, stopping=pauses, monotonic=lambda: now[0], jitter=lambda: 1.0):
        yield pauses


def test_pauses_grow_to_five_seconds_and_start_over_after_a_stable_connection(recorder: LinkRecorder) -> None:
    now = [0.0]
    with BrokerThread(embedded_broker(heart_beat_ms=0)) as server:
        server.stop()
        with link_without_pauses(parameters(server.port), recorder, now) as recorded:
            first, *_, last = pauses = recorded.next(6)
            assert pauses == sorted(pauses)
            assert (first, last) == (1.0, 5.0)
            server.start()
            recorder.wait_until_up()
            now[0] += 31.0
            recorded.pauses.queue.clear()
            server.stop()
            assert recorded.next(2) == [0.5, 1.0]


def test_a_blocked_link_retries_every_half_minute_and_reports_its_reason_once(
    server: BrokerThread, recorder: LinkRecorder
) -> None:
    with link_without_pauses(parameters(server.port, password=lambda: "wrong"), recorder, [0.0]) as recorded:
        assert recorded.next(4) == [30.0] * 4
        assert recorder.next_change().blocked
        with pytest.raises(queue.Empty):
            recorder.changes.get_nowait()


@pytest.mark.usefixtures("no_overlap")
def test_stop_does_not_wait_for_an_unanswered_connect(recorder: LinkRecorder, fake_broker: FakeBroker) -> None:
    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder) as link:
        unanswered = fake_broker.next_connection()
        assert link.stop(2.0)
        assert recorder.next_change() == LinkStateChange(up=False, reason="stopped")
        assert is_closed_by_peer(unanswered)


@pytest.mark.usefixtures("no_overlap")
def test_stop_ends_an_attempt_that_begins_afterwards(recorder: LinkRecorder, fake_broker: FakeBroker) -> None:
    beginning, go_on = threading.Event(), threading.Event()

    def monotonic() -> float:
        if threading.current_thread().name == "broker-link":
            beginning.set()
            go_on.wait(DEADLINE_S)
        return time.monotonic()

    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder, monotonic=monotonic) as link:
        assert beginning.wait(DEADLINE_S)
        link.stop(0.1)
        go_on.set()
        assert recorder.next_change() == LinkStateChange(up=False, reason="stopped")


def test_an_attempt_aborted_during_its_tls_handshake_leaves_no_socket_open(
    ca: CertificateAuthority, recorder: LinkRecorder, fake_broker: FakeBroker
) -> None:
    with running_link(parameters(fake_broker.port, connect_s=1000.0, **ca.parameters), recorder) as link:
        connection = fake_broker.next_connection()
        assert link.stop(DEADLINE_S)
        with ca.server_context().wrap_socket(connection, server_side=True) as secured, suppress(ConnectionResetError):
            assert is_closed_by_peer(secured)
        for thread in threading.enumerate():
            if thread.name == "broker-attempt":
                thread.join(DEADLINE_S)
    del link
    gc.collect()  # an open socket warns, and a warning is an error


@pytest.mark.usefixtures("no_overlap")
def test_a_connection_closed_during_connect_is_reported_as_closed_by_the_broker(
    recorder: LinkRecorder, fake_broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if sending CONNECT fails: the error of the send does not name the reason."""
    sending, ended, failed = threading.Event(), threading.Event(), threading.Event()
    send, receive = socket.socket.sendall, socket.socket.recv

    def send_late(sock: socket.socket, data: bytes) -> None:
        sending.set()
        ended.wait(DEADLINE_S)
        try:
            send(sock, data)
        finally:
            failed.set()

    def receive_later(sock: socket.socket, size: int) -> bytes:
        failed.wait(DEADLINE_S)
        return receive(sock, size)

    monkeypatch.setattr(socket.socket, "sendall", send_late)
    monkeypatch.setattr(socket.socket, "recv", receive_later)
    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder):
        connection = fake_broker.next_connection()
        assert sending.wait(DEADLINE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        ended.set()
        assert recorder.next_change().reason == f"the broker at 127.0.0.1:{fake_broker.port} closed the connection"


def test_a_connect_that_is_never_answered_times_out(recorder: LinkRecorder) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running_link(parameters(silent.getsockname()[1], connect_s=0.3), recorder) as link,
    ):
        assert "did not answer" in recorder.next_change().reason
        assert link.stop(DEADLINE_S)


def test_unanswered_attempts_do_not_delay_an_answered_one(recorder: LinkRecorder, fake_broker: FakeBroker) -> None:
    """As after lost packets: attempts begun then are never answered, and wait for their own deadline."""
    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder) as link:
        unanswered = [fake_broker.next_connection() for _ in range(3)]
        assert "did not answer within 0.1 s" in recorder.next_change().reason
        answer_frames(fake_broker.next_connection())
        recorder.wait_until_up()
        assert all(map(is_closed_by_peer, unanswered))
        assert link.stop(DEADLINE_S)


@pytest.mark.parametrize("tls", [False, True])
def test_a_late_answer_to_an_earlier_attempt_is_used(
    tls: bool, ca: CertificateAuthority, recorder: LinkRecorder, fake_broker: FakeBroker
) -> None:
    secure = ca.parameters if tls else {}
    with (
        running_link(parameters(fake_broker.port, connect_s=4.0, **secure), recorder) as link,
        ExitStack() as connections,
    ):
        first, second = fake_broker.next_connection(), fake_broker.next_connection()
        if tls:
            first = connections.enter_context(ca.server_context().wrap_socket(first, server_side=True))
        answer_frames(first)
        recorder.wait_until_up()
        assert is_closed_by_peer(second)
        assert link.stop(DEADLINE_S)


def test_a_rejected_attempt_does_not_end_the_others(recorder: LinkRecorder, fake_broker: FakeBroker) -> None:
    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder):
        slow, rejected = fake_broker.next_connection(), fake_broker.next_connection()
        rejected.sendall(b"ERROR\nmessage:busy\n\n\0")
        recorder.wait_until(lambda change: "busy" in change.reason)
        answer_frames(slow)
        recorder.wait_until_up()


def test_no_attempt_is_begun_if_one_was_answered_during_the_pause(
    recorder: LinkRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 0.1)
    go_on = threading.Event()

    def pause(change: LinkStateChange) -> None:
        recorder.changes.put(change)
        if not change.up:
            go_on.wait(DEADLINE_S)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE_S)
        slow = parameters(listening.getsockname()[1], subscribe="", connect_s=1000.0, heart_beat_s=0.1)
        with running_link(slow, recorder, changed=pause):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(DEADLINE_S)
                assert "did not answer" in recorder.next_change().reason
                assert connection.recv(4096)
                connection.sendall(b"CONNECTED\nversion:1.2\nheart-beat:0,100\n\n\0")
                assert connection.recv(1) == b"\n"  # a heart-beat: the link has read the answer
                go_on.set()
                recorder.wait_until_up()
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_stop_ends_unanswered_attempts(recorder: LinkRecorder, fake_broker: FakeBroker) -> None:
    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder) as link:
        unanswered = fake_broker.next_connection()
        assert not recorder.next_change().up  # the link pauses before its next attempt
        assert link.stop(DEADLINE_S)
    assert is_closed_by_peer(unanswered)


def test_an_attempt_that_is_never_answered_is_closed(recorder: LinkRecorder, fake_broker: FakeBroker) -> None:
    with running_link(parameters(fake_broker.port, connect_s=0.5), recorder):
        assert is_closed_by_peer(fake_broker.next_connection())


@pytest.mark.field("27b")
def test_a_lookup_that_hangs_keeps_one_thread_however_often_the_link_is_tried(
    recorder: LinkRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 0.05)
    never, lookups = threading.Event(), []

    def hang(host: str, *_: object) -> list[object]:
        lookups.append(host)
        never.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "the test has ended")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    lost = parameters(61613, host="broker.invalid", connect_s=0.1)
    pauses = RecordedPauses()
    with running_link(lost, recorder, stopping=pauses):
        pauses.next(10)
        assert recorder.next_change().reason.startswith(
            ("the broker at broker.invalid:61613 did not answer", "no conn")
        )
        assert lookups == ["broker.invalid"]
        assert [thread.name for thread in threading.enumerate()].count("lookup") == 1
    never.set()

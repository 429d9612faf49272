"""The link to the broker, against the testbed's real broker over real sockets."""

from __future__ import annotations

import dataclasses
import gc
import json
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from fastmon_daemon.base.errors import ConfigError, LinkBlocked, LinkDown
from fastmon_daemon.broker import (
    BrokerConnection,
    ConnectionParameters,
    LinkStateChange,
    check_login,
    check_reachable,
    measure_round_trip,
)
from fastmon_daemon.testbed.stomp_broker import Broker as Server
from fastmon_daemon.testbed.stomp_broker import BrokerThread, Frame, HookResult, Session

DEADLINE_S = 20.0
TOPIC = "/topic/epictopic"
OTHER = "/topic/other"
QUEUE = "/queue/work"
BODY = json.dumps({"msg_type": "tf_file_registered", "tf_filename": "a_tf_001.tf"})


class Ear:
    """What the link told and handed over."""

    def __init__(self) -> None:
        self.changes: queue.Queue[LinkStateChange] = queue.Queue()
        self.bodies: queue.Queue[bytes] = queue.Queue()

    def accept(self, body: bytes) -> None:
        self.bodies.put(body)

    def change(self) -> LinkStateChange:
        return self.changes.get(timeout=DEADLINE_S)

    def until(self, wanted: Callable[[LinkStateChange], bool]) -> LinkStateChange:
        while not wanted(change := self.change()):
            pass
        return change

    def until_up(self) -> None:
        self.until(lambda change: change.up)

    def body(self) -> bytes:
        return self.bodies.get(timeout=DEADLINE_S)


def parameters(port: int, **differing: Any) -> ConnectionParameters:
    plain = ConnectionParameters(
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
    return dataclasses.replace(plain, **differing)


@contextmanager
def linked(of: ConnectionParameters, ear: Ear) -> Iterator[BrokerConnection]:
    link = BrokerConnection(
        of, accept=ear.accept, changed=ear.changes.put, stopping=threading.Event(), jitter=lambda: 0.0
    )
    link.start()
    try:
        yield link
    finally:
        link.stop(DEADLINE_S)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def server() -> Iterator[BrokerThread]:
    with BrokerThread(Server(user="fastmon", password="secret")) as thread:
        yield thread


def publish(server: BrokerThread, destination: str, body: str) -> None:
    server.call(lambda: server.broker.publish(destination, body, {"persistent": "true"}))


def test_a_message_is_handed_over_as_bytes_and_acknowledged(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port, subscribe=QUEUE), ear) as link:
        ear.until_up()
        assert link.up
        publish(server, QUEUE, "grüße")
        assert ear.body() == "grüße".encode()
        server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)


def test_a_broker_of_stomp_1_1_is_understood(ear: Ear) -> None:
    with (
        BrokerThread(Server(user="fastmon", password="secret", versions=("1.1", "1.0"))) as server,
        linked(parameters(server.port, subscribe=QUEUE), ear) as link,
    ):
        ear.until_up()
        publish(server, QUEUE, "m")
        assert ear.body() == b"m"
        server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
        link.announce(BODY, "id-1")


def test_a_broker_of_stomp_1_0_is_named(ear: Ear) -> None:
    with (
        BrokerThread(Server(user="fastmon", password="secret", versions=("1.0",))) as server,
        linked(parameters(server.port), ear),
    ):
        change = ear.change()
        assert not change.up
        assert "1.0" in change.reason


def test_an_announcement_goes_to_every_destination_persistent_and_with_its_event_id(ear: Ear) -> None:
    sent: queue.Queue[tuple[str, str, dict[str, str]]] = queue.Queue()
    server = Server(user="fastmon", password="secret", on_send=lambda *what: sent.put(what))
    with (
        BrokerThread(server) as thread,
        linked(parameters(thread.port, subscribe="", announce=(TOPIC, OTHER)), ear) as link,
    ):
        ear.until_up()
        link.announce(BODY, "id-1")
        got = [sent.get_nowait(), sent.get_nowait()]
    assert [destination for destination, _, _ in got] == [TOPIC, OTHER]
    for _, body, headers in got:
        assert body == BODY
        assert headers["persistent"] == "true"
        assert headers["_AMQ_DUPL_ID"] == "id-1"
        assert headers["msg_type"] == "tf_file_registered"


def test_announcements_of_many_threads_are_each_confirmed(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port, announce=(QUEUE,)), ear) as link:
        ear.until_up()

        def announce_many(worker: int) -> None:
            for number in range(20):
                link.announce(BODY, f"{worker}-{number}")

        threads = [threading.Thread(target=announce_many, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert server.call(lambda: server.broker.queue_depth(QUEUE)) == 80


def test_changes_are_told_and_connections_made_by_the_links_own_thread_only(server: BrokerThread) -> None:
    told: queue.Queue[tuple[LinkStateChange, str]] = queue.Queue()
    link = BrokerConnection(
        parameters(server.port),
        accept=lambda _: None,
        changed=lambda change: told.put((change, threading.current_thread().name)),
        stopping=threading.Event(),
        jitter=lambda: 0.0,
    )
    link.start()
    seen = [told.get(timeout=DEADLINE_S)]
    server.call(server.broker.drop_connections)
    seen += [told.get(timeout=DEADLINE_S), told.get(timeout=DEADLINE_S)]
    assert link.stop(DEADLINE_S)
    assert [change.up for change, _ in seen] == [True, False, True]
    assert {thread for _, thread in seen} == {"broker-link"}


def test_the_probe_says_whether_the_link_is_up(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port), ear) as link:
        ear.until_up()
        link.probe()
        server.stop()
        ear.change()
        with pytest.raises(LinkDown):
            link.probe()


def test_without_a_connection_an_announcement_says_that_the_link_is_down(ear: Ear) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with linked(parameters(port), ear) as link:
        change = ear.change()
        assert not change.up
        assert not change.blocked
        assert f"127.0.0.1:{port}" in change.reason
        with pytest.raises(LinkDown, match=str(port)):
            link.announce(BODY, "id-1")


def test_an_announcement_without_receipt_drops_the_connection(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port, receipt_s=0.5), ear) as link:
        ear.until_up()
        server.broker.no_receipts = True
        with pytest.raises(LinkDown, match="RECEIPT"):
            link.announce(BODY, "id-1")
        assert "RECEIPT" in ear.change().reason
        server.broker.no_receipts = False
        ear.until_up()
        link.announce(BODY, "id-1")


def test_the_subscription_bounds_what_the_broker_may_send_before_it_has_our_acknowledgements(
    server: BrokerThread, ear: Ear
) -> None:
    asked: queue.Queue[dict[str, str]] = queue.Queue()

    def note(what: str, _: Session, frame: Frame) -> HookResult:
        if what == "receive" and frame.command == "SUBSCRIBE":
            asked.put(frame.headers)
        return None

    server.broker.hook = note
    with linked(parameters(server.port), ear):
        headers = asked.get(timeout=DEADLINE_S)
    assert headers["ack"] == "client-individual"
    assert headers["activemq.prefetchSize"] == "1000"
    assert headers["consumer-window-size"] == "1048576"


def test_an_error_without_a_word_is_told_as_one(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    with door(monkeypatch) as (port, next_caller), linked(parameters(port, connect_s=1000.0), ear):
        next_caller().sendall(b"ERROR\n\n\0")
        assert ear.until(lambda change: "ERROR" in change.reason).reason.endswith("sent an ERROR: without a word")


def test_a_trial_is_nobody_in_particular_and_says_goodbye(server: BrokerThread) -> None:
    ids: list[str | None] = []

    def note(what: str, session: Session, frame: Frame) -> HookResult:
        if what == "receive" and frame.command == "SUBSCRIBE":
            ids.append(session.client_id)
        return None

    server.broker.hook = note
    check_login(parameters(server.port, durable=True), TOPIC)
    assert ids == [None]
    assert server.call(lambda: server.broker.counters.received["DISCONNECT"]) == 1


def test_a_trial_says_what_the_broker_did_not_do(server: BrokerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_daemon.broker.probe.PROBE_TIMEOUT_S", 0.5)
    server.broker.hook = lambda what, _, frame: "drop" if (what, frame.command) == ("send", "MESSAGE") else None
    with pytest.raises(LinkDown, match="did not deliver it"):
        measure_round_trip(parameters(server.port))
    server.broker.hook = None
    server.wait_until(lambda: not server.broker.sessions)
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(LinkDown, match="did not answer"):
        check_login(parameters(deaf.getsockname()[1]))


def test_a_trial_of_tls_leaves_no_socket_open(ca: tuple[trustme.CA, Path]) -> None:
    with secure_server(ca[0], "localhost") as server:
        assert check_reachable(parameters(server.port, host="localhost", use_ssl=True, ca_file=ca[1])).startswith("TLS")
        gc.collect()


def test_an_announcement_that_the_broker_refuses_says_so(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port, announce=("nowhere",)), ear) as link:
        ear.until_up()
        with pytest.raises(LinkDown, match="ERROR"):
            link.announce(BODY, "id-1")
        assert not ear.change().up
        ear.until_up()


def test_an_announcement_that_the_broker_does_not_even_read_drops_the_connection(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = json.dumps({"msg_type": "tf_file_registered", "text": "x" * 30_000_000})  # more than the sockets hold
    with door(monkeypatch) as (port, next_caller), linked(parameters(port, subscribe="", receipt_s=0.5), ear) as link:
        next_caller().sendall(b"CONNECTED\nversion:1.2\n\n\0")
        ear.until_up()
        with pytest.raises(LinkDown, match="RECEIPT"):
            link.announce(big, "id-1")


def test_the_loss_of_the_connection_ends_a_waiting_announcement(server: BrokerThread, ear: Ear) -> None:
    def swallow_and_cut(what: str, _: Session, frame: Frame) -> HookResult:
        if what == "receive" and frame.command == "SEND":
            server.broker.drop_connections()
            return "drop"
        return None

    with linked(parameters(server.port, receipt_s=1000.0), ear) as link:
        ear.until_up()
        server.broker.hook = swallow_and_cut
        with pytest.raises(LinkDown):
            link.announce(BODY, "id-1")


def test_after_a_restart_of_the_broker_the_link_is_back_by_itself(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port), ear) as link:
        ear.until_up()
        server.stop()
        assert not ear.change().up
        server.start()
        ear.until_up()
        publish(server, TOPIC, "m")
        assert ear.body() == b"m"
        link.announce(BODY, "id-1")


def test_an_error_of_ours_on_a_link_that_is_up_ends_the_connection_and_not_the_thread(
    server: BrokerThread, ear: Ear
) -> None:
    broken = threading.Event()

    def monotonic() -> float:
        if broken.is_set() and threading.current_thread().name == "broker-link":
            broken.clear()
            raise ZeroDivisionError("of ours")
        return time.monotonic()

    link = BrokerConnection(
        parameters(server.port),
        accept=ear.accept,
        changed=ear.changes.put,
        stopping=threading.Event(),
        monotonic=monotonic,
    )
    link.start()
    try:
        ear.until_up()
        broken.set()
        assert "ZeroDivisionError: of ours" in ear.change().reason
        ear.until_up()
        server.wait_until(lambda: len(server.broker.sessions) == 1)
    finally:
        link.stop(DEADLINE_S)


class Hurried(threading.Event):
    """Ends no pause before its time, but at once; remembers how long each was to be."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: queue.Queue[float] = queue.Queue()

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.put(timeout or 0.0)
        return self.is_set()

    def next(self, count: int) -> list[float]:
        return [self.pauses.get(timeout=DEADLINE_S) for _ in range(count)]


@contextmanager
def hurried(of: ConnectionParameters, ear: Ear, now: list[float]) -> Iterator[Hurried]:
    """A link by the clock *now* that never pauses; each pause would be its longest."""
    hurry = Hurried()
    link = BrokerConnection(
        of, accept=ear.accept, changed=ear.changes.put, stopping=hurry, monotonic=lambda: now[0], jitter=lambda: 1.0
    )
    link.start()
    try:
        yield hurry
    finally:
        link.stop(DEADLINE_S)


def test_pauses_between_attempts_grow_to_five_seconds_and_begin_anew_after_a_link_that_lasted(ear: Ear) -> None:
    now = [0.0]
    with BrokerThread(Server(user="fastmon", password="secret", heart_beat_ms=0)) as server:
        server.stop()
        with hurried(parameters(server.port), ear, now) as hurry:
            first, *_, last = pauses = hurry.next(6)
            assert pauses == sorted(pauses)
            assert (first, last) == (1.0, 5.0)
            server.start()
            ear.until_up()
            now[0] += 31.0
            hurry.pauses.queue.clear()
            server.stop()
            lasted, again = hurry.next(2)
            assert (lasted, again) == (0.5, 1.0)


def test_where_a_person_must_act_pauses_are_up_to_half_a_minute_and_the_reason_is_told_once(
    server: BrokerThread, ear: Ear
) -> None:
    with hurried(parameters(server.port, password=lambda: "wrong"), ear, [0.0]) as hurry:
        assert hurry.next(4) == [30.0] * 4
        assert ear.change().blocked
        with pytest.raises(queue.Empty):
            ear.changes.get_nowait()


def test_a_broker_that_falls_silent_is_noticed_by_its_heart_beats(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port, heart_beat_s=0.5), ear):
        ear.until_up()
        server.call(lambda: server.broker.silent(600))
        change = ear.change()
        assert "nothing was heard" in change.reason
        assert float(change.reason.split()[-2]) >= 1.4
        server.call(lambda: server.broker.silent(0))
        ear.until_up()


def test_over_tls_too_a_broker_that_falls_silent_is_noticed(ca: tuple[trustme.CA, Path], ear: Ear) -> None:
    secure = {"host": "localhost", "use_ssl": True, "ca_file": ca[1]}
    with (
        secure_server(ca[0], "localhost") as server,
        linked(parameters(server.port, heart_beat_s=0.5, receipt_s=1000.0, **secure), ear) as link,
    ):
        ear.until_up()
        server.call(lambda: server.broker.silent(600))
        with pytest.raises(LinkDown, match="nothing was heard"):
            link.announce(BODY, "id-1")
        assert "nothing was heard" in ear.change().reason
        server.call(lambda: server.broker.silent(0))
        ear.until_up()


@pytest.mark.parametrize("tls", [False, True])
def test_a_healthy_broker_whose_beats_come_late_is_not_cut(tls: bool, ca: tuple[trustme.CA, Path], ear: Ear) -> None:
    """Artemis counts its interval anew after other traffic, so that nearly two pass without a byte."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context:
        ca[0].issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        secure = {"host": "localhost", "use_ssl": True, "ca_file": ca[1]} if tls else {}
        over = threading.Event()
        tardy = threading.Thread(target=beats_late, args=(listening, context, over))
        tardy.start()
        with linked(
            parameters(listening.getsockname()[1], subscribe="", heart_beat_s=0.8, receipt_s=0.5, **secure), ear
        ):
            ear.until_up()
            with pytest.raises(queue.Empty):
                ear.changes.get(timeout=4)
            over.set()
        tardy.join(DEADLINE_S)


def beats_late(listening: socket.socket, context: ssl.SSLContext | None, over: threading.Event) -> None:
    """A broker that promises a beat every 0.8 s and sends one every 1.5 s, until it is over."""
    connection, _ = listening.accept()
    if context:
        connection = context.wrap_socket(connection, server_side=True)
    with connection:
        connection.recv(4096)
        connection.sendall(b"CONNECTED\nversion:1.2\nheart-beat:800,800\n\n\0")
        while not over.wait(1.5):
            connection.sendall(b"\n")


def test_a_broker_without_heart_beats_is_never_cut_for_its_silence(ear: Ear) -> None:
    with (
        BrokerThread(Server(user="fastmon", password="secret", heart_beat_ms=0)) as server,
        linked(parameters(server.port, heart_beat_s=0.1), ear),
    ):
        ear.until_up()
        with pytest.raises(queue.Empty):
            ear.changes.get(timeout=1.5)


def test_a_slow_store_is_not_taken_for_a_silent_broker(server: BrokerThread, ear: Ear) -> None:
    go_on = threading.Event()
    store = ear.accept
    ear.accept = lambda body: (go_on.wait(1.5), store(body))[1]  # type: ignore[method-assign]
    with linked(parameters(server.port, subscribe=QUEUE, heart_beat_s=0.2), ear):
        ear.until_up()
        publish(server, QUEUE, "m")
        assert ear.body() == b"m"
        server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
        assert ear.changes.empty()


def test_a_wrong_password_holds_the_link_until_it_is_changed(server: BrokerThread, ear: Ear) -> None:
    password = "wrong-one"
    with linked(parameters(server.port, password=lambda: password), ear) as link:
        change = ear.change()
        assert change.blocked
        assert "ACTIVEMQ_PASSWORD" in change.reason
        assert "wrong-one" not in change.reason
        with pytest.raises(LinkBlocked):
            link.announce(BODY, "id-1")
        password = "secret"
        ear.until_up()


def test_a_durable_subscription_keeps_what_comes_while_we_are_away(server: BrokerThread, ear: Ear) -> None:
    durable = parameters(server.port, durable=True)
    with linked(durable, ear):
        ear.until_up()
    publish(server, TOPIC, "meanwhile")
    again = Ear()
    with linked(durable, again):
        assert again.body() == b"meanwhile"
        assert server.call(lambda: [each.client_id for each in server.broker.sessions]) == ["fastmon-test"]


def test_without_durable_no_client_id_is_sent(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port), ear):
        ear.until_up()
        assert server.call(lambda: [each.client_id for each in server.broker.sessions]) == [None]


def test_a_client_id_that_is_still_in_use_is_waited_for(server: BrokerThread, ear: Ear) -> None:
    durable = parameters(server.port, durable=True)
    late = Ear()
    with linked(durable, ear) as earlier:
        ear.until_up()
        with linked(durable, late):
            change = late.change()
            assert not change.blocked
            assert "earlier session" in change.reason
            earlier.stop(DEADLINE_S)
            late.until_up()


def test_stop_says_goodbye_and_is_clean(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port), ear) as link:
        ear.until_up()
        assert link.stop(DEADLINE_S)
        assert server.call(lambda: server.broker.counters.received["DISCONNECT"]) == 1
        assert ear.change() == LinkStateChange(up=False, reason="stopped")
        assert not link.up


def test_stop_keeps_its_deadline_against_a_silent_broker_and_is_not_clean(server: BrokerThread, ear: Ear) -> None:
    with linked(parameters(server.port, receipt_s=1000.0, heart_beat_s=1000.0), ear) as link:
        ear.until_up()
        server.call(lambda: server.broker.silent(600))
        assert not link.stop(0.5)
        assert "goodbye" in ear.change().reason
        server.call(lambda: server.broker.silent(0))


def test_a_stop_while_the_subscription_is_unconfirmed_does_not_wait_for_it(server: BrokerThread, ear: Ear) -> None:
    server.broker.no_receipts = True
    with linked(parameters(server.port, receipt_s=1000.0), ear) as link:
        server.wait_until(lambda: server.broker.counters.received["SUBSCRIBE"] == 1)
        assert link.stop(DEADLINE_S)
        assert ear.change() == LinkStateChange(up=False, reason="stopped")


def test_a_stop_is_not_clean_while_whoever_is_told_of_it_hangs(server: BrokerThread, ear: Ear) -> None:
    go_on = threading.Event()

    def hang(change: LinkStateChange) -> None:
        ear.changes.put(change)
        if not change.up:
            go_on.wait(DEADLINE_S)

    link = BrokerConnection(parameters(server.port), accept=ear.accept, changed=hang, stopping=threading.Event())
    link.start()
    ear.until_up()
    assert not link.stop(2.0)
    assert ear.change() == LinkStateChange(up=False, reason="stopped")
    go_on.set()
    assert link.stop(DEADLINE_S)


def test_stop_keeps_its_deadline_where_the_links_thread_hangs_before_it_has_a_session(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, go_on = threading.Event(), threading.Event()

    def hang(change: LinkStateChange) -> None:
        told.set()
        go_on.wait(DEADLINE_S)
        ear.changes.put(change)

    with door(monkeypatch) as (port, _):
        link = BrokerConnection(
            parameters(port, connect_s=1000.0), accept=ear.accept, changed=hang, stopping=threading.Event()
        )
        link.start()
        assert told.wait(DEADLINE_S)
        try:
            assert link.stop(0.2)  # nothing stood, so there was nothing to say
            assert ear.changes.empty()
        finally:
            go_on.set()
        assert "did not answer" in ear.change().reason


def test_a_stop_during_a_connect_does_not_wait_for_an_answer(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    with door(monkeypatch) as (port, next_caller):
        monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 1000.0)
        with linked(parameters(port, connect_s=1000.0), ear) as link:
            unanswered = next_caller()
            assert link.stop(2.0)
            assert ear.change() == LinkStateChange(up=False, reason="stopped")
            assert hung_up(unanswered)


def test_an_attempt_that_is_begun_after_the_stop_is_not_waited_for(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    beginning, go_on = threading.Event(), threading.Event()

    def monotonic() -> float:
        if threading.current_thread().name == "broker-link":
            beginning.set()
            go_on.wait(DEADLINE_S)
        return time.monotonic()

    with door(monkeypatch) as (port, _):
        monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 1000.0)
        link = BrokerConnection(
            parameters(port, connect_s=1000.0), accept=ear.accept, changed=ear.changes.put, stopping=threading.Event(),
            monotonic=monotonic,
        )  # fmt: skip
        link.start()
        assert beginning.wait(DEADLINE_S)
        link.stop(0.1)
        go_on.set()
        assert ear.change() == LinkStateChange(up=False, reason="stopped")


def test_an_attempt_that_is_cut_during_its_tls_handshake_leaves_no_socket_open(
    ca: tuple[trustme.CA, Path], ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca[0].issue_cert("localhost").configure_cert(context)
    secure = {"host": "localhost", "use_ssl": True, "ca_file": ca[1]}
    with door(monkeypatch) as (port, next_caller), linked(parameters(port, connect_s=1000.0, **secure), ear) as link:
        caller = next_caller()
        assert link.stop(DEADLINE_S)
        with context.wrap_socket(caller, server_side=True) as secured, suppress(ConnectionResetError):
            assert hung_up(secured)
        for thread in threading.enumerate():
            if thread.name == "broker-attempt":
                thread.join(DEADLINE_S)
    del link
    gc.collect()  # a socket that was left open warns, and a warning is an error


def test_a_broker_that_ends_the_connection_during_connect_is_said_to_have_closed_it(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where CONNECT itself fails: that it could not be sent says nothing of why."""
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

    with door(monkeypatch) as (port, next_caller):
        monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 1000.0)
        monkeypatch.setattr(socket.socket, "sendall", send_late)
        monkeypatch.setattr(socket.socket, "recv", receive_later)
        with linked(parameters(port, connect_s=1000.0), ear):
            caller = next_caller()
            assert sending.wait(DEADLINE_S)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.close()
            ended.set()
            assert ear.change().reason == f"the broker at 127.0.0.1:{port} closed the connection"


def test_a_silent_listener_at_connect_is_given_up(ear: Ear) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        linked(parameters(deaf.getsockname()[1], connect_s=0.3), ear) as link,
    ):
        assert "did not answer" in ear.change().reason
        assert link.stop(DEADLINE_S)


@contextmanager
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Callable[[], socket.socket]]]:
    """A port, and what takes the next caller there; an attempt that is unanswered for 0.1 s is followed by another."""
    monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 0.1)
    with ExitStack() as callers, socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE_S)
        yield listening.getsockname()[1], lambda: callers.enter_context(listening.accept()[0])


def let_in(caller: socket.socket) -> None:
    """CONNECTED to CONNECT, then a RECEIPT for whatever wants one."""
    caller.settimeout(None)

    def serve() -> None:
        came = b""
        with suppress(OSError):  # the test is over
            while data := caller.recv(4096):
                *frames, came = (came + data).split(b"\0")
                for frame in frames:
                    caller.sendall(reply(frame))

    def reply(frame: bytes) -> bytes:
        lines = frame.strip().split(b"\n")
        receipt = next((line.partition(b":")[2] for line in lines if line.startswith(b"receipt:")), None)
        if lines[0] in {b"CONNECT", b"STOMP"}:
            return b"CONNECTED\nversion:1.2\n\n\0"
        return b"RECEIPT\nreceipt-id:" + receipt + b"\n\n\0" if receipt else b""

    threading.Thread(target=serve, daemon=True).start()


def hung_up(caller: socket.socket) -> bool:
    """Wait until the caller has ended the connection."""
    caller.settimeout(DEADLINE_S)
    while caller.recv(4096):
        pass
    return True


def test_attempts_that_nobody_answers_do_not_delay_the_one_that_is(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after packets have vanished: what was begun then is never answered, and waits for its own deadline."""
    with door(monkeypatch) as (port, next_caller), linked(parameters(port, connect_s=1000.0), ear) as link:
        unanswered = [next_caller() for _ in range(3)]
        assert "did not answer within 0.1 s" in ear.change().reason
        let_in(next_caller())
        ear.until_up()
        assert all(map(hung_up, unanswered))
        assert link.stop(DEADLINE_S)


@pytest.mark.parametrize("tls", [False, True])
def test_a_broker_that_is_slow_to_answer_is_still_heard(
    tls: bool, ca: tuple[trustme.CA, Path], ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca[0].issue_cert("localhost").configure_cert(context)
    way = {"use_ssl": True, "ca_file": ca[1], "host": "localhost"} if tls else {}
    with (
        door(monkeypatch) as (port, next_caller),
        linked(parameters(port, connect_s=4.0, **way), ear) as link,
        ExitStack() as callers,
    ):
        first, second = next_caller(), next_caller()
        let_in(callers.enter_context(context.wrap_socket(first, server_side=True)) if tls else first)
        ear.until_up()
        assert hung_up(second)
        assert link.stop(DEADLINE_S)


def test_an_attempt_that_is_refused_ends_no_other_that_may_still_be_answered(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    with door(monkeypatch) as (port, next_caller), linked(parameters(port, connect_s=1000.0), ear):
        slow, refused = next_caller(), next_caller()
        refused.sendall(b"ERROR\nmessage:busy\n\n\0")
        ear.until(lambda change: "busy" in change.reason)
        let_in(slow)
        ear.until_up()


def test_where_an_attempt_was_answered_during_the_pause_no_other_is_begun(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 0.1)
    go_on = threading.Event()

    def pause(change: LinkStateChange) -> None:
        ear.changes.put(change)
        if not change.up:
            go_on.wait(DEADLINE_S)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE_S)
        slow = parameters(listening.getsockname()[1], subscribe="", connect_s=1000.0, heart_beat_s=0.1)
        link = BrokerConnection(slow, accept=ear.accept, changed=pause, stopping=threading.Event(), jitter=lambda: 0.0)
        link.start()
        caller, _ = listening.accept()
        with caller:
            caller.settimeout(DEADLINE_S)
            assert "did not answer" in ear.change().reason
            assert caller.recv(4096)
            caller.sendall(b"CONNECTED\nversion:1.2\nheart-beat:0,100\n\n\0")
            assert caller.recv(1) == b"\n"  # a heart-beat: the answer has been heard
            go_on.set()
            ear.until_up()
        link.stop(DEADLINE_S)
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_attempts_that_are_still_unanswered_end_with_the_link(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    with door(monkeypatch) as (port, next_caller):
        with linked(parameters(port, connect_s=1000.0), ear) as link:
            unanswered = next_caller()
            assert not ear.change().up  # the link pauses before its next attempt
            assert link.stop(DEADLINE_S)
        assert hung_up(unanswered)


def test_an_attempt_that_was_never_answered_is_given_up_in_the_end(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    with door(monkeypatch) as (port, next_caller), linked(parameters(port, connect_s=0.5), ear):
        assert hung_up(next_caller())


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, path


@contextmanager
def secure_server(ca: trustme.CA, name: str, *, asks_for_ours: bool = False) -> Iterator[BrokerThread]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    if asks_for_ours:
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)
    with BrokerThread(Server(user="fastmon", password="secret"), ssl=context) as thread:
        yield thread


def test_over_tls_everything_works_and_a_lost_broker_is_noticed(ca: tuple[trustme.CA, Path], ear: Ear) -> None:
    secure = {"host": "localhost", "use_ssl": True, "ca_file": ca[1]}
    with (
        secure_server(ca[0], "localhost") as server,
        linked(
            parameters(server.port, subscribe=QUEUE, heart_beat_s=1000.0, **secure), ear
        ) as link,  # no help by silence
    ):
        ear.until_up()
        publish(server, QUEUE, "m")
        assert ear.body() == b"m"
        link.announce(BODY, "id-1")
        server.stop()
        assert not ear.change().up
        server.start()
        ear.until_up()
        link.announce(BODY, "id-2")
        assert link.stop(DEADLINE_S)


@pytest.mark.parametrize("wrong", ["CA", "host"])
def test_a_certificate_that_does_not_fit_holds_the_link_and_no_login_is_sent(
    wrong: str, ca: tuple[trustme.CA, Path], ear: Ear
) -> None:
    issuer, name = (trustme.CA(), "localhost") if wrong == "CA" else (ca[0], "broker.example.org")
    with (
        secure_server(issuer, name) as server,
        linked(parameters(server.port, host="localhost", use_ssl=True, ca_file=ca[1]), ear),
    ):
        change = ear.change()
        assert change.blocked
        assert "ACTIVEMQ_SSL_CA_CERTS" in change.reason
        assert server.call(lambda: sum(server.broker.counters.received.values())) == 0


def test_a_broker_that_asks_for_a_certificate_of_ours_gets_it(
    ca: tuple[trustme.CA, Path], tmp_path: Path, ear: Ear
) -> None:
    ours = ca[0].issue_cert("fastmon.example.org")
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    shown = {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}
    with (
        secure_server(ca[0], "localhost", asks_for_ours=True) as server,
        linked(parameters(server.port, host="localhost", use_ssl=True, ca_file=ca[1], **shown), ear) as link,
    ):
        ear.until_up()
        link.announce(BODY, "id-1")


def test_without_a_certificate_of_ours_the_link_is_held_and_says_which_setting_names_it(
    ca: tuple[trustme.CA, Path], ear: Ear
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca[0].issue_cert("localhost").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED  # asyncio, hence the testbed's broker, would hang up without the alert

    def refuse() -> None:
        connection, _ = listening.accept()
        with connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        strict = threading.Thread(target=refuse)
        strict.start()
        with linked(parameters(listening.getsockname()[1], host="localhost", use_ssl=True, ca_file=ca[1]), ear):
            change = ear.change()
            strict.join(DEADLINE_S)
    assert change.blocked
    assert "ACTIVEMQ_SSL_CERT_FILE" in change.reason


@pytest.mark.parametrize("what", ["no such file", "no key"])
def test_a_certificate_of_ours_that_cannot_be_used_holds_the_link(
    what: str, ca: tuple[trustme.CA, Path], tmp_path: Path, ear: Ear, server: BrokerThread
) -> None:
    cert = tmp_path / "cert.pem"
    if what == "no key":
        ca[0].issue_cert("fastmon.example.org").cert_chain_pems[0].write_to_path(str(cert))
    with linked(parameters(server.port, use_ssl=True, ca_file=ca[1], cert_file=cert), ear):
        change = ear.change()
        assert change.blocked
        assert "ACTIVEMQ_SSL_CERT_FILE" in change.reason


def test_with_tls_nothing_but_a_handshake_is_sent_to_a_broker_without_tls(
    ca: tuple[trustme.CA, Path], ear: Ear
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        with linked(parameters(port, use_ssl=True, ca_file=ca[1], connect_s=1.0), ear):
            plain.settimeout(DEADLINE_S)
            peer, _ = plain.accept()
            with peer:
                peer.settimeout(DEADLINE_S)
                seen = b""
                while data := peer.recv(65536):
                    seen += data
    assert seen.startswith(b"\x16\x03")
    assert b"secret" not in seen


def test_an_unreadable_ca_file_holds_the_link(server: BrokerThread, tmp_path: Path, ear: Ear) -> None:
    with linked(parameters(server.port, use_ssl=True, ca_file=tmp_path / "none.pem"), ear):
        change = ear.change()
        assert change.blocked
        assert "ACTIVEMQ_SSL_CA_CERTS" in change.reason


def test_tls_without_a_ca_file_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="ACTIVEMQ_SSL_CA_CERTS"):
        parameters(1, use_ssl=True)


@pytest.mark.parametrize(("durable", "config"), [(True, "still holds an earlier session"), (False, "sent an ERROR")])
def test_only_a_durable_subscription_has_a_session_that_may_be_in_use(durable: bool, config: str) -> None:
    refusal = parameters(1, durable=durable).broker_error("client already connected")
    assert type(refusal) is LinkDown
    assert config in str(refusal)


def test_the_password_is_not_in_the_login_s_text() -> None:
    assert "password" not in repr(parameters(1))

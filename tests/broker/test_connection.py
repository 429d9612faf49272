"""The link to the broker, against the embedded broker over real sockets."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from typing import Any

import pytest

from fastmon_daemon.base.errors import LinkBlocked, LinkDown
from fastmon_daemon.broker import LinkStateChange
from fastmon_daemon.testbed.stomp_broker import BrokerThread, Frame, HookResult, Session
from tests.broker.links import (
    BODY,
    DEADLINE_S,
    QUEUE,
    TOPIC,
    FakeBroker,
    LinkRecorder,
    answer_frames,
    connected_link,
    embedded_broker,
    parameters,
    publish,
    running_link,
)


def test_a_message_is_handed_over_as_bytes_and_acknowledged(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, subscribe=QUEUE), recorder) as link:
        assert link.up
        publish(server, QUEUE, "grüße")
        assert recorder.next_body() == "grüße".encode()
        server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)


def test_stomp_1_1_is_supported(recorder: LinkRecorder) -> None:
    with (
        BrokerThread(embedded_broker(versions=("1.1", "1.0"))) as server,
        connected_link(parameters(server.port, subscribe=QUEUE), recorder) as link,
    ):
        publish(server, QUEUE, "m")
        assert recorder.next_body() == b"m"
        server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
        link.announce(BODY, "id-1")


def test_stomp_1_0_is_an_error_that_names_the_version(recorder: LinkRecorder) -> None:
    with BrokerThread(embedded_broker(versions=("1.0",))) as server, running_link(parameters(server.port), recorder):
        change = recorder.next_change()
        assert not change.up
        assert "1.0" in change.reason


def test_an_announcement_is_sent_persistent_to_every_destination_with_its_event_id(recorder: LinkRecorder) -> None:
    sent: queue.Queue[tuple[str, str, dict[str, str]]] = queue.Queue()
    destinations = (TOPIC, "/topic/other")
    with (
        BrokerThread(embedded_broker(on_send=lambda *message: sent.put(message))) as server,
        connected_link(parameters(server.port, subscribe="", announce=destinations), recorder) as link,
    ):
        link.announce(BODY, "id-1")
        messages = [sent.get_nowait(), sent.get_nowait()]
    assert tuple(destination for destination, _, _ in messages) == destinations
    for _, body, headers in messages:
        assert body == BODY
        assert headers["persistent"] == "true"
        assert headers["_AMQ_DUPL_ID"] == "id-1"
        assert headers["msg_type"] == "tf_file_registered"


def test_announcements_of_many_threads_are_each_confirmed(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, announce=(QUEUE,)), recorder) as link:

        def announce_many(worker: int) -> None:
            for number in range(20):
                link.announce(BODY, f"{worker}-{number}")

        threads = [threading.Thread(target=announce_many, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert server.call(lambda: server.broker.queue_depth(QUEUE)) == 80


def test_messages_that_are_sent_together_arrive_in_one_piece(recorder: LinkRecorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        broker = FakeBroker(listening)
        with running_link(parameters(broker.port, subscribe="", announce=(TOPIC,)), recorder) as link:
            connection = broker.next_connection()
            connection.recv(4096)
            connection.sendall(b"CONNECTED\nversion:1.2\n\n\0")
            assert recorder.next_change().up
            with link.together():
                sent = [link.send(BODY, f"id-{n}") for n in range(3)]
                connection.setblocking(False)
                with pytest.raises(BlockingIOError):
                    connection.recv(4096)
            connection.settimeout(DEADLINE_S)
            frames = connection.recv(65536).split(b"\0")
            assert [frame.count(b"id-") for frame in frames] == [1, 1, 1, 0]
            connection.sendall(b"".join(b"RECEIPT\nreceipt-id:%d\n\n\0" % n for n in (1, 2, 3)))
            for each in sent:
                each.result(DEADLINE_S)
            answer_frames(connection)
        connection.close()


def test_messages_that_arrive_together_are_acknowledged_in_one_piece(recorder: LinkRecorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        broker = FakeBroker(listening)
        with running_link(parameters(broker.port), recorder) as link:
            connection = broker.next_connection()
            connection.settimeout(DEADLINE_S)
            connection.recv(4096)
            connection.sendall(b"CONNECTED\nversion:1.2\n\n\0")
            assert b"SUBSCRIBE" in connection.recv(4096)
            message = b"MESSAGE\nsubscription:fastmon\nmessage-id:%d\nack:a%d\ndestination:/topic/epictopic\n\n%d\0"
            messages = b"".join(message % (n, n, n) for n in range(5))
            connection.sendall(b"RECEIPT\nreceipt-id:1\n\n\0" + messages)
            acks = connection.recv(65536).split(b"\0")
            assert [b"ACK" in frame and b"id:a%d" % n in frame for n, frame in enumerate(acks[:5])] == [True] * 5
            assert acks[5:] == [b""]
            assert recorder.next_change().up
            assert link.up
            answer_frames(connection)
        connection.close()


def test_messages_that_cannot_be_sent_together_fail(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, announce=(QUEUE,)), recorder) as link:
        with link.together():
            sent = [link.send(BODY, f"id-{n}") for n in range(3)]
            server.call(server.broker.drop_connections)
            assert not recorder.next_change().up
        for each in sent:
            with pytest.raises(LinkDown):
                each.result(DEADLINE_S)
        assert server.call(lambda: server.broker.queue_depth(QUEUE)) == 0


def test_messages_are_sent_while_none_before_them_is_confirmed(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, announce=(TOPIC, QUEUE)), recorder) as link:
        server.broker.no_receipts = True
        sent = [link.send(BODY, f"id-{n}") for n in range(3)]
        server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 3)
        assert not any(each.done() for each in sent)
        server.call(server.broker.drop_connections)
        for each in sent:
            with pytest.raises(LinkDown):
                each.result(DEADLINE_S)


def test_state_changes_are_reported_on_the_links_own_thread(server: BrokerThread, recorder: LinkRecorder) -> None:
    reported: queue.Queue[tuple[bool, str]] = queue.Queue()

    def changed(change: LinkStateChange) -> None:
        reported.put((change.up, threading.current_thread().name))

    with running_link(parameters(server.port), recorder, changed=changed) as link:
        seen = [reported.get(timeout=DEADLINE_S)]
        server.call(server.broker.drop_connections)
        seen += [reported.get(timeout=DEADLINE_S), reported.get(timeout=DEADLINE_S)]
        assert link.stop(DEADLINE_S)
    assert seen == [(True, "broker-link"), (False, "broker-link"), (True, "broker-link")]


def test_the_probe_raises_when_the_link_is_down(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port), recorder) as link:
        link.probe()
        server.stop()
        recorder.next_change()
        with pytest.raises(LinkDown):
            link.probe()


def test_an_announcement_without_a_connection_raises_link_down(recorder: LinkRecorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running_link(parameters(port), recorder) as link:
        change = recorder.next_change()
        assert not change.up
        assert not change.blocked
        assert f"127.0.0.1:{port}" in change.reason
        with pytest.raises(LinkDown, match=str(port)):
            link.announce(BODY, "id-1")


def test_an_announcement_without_receipt_drops_the_connection(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, receipt_s=0.5), recorder) as link:
        server.broker.no_receipts = True
        with pytest.raises(LinkDown, match="RECEIPT"):
            link.announce(BODY, "id-1")
        assert "RECEIPT" in recorder.next_change().reason
        server.broker.no_receipts = False
        recorder.wait_until_up()
        link.announce(BODY, "id-1")


def test_an_announcement_that_the_broker_rejects_raises_its_error(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, announce=("nowhere",)), recorder) as link:
        with pytest.raises(LinkDown, match="ERROR"):
            link.announce(BODY, "id-1")
        assert not recorder.next_change().up
        recorder.wait_until_up()


def test_an_announcement_that_the_broker_never_reads_drops_the_connection(
    recorder: LinkRecorder, fake_broker: FakeBroker
) -> None:
    big = json.dumps({"msg_type": "tf_file_registered", "text": "x" * 30_000_000})  # larger than the socket buffers
    with running_link(parameters(fake_broker.port, subscribe="", receipt_s=0.5), recorder) as link:
        fake_broker.next_connection().sendall(b"CONNECTED\nversion:1.2\n\n\0")
        recorder.wait_until_up()
        with pytest.raises(LinkDown, match="RECEIPT"):
            link.announce(big, "id-1")


def test_a_lost_connection_ends_a_waiting_announcement(server: BrokerThread, recorder: LinkRecorder) -> None:
    def drop_at_send(what: str, _: Session, frame: Frame) -> HookResult:
        if what == "receive" and frame.command == "SEND":
            server.broker.drop_connections()
            return "drop"
        return None

    with connected_link(parameters(server.port, receipt_s=1000.0), recorder) as link:
        server.broker.hook = drop_at_send
        with pytest.raises(LinkDown):
            link.announce(BODY, "id-1")


def test_the_subscription_limits_unacknowledged_messages(server: BrokerThread, recorder: LinkRecorder) -> None:
    subscriptions: queue.Queue[dict[str, str]] = queue.Queue()

    def note(what: str, _: Session, frame: Frame) -> HookResult:
        if what == "receive" and frame.command == "SUBSCRIBE":
            subscriptions.put(frame.headers)
        return None

    server.broker.hook = note
    with running_link(parameters(server.port), recorder):
        headers = subscriptions.get(timeout=DEADLINE_S)
    assert headers["ack"] == "client-individual"
    assert headers["activemq.prefetchSize"] == "1000"
    assert headers["consumer-window-size"] == "1048576"


def test_unneeded_messages_do_not_come_on_a_plain_topic(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, unneeded_type="tf_file_registered"), recorder) as link:
        link.announce(BODY, "id-1")
        link.announce('{"msg_type": "fastmon_status"}', "id-2")
        publish(server, TOPIC, BODY)
        assert recorder.next_body() == b'{"msg_type": "fastmon_status"}', "of another type"
        assert recorder.next_body() == BODY.encode(), "other senders name the type only in the body"


@pytest.mark.parametrize(
    "kept", [{"subscribe": QUEUE}, {"durable": True}, {"shares_queue": True}], ids=["queue", "durable", "shared"]
)
def test_what_the_broker_keeps_for_us_is_never_left_out(
    server: BrokerThread, recorder: LinkRecorder, kept: dict[str, Any]
) -> None:
    changes = {"announce": (TOPIC, QUEUE), "unneeded_type": "tf_file_registered", **kept}
    with connected_link(parameters(server.port, **changes), recorder) as link:
        link.announce(BODY, "id-1")
        assert recorder.next_body() == BODY.encode()


def test_an_error_frame_without_text_is_reported(recorder: LinkRecorder, fake_broker: FakeBroker) -> None:
    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder):
        fake_broker.next_connection().sendall(b"ERROR\n\n\0")
        change = recorder.wait_until(lambda change: "ERROR" in change.reason)
        assert change.reason.endswith("sent an ERROR: no message")


def test_the_link_reconnects_after_a_restart_of_the_broker(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port), recorder) as link:
        server.stop()
        assert not recorder.next_change().up
        server.start()
        recorder.wait_until_up()
        publish(server, TOPIC, "m")
        assert recorder.next_body() == b"m"
        link.announce(BODY, "id-1")


def test_an_unexpected_error_ends_the_connection_but_not_the_thread(
    server: BrokerThread, recorder: LinkRecorder
) -> None:
    broken = threading.Event()

    def monotonic() -> float:
        if broken.is_set() and threading.current_thread().name == "broker-link":
            broken.clear()
            raise ZeroDivisionError("a bug")
        return time.monotonic()

    with connected_link(parameters(server.port), recorder, monotonic=monotonic):
        broken.set()
        assert "ZeroDivisionError: a bug" in recorder.next_change().reason
        recorder.wait_until_up()
        server.wait_until(lambda: len(server.broker.sessions) == 1)


def test_a_silent_broker_is_noticed_by_its_missing_heart_beats(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port, heart_beat_s=0.5), recorder):
        server.call(lambda: server.broker.silent(600))
        change = recorder.next_change()
        assert "no data" in change.reason
        assert float(change.reason.split()[-2]) >= 1.4
        server.call(lambda: server.broker.silent(0))
        recorder.wait_until_up()


def test_without_heart_beats_silence_never_ends_the_connection(recorder: LinkRecorder) -> None:
    with (
        BrokerThread(embedded_broker(heart_beat_ms=0)) as server,
        connected_link(parameters(server.port, heart_beat_s=0.1), recorder),
        pytest.raises(queue.Empty),
    ):
        recorder.changes.get(timeout=1.5)


def test_a_slow_store_is_not_mistaken_for_a_silent_broker(server: BrokerThread, recorder: LinkRecorder) -> None:
    def accept_slowly(body: bytes) -> None:
        time.sleep(1.5)
        recorder.accept(body)

    with connected_link(parameters(server.port, subscribe=QUEUE, heart_beat_s=0.2), recorder, accept=accept_slowly):
        publish(server, QUEUE, "m")
        assert recorder.next_body() == b"m"
        server.wait_until(lambda: server.broker.queue_depth(QUEUE) == 0)
        assert recorder.changes.empty()


def test_a_wrong_password_blocks_the_link_until_it_is_changed(server: BrokerThread, recorder: LinkRecorder) -> None:
    password = "wrong-one"
    with running_link(parameters(server.port, password=lambda: password), recorder) as link:
        change = recorder.next_change()
        assert change.blocked
        assert "ACTIVEMQ_PASSWORD" in change.reason
        assert "wrong-one" not in change.reason
        with pytest.raises(LinkBlocked):
            link.announce(BODY, "id-1")
        password = "secret"
        recorder.wait_until_up()


def test_the_password_is_not_in_the_repr() -> None:
    assert "password" not in repr(parameters(1))


def test_a_durable_subscription_keeps_messages_while_we_are_disconnected(
    server: BrokerThread, recorder: LinkRecorder
) -> None:
    durable = parameters(server.port, durable=True)
    with running_link(durable, recorder):
        recorder.wait_until_up()
    publish(server, TOPIC, "meanwhile")
    with running_link(durable, recorder):
        assert recorder.next_body() == b"meanwhile"
        assert server.call(lambda: [each.client_id for each in server.broker.sessions]) == ["fastmon-test"]


def test_without_durable_no_client_id_is_sent(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port), recorder):
        assert server.call(lambda: [each.client_id for each in server.broker.sessions]) == [None]


def test_the_link_waits_for_a_client_id_that_is_still_in_use(server: BrokerThread, recorder: LinkRecorder) -> None:
    durable = parameters(server.port, durable=True)
    second = LinkRecorder()
    with connected_link(durable, recorder) as earlier, running_link(durable, second):
        change = second.next_change()
        assert not change.blocked
        assert "earlier session" in change.reason
        earlier.stop(DEADLINE_S)
        second.wait_until_up()


@pytest.mark.parametrize(("durable", "text"), [(True, "still has an earlier session"), (False, "sent an ERROR")])
def test_only_a_durable_subscription_can_have_an_earlier_session(durable: bool, text: str) -> None:
    error = parameters(1, durable=durable).broker_error("client already connected")
    assert type(error) is LinkDown
    assert text in str(error)


def test_stop_disconnects_cleanly(server: BrokerThread, recorder: LinkRecorder) -> None:
    with connected_link(parameters(server.port), recorder) as link:
        assert link.stop(DEADLINE_S)
        assert server.call(lambda: server.broker.counters.received["DISCONNECT"]) == 1
        assert recorder.next_change() == LinkStateChange(up=False, reason="stopped")
        assert not link.up


def test_stop_keeps_its_deadline_with_a_silent_broker_and_is_not_clean(
    server: BrokerThread, recorder: LinkRecorder
) -> None:
    with connected_link(parameters(server.port, receipt_s=1000.0, heart_beat_s=1000.0), recorder) as link:
        server.call(lambda: server.broker.silent(600))
        assert not link.stop(5.0)
        assert "broker-link" not in {thread.name for thread in threading.enumerate()}, "it was given time to end"
        assert "before the broker confirmed DISCONNECT" in recorder.next_change().reason
        server.call(lambda: server.broker.silent(0))


def test_stop_does_not_wait_for_an_unconfirmed_subscription(server: BrokerThread, recorder: LinkRecorder) -> None:
    server.broker.no_receipts = True
    with running_link(parameters(server.port, receipt_s=1000.0), recorder) as link:
        server.wait_until(lambda: server.broker.counters.received["SUBSCRIBE"] == 1)
        assert link.stop(DEADLINE_S)
        assert recorder.next_change() == LinkStateChange(up=False, reason="stopped")


def test_stop_is_not_clean_while_the_callback_hangs(server: BrokerThread, recorder: LinkRecorder) -> None:
    go_on = threading.Event()

    def hang(change: LinkStateChange) -> None:
        recorder.changes.put(change)
        if not change.up:
            go_on.wait(DEADLINE_S)

    with connected_link(parameters(server.port), recorder, changed=hang) as link:
        assert not link.stop(2.0)
        assert recorder.next_change() == LinkStateChange(up=False, reason="stopped")
        go_on.set()
        assert link.stop(DEADLINE_S)


def test_stop_keeps_its_deadline_while_the_callback_hangs_before_the_first_session(
    recorder: LinkRecorder, fake_broker: FakeBroker
) -> None:
    hanging, go_on = threading.Event(), threading.Event()

    def hang(change: LinkStateChange) -> None:
        hanging.set()
        go_on.wait(DEADLINE_S)
        recorder.changes.put(change)

    with running_link(parameters(fake_broker.port, connect_s=1000.0), recorder, changed=hang) as link:
        assert hanging.wait(DEADLINE_S)
        try:
            assert link.stop(0.2)  # the link was not up: there is nothing to disconnect
            assert recorder.changes.empty()
        finally:
            go_on.set()
        assert "did not answer" in recorder.next_change().reason


@pytest.mark.field("15")
def test_an_ipv6_address_is_reached_with_and_without_brackets(recorder: LinkRecorder) -> None:
    for host in ("::1", "[::1]"):
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
            broker = FakeBroker(listening)
            with running_link(parameters(broker.port, host=host), recorder):
                connection = broker.next_connection()
                answer_frames(connection)
                change = recorder.wait_until(lambda change: change.up)
                assert f"[::1]:{broker.port}" in change.reason
            connection.close()

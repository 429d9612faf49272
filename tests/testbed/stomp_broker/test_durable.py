"""The embedded broker: durable subscriptions, restarts, duplicates, counters."""

from __future__ import annotations

import socket
import time

import pytest

from fastmon_daemon.testbed.stomp_broker import ProtocolError
from tests.testbed.stomp_broker.clients import (
    NAMES,
    QUEUE,
    TOPIC,
    BrokerRig,
    bodies,
    running_broker,
)


@pytest.mark.parametrize("name_header", NAMES)
def test_a_durable_subscription_keeps_messages_for_a_disconnected_client(rig: BrokerRig, name_header: str) -> None:
    sender = rig.client()
    first = rig.client(client_id="daemon")
    first.subscribe(TOPIC, "client-individual", **{name_header: "stf"})
    sender.send(TOPIC, "unacknowledged")
    first.request("DISCONNECT")
    sender.send(TOPIC, "missed")
    [found] = rig.thread.call(lambda: rig.broker.subscriptions(TOPIC))
    assert (found.client_id, found.durable_name, found.active, found.waiting) == ("daemon", "stf", False, 2)
    second = rig.client(client_id="daemon")
    assert bodies(second.subscribe(TOPIC, "client-individual", **{name_header: "stf"})) == ["unacknowledged", "missed"]
    assert bodies(second.send(TOPIC, "fresh")) == ["fresh"]


def test_a_durable_subscription_needs_a_client_id(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.frame("SUBSCRIBE", id="0", destination=TOPIC, **{"activemq.subscriptionName": "stf"})
    assert "client-id" in raw.read_error().headers["message"]


def test_a_durable_subscription_has_one_consumer(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.frame("SUBSCRIBE", id="1", destination=TOPIC, **{"activemq.subscriptionName": "stf"})
    assert "in use" in raw.read_error().headers["message"]


def test_a_durable_subscription_moved_to_another_topic_starts_empty(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.request("UNSUBSCRIBE", id="0")
    raw.send(TOPIC, "old")
    assert raw.subscribe("/topic/other", **{"activemq.subscriptionName": "stf"}) == []
    assert raw.send(TOPIC, "not mine") == []


def test_unsubscribing_by_id_keeps_a_durable_subscription_and_by_name_removes_it(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.request("UNSUBSCRIBE", id="0")
    raw.send(TOPIC, "kept")
    assert len(rig.thread.call(rig.broker.subscriptions)) == 1
    raw.request("UNSUBSCRIBE", id="0", **{"activemq.subscriptionName": "stf"})
    assert rig.thread.call(rig.broker.subscriptions) == []
    assert raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"}) == []


def test_a_durable_subscription_in_use_or_unknown_is_not_removed(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.frame("UNSUBSCRIBE", id="0", **{"activemq.subscriptionName": "stf"})
    assert "in use" in raw.read_error().headers["message"]
    other = rig.client(client_id="other")
    other.frame("UNSUBSCRIBE", id="0", **{"activemq.subscriptionName": "stf"})
    assert "No durable subscription exists" in other.read_error().headers["message"]


def test_a_restart_keeps_the_port_durable_subscriptions_and_persistent_messages_only(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    raw.subscribe(TOPIC, "client-individual", **{"activemq.subscriptionName": "stf"})
    for destination in (TOPIC, QUEUE):
        raw.send(destination, "volatile")
        raw.send(destination, "persistent", persistent="true")
    port = rig.thread.port
    rig.thread.stop()
    assert raw.is_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert rig.thread.start() == port
    again = rig.client(client_id="daemon")
    [message] = again.subscribe(TOPIC, "client-individual", **{"activemq.subscriptionName": "stf"})
    assert (message.body, message.headers["redelivered"]) == ("persistent", "true")
    assert rig.thread.call(lambda: rig.broker.queued(QUEUE)) == ["persistent"]


def test_a_stop_returns_no_message_to_another_consumer(rig: BrokerRig) -> None:
    careful, careless = rig.client(), rig.client()
    careful.subscribe(QUEUE, "client-individual")
    careful.send(QUEUE, "a", persistent="true")
    careless.subscribe(QUEUE, "auto")
    rig.thread.stop()
    assert rig.broker.queued(QUEUE) == ["a"]
    rig.thread.start()


def test_a_duplicate_is_dropped_but_confirmed_where_detection_is_on() -> None:
    with running_broker(duplicate_detection=True) as rig:
        raw = rig.client()
        raw.subscribe(TOPIC)
        raw.subscribe("/topic/other", id="1")
        raw.write(f"SEND\ndestination:{TOPIC}\n_AMQ_DUPL_ID:tf-1\n\nfirst\0")
        raw.write(f"SEND\ndestination:{TOPIC}\n_AMQ_DUPL_ID:tf-1\nreceipt:again\n\nagain\0")
        raw.write("SEND\ndestination:/topic/other\n_AMQ_DUPL_ID:tf-1\n\nelsewhere\0")
        frames = [raw.read() for _ in range(3)]
        assert [(frame.command, frame.body) for frame in frames] == [
            ("MESSAGE", "first"),
            ("RECEIPT", ""),
            ("MESSAGE", "elsewhere"),
        ]
        assert rig.broker.counters.accepted[TOPIC] == 1


def test_duplicates_pass_where_detection_is_off(rig: BrokerRig) -> None:
    for _ in range(2):
        rig.thread.call(lambda: rig.broker.publish(QUEUE, "same", {"_AMQ_DUPL_ID": "tf-1"}))
    assert rig.depth(QUEUE) == 2


def test_only_the_last_20_000_duplicate_ids_are_remembered() -> None:
    with running_broker(duplicate_detection=True) as rig:

        def publish(number: int) -> None:
            rig.broker.publish(TOPIC, "", {"_AMQ_DUPL_ID": str(number)})

        rig.thread.call(lambda: [publish(number) for number in range(20_001)])
        rig.thread.call(lambda: [publish(1), publish(20_000)])
        assert rig.broker.counters.accepted[TOPIC] == 20_001
        rig.thread.call(lambda: publish(0))
        assert rig.broker.counters.accepted[TOPIC] == 20_002


def test_on_send_gets_every_accepted_message() -> None:
    sent: list[tuple[str, str, dict[str, str]]] = []
    with running_broker(on_send=lambda *message: sent.append(message)) as rig:
        rig.client().send(TOPIC, "by a client", persistent="true")
        rig.thread.call(lambda: rig.broker.publish(QUEUE, "by the program"))
    assert sent == [(TOPIC, "by a client", {"persistent": "true"}), (QUEUE, "by the program", {})]


def test_publish_rejects_an_illegal_destination(rig: BrokerRig) -> None:
    with pytest.raises(ProtocolError, match="epictopic"):
        rig.thread.call(lambda: rig.broker.publish("epictopic", "x"))


def test_counters_of_connections_messages_and_frames(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.send(TOPIC, "a")
    raw.send(QUEUE, "b")
    counters = rig.broker.counters
    assert counters.connections == 1
    assert counters.accepted == {TOPIC: 1, QUEUE: 1}
    assert counters.received == {"CONNECT": 1, "SEND": 2}
    assert counters.sent == {"CONNECTED": 1, "RECEIPT": 2}


def test_subscriptions_are_listed(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    raw.subscribe(QUEUE, "client-individual", id="q", **{"activemq.prefetchSize": "1"})
    raw.send(QUEUE, "a")
    raw.send(QUEUE, "b")
    [found] = rig.thread.call(rig.broker.subscriptions)
    assert (found.id, found.ack, found.client_id, found.active) == ("q", "client-individual", "daemon", True)
    assert (found.waiting, found.unacknowledged, found.durable_name) == (1, 1, None)


def test_ten_thousand_messages_pass_through_one_durable_subscription(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    raw.subscribe(TOPIC, "client", **{"activemq.subscriptionName": "stf"})
    raw.request("UNSUBSCRIBE", id="0")
    raw.write("".join(f"SEND\ndestination:{TOPIC}\npersistent:true\n\n{n}\0" for n in range(10_000)))
    raw.request("BEGIN", transaction="barrier")
    started = time.process_time()
    frames = raw.subscribe(TOPIC, "client", **{"activemq.subscriptionName": "stf"})
    while len(frames) < 10_000:
        frames.append(raw.read())
    raw.request("ACK", id=frames[-1].headers["ack"])
    assert bodies(frames) == [str(n) for n in range(10_000)]
    # Linear code takes well below a second of this process's time; quadratic code a minute.
    assert time.process_time() - started < 20
    [subscription] = rig.thread.call(rig.broker.subscriptions)
    assert (subscription.waiting, subscription.unacknowledged) == (0, 0)

"""The testbed's broker: durable subscriptions, restarts, duplicates, counters."""

from __future__ import annotations

import socket
import time

import pytest

from fastmon_daemon.testbed.stomp_broker import ProtocolError
from tests.testbed.stomp_broker.clients import (
    NAMES,
    QUEUE,
    TOPIC,
    World,
    bodies,
    running,
)


@pytest.mark.parametrize("name_header", NAMES)
def test_a_durable_subscription_keeps_what_is_sent_while_its_client_is_away(world: World, name_header: str) -> None:
    sender = world.client()
    first = world.client(client_id="daemon")
    first.subscribe(TOPIC, "client-individual", **{name_header: "stf"})
    sender.send(TOPIC, "unacknowledged")
    first.ask("DISCONNECT")
    sender.send(TOPIC, "missed")
    [kept] = world.thread.call(lambda: world.broker.subscriptions(TOPIC))
    assert (kept.client_id, kept.durable_name, kept.active, kept.waiting) == ("daemon", "stf", False, 2)
    second = world.client(client_id="daemon")
    assert bodies(second.subscribe(TOPIC, "client-individual", **{name_header: "stf"})) == ["unacknowledged", "missed"]
    assert bodies(second.send(TOPIC, "fresh")) == ["fresh"]


def test_a_durable_subscription_needs_a_client_id(world: World) -> None:
    raw = world.client()
    raw.frame("SUBSCRIBE", id="0", destination=TOPIC, **{"activemq.subscriptionName": "stf"})
    assert "client-id" in raw.refused().headers["message"]


def test_a_durable_subscription_has_one_consumer(world: World) -> None:
    raw = world.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.frame("SUBSCRIBE", id="1", destination=TOPIC, **{"activemq.subscriptionName": "stf"})
    assert "in use" in raw.refused().headers["message"]


def test_a_durable_subscription_moved_to_another_topic_starts_empty(world: World) -> None:
    raw = world.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.ask("UNSUBSCRIBE", id="0")
    raw.send(TOPIC, "old")
    assert raw.subscribe("/topic/other", **{"activemq.subscriptionName": "stf"}) == []
    assert raw.send(TOPIC, "not mine") == []


def test_unsubscribing_by_id_keeps_a_durable_subscription_and_by_name_removes_it(world: World) -> None:
    raw = world.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.ask("UNSUBSCRIBE", id="0")
    raw.send(TOPIC, "kept")
    assert len(world.thread.call(world.broker.subscriptions)) == 1
    raw.ask("UNSUBSCRIBE", id="0", **{"activemq.subscriptionName": "stf"})
    assert world.thread.call(world.broker.subscriptions) == []
    assert raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"}) == []


def test_a_durable_subscription_in_use_or_unknown_is_not_removed(world: World) -> None:
    raw = world.client(client_id="daemon")
    raw.subscribe(TOPIC, **{"activemq.subscriptionName": "stf"})
    raw.frame("UNSUBSCRIBE", id="0", **{"activemq.subscriptionName": "stf"})
    assert "in use" in raw.refused().headers["message"]
    other = world.client(client_id="other")
    other.frame("UNSUBSCRIBE", id="0", **{"activemq.subscriptionName": "stf"})
    assert "No durable subscription exists" in other.refused().headers["message"]


def test_a_restart_keeps_the_port_durable_subscriptions_and_persistent_messages_only(world: World) -> None:
    raw = world.client(client_id="daemon")
    raw.subscribe(TOPIC, "client-individual", **{"activemq.subscriptionName": "stf"})
    for destination in (TOPIC, QUEUE):
        raw.send(destination, "volatile")
        raw.send(destination, "persistent", persistent="true")
    port = world.thread.port
    world.thread.stop()
    assert raw.is_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert world.thread.start() == port
    again = world.client(client_id="daemon")
    [message] = again.subscribe(TOPIC, "client-individual", **{"activemq.subscriptionName": "stf"})
    assert (message.body, message.headers["redelivered"]) == ("persistent", "true")
    assert world.thread.call(lambda: world.broker.queued(QUEUE)) == ["persistent"]


def test_going_down_gives_nothing_back_to_a_consumer_that_goes_down_too(world: World) -> None:
    careful, careless = world.client(), world.client()
    careful.subscribe(QUEUE, "client-individual")
    careful.send(QUEUE, "a", persistent="true")
    careless.subscribe(QUEUE, "auto")
    world.thread.stop()
    assert world.broker.queued(QUEUE) == ["a"]
    world.thread.start()


def test_a_duplicate_is_dropped_but_confirmed_where_detection_is_on() -> None:
    with running(duplicate_detection=True) as world:
        raw = world.client()
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
        assert world.broker.counters.accepted[TOPIC] == 1


def test_duplicates_pass_where_detection_is_off(world: World) -> None:
    for _ in range(2):
        world.thread.call(lambda: world.broker.publish(QUEUE, "same", {"_AMQ_DUPL_ID": "tf-1"}))
    assert world.depth(QUEUE) == 2


def test_only_the_last_20_000_duplicate_ids_are_remembered() -> None:
    with running(duplicate_detection=True) as world:

        def publish(number: int) -> None:
            world.broker.publish(TOPIC, "", {"_AMQ_DUPL_ID": str(number)})

        world.thread.call(lambda: [publish(number) for number in range(20_001)])
        world.thread.call(lambda: [publish(1), publish(20_000)])
        assert world.broker.counters.accepted[TOPIC] == 20_001
        world.thread.call(lambda: publish(0))
        assert world.broker.counters.accepted[TOPIC] == 20_002


def test_every_accepted_message_is_told_to_on_send() -> None:
    told: list[tuple[str, str, dict[str, str]]] = []
    with running(on_send=lambda *message: told.append(message)) as world:
        world.client().send(TOPIC, "by a client", persistent="true")
        world.thread.call(lambda: world.broker.publish(QUEUE, "by the program"))
    assert told == [(TOPIC, "by a client", {"persistent": "true"}), (QUEUE, "by the program", {})]


def test_publish_refuses_what_is_no_destination(world: World) -> None:
    with pytest.raises(ProtocolError, match="epictopic"):
        world.thread.call(lambda: world.broker.publish("epictopic", "x"))


def test_the_counters_tell_connections_messages_and_frames(world: World) -> None:
    raw = world.client()
    raw.send(TOPIC, "a")
    raw.send(QUEUE, "b")
    counters = world.broker.counters
    assert counters.connections == 1
    assert counters.accepted == {TOPIC: 1, QUEUE: 1}
    assert counters.received == {"CONNECT": 1, "SEND": 2}
    assert counters.sent == {"CONNECTED": 1, "RECEIPT": 2}


def test_subscriptions_can_be_looked_at(world: World) -> None:
    raw = world.client(client_id="daemon")
    raw.subscribe(QUEUE, "client-individual", id="q", **{"activemq.prefetchSize": "1"})
    raw.send(QUEUE, "a")
    raw.send(QUEUE, "b")
    [found] = world.thread.call(world.broker.subscriptions)
    assert (found.id, found.ack, found.client_id, found.active) == ("q", "client-individual", "daemon", True)
    assert (found.waiting, found.unacknowledged, found.durable_name) == (1, 1, None)


def test_ten_thousand_messages_pass_through_one_durable_subscription(world: World) -> None:
    raw = world.client(client_id="daemon")
    raw.subscribe(TOPIC, "client", **{"activemq.subscriptionName": "stf"})
    raw.ask("UNSUBSCRIBE", id="0")
    raw.write("".join(f"SEND\ndestination:{TOPIC}\npersistent:true\n\n{n}\0" for n in range(10_000)))
    raw.ask("BEGIN", transaction="barrier")
    started = time.process_time()
    frames = raw.subscribe(TOPIC, "client", **{"activemq.subscriptionName": "stf"})
    while len(frames) < 10_000:
        frames.append(raw.read())
    raw.ask("ACK", id=frames[-1].headers["ack"])
    assert bodies(frames) == [str(n) for n in range(10_000)]
    # Linear code takes well below a second of this process's time; quadratic code a minute.
    assert time.process_time() - started < 20
    [subscription] = world.thread.call(world.broker.subscriptions)
    assert (subscription.waiting, subscription.unacknowledged) == (0, 0)

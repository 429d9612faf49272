"""The testbed's broker: delivering and acknowledging, transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stomp

from tests.testbed.stomp_broker.clients import (
    DLQ,
    QUEUE,
    TOPIC,
    World,
    bodies,
)


@pytest.mark.parametrize("kind", [stomp.Connection10, stomp.Connection11, stomp.Connection12])
def test_stomp_py_sends_receives_and_gets_receipts(world: World, kind: type) -> None:
    conn = world.stomp(kind)
    conn.subscribe(TOPIC, id="0", ack="auto", receipt="sub")
    assert conn.ear.await_event("receipt") == "sub"
    conn.send(TOPIC, '{"msg_type": "stf_ready"}', receipt="sent")
    message = conn.ear.next_message()
    assert message.body == '{"msg_type": "stf_ready"}'
    assert (message.headers["destination"], message.headers["subscription"]) == (TOPIC, "0")
    assert conn.ear.await_event("receipt") == "sent"
    conn.disconnect(receipt="bye")
    conn.ear.await_event("disconnected")
    world.until(lambda: not world.broker.sessions)


@pytest.mark.parametrize(
    ("kind", "acknowledge"),
    [
        (stomp.Connection11, lambda conn, headers: conn.ack(headers["message-id"], headers["subscription"])),
        (stomp.Connection12, lambda conn, headers: conn.ack(headers["ack"])),
    ],
)
def test_client_individual_acknowledges_just_that_message(
    world: World, kind: type, acknowledge: Callable[[Any, dict[str, str]], None]
) -> None:
    conn = world.stomp(kind)
    conn.subscribe(QUEUE, id="a@b:c", ack="client-individual")
    for body in "abc":
        conn.send(QUEUE, body)
    frames = {frame.body: frame for frame in (conn.ear.next_message() for _ in range(3))}
    acknowledge(conn, frames["b"].headers)
    world.until(lambda: world.broker.queue_depth(QUEUE) == 2)
    conn.transport.disconnect_socket()
    world.until(lambda: world.broker.queued(QUEUE) == ["a", "c"])


def test_client_acknowledges_all_up_to_that_message(world: World) -> None:
    raw = world.client()
    raw.subscribe(QUEUE, "client")
    frames = [*raw.send(QUEUE, "a"), *raw.send(QUEUE, "b"), *raw.send(QUEUE, "c")]
    raw.ask("ACK", id=frames[1].headers["ack"])
    raw.close()
    world.until(lambda: world.broker.queued(QUEUE) == ["c"])


def test_1_0_acknowledges_by_message_id_alone(world: World) -> None:
    raw = world.client("1.0")
    raw.ask("SUBSCRIBE", destination=QUEUE, ack="client")
    [message] = raw.send(QUEUE, "a")
    raw.ask("ACK", **{"message-id": message.headers["message-id"]})
    assert world.depth(QUEUE) == 0


def test_1_1_must_name_the_subscription_it_acknowledges(world: World) -> None:
    raw = world.client("1.1")
    raw.subscribe(QUEUE, "client")
    [message] = raw.send(QUEUE, "a")
    raw.frame("ACK", message_id=message.headers["message-id"])
    assert raw.refused()


def test_a_message_acknowledged_twice_is_an_error(world: World) -> None:
    raw = world.client()
    raw.subscribe(QUEUE, "client-individual")
    [message] = raw.send(QUEUE, "a")
    raw.ask("ACK", id=message.headers["ack"])
    raw.frame("ACK", id=message.headers["ack"])
    assert "Unexpected ACK" in raw.refused().headers["message"]


def test_auto_needs_no_acknowledgement(world: World) -> None:
    raw = world.client()
    raw.subscribe(QUEUE)
    [message] = raw.send(QUEUE, "a")
    assert "ack" not in message.headers
    assert world.depth(QUEUE) == 0


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_nack_sends_that_message_to_the_dead_letters(world: World, version: str) -> None:
    raw = world.client(version)
    raw.subscribe(QUEUE, "client-individual")
    frames = [*raw.send(QUEUE, "good"), *raw.send(QUEUE, "bad", kind="stf")]
    headers = frames[1].headers
    named = {"id": headers["ack"]} if version == "1.2" else {"message-id": headers["message-id"], "subscription": "0"}
    raw.ask("NACK", **named)
    assert (world.depth(QUEUE), world.depth(DLQ)) == (1, 1)
    [buried] = world.client().subscribe(DLQ)
    assert (buried.body, buried.headers["kind"]) == ("bad", "stf")
    assert buried.headers["original-destination"].replace("\\c", ":") == QUEUE


def test_what_a_lost_consumer_did_not_acknowledge_goes_to_the_next_marked_and_in_order(world: World) -> None:
    first = world.client()
    first.subscribe(QUEUE, "client-individual")
    sent = [*first.send(QUEUE, "a"), *first.send(QUEUE, "b")]
    assert all("redelivered" not in message.headers for message in sent)
    first.close()
    world.until(lambda: len(world.broker.queued(QUEUE)) == 2)
    again = world.client().subscribe(QUEUE, "client-individual")
    assert bodies(again) == ["a", "b"]
    assert all(message.headers["redelivered"] == "true" for message in again)


def test_a_session_that_goes_does_not_swallow_by_one_subscription_what_another_gives_back(world: World) -> None:
    raw = world.client()
    raw.subscribe(QUEUE, "client-individual", id="careful")
    raw.send(QUEUE, "a")
    raw.subscribe(QUEUE, "auto", id="careless")
    raw.close()
    world.until(lambda: world.broker.queued(QUEUE) == ["a"])


def test_prefetch_limits_what_is_in_flight(world: World) -> None:
    raw = world.client()
    raw.subscribe(QUEUE, "client-individual", **{"activemq.prefetchSize": "2"})
    frames = [frame for body in "abcd" for frame in raw.send(QUEUE, body)]
    assert bodies(frames) == ["a", "b"]
    assert bodies(raw.ask("ACK", id=frames[1].headers["ack"])) == ["c"]


def test_consumers_of_a_queue_share_it_in_turn(world: World) -> None:
    left, right, sender = world.client(), world.client(), world.client()
    left.subscribe(QUEUE)
    right.subscribe(QUEUE)
    for body in "abcd":
        sender.send(QUEUE, body)
    assert sorted(left.read().body + left.read().body + right.read().body + right.read().body) == list("abcd")


def test_a_subscriber_of_a_topic_gets_only_what_is_sent_while_it_is_there(world: World) -> None:
    raw = world.client()
    raw.send(TOPIC, "before")
    assert raw.subscribe(TOPIC) == []
    assert bodies(raw.send(TOPIC, "while")) == ["while"]
    raw.ask("UNSUBSCRIBE", id="0")
    assert raw.send(TOPIC, "after") == []
    assert raw.subscribe(TOPIC) == []


def test_the_senders_headers_travel_but_not_those_of_one_hop(world: World) -> None:
    raw = world.client()
    raw.subscribe(TOPIC)
    [message] = raw.send(TOPIC, "x", persistent="true", msg_type="stf_ready")
    assert (message.headers["persistent"], message.headers["msg-type"]) == ("true", "stf_ready")
    assert "receipt" not in message.headers


def test_a_slow_reader_blocks_nobody(world: World) -> None:
    slow, quick = world.client(), world.client()
    slow.subscribe(TOPIC)
    quick.subscribe(TOPIC)
    body = "x" * 200_000
    for _ in range(100):
        assert bodies(quick.send(TOPIC, body)) == [body]
    assert [slow.read().body for _ in range(100)] == [body] * 100


def test_a_subscription_id_is_used_once(world: World) -> None:
    raw = world.client()
    raw.subscribe(TOPIC)
    raw.frame("SUBSCRIBE", destination=TOPIC, id="0")
    assert "already" in raw.refused().headers["message"]


def test_a_transaction_takes_effect_at_its_commit(world: World) -> None:
    raw = world.client()
    raw.subscribe(QUEUE, "client-individual")
    [message] = raw.send(QUEUE, "a")
    raw.ask("BEGIN", transaction="t")
    assert raw.send(TOPIC, "b", transaction="t") == []
    raw.ask("ACK", id=message.headers["ack"], transaction="t")
    assert (world.depth(QUEUE), world.broker.counters.accepted[TOPIC]) == (1, 0)
    raw.ask("COMMIT", transaction="t")
    assert (world.depth(QUEUE), world.broker.counters.accepted[TOPIC]) == (0, 1)


def test_an_aborted_or_abandoned_transaction_leaves_no_trace(world: World) -> None:
    raw = world.client()
    for end in ("ABORT", "DISCONNECT"):
        raw.ask("BEGIN", transaction="t")
        raw.send(QUEUE, "a", transaction="t")
        raw.ask(end, transaction="t")
    assert world.depth(QUEUE) == 0


def test_a_transaction_begins_once(world: World) -> None:
    raw = world.client()
    raw.ask("BEGIN", transaction="t")
    raw.frame("BEGIN", transaction="t")
    assert "already started" in raw.refused().headers["message"]

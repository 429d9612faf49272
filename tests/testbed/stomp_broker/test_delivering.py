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
    BrokerRig,
    bodies,
)


@pytest.mark.parametrize("kind", [stomp.Connection10, stomp.Connection11, stomp.Connection12])
def test_stomp_py_sends_receives_and_gets_receipts(rig: BrokerRig, kind: type) -> None:
    conn = rig.stomp(kind)
    conn.subscribe(TOPIC, id="0", ack="auto", receipt="sub")
    assert conn.listener.await_event("receipt") == "sub"
    conn.send(TOPIC, '{"msg_type": "stf_ready"}', receipt="sent")
    message = conn.listener.next_message()
    assert message.body == '{"msg_type": "stf_ready"}'
    assert (message.headers["destination"], message.headers["subscription"]) == (TOPIC, "0")
    assert conn.listener.await_event("receipt") == "sent"
    conn.disconnect(receipt="bye")
    conn.listener.await_event("disconnected")
    rig.wait_until(lambda: not rig.broker.sessions)


@pytest.mark.parametrize(
    ("kind", "acknowledge"),
    [
        (stomp.Connection11, lambda conn, headers: conn.ack(headers["message-id"], headers["subscription"])),
        (stomp.Connection12, lambda conn, headers: conn.ack(headers["ack"])),
    ],
)
def test_client_individual_acknowledges_just_that_message(
    rig: BrokerRig, kind: type, acknowledge: Callable[[Any, dict[str, str]], None]
) -> None:
    conn = rig.stomp(kind)
    conn.subscribe(QUEUE, id="a@b:c", ack="client-individual")
    for body in "abc":
        conn.send(QUEUE, body)
    frames = {frame.body: frame for frame in (conn.listener.next_message() for _ in range(3))}
    acknowledge(conn, frames["b"].headers)
    rig.wait_until(lambda: rig.broker.queue_depth(QUEUE) == 2)
    conn.transport.disconnect_socket()
    rig.wait_until(lambda: rig.broker.queued(QUEUE) == ["a", "c"])


def test_client_acknowledges_all_up_to_that_message(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(QUEUE, "client")
    frames = [*raw.send(QUEUE, "a"), *raw.send(QUEUE, "b"), *raw.send(QUEUE, "c")]
    raw.request("ACK", id=frames[1].headers["ack"])
    raw.close()
    rig.wait_until(lambda: rig.broker.queued(QUEUE) == ["c"])


def test_1_0_acknowledges_by_message_id_alone(rig: BrokerRig) -> None:
    raw = rig.client("1.0")
    raw.request("SUBSCRIBE", destination=QUEUE, ack="client")
    [message] = raw.send(QUEUE, "a")
    raw.request("ACK", **{"message-id": message.headers["message-id"]})
    assert rig.depth(QUEUE) == 0


def test_1_1_must_name_the_subscription_it_acknowledges(rig: BrokerRig) -> None:
    raw = rig.client("1.1")
    raw.subscribe(QUEUE, "client")
    [message] = raw.send(QUEUE, "a")
    raw.frame("ACK", message_id=message.headers["message-id"])
    assert raw.read_error()


def test_a_message_acknowledged_twice_is_an_error(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(QUEUE, "client-individual")
    [message] = raw.send(QUEUE, "a")
    raw.request("ACK", id=message.headers["ack"])
    raw.frame("ACK", id=message.headers["ack"])
    assert "Unexpected ACK" in raw.read_error().headers["message"]


def test_auto_needs_no_acknowledgement(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(QUEUE)
    [message] = raw.send(QUEUE, "a")
    assert "ack" not in message.headers
    assert rig.depth(QUEUE) == 0


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_nack_sends_that_message_to_the_dead_letters(rig: BrokerRig, version: str) -> None:
    raw = rig.client(version)
    raw.subscribe(QUEUE, "client-individual")
    frames = [*raw.send(QUEUE, "good"), *raw.send(QUEUE, "bad", kind="stf")]
    headers = frames[1].headers
    named = {"id": headers["ack"]} if version == "1.2" else {"message-id": headers["message-id"], "subscription": "0"}
    raw.request("NACK", **named)
    assert (rig.depth(QUEUE), rig.depth(DLQ)) == (1, 1)
    [buried] = rig.client().subscribe(DLQ)
    assert (buried.body, buried.headers["kind"]) == ("bad", "stf")
    assert buried.headers["original-destination"].replace("\\c", ":") == QUEUE


def test_what_a_lost_consumer_did_not_acknowledge_goes_to_the_next_marked_and_in_order(rig: BrokerRig) -> None:
    first = rig.client()
    first.subscribe(QUEUE, "client-individual")
    sent = [*first.send(QUEUE, "a"), *first.send(QUEUE, "b")]
    assert all("redelivered" not in message.headers for message in sent)
    first.close()
    rig.wait_until(lambda: len(rig.broker.queued(QUEUE)) == 2)
    again = rig.client().subscribe(QUEUE, "client-individual")
    assert bodies(again) == ["a", "b"]
    assert all(message.headers["redelivered"] == "true" for message in again)


def test_a_session_that_goes_does_not_swallow_by_one_subscription_what_another_gives_back(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(QUEUE, "client-individual", id="careful")
    raw.send(QUEUE, "a")
    raw.subscribe(QUEUE, "auto", id="careless")
    raw.close()
    rig.wait_until(lambda: rig.broker.queued(QUEUE) == ["a"])


def test_prefetch_limits_what_is_in_flight(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(QUEUE, "client-individual", **{"activemq.prefetchSize": "2"})
    frames = [frame for body in "abcd" for frame in raw.send(QUEUE, body)]
    assert bodies(frames) == ["a", "b"]
    assert bodies(raw.request("ACK", id=frames[1].headers["ack"])) == ["c"]


def test_consumers_of_a_queue_share_it_in_turn(rig: BrokerRig) -> None:
    left, right, sender = rig.client(), rig.client(), rig.client()
    left.subscribe(QUEUE)
    right.subscribe(QUEUE)
    for body in "abcd":
        sender.send(QUEUE, body)
    assert sorted(left.read().body + left.read().body + right.read().body + right.read().body) == list("abcd")


def test_a_subscriber_of_a_topic_gets_only_what_is_sent_while_it_is_there(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.send(TOPIC, "before")
    assert raw.subscribe(TOPIC) == []
    assert bodies(raw.send(TOPIC, "while")) == ["while"]
    raw.request("UNSUBSCRIBE", id="0")
    assert raw.send(TOPIC, "after") == []
    assert raw.subscribe(TOPIC) == []


def test_the_senders_headers_travel_but_not_those_of_one_hop(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(TOPIC)
    [message] = raw.send(TOPIC, "x", persistent="true", msg_type="stf_ready")
    assert (message.headers["persistent"], message.headers["msg-type"]) == ("true", "stf_ready")
    assert "receipt" not in message.headers


def test_a_slow_reader_blocks_nobody(rig: BrokerRig) -> None:
    slow, quick = rig.client(), rig.client()
    slow.subscribe(TOPIC)
    quick.subscribe(TOPIC)
    body = "x" * 200_000
    for _ in range(100):
        assert bodies(quick.send(TOPIC, body)) == [body]
    assert [slow.read().body for _ in range(100)] == [body] * 100


def test_a_subscription_id_is_used_once(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(TOPIC)
    raw.frame("SUBSCRIBE", destination=TOPIC, id="0")
    assert "already" in raw.read_error().headers["message"]


def test_a_transaction_takes_effect_at_its_commit(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(QUEUE, "client-individual")
    [message] = raw.send(QUEUE, "a")
    raw.request("BEGIN", transaction="t")
    assert raw.send(TOPIC, "b", transaction="t") == []
    raw.request("ACK", id=message.headers["ack"], transaction="t")
    assert (rig.depth(QUEUE), rig.broker.counters.accepted[TOPIC]) == (1, 0)
    raw.request("COMMIT", transaction="t")
    assert (rig.depth(QUEUE), rig.broker.counters.accepted[TOPIC]) == (0, 1)


def test_an_aborted_or_abandoned_transaction_leaves_no_trace(rig: BrokerRig) -> None:
    raw = rig.client()
    for end in ("ABORT", "DISCONNECT"):
        raw.request("BEGIN", transaction="t")
        raw.send(QUEUE, "a", transaction="t")
        raw.request(end, transaction="t")
    assert rig.depth(QUEUE) == 0


def test_a_transaction_begins_once(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.request("BEGIN", transaction="t")
    raw.frame("BEGIN", transaction="t")
    assert "already started" in raw.read_error().headers["message"]

"""The embedded broker: CONNECT, frames, heart-beats."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import pytest
import trustme

from tests.testbed.stomp_broker.clients import (
    LOGIN,
    TOPIC,
    BrokerRig,
    bodies,
    running_broker,
)


@pytest.mark.parametrize(
    ("accepted", "chosen"), [("1.0,1.1,1.2", "1.2"), ("1.1,1.0", "1.1"), ("1.0", "1.0"), ("1.1, 9.9", "1.1")]
)
def test_the_highest_common_version_is_chosen(rig: BrokerRig, accepted: str, chosen: str) -> None:
    assert rig.raw().connect(accepted).headers["version"] == chosen


def test_a_client_that_names_no_version_speaks_1_0(rig: BrokerRig) -> None:
    raw = rig.raw()
    raw.frame("STOMP", **LOGIN)
    assert raw.read().headers["version"] == "1.0"


def test_a_broker_without_the_clients_version_names_its_own() -> None:
    with running_broker(versions=("1.1", "1.0")) as rig:
        raw = rig.raw()
        raw.frame("CONNECT", accept_version="1.2", **LOGIN)
        assert "1.1,1.0" in raw.read_error().headers["message"]


def test_a_wrong_passcode_is_refused_without_repeating_it(rig: BrokerRig) -> None:
    raw = rig.raw()
    raw.frame("CONNECT", accept_version="1.2", parameters="fastmon", passcode="wrong")
    got = raw.read_error()
    assert "invalid" in got.headers["message"]
    assert "wrong" not in got.body + got.headers["message"]


def test_a_frame_before_connect_is_refused(rig: BrokerRig) -> None:
    raw = rig.raw()
    raw.frame("SEND", destination=TOPIC)
    assert "Not connected" in raw.read_error().headers["message"]


def test_a_second_connect_is_refused(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.frame("CONNECT", **LOGIN)
    assert raw.read_error().headers["message"] == "Already connected."


def test_a_client_id_is_refused_while_its_first_connection_lives_and_free_afterwards(rig: BrokerRig) -> None:
    first = rig.client(client_id="daemon")
    second = rig.raw()
    second.frame("CONNECT", accept_version="1.2", client_id="daemon", **LOGIN)
    got = second.read_error()
    assert "daemon already connected from tcp" in got.headers["message"]
    assert got.body.startswith("javax.jms.InvalidClientIDException")
    first.request("DISCONNECT")
    assert rig.raw().connect(**{"client-id": "daemon"}).command == "CONNECTED"


def test_tls_works_as_plain_does(tmp_path: Any) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    with running_broker(ssl=server) as rig:
        raw = rig.raw(client)
        assert raw.connect().command == "CONNECTED"
        raw.subscribe(TOPIC)
        assert bodies(raw.send(TOPIC, "over tls")) == ["over tls"]
        wrong = rig.raw(client)
        wrong.frame("CONNECT", parameters="nobody")
        assert "invalid" in wrong.read_error().headers["message"]


def test_frames_may_be_split_at_any_byte(rig: BrokerRig) -> None:
    raw = rig.raw()
    text = (
        "\n\r\nCONNECT\r\naccept-version:1.2\r\nlogin:fastmon\r\npasscode:secret\r\n\r\n\0\r\n\n"
        f"SUBSCRIBE\nid:0\ndestination:{TOPIC}\n\n\0"
        f"SEND\r\ndestination:{TOPIC}\r\ncontent-length:5\r\n\r\nTF \u00e9\0\n"
        f"SEND\ndestination:{TOPIC}\n\nuntil NUL\0"
    )
    raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = rig.broker.counters.received
    for byte in text.encode():
        raw.write(bytes([byte]))
    assert raw.read().command == "CONNECTED"
    assert [raw.read().body for _ in range(2)] == ["TF \u00e9", "until NUL"]
    assert received == {"CONNECT": 1, "SUBSCRIBE": 1, "SEND": 2}


def test_a_body_of_a_given_length_may_hold_nul(rig: BrokerRig) -> None:
    conn = rig.stomp()
    conn.subscribe(TOPIC, id="0", receipt="s")
    conn.listener.await_event("receipt")
    conn.send(TOPIC, "a\0b\0")
    assert conn.listener.next_message().body == "a\0b\0"


def test_a_large_body_arrives_whole(rig: BrokerRig) -> None:
    conn = rig.stomp()
    conn.subscribe(TOPIC, id="0", receipt="s")
    conn.listener.await_event("receipt")
    body = "0123456789" * 300_000
    conn.send(TOPIC, body)
    assert conn.listener.next_message().body == body


@pytest.mark.parametrize(
    ("version", "sent", "on_the_wire"),
    [
        ("1.0", "c\\nd", "c\\nd"),
        ("1.1", "a\\cb\\nc\\\\d", "a\\cb\\nc\\\\d"),
        ("1.2", "a\\cb\\nc\\\\d\\re", "a\\cb\\nc\\\\d\\re"),
    ],
)
def test_headers_are_escaped_by_version(rig: BrokerRig, version: str, sent: str, on_the_wire: str) -> None:
    raw = rig.client(version)
    raw.subscribe(TOPIC)
    [message] = raw.send(TOPIC, "", note=sent)
    assert message.headers["note"] == on_the_wire


def test_an_escape_of_one_version_is_translated_for_another(rig: BrokerRig) -> None:
    listener, sender = rig.client("1.0"), rig.client("1.2")
    listener.subscribe(TOPIC)
    sender.send(TOPIC, "x", note="a\\cb\\nevil\\c1")
    headers = listener.read().headers
    assert headers["note"] == "a:b evil:1"
    assert "evil" not in headers


def test_of_a_repeated_header_the_first_counts(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(TOPIC)
    raw.write(f"SEND\ndestination:{TOPIC}\nnote:first\nnote:second\n\n\0")
    assert raw.read().headers["note"] == "first"


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        ("SEND\ndestination\n\n\0", "no colon"),
        ("SEND\ndestination:/topic/a\nnote:\\t\n\n\0", "escape"),
        ("SEND\ndestination:/topic/a\ncontent-length:many\n\n\0", "content-length"),
        ("SEND\ndestination:/topic/a\ncontent-length:-1\n\n\0", "content-length"),
        ("SEND\ndestination:/topic/a\ncontent-length:1\n\nabc\0", "NUL"),
        ("SEND\ndestination:/topic/a\ncontent-length:99999999999\n\n", "body size"),
        (b"SEND\ndestination:/topic/\xff\n\n\0", "UTF-8"),
        ("x" * 70_000, "header size"),
        ("GREET\n\n\0", "GREET"),
        ("SEND\n\nno destination\0", "destination"),
        ("SEND\ndestination:epictopic\n\n\0", "epictopic"),
        ("SUBSCRIBE\ndestination:/topic/a\n\n\0", "id"),
        ("SUBSCRIBE\nid:1\ndestination:/topic/a\nack:never\n\n\0", "ack mode"),
        ("SUBSCRIBE\nid:1\ndestination:/topic/a\nselector:a=1\n\n\0", "Invalid selector: a=1"),
        ("SUBSCRIBE\nid:1\ndestination:/queue/a\nselector:a='1'\n\n\0", "for topics without a durable"),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/a\nselector:a='1'\nactivemq.subscriptionName:s\n\n\0",
            "for topics without",
        ),
        ("SUBSCRIBE\nid:1\ndestination:/queue/a\nactivemq.prefetchSize:0\n\n\0", "prefetchSize"),
        ("UNSUBSCRIBE\nid:7\n\n\0", "No subscription"),
        ("ACK\nid:nothing\n\n\0", "No subscription"),
        ("COMMIT\ntransaction:t\n\n\0", "transaction"),
        ("SEND\ndestination:/topic/a\ntransaction:t\n\n\0", "transaction"),
    ],
)
def test_a_bad_frame_is_answered_by_an_error_and_the_end(rig: BrokerRig, garbage: str | bytes, reason: str) -> None:
    raw = rig.client()
    raw.write(garbage)
    assert reason in raw.read_error().headers["message"].replace("\\c", ":")


def test_an_error_names_the_receipt_of_the_frame_that_caused_it(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.frame("SEND", destination="nowhere", receipt="r")
    assert raw.read_error().headers["receipt-id"] == "r"


def test_1_0_knows_no_nack(rig: BrokerRig) -> None:
    raw = rig.client("1.0")
    raw.frame("NACK", message_id="1")
    assert "NACK" in raw.read_error().headers["message"]


@pytest.mark.parametrize(("version", "offer"), [("1.2", "100,100"), ("1.1", "100,100"), ("1.0", "0,0")])
def test_the_broker_offers_heart_beats_from_1_1_on(rig: BrokerRig, version: str, offer: str) -> None:
    assert rig.raw().connect(version, **{"heart-beat": "1000,1000"}).headers["heart-beat"] == offer


def test_the_broker_sends_heart_beats_to_who_wants_them(rig: BrokerRig) -> None:
    raw = rig.raw()
    assert raw.connect(**{"heart-beat": "0,50"}).command == "CONNECTED"
    assert [raw.socket.recv(1) for _ in range(3)] == [b"\n", b"\n", b"\n"]


def test_a_client_that_promised_beats_and_falls_silent_is_dropped(rig: BrokerRig) -> None:
    raw = rig.raw()
    raw.connect(**{"heart-beat": "50,0", "client-id": "mute"})
    assert raw.is_closed()
    rig.wait_until_gone("mute")


def test_a_client_that_beats_is_kept(rig: BrokerRig) -> None:
    conn = rig.stomp(headers={"client-id": "lively"}, heartbeats=(500, 500), heart_beat_receive_scale=20)
    deadline = time.monotonic() + 2.5  # the broker would drop it 1.5 s after its last byte
    rig.wait_until(lambda: time.monotonic() > deadline)
    assert any(session.client_id == "lively" for session in rig.broker.sessions)
    assert conn.is_connected()


def test_a_bad_heart_beat_header_is_refused(rig: BrokerRig) -> None:
    raw = rig.raw()
    raw.frame("CONNECT", accept_version="1.2", heart_beat="often", **LOGIN)
    assert "heart-beat" in raw.read_error().headers["message"]

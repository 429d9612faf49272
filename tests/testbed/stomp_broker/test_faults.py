"""The embedded broker: its faults, its thread and its parser."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from contextlib import suppress

import pytest
import trustme

from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread, Frame, HookResult, Session
from fastmon_daemon.testbed.stomp_broker.frames import FrameParser
from tests.testbed.stomp_broker.clients import (
    LOGIN,
    QUEUE,
    TOPIC,
    BrokerRig,
)

DEADLINE_S = 20.0


def test_a_silent_broker_accepts_everything_and_answers_after_the_silence(rig: BrokerRig) -> None:
    raw = rig.raw()
    raw.connect(**{"heart-beat": "0,50"})
    rig.thread.call(lambda: rig.broker.silent(3600))
    late = rig.raw()
    late.frame("CONNECT", accept_version="1.2", **LOGIN)
    raw.frame("SEND", "said in silence", destination=QUEUE, receipt="r")
    # A broker that is not silent answers within microseconds; heart-beats from before the silence may still arrive.
    assert raw.gets_only_heart_beats()
    assert rig.broker.counters.accepted[QUEUE] == 0
    rig.thread.call(lambda: rig.broker.silent(0))
    assert raw.read().headers["receipt-id"] == "r"
    assert late.read().command == "CONNECTED"


def test_frames_sent_during_a_silence_are_processed_though_the_client_has_disconnected(rig: BrokerRig) -> None:
    raw = rig.client(client_id="impatient")
    rig.thread.call(lambda: rig.broker.silent(3600))
    raw.frame("SEND", "a", destination=QUEUE)
    raw.close()
    rig.thread.call(lambda: rig.broker.silent(0.01))
    rig.wait_until(lambda: rig.broker.queued(QUEUE) == ["a"])
    rig.wait_until_gone("impatient")


def test_a_silent_broker_can_be_stopped_and_started(rig: BrokerRig) -> None:
    raw = rig.client(client_id="daemon")
    rig.thread.call(lambda: rig.broker.silent(3600))
    raw.frame("SEND", "lost", destination=QUEUE, persistent="true")
    rig.thread.stop()
    rig.thread.start()
    assert rig.client(client_id="daemon").send(QUEUE, "b", persistent="true") == []
    assert rig.depth(QUEUE) == 1


def test_a_stop_leaves_no_connection_open_that_was_accepted_in_the_same_moment(rig: BrokerRig) -> None:
    async def stop_while_accepting(turns: int) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", rig.broker.port), timeout=DEADLINE_S)
        for _ in range(turns):  # the loop sees the connection in the first, and opens it in the next ones
            await asyncio.sleep(0)
        await rig.broker.stop()
        return client

    for turns in range(5):
        with rig.thread.run(stop_while_accepting(turns)) as client:
            assert ended_by_peer(client)
        rig.thread.start()
    gc.collect()  # an open connection warns, and a warning is an error


def test_a_stop_cuts_a_tls_handshake() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with (
        BrokerThread(Broker(user="u", password="p"), ssl=context) as thread,
        socket.create_connection(("127.0.0.1", thread.port), timeout=DEADLINE_S) as client,
    ):
        client.sendall(b"\x16\x03\x01")  # the first bytes of a handshake
        thread.stop()
        assert ended_by_peer(client)
        thread.start()
    gc.collect()


def ended_by_peer(client: socket.socket) -> bool:
    with suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


def test_a_silent_broker_stops_at_once_even_if_a_client_has_disconnected(rig: BrokerRig) -> None:
    raw = rig.client(client_id="gone")
    rig.thread.call(lambda: rig.broker.silent(3600))
    raw.frame("SEND", "unread", destination=QUEUE)
    raw.close()
    rig.wait_until(lambda: all(transport._disconnected for transport in rig.broker._transports))
    rig.thread.stop()
    assert list(rig.broker.sessions) == []
    rig.thread.start()
    assert rig.client(client_id="gone").send(QUEUE, "b") == []


def test_receipts_can_be_withheld(rig: BrokerRig) -> None:
    raw = rig.client()
    rig.broker.no_receipts = True
    raw.frame("SEND", "a", destination=QUEUE, receipt="never")
    rig.wait_until(lambda: rig.broker.queue_depth(QUEUE) == 1)
    rig.broker.no_receipts = False
    assert raw.send(QUEUE, "b") == []
    assert raw.receipts == 1


def test_dropped_connections_can_be_opened_again(rig: BrokerRig) -> None:
    conn = rig.stomp(headers={"client-id": "daemon"})
    rig.thread.call(rig.broker.drop_connections)
    conn.listener.await_event("disconnected")
    rig.stomp(headers={"client-id": "daemon"})
    assert rig.broker.counters.connections == 2


def test_new_connections_can_be_refused(rig: BrokerRig) -> None:
    raw = rig.client()
    rig.broker.refuse = True
    assert rig.raw().is_closed()
    assert raw.send(QUEUE, "a") == []
    rig.broker.refuse = False
    assert rig.client().send(QUEUE, "b") == []


def test_a_hook_can_drop_a_received_frame(rig: BrokerRig) -> None:
    def lose_first_send(what: str, _session: Session, frame: Frame) -> HookResult:
        return "drop" if (what, frame.body) == ("receive", b"first") else None

    raw = rig.client()
    rig.broker.hook = lose_first_send
    raw.frame("SEND", "first", destination=QUEUE, receipt="lost")
    raw.send(QUEUE, "second")
    assert rig.thread.call(lambda: rig.broker.queued(QUEUE)) == ["second"]


def test_a_hook_can_drop_a_sent_frame(rig: BrokerRig) -> None:
    def lose_messages(what: str, session: Session, frame: Frame) -> HookResult:
        return "drop" if what == "send" and frame.command == "MESSAGE" and session.client_id == "unlucky" else None

    rig.broker.hook = lose_messages
    unlucky, lucky = rig.client(client_id="unlucky"), rig.client(client_id="lucky")
    unlucky.subscribe(TOPIC, "client-individual")
    lucky.subscribe(TOPIC)
    assert unlucky.send(TOPIC, "a") == []
    assert lucky.read().body == "a"


def test_call_raises_the_exception_of_the_function(rig: BrokerRig) -> None:
    with pytest.raises(ZeroDivisionError):
        rig.thread.call(lambda: 1 // 0)


def test_wait_until_gives_up_at_its_deadline(rig: BrokerRig) -> None:
    with pytest.raises(TimeoutError):
        rig.thread.wait_until(lambda: False, deadline_s=0.01)


def test_a_taken_port_is_an_error_and_leaves_no_thread(rig: BrokerRig) -> None:
    other = BrokerThread(Broker(user="u", password="p"), port=rig.thread.port)
    with pytest.raises(OSError, match="Address already in use"), other:
        pass
    with pytest.raises(RuntimeError):
        other.call(lambda: None)


def test_a_running_broker_cannot_be_started_again(rig: BrokerRig) -> None:
    with pytest.raises(RuntimeError, match="already"):
        rig.thread.start()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_parser_finds_the_same_frames_however_the_bytes_are_split(line_end: str) -> None:
    head = line_end.join(["SEND", "destination:/topic/a", "", ""])
    counted = line_end.join(["SEND", "destination:/topic/a", "content-length:3", "", ""])
    data = f"\n{head}until NUL\0{line_end}{counted}a\0b\0\n".encode()
    for cut in range(len(data)):
        for chunks in ([data[:cut], data[cut:]], [data[i : i + 1] for i in range(len(data))]):
            parser, parsed = FrameParser(), []
            parser.version = "1.2"
            for chunk in chunks:
                parser.feed(chunk)
                while frame := parser.next_frame():
                    parsed.append(frame.body)
            assert parsed == [b"until NUL", b"a\0b"]

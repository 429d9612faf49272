"""The testbed's broker: the faults it plays on demand, and its thread."""

from __future__ import annotations

import pytest

from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread, Frame, Session, Verdict
from fastmon_daemon.testbed.stomp_broker.frames import FrameParser
from tests.testbed.stomp_broker.clients import (
    LOGIN,
    QUEUE,
    TOPIC,
    World,
)


def test_a_silent_broker_takes_everything_and_answers_nothing_until_it_wakes(world: World) -> None:
    raw = world.raw()
    raw.connect(**{"heart-beat": "0,50"})
    world.thread.call(lambda: world.broker.silent(3600))
    late = world.raw()
    late.frame("CONNECT", accept_version="1.2", **LOGIN)
    raw.frame("SEND", "said in silence", destination=QUEUE, receipt="r")
    # A broker that is not silent answers within microseconds; beats from before the silence may still be there.
    assert raw.hears_only_beats()
    assert world.broker.counters.accepted[QUEUE] == 0
    world.thread.call(lambda: world.broker.silent(0))
    assert raw.read().headers["receipt-id"] == "r"
    assert late.read().command == "CONNECTED"


def test_what_a_client_said_in_silence_is_done_though_it_has_gone(world: World) -> None:
    raw = world.client(client_id="impatient")
    world.thread.call(lambda: world.broker.silent(3600))
    raw.frame("SEND", "a", destination=QUEUE)
    raw.close()
    world.thread.call(lambda: world.broker.silent(0.01))
    world.until(lambda: world.broker.queued(QUEUE) == ["a"])
    world.gone("impatient")


def test_a_silent_broker_can_be_stopped_and_started(world: World) -> None:
    raw = world.client(client_id="daemon")
    world.thread.call(lambda: world.broker.silent(3600))
    raw.frame("SEND", "lost", destination=QUEUE, persistent="true")
    world.thread.stop()
    world.thread.start()
    assert world.client(client_id="daemon").send(QUEUE, "b", persistent="true") == []
    assert world.depth(QUEUE) == 1


def test_a_silent_broker_is_stopped_at_once_also_where_its_client_has_gone(world: World) -> None:
    raw = world.client(client_id="gone")
    world.thread.call(lambda: world.broker.silent(3600))
    raw.frame("SEND", "unread", destination=QUEUE)
    raw.close()
    world.until(lambda: all(wire._cut for wire in world.broker._wires))
    world.thread.stop()
    assert list(world.broker.sessions) == []
    world.thread.start()
    assert world.client(client_id="gone").send(QUEUE, "b") == []


def test_receipts_can_be_withheld(world: World) -> None:
    raw = world.client()
    world.broker.no_receipts = True
    raw.frame("SEND", "a", destination=QUEUE, receipt="never")
    world.until(lambda: world.broker.queue_depth(QUEUE) == 1)
    world.broker.no_receipts = False
    assert raw.send(QUEUE, "b") == []
    assert raw.receipts == 1


def test_connections_can_be_dropped_and_come_again(world: World) -> None:
    conn = world.stomp(headers={"client-id": "daemon"})
    world.thread.call(world.broker.drop_connections)
    conn.ear.await_event("disconnected")
    world.stomp(headers={"client-id": "daemon"})
    assert world.broker.counters.connections == 2


def test_new_connections_can_be_refused(world: World) -> None:
    raw = world.client()
    world.broker.refuse = True
    assert world.raw().is_closed()
    assert raw.send(QUEUE, "a") == []
    world.broker.refuse = False
    assert world.client().send(QUEUE, "b") == []


def test_a_hook_can_lose_a_frame_that_comes(world: World) -> None:
    def lose_first_send(what: str, _session: Session, frame: Frame) -> Verdict:
        return "drop" if (what, frame.body) == ("receive", b"first") else None

    raw = world.client()
    world.broker.hook = lose_first_send
    raw.frame("SEND", "first", destination=QUEUE, receipt="lost")
    raw.send(QUEUE, "second")
    assert world.thread.call(lambda: world.broker.queued(QUEUE)) == ["second"]


def test_a_hook_can_lose_a_frame_that_goes(world: World) -> None:
    def lose_messages(what: str, session: Session, frame: Frame) -> Verdict:
        return "drop" if what == "send" and frame.command == "MESSAGE" and session.client_id == "unlucky" else None

    world.broker.hook = lose_messages
    unlucky, lucky = world.client(client_id="unlucky"), world.client(client_id="lucky")
    unlucky.subscribe(TOPIC, "client-individual")
    lucky.subscribe(TOPIC)
    assert unlucky.send(TOPIC, "a") == []
    assert lucky.read().body == "a"


def test_call_hands_back_what_was_raised(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        world.thread.call(lambda: 1 // 0)


def test_wait_until_gives_up_at_its_deadline(world: World) -> None:
    with pytest.raises(TimeoutError):
        world.thread.wait_until(lambda: False, deadline_s=0.01)


def test_a_taken_port_is_an_error_and_leaves_no_thread(world: World) -> None:
    other = BrokerThread(Broker(user="u", password="p"), port=world.thread.port)
    with pytest.raises(OSError, match="address already in use"), other:
        pass
    with pytest.raises(RuntimeError):
        other.call(lambda: None)


def test_a_broker_that_listens_is_not_started_again(world: World) -> None:
    with pytest.raises(RuntimeError, match="already"):
        world.thread.start()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_parser_finds_the_same_frames_however_the_bytes_are_cut(line_end: str) -> None:
    head = line_end.join(["SEND", "destination:/topic/a", "", ""])
    counted = line_end.join(["SEND", "destination:/topic/a", "content-length:3", "", ""])
    data = f"\n{head}until NUL\0{line_end}{counted}a\0b\0\n".encode()
    for cut in range(len(data)):
        for chunks in ([data[:cut], data[cut:]], [data[i : i + 1] for i in range(len(data))]):
            parser, found = FrameParser(), []
            parser.version = "1.2"
            for chunk in chunks:
                parser.feed(chunk)
                while frame := parser.next_frame():
                    found.append(frame.body)
            assert found == [b"until NUL", b"a\0b"]

"""The testbed's broker, asked by raw sockets and by the real stomp.py client."""

from __future__ import annotations

import queue
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import stomp
import trustme

from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread, Frame, Refused, Session, Verdict
from fastmon_daemon.testbed.stomp_broker.frames import FrameParser

DEADLINE_S = 15.0
TOPIC = "/topic/epictopic"
QUEUE = "/queue/work"
DLQ = "/queue/DLQ"
LOGIN = {"login": "fastmon", "passcode": "secret"}


@dataclass
class Got:
    """A frame as the raw client read it, headers as they stood on the wire."""

    command: str
    headers: dict[str, str]
    body: str


class Raw:
    """A client that writes exactly the bytes it is told to, and reads frames by their NUL."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self._buffer = b""
        self.receipts = 0

    def write(self, text: str | bytes) -> None:
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def frame(self, command: str, body: str = "", **headers: str) -> None:
        lines = [command, *(f"{name.replace('_', '-')}:{value}" for name, value in headers.items())]
        self.write("\n".join(lines) + f"\n\n{body}\0")

    def connect(self, version: str = "1.2", **headers: str) -> Got:
        self.frame("CONNECT", **{"accept-version": version, "host": "x", **LOGIN, **headers})
        return self.read()

    def ask(self, command: str, body: str = "", **headers: str) -> list[Got]:
        """Send a frame with a receipt; the frames that came before it did."""
        self.receipts += 1
        receipt = f"r-{self.receipts}"
        self.frame(command, body, receipt=receipt, **headers)
        before: list[Got] = []
        while (got := self.read()).command != "RECEIPT":
            assert got.command != "ERROR", got
            before.append(got)
        assert got.headers["receipt-id"] == receipt
        return before

    def send(self, destination: str, body: str, **headers: str) -> list[Got]:
        return self.ask("SEND", body, destination=destination, **headers)

    def subscribe(self, destination: str, ack: str = "auto", **headers: str) -> list[Got]:
        return self.ask("SUBSCRIBE", destination=destination, ack=ack, **{"id": "0", **headers})

    def read(self) -> Got:
        while b"\0" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the broker closed")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        head, _, body = raw.decode().lstrip("\n").partition("\n\n")
        command, *lines = head.split("\n")
        return Got(command, dict(line.split(":", 1) for line in lines), body)

    def refused(self) -> Got:
        """The ERROR that comes next, behind which the broker must close."""
        got = self.read()
        assert got.command == "ERROR", got
        assert self.is_closed()
        return got

    def is_closed(self) -> bool:
        try:
            while data := self.socket.recv(65536):
                assert not data.strip(b"\n")
        except ConnectionResetError:
            pass
        return True

    def hears_only_beats(self, for_s: float = 0.3) -> bool:
        """Whether nothing but heart-beats, and in the end nothing at all, comes for a while."""
        self.socket.settimeout(for_s)
        try:
            while self.socket.recv(1) == b"\n":
                pass
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(DEADLINE_S)
        return False

    def close(self) -> None:
        self.socket.close()


@dataclass
class Ear(stomp.ConnectionListener):  # type: ignore[misc]
    """What stomp.py reports, in queues."""

    events: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)
    messages: queue.Queue[Any] = field(default_factory=queue.Queue)

    def on_connected(self, frame: Any) -> None:
        self.events.put(("connected", frame))

    def on_error(self, frame: Any) -> None:
        self.events.put(("error", frame))

    def on_receipt(self, frame: Any) -> None:
        self.events.put(("receipt", frame.headers["receipt-id"]))

    def on_message(self, frame: Any) -> None:
        self.messages.put(frame)

    def on_disconnected(self) -> None:
        self.events.put(("disconnected", None))

    def await_event(self, name: str) -> Any:
        while (event := self.events.get(timeout=DEADLINE_S))[0] != name:
            pass
        return event[1]

    def next_message(self) -> Any:
        return self.messages.get(timeout=DEADLINE_S)


class World:
    """A broker that runs, and its clients, closed at the end."""

    def __init__(self, stack: ExitStack, **options: Any) -> None:
        tls = options.pop("ssl", None)
        self._stack = stack
        self.broker = Broker(user="fastmon", password="secret", **options)
        self.thread = stack.enter_context(BrokerThread(self.broker, ssl=tls))

    def raw(self, tls: ssl.SSLContext | None = None) -> Raw:
        client = Raw(self.thread.port, tls)
        self._stack.callback(client.close)
        return client

    def client(self, version: str = "1.2", **headers: str) -> Raw:
        raw = self.raw()
        assert raw.connect(version, **headers).command == "CONNECTED"
        return raw

    def stomp(self, kind: type = stomp.Connection12, headers: dict[str, str] | None = None, **options: Any) -> Any:
        conn = kind([("127.0.0.1", self.thread.port)], reconnect_attempts_max=1, **options)
        conn.set_listener("ear", ear := Ear())
        conn.ear = ear
        conn.connect("fastmon", "secret", wait=False, headers=headers or {})
        self._stack.callback(conn.transport.disconnect_socket)
        ear.await_event("connected")
        return conn

    def until(self, condition: Callable[[], bool]) -> None:
        self.thread.wait_until(condition, DEADLINE_S)

    def depth(self, destination: str) -> int:
        return self.thread.call(lambda: self.broker.queue_depth(destination))

    def gone(self, client_id: str) -> None:
        self.until(lambda: all(session.client_id != client_id for session in self.broker.sessions))


@contextmanager
def running(**options: Any) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, **options)


@pytest.fixture
def world() -> Iterator[World]:
    with running() as world:
        yield world


def bodies(frames: list[Got]) -> list[str]:
    return [frame.body for frame in frames]


# Connecting


@pytest.mark.parametrize(
    ("accepted", "chosen"), [("1.0,1.1,1.2", "1.2"), ("1.1,1.0", "1.1"), ("1.0", "1.0"), ("1.1, 9.9", "1.1")]
)
def test_the_highest_common_version_is_chosen(world: World, accepted: str, chosen: str) -> None:
    assert world.raw().connect(accepted).headers["version"] == chosen


def test_a_client_that_names_no_version_speaks_1_0(world: World) -> None:
    raw = world.raw()
    raw.frame("STOMP", **LOGIN)
    assert raw.read().headers["version"] == "1.0"


def test_a_broker_without_the_clients_version_names_its_own() -> None:
    with running(versions=("1.1", "1.0")) as world:
        raw = world.raw()
        raw.frame("CONNECT", accept_version="1.2", **LOGIN)
        assert "1.1,1.0" in raw.refused().headers["message"]


def test_a_wrong_passcode_is_refused_without_repeating_it(world: World) -> None:
    raw = world.raw()
    raw.frame("CONNECT", accept_version="1.2", login="fastmon", passcode="wrong")
    got = raw.refused()
    assert "invalid" in got.headers["message"]
    assert "wrong" not in got.body + got.headers["message"]


def test_a_frame_before_connect_is_refused(world: World) -> None:
    raw = world.raw()
    raw.frame("SEND", destination=TOPIC)
    assert "Not connected" in raw.refused().headers["message"]


def test_a_second_connect_is_refused(world: World) -> None:
    raw = world.client()
    raw.frame("CONNECT", **LOGIN)
    assert raw.refused().headers["message"] == "Already connected."


def test_a_client_id_is_refused_while_its_first_connection_lives_and_free_afterwards(world: World) -> None:
    first = world.client(client_id="daemon")
    second = world.raw()
    second.frame("CONNECT", accept_version="1.2", client_id="daemon", **LOGIN)
    got = second.refused()
    assert "daemon already connected from tcp" in got.headers["message"]
    assert got.body.startswith("javax.jms.InvalidClientIDException")
    first.ask("DISCONNECT")
    assert world.raw().connect(**{"client-id": "daemon"}).command == "CONNECTED"


def test_tls_works_as_plain_does(tmp_path: Any) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    with running(ssl=server) as world:
        raw = world.raw(client)
        assert raw.connect().command == "CONNECTED"
        raw.subscribe(TOPIC)
        assert bodies(raw.send(TOPIC, "over tls")) == ["over tls"]
        wrong = world.raw(client)
        wrong.frame("CONNECT", login="nobody")
        assert "invalid" in wrong.refused().headers["message"]


# Frames


def test_frames_may_be_split_at_any_byte(world: World) -> None:
    raw = world.raw()
    text = (
        "\n\r\nCONNECT\r\naccept-version:1.2\r\nlogin:fastmon\r\npasscode:secret\r\n\r\n\0\r\n\n"
        f"SUBSCRIBE\nid:0\ndestination:{TOPIC}\n\n\0"
        f"SEND\r\ndestination:{TOPIC}\r\ncontent-length:5\r\n\r\nTF \u00e9\0\n"
        f"SEND\ndestination:{TOPIC}\n\nuntil NUL\0"
    )
    raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = world.broker.counters.received
    for byte in text.encode():
        raw.write(bytes([byte]))
    assert raw.read().command == "CONNECTED"
    assert [raw.read().body for _ in range(2)] == ["TF \u00e9", "until NUL"]
    assert received == {"CONNECT": 1, "SUBSCRIBE": 1, "SEND": 2}


def test_a_body_of_a_given_length_may_hold_nul(world: World) -> None:
    conn = world.stomp()
    conn.subscribe(TOPIC, id="0", receipt="s")
    conn.ear.await_event("receipt")
    conn.send(TOPIC, "a\0b\0")
    assert conn.ear.next_message().body == "a\0b\0"


def test_a_large_body_arrives_whole(world: World) -> None:
    conn = world.stomp()
    conn.subscribe(TOPIC, id="0", receipt="s")
    conn.ear.await_event("receipt")
    body = "0123456789" * 300_000
    conn.send(TOPIC, body)
    assert conn.ear.next_message().body == body


@pytest.mark.parametrize(
    ("version", "sent", "on_the_wire"),
    [
        ("1.0", "c\\nd", "c\\nd"),
        ("1.1", "a\\cb\\nc\\\\d", "a\\cb\\nc\\\\d"),
        ("1.2", "a\\cb\\nc\\\\d\\re", "a\\cb\\nc\\\\d\\re"),
    ],
)
def test_headers_are_escaped_by_version(world: World, version: str, sent: str, on_the_wire: str) -> None:
    raw = world.client(version)
    raw.subscribe(TOPIC)
    [message] = raw.send(TOPIC, "", note=sent)
    assert message.headers["note"] == on_the_wire


def test_an_escape_of_one_version_is_translated_for_another(world: World) -> None:
    listener, sender = world.client("1.0"), world.client("1.2")
    listener.subscribe(TOPIC)
    sender.send(TOPIC, "x", note="a\\cb\\nevil\\c1")
    headers = listener.read().headers
    assert headers["note"] == "a:b evil:1"
    assert "evil" not in headers


def test_of_a_repeated_header_the_first_counts(world: World) -> None:
    raw = world.client()
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
        ("SUBSCRIBE\nid:1\ndestination:/topic/a\nselector:a=1\n\n\0", "selector"),
        ("SUBSCRIBE\nid:1\ndestination:/queue/a\nactivemq.prefetchSize:0\n\n\0", "prefetchSize"),
        ("UNSUBSCRIBE\nid:7\n\n\0", "No subscription"),
        ("ACK\nid:nothing\n\n\0", "No subscription"),
        ("COMMIT\ntransaction:t\n\n\0", "transaction"),
        ("SEND\ndestination:/topic/a\ntransaction:t\n\n\0", "transaction"),
    ],
)
def test_a_bad_frame_is_answered_by_an_error_and_the_end(world: World, garbage: str | bytes, reason: str) -> None:
    raw = world.client()
    raw.write(garbage)
    assert reason in raw.refused().headers["message"].replace("\\c", ":")


def test_an_error_names_the_receipt_of_the_frame_that_caused_it(world: World) -> None:
    raw = world.client()
    raw.frame("SEND", destination="nowhere", receipt="r")
    assert raw.refused().headers["receipt-id"] == "r"


def test_1_0_knows_no_nack(world: World) -> None:
    raw = world.client("1.0")
    raw.frame("NACK", message_id="1")
    assert "NACK" in raw.refused().headers["message"]


# Heart-beats


@pytest.mark.parametrize(("version", "offer"), [("1.2", "100,100"), ("1.1", "100,100"), ("1.0", "0,0")])
def test_the_broker_offers_heart_beats_from_1_1_on(world: World, version: str, offer: str) -> None:
    assert world.raw().connect(version, **{"heart-beat": "1000,1000"}).headers["heart-beat"] == offer


def test_the_broker_sends_heart_beats_to_who_wants_them(world: World) -> None:
    raw = world.raw()
    assert raw.connect(**{"heart-beat": "0,50"}).command == "CONNECTED"
    assert [raw.socket.recv(1) for _ in range(3)] == [b"\n", b"\n", b"\n"]


def test_a_client_that_promised_beats_and_falls_silent_is_dropped(world: World) -> None:
    raw = world.raw()
    raw.connect(**{"heart-beat": "50,0", "client-id": "mute"})
    assert raw.is_closed()
    world.gone("mute")


def test_a_client_that_beats_is_kept(world: World) -> None:
    conn = world.stomp(headers={"client-id": "lively"}, heartbeats=(500, 500), heart_beat_receive_scale=20)
    deadline = time.monotonic() + 2.5  # the broker would drop it 1.5 s after its last byte
    world.until(lambda: time.monotonic() > deadline)
    assert any(session.client_id == "lively" for session in world.broker.sessions)
    assert conn.is_connected()


def test_a_bad_heart_beat_header_is_refused(world: World) -> None:
    raw = world.raw()
    raw.frame("CONNECT", accept_version="1.2", heart_beat="often", **LOGIN)
    assert "heart-beat" in raw.refused().headers["message"]


# Delivering and acknowledging


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


# Transactions


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


# Durable subscriptions and restarts

NAMES = ["activemq.subscriptionName", "durable-subscription-name", "durable-subscriber-name"]


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


# Duplicates, counters and the programmer's door


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
    with pytest.raises(Refused, match="epictopic"):
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


# Faults


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


def test_a_hook_can_hold_frames_until_they_are_released(world: World) -> None:
    def hold_receipts(what: str, _session: Session, frame: Frame) -> Verdict:
        return "hold" if what == "send" and frame.headers.get("receipt-id") in {"1", "2"} else None

    raw = world.client()
    world.broker.hook = hold_receipts
    for receipt in "12":
        raw.frame("SEND", "a", destination=QUEUE, receipt=receipt)
    assert raw.send(QUEUE, "b") == []
    world.thread.call(world.broker.release_held)
    assert [raw.read().headers["receipt-id"] for _ in range(2)] == ["1", "2"]


def test_a_held_frame_that_came_is_done_when_released_unless_its_session_has_gone(world: World) -> None:
    world.broker.hook = lambda what, _session, frame: "hold" if (what, frame.command) == ("receive", "SEND") else None
    here, gone = world.client(), world.client(client_id="gone")
    for raw in (here, gone):
        raw.frame("SEND", "a", destination=QUEUE)
    world.until(lambda: len(world.broker.held) == 2)
    gone.close()
    world.gone("gone")
    world.thread.call(world.broker.release_held)
    assert world.depth(QUEUE) == 1
    assert world.broker.held == []


# The thread


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

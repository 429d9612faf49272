"""Facts about durable subscriptions on each broker: kept, resumed, drained and removed.

docs/brokers.md states these facts; a run prints them as a table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.real_brokers.conftest import Names
from tests.real_brokers.link import DeadClient, Link, Rejected
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

PERSISTENT = {"persistent": "true"}
# One header for each family of brokers: with both, the same SUBSCRIBE is durable on all of them.
DURABLE = {"activemq.subscriptionName": "stf", "durable-subscription-name": "stf"}
BACKLOG = 10_000
REDELIVERED = {"embedded": "true", "classic": None, "artemis": "true"}
DEADLINE_S = 60.0
Note = Callable[[str, object], None]
_Client = TypeVar("_Client", Link, DeadClient)


def test_it_keeps_messages_while_its_client_is_disconnected(broker: Server, names: Names) -> None:
    _create_subscription(broker, names)
    _send(broker, names, "while disconnected")
    with _connect(broker, names) as link:
        link.wait_for_messages(1)
        assert link.bodies == ["while disconnected"]


def test_an_unacknowledged_message_is_redelivered_after_a_cut(broker: Server, names: Names, note: Note) -> None:
    with _connect(broker, names) as link:
        _send(broker, names, "acknowledged", "in flight")
        link.ack(link.wait_for_messages(2)[0])
    with _connect(broker, names) as link:
        redelivered = link.wait_for_messages(1)[0]
        note("header redelivered after a cut", redelivered.headers.get("redelivered", "none"))
        assert link.bodies == ["in flight"]
        assert redelivered.headers.get("redelivered") == REDELIVERED[broker.kind]


def test_how_often_a_message_is_delivered_that_is_never_acknowledged(broker: Server, names: Names, note: Note) -> None:
    _create_subscription(broker, names)
    _send(broker, names, "poison")
    deliveries = 0
    while deliveries < 12:
        with _connect(broker, names) as link:
            link.send(names.topic, f"end {deliveries}", **PERSISTENT)
            link.wait_for(f"end {deliveries}")
            link.ack(link.received[link.bodies.index(f"end {deliveries}")])
            if "poison" not in link.bodies:
                break
        deliveries += 1
    end = "without end" if deliveries == 12 else "then dead letter"
    note("deliveries of a message that is never acknowledged", f"{deliveries}, {end}")
    assert (deliveries < 12) == (broker.kind == "artemis")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_only_persistent_messages_survive_a_restart(broker: Server, names: Names, end: str) -> None:
    _create_subscription(broker, names)
    with Link(broker) as sender:
        sender.send(names.topic, "not persistent")
        sender.send(names.topic, "persistent", **PERSISTENT)
    getattr(broker, end)()
    broker.start()
    _send(broker, names, "end")
    with _connect(broker, names) as link:
        link.wait_for("end")
        assert link.bodies == ["persistent", "end"]


def test_a_second_session_with_the_same_client_id(broker: Server, names: Names, note: Note) -> None:
    with _connect(broker, names) as first:
        try:
            with Link(broker, client_id=names.client_id) as second:
                second.subscribe(names.topic, **DURABLE)
                answer = "accepted: both share the subscription"
        except Rejected as rejected:
            answer = f"rejected at CONNECT: {str(rejected).splitlines()[0].partition(' - ')[2].split(' from')[0]}"
        note("a second session with the same client-id", answer)
        assert first.is_up
        assert answer.startswith("accepted" if broker.kind == "artemis" else "rejected")


def test_it_is_resumed_after_a_half_open_link(broker: Server, names: Names, note: Note) -> None:
    """The old session has three unacknowledged messages, and its socket stays open."""
    _create_subscription(broker, names)
    subscribe = {"destination": names.topic, **DURABLE}
    with _when_free(lambda: DeadClient(broker, names.client_id, beats_ms=1000, subscribe=subscribe)):
        _send(broker, names, "0", "1", "2")
        began = time.monotonic()
        with _connect(broker, names) as link:
            subscribed = time.monotonic() - began
            link.wait_for_messages(3)
            note(
                "after a half-open link with heart-beat 1 s",
                f"subscribed after {subscribed:.1f} s, its three messages after {time.monotonic() - began:.1f} s",
            )
            assert sorted(link.bodies) == ["0", "1", "2"]


def test_ten_thousand_waiting_messages_are_drained_with_one_ack_each(broker: Server, names: Names, note: Note) -> None:
    _create_subscription(broker, names)
    with Link(broker) as sender:
        for _ in range(BACKLOG // 500):
            sender.wait_for_receipts(
                [sender.send_unconfirmed(names.topic, "x" * 300, **PERSISTENT) for _ in range(500)]
            )
    began = time.monotonic()
    with _connect(broker, names, **{"activemq.prefetchSize": "100", "consumer-window-size": "100000"}) as link:
        for number in range(BACKLOG):
            link.ack(link.wait_for_messages(number + 1)[number], confirmed=number + 1 == BACKLOG)
        note(f"{BACKLOG} waiting messages", f"{BACKLOG / (time.monotonic() - began):.0f}/s")
    _send(broker, names, "end")
    with _connect(broker, names) as link:
        link.wait_for_messages(1)
        assert link.bodies == ["end"]


def test_the_client_limits_the_messages_in_flight(broker: Server, names: Names, note: Note) -> None:
    _create_subscription(broker, names)
    _send(broker, names, *("x" * 300 for _ in range(300)))
    with _connect(broker, names, **{"activemq.prefetchSize": "5", "consumer-window-size": "2000"}) as link:
        link.wait_for_messages(4)
        threading.Event().wait(1)  # time to send too many; if it is too short, the test passes
        note("outstanding with prefetchSize 5, window 2000", len(link.received))
        assert len(link.received) <= 5
    with _connect(broker, names) as link:
        link.wait_for_messages(6)
        threading.Event().wait(1)
        note("outstanding of 300 without those headers", len(link.received))


def test_how_it_is_removed(broker: Server, names: Names, note: Note) -> None:
    with _connect(broker, names) as link:
        link.unsubscribe()
    assert _is_kept(broker, names), "an UNSUBSCRIBE without its name only pauses it"
    note("UNSUBSCRIBE with its name while subscribed", _unsubscribe_while_subscribed(broker, names))
    assert _is_kept(broker, names) == (broker.kind != "artemis")
    _remove(broker, names)
    note("UNSUBSCRIBE with its name when not subscribed", "removed")
    assert not _is_kept(broker, names)


def _unsubscribe_while_subscribed(broker: Server, names: Names) -> str:
    """Return the result. Artemis rejects it only while an older session of the client is closing: retry until then."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with _connect(broker, names) as link:
            try:
                link.unsubscribe(**DURABLE)
            except Rejected as rejected:
                if broker.kind != "artemis" or time.monotonic() > deadline:
                    return f"rejected: {str(rejected).splitlines()[0]}"
            else:
                return "removed"


def _is_kept(broker: Server, names: Names) -> bool:
    """Whether the subscription keeps a message while its client is disconnected; afterwards it exists in any case."""
    _send(broker, names, "while disconnected")
    with _connect(broker, names) as link:
        link.send(names.topic, "end", **PERSISTENT)
        link.wait_for("end")
        for frame in link.received:
            link.ack(frame)
        return "while disconnected" in link.bodies


def _remove(broker: Server, names: Names) -> None:
    """Remove it without a session of its client, like an operator. Artemis rejects that while a session is closing."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with _when_free(lambda: Link(broker, client_id=names.client_id)) as link:
            try:
                link.unsubscribe(**DURABLE)
            except Rejected:
                assert time.monotonic() < deadline
            else:
                return


def _create_subscription(broker: Server, names: Names) -> None:
    with _connect(broker, names):
        pass


def _send(broker: Server, names: Names, *bodies: str) -> None:
    with Link(broker) as sender:
        for body in bodies:
            sender.send(names.topic, body, **PERSISTENT)


def _connect(broker: Server, names: Names, **headers: str) -> Link:
    """Open the durable subscriber's next session."""
    link = _when_free(lambda: Link(broker, client_id=names.client_id))
    return link.subscribe(names.topic, **DURABLE, **headers)


def _when_free(connect: Callable[[], _Client]) -> _Client:
    """What *connect* returns, as soon as the broker has closed the previous session with its client id."""
    deadline = time.monotonic() + 4 * DEADLINE_S  # a busy broker takes long to miss the heart-beats of a dead session
    while True:
        try:
            return connect()
        except Rejected as rejected:
            if "already connected" not in str(rejected) or time.monotonic() > deadline:
                raise
            threading.Event().wait(0.1)

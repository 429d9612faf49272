"""What each broker does with a durable subscription: kept, taken up again, worked off, and taken away.

docs/brokers.md states these facts; the table at the end of a run has the answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.real_brokers.conftest import Names
from tests.real_brokers.link import DeadClient, Link, Refused
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

PERSISTENT = {"persistent": "true"}
# One name for each family of brokers: with both headers the same SUBSCRIBE is durable on all of them.
DURABLE = {"activemq.subscriptionName": "stf", "durable-subscription-name": "stf"}
BACKLOG = 10_000
REDELIVERED = {"embedded": "true", "classic": None, "artemis": "true"}
DEADLINE_S = 60.0
Note = Callable[[str, object], None]


def test_it_keeps_messages_while_its_client_is_away(broker: Server, names: Names) -> None:
    _leave_a_subscription(broker, names)
    _send(broker, names, "while away")
    with _back(broker, names) as link:
        link.take(1)
        assert link.bodies == ["while away"]


def test_what_was_not_acknowledged_comes_again_after_a_cut(broker: Server, names: Names, note: Note) -> None:
    with _back(broker, names) as link:
        _send(broker, names, "acknowledged", "in flight")
        link.ack(link.take(2)[0])
    with _back(broker, names) as link:
        again = link.take(1)[0]
        note("header redelivered after a cut", again.headers.get("redelivered", "none"))
        assert link.bodies == ["in flight"]
        assert again.headers.get("redelivered") == REDELIVERED[broker.kind]


def test_how_often_a_message_comes_that_is_never_acknowledged(broker: Server, names: Names, note: Note) -> None:
    _leave_a_subscription(broker, names)
    _send(broker, names, "poison")
    deliveries = 0
    while deliveries < 12:
        with _back(broker, names) as link:
            link.send(names.topic, f"end {deliveries}", **PERSISTENT)
            link.wait_for(f"end {deliveries}")
            link.ack(link.received[link.bodies.index(f"end {deliveries}")])
            if "poison" not in link.bodies:
                break
        deliveries += 1
    end = "and no end" if deliveries == 12 else "then dead letter"
    note("deliveries of a message never acknowledged", f"{deliveries}, {end}")
    assert (deliveries < 12) == (broker.kind == "artemis")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_only_persistent_messages_outlive_the_broker(broker: Server, names: Names, end: str) -> None:
    _leave_a_subscription(broker, names)
    with Link(broker) as sender:
        sender.send(names.topic, "not persistent")
        sender.send(names.topic, "persistent", **PERSISTENT)
    getattr(broker, end)()
    broker.start()
    _send(broker, names, "end")
    with _back(broker, names) as link:
        link.wait_for("end")
        assert link.bodies == ["persistent", "end"]


def test_a_second_session_with_the_same_client_id(broker: Server, names: Names, note: Note) -> None:
    with _back(broker, names) as first:
        try:
            with Link(broker, client_id=names.client_id) as second:
                second.subscribe(names.topic, **DURABLE)
                answer = "accepted: both share the subscription"
        except Refused as refused:
            answer = f"refused at CONNECT: {str(refused).splitlines()[0].partition(' - ')[2].split(' from')[0]}"
        note("a second session with the same client-id", answer)
        assert first.is_up
        assert answer.startswith("accepted" if broker.kind == "artemis" else "rejected")


def test_it_is_taken_up_again_after_a_half_open_link(broker: Server, names: Names, note: Note) -> None:
    """The dead session got three messages, acknowledged none, and its socket stays open all the time."""
    _leave_a_subscription(broker, names)
    with DeadClient(broker, names.client_id, beats_ms=1000, subscribe={"destination": names.topic, **DURABLE}):
        _send(broker, names, "0", "1", "2")
        begun = time.monotonic()
        with _back(broker, names) as link:
            subscribed = time.monotonic() - begun
            link.take(3)
            note(
                "after a half-open link with heart-beat 1 s",
                f"subscribed after {subscribed:.1f} s, its three messages after {time.monotonic() - begun:.1f} s",
            )
            assert sorted(link.bodies) == ["0", "1", "2"]


def test_ten_thousand_waiting_messages_are_worked_off_one_ack_each(broker: Server, names: Names, note: Note) -> None:
    _leave_a_subscription(broker, names)
    with Link(broker) as sender:
        for _ in range(BACKLOG // 500):
            sender.wait_for_receipts([sender.send_off(names.topic, "x" * 300, **PERSISTENT) for _ in range(500)])
    begun = time.monotonic()
    with _back(broker, names, **{"activemq.prefetchSize": "100", "consumer-window-size": "100000"}) as link:
        for number in range(BACKLOG):
            link.ack(link.take(number + 1)[number], confirmed=number + 1 == BACKLOG)
        note(f"{BACKLOG} waiting messages", f"{BACKLOG / (time.monotonic() - begun):.0f}/s")
    _send(broker, names, "end")
    with _back(broker, names) as link:
        link.take(1)
        assert link.bodies == ["end"]


def test_the_client_limits_how_much_is_on_its_way(broker: Server, names: Names, note: Note) -> None:
    _leave_a_subscription(broker, names)
    _send(broker, names, *("x" * 300 for _ in range(300)))
    with _back(broker, names, **{"activemq.prefetchSize": "5", "consumer-window-size": "2000"}) as link:
        link.take(4)
        threading.Event().wait(1)  # time to send more than it should; too little of it would pass, never fail
        note("outstanding with prefetchSize 5, window 2000", len(link.received))
        assert len(link.received) <= 5
    with _back(broker, names) as link:
        link.take(6)
        threading.Event().wait(1)
        note("outstanding of 300 without those headers", len(link.received))


def test_how_it_is_taken_away(broker: Server, names: Names, note: Note) -> None:
    with _back(broker, names) as link:
        link.unsubscribe()
    assert _is_kept(broker, names), "an UNSUBSCRIBE without its name only pauses it"
    note("UNSUBSCRIBE with its name while subscribed", _unsubscribe_while_subscribed(broker, names))
    assert _is_kept(broker, names) == (broker.kind != "artemis")
    _take_away(broker, names)
    note("UNSUBSCRIBE with its name when not subscribed", "taken away")
    assert not _is_kept(broker, names)


def _unsubscribe_while_subscribed(broker: Server, names: Names) -> str:
    """What came of it. Artemis refuses only while an earlier session of that client is going: tried until then."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with _back(broker, names) as link:
            try:
                link.unsubscribe(**DURABLE)
            except Refused as refused:
                if broker.kind != "artemis" or time.monotonic() > deadline:
                    return f"refused: {str(refused).splitlines()[0]}"
            else:
                return "taken away"


def _is_kept(broker: Server, names: Names) -> bool:
    """Whether the subscription took a message while its client was away; it is there in any case afterwards."""
    _send(broker, names, "while away")
    with _back(broker, names) as link:
        link.send(names.topic, "end", **PERSISTENT)
        link.wait_for("end")
        for frame in link.received:
            link.ack(frame)
        return "while away" in link.bodies


def _take_away(broker: Server, names: Names) -> None:
    """As an operator would: no session of that client is left. Artemis refuses while the last one is still going."""
    deadline = time.monotonic() + DEADLINE_S
    for link in _sessions(broker, names):
        with link:
            try:
                link.unsubscribe(**DURABLE)
            except Refused:
                assert time.monotonic() < deadline
            else:
                return


def _leave_a_subscription(broker: Server, names: Names) -> None:
    with _back(broker, names):
        pass


def _send(broker: Server, names: Names, *bodies: str) -> None:
    with Link(broker) as sender:
        for body in bodies:
            sender.send(names.topic, body, **PERSISTENT)


def _back(broker: Server, names: Names, **headers: str) -> Link:
    """The durable subscriber's next session."""
    link = next(_sessions(broker, names))
    return link.subscribe(names.topic, **DURABLE, **headers)


def _sessions(broker: Server, names: Names) -> Iterator[Link]:
    """A session under the subscriber's client-id, as soon as the broker has let go of the last one."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            yield Link(broker, client_id=names.client_id)
        except Refused as refused:
            if "already connected" not in str(refused) or time.monotonic() > deadline:
                raise
            threading.Event().wait(0.1)

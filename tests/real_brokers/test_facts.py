"""Facts about connections and messages on each broker, observed with stomp.py.

docs/brokers.md states these facts; a run prints them as a table.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from tests.real_brokers.certificates import GOOD, INVALID
from tests.real_brokers.conftest import Names
from tests.real_brokers.link import Link, Rejected
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

PERSISTENT = {"persistent": "true"}
Note = Callable[[str, object], None]


def test_stomp_1_2_and_a_heart_beat_are_agreed_on(broker: Server, note: Note) -> None:
    with Link(broker, heart_beats=(5000, 5000)) as link:
        note("server", f"{link.greeting['server']} (harness: {broker.version})")
        note("heart-beat offered for 5000,5000", link.greeting["heart-beat"])
        assert link.greeting["version"] == "1.2"
        assert "0" not in link.greeting["heart-beat"].split(",")


def test_a_wrong_password_gets_an_error_or_a_closed_connection(broker: Server, note: Note) -> None:
    answers = []
    for _ in range(20):
        with pytest.raises(Rejected) as rejected:
            Link(broker, password="not-it")
        answers.append(str(rejected.value).splitlines()[0])
    errors = [answer for answer in answers if "password is invalid" in answer]
    note("wrong password", f"{len(errors)} of {len(answers)} times ERROR {errors[0]!r}, otherwise only closed")
    assert len(errors) == len(answers) or broker.kind == "classic"


@pytest.mark.parametrize("fault", INVALID)
def test_stomp_py_rejects_an_invalid_certificate_before_the_login(broker: Server, fault: str) -> None:
    with pytest.raises(ConnectionError):
        Link(broker, tls=fault)


def test_a_certificate_of_the_ca_is_valid_for_localhost(broker: Server, names: Names) -> None:
    with Link(broker, tls=GOOD) as link:
        link.send(names.queue, "over TLS", **PERSISTENT)


def test_a_persistent_message_is_confirmed_by_a_receipt(broker: Server, names: Names, note: Note) -> None:
    with Link(broker) as link:
        began = time.monotonic()
        for number in range(100):
            link.send(names.queue, str(number), **PERSISTENT)
        note("persistent SEND to RECEIPT, mean of 100", f"{(time.monotonic() - began) * 10:.1f} ms")


def test_a_silent_broker_is_detected_by_a_missing_heart_beat(broker: Server) -> None:
    with Link(broker, heart_beats=(1000, 1000), scale=2.5) as link:
        broker.pause()
        link.wait_for_lost_heart_beat()
        link.wait_until_ended()
        broker.resume()


def test_an_idle_link_stays_up_if_late_heart_beats_are_tolerated(broker: Server, names: Names, note: Note) -> None:
    with Link(broker, heart_beats=(1000, 1000), scale=3) as link:
        link.wait_for_beats(2)
        link.send(names.topic, "traffic")
        link.wait_for_beats(6)
        times = [link.last_traffic, *(beat for beat in link.beats if beat > link.last_traffic)]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        note("longest silence after traffic, heart-beat 1 s", f"{max(gaps):.1f} s")
        assert link.is_up


def test_a_selector_compares_headers_as_text(broker: Server, names: Names, note: Note) -> None:
    with Link(broker) as sender, Link(broker) as link:
        link.subscribe(names.topic, selector="msg_type = 'stf_ready' AND namespace IN ('torre', 'main')")
        sender.send(names.topic, "another type", msg_type="tf_file_registered", namespace="torre")
        sender.send(names.topic, "only in the body")
        sender.send(names.topic, "another namespace", msg_type="stf_ready", namespace="other")
        sender.send(names.topic, "matching", msg_type="stf_ready", namespace="torre")
        link.wait_for_messages(1)
        assert link.bodies == ["matching"]
    return note("selectors", "on headers; a type that is only in the body matches nothing")


@pytest.mark.parametrize("where", ["topic", "queue"])
def test_a_second_message_with_the_same_duplicate_id(broker: Server, names: Names, note: Note, where: str) -> None:
    destination = getattr(names, where)
    with Link(broker) as link:
        link.subscribe(destination)
        for body, event in (("first", "a"), ("second", "a"), ("third", "b")):
            link.send(
                destination, body, _AMQ_DUPL_ID=event, **PERSISTENT
            )  # a RECEIPT each time, even for a dropped message
        link.wait_for("third")
        dropped = "second" not in link.bodies
        note(f"second SEND with the same _AMQ_DUPL_ID on a {where}", f"{_outcome(dropped)}, RECEIPT, link stays up")
        assert link.is_up
        assert dropped == (broker.kind != "classic")


def test_duplicate_ids_survive_a_kill(broker: Server, names: Names, note: Note) -> None:
    with Link(broker) as link:
        link.send(names.queue, "before", _AMQ_DUPL_ID="a", **PERSISTENT)
    broker.kill()
    broker.start()
    with Link(broker) as link:
        link.send(names.queue, "again", _AMQ_DUPL_ID="a", **PERSISTENT)
        link.send(names.queue, "end", **PERSISTENT)
        link.subscribe(names.queue).wait_for("end")
        dropped = "again" not in link.bodies
        note("the same after kill -9 of the broker", _outcome(dropped))
        assert dropped == (broker.kind != "classic")


def test_a_nacked_message_is_not_redelivered(broker: Server, names: Names, note: Note) -> None:
    dead_letters = {"classic": "/queue/ActiveMQ.DLQ"}.get(broker.kind, "/queue/DLQ")
    with Link(broker) as link:
        link.send(names.queue, f"bad {names.queue}", **PERSISTENT)
        link.subscribe(names.queue).nack(link.wait_for_messages(1)[0])
    with Link(broker) as link, Link(broker) as dead_letter_link:
        link.send(names.queue, "end", **PERSISTENT)
        link.subscribe(names.queue).wait_for("end")
        assert link.bodies == ["end"]
        link.send(dead_letters, "last", **PERSISTENT)
        dead_letter_link.subscribe(dead_letters).wait_for("last")
        is_kept = f"bad {names.queue}" in dead_letter_link.bodies
        note("NACK", f"moved to {dead_letters}" if is_kept else "the message is dropped, no dead letter")
        assert is_kept == (broker.kind != "artemis")


def test_several_consumers_share_a_copy_of_the_topic(broker: Server, names: Names, note: Note) -> None:
    if broker.kind == "embedded":
        return note("a shared queue of a topic", "not offered")
    topic = names.topic.removeprefix("/topic/")
    shared = {"classic": f"/queue/Consumer.fastmon.{topic}", "artemis": f"{names.topic}::fastmon"}[broker.kind]
    one_at_a_time = {"activemq.prefetchSize": "1", "consumer-window-size": "0"}
    with Link(broker) as sender, Link(broker) as one, Link(broker) as other:
        one.subscribe(shared, **one_at_a_time)
        other.subscribe(shared, **one_at_a_time)
        for number in range(2):
            sender.send(names.topic, str(number), **PERSISTENT)
        for link in (one, other):
            link.ack(link.wait_for_messages(1)[0])
        assert sorted(one.bodies + other.bodies) == ["0", "1"]
    with Link(broker) as sender:
        sender.send(names.topic, "no consumer", **PERSISTENT)
    broker.kill()
    broker.start()
    with Link(broker) as link:
        link.subscribe(shared).wait_for_messages(1)
        assert link.bodies == ["no consumer"]
    return note(
        "a shared queue of a topic", f"{shared.replace(topic, 'NAME')}, kept without consumers, survives kill -9"
    )


@pytest.mark.parametrize("shared", ["/topic/documented::fastmon.ns1", "/queue/work.ns1"])
def test_the_documented_queues_get_the_topic_without_our_announcements(
    broker: Server, names: Names, shared: str
) -> None:
    if broker.kind != "artemis":
        pytest.skip("this is a configuration of Artemis")
    topic = "/topic/documented"
    with Link(broker) as sender, Link(broker) as link:
        sender.send(topic, f"announcement {shared}", msg_type="tf_file_registered", **PERSISTENT)
        sender.send(topic, f"stf_ready {shared}", **PERSISTENT)
        link.subscribe(shared).wait_for(f"stf_ready {shared}")
        assert not [body for body in link.bodies if body.startswith("announcement")]


def _outcome(dropped: bool) -> str:
    return "dropped" if dropped else "delivered"

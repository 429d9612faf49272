"""A broker that takes no messages from us: the link that sends is blocked, told once, and up again when it takes them.

The texts are those of Artemis 2.44 and ActiveMQ Classic 5.17.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from fastmon_daemon.base.errors import LinkBlocked, LinkDown
from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.broker.links import BODY, TOPIC, LinkRecorder, connected_link, parameters, running_link
from tests.builders import logged
from tests.processes import wait_until

GRANT = f"grant this user the right to send to {TOPIC}"
ROOM = "make room at the broker"
MAY_NOT_SEND = "AMQ229032: User: fastmon does not have permission='SEND' on address epictopic"
REFUSALS = [
    (MAY_NOT_SEND, GRANT),
    (
        "AMQ339011: Error sending message CoreMessage[messageID=17,durable=true]",
        f"{GRANT} (FASTMON_ANNOUNCE), or {ROOM}",
    ),
    ("User fastmon is not authorized to write to: topic://epictopic", GRANT),
    ("AMQ229031: Unable to validate user from 127.0.0.1. Username: fastmon", GRANT),
    ("AMQ229119: Free storage space is at 1.0MB of 9.9GB total. Usage rate is 99.9%", ROOM),
    ("AMQ229102: Address epictopic is full.", ROOM),
    (
        "Usage Manager memory limit (40000) reached. Rejecting send for producer (ID:a-1) to prevent flooding topic://x",
        ROOM,
    ),
    ("No space left on device", ROOM),
    ("Usage Manager Temp Store is Full. Producer (ID:a-1) stopped to prevent flooding", ROOM),
]


@pytest.mark.field("27a")
@pytest.mark.parametrize(("text", "remedy"), REFUSALS)
def test_a_refused_message_blocks_the_link_with_the_remedy(
    text: str, remedy: str, server: BrokerThread, recorder: LinkRecorder
) -> None:
    server.broker.refuse_send = text
    with connected_link(parameters(server.port, subscribe=""), recorder) as link:
        with pytest.raises(LinkBlocked, match="rejects messages of the user 'fastmon'") as caught:
            link.announce(BODY, "id-1")
        assert remedy in str(caught.value)
        assert text in str(caught.value)
        assert recorder.next_change().blocked


@pytest.mark.field("27a")
def test_the_link_stays_blocked_until_the_broker_takes_messages_and_leaves_none_behind(
    server: BrokerThread, recorder: LinkRecorder
) -> None:
    broker = server.broker
    broker.refuse_send = MAY_NOT_SEND
    with connected_link(parameters(server.port, subscribe=""), recorder) as link:
        with pytest.raises(LinkBlocked):
            link.announce(BODY, "id-1")
        assert recorder.next_change().blocked
        server.wait_until(lambda: broker.counters.received["BEGIN"] >= 3)
        with pytest.raises(LinkBlocked):
            link.announce(BODY, "id-1")
        assert recorder.changes.empty()
        broker.refuse_send = ""
        recorder.wait_until_up()
        assert server.call(lambda: broker.counters.accepted[TOPIC]) == 0
        link.announce(BODY, "id-1")
        assert server.call(lambda: broker.counters.accepted[TOPIC]) == 1


@pytest.mark.field("27a")
def test_a_link_that_was_blocked_is_up_only_when_a_message_was_confirmed(
    server: BrokerThread, recorder: LinkRecorder
) -> None:
    """Classic with a full disk takes what is sent in a transaction that is aborted."""
    broker = server.broker
    broker.refuse_send, broker.refuse_in_transaction = "No space left on device", False
    with connected_link(parameters(server.port, subscribe=""), recorder) as link, logged("INFO") as lines:
        for trial in range(3):
            with pytest.raises(LinkBlocked):
                link.announce(BODY, "id-1")
            assert recorder.next_change().blocked
            change = recorder.next_change()
            assert (change.up, change.on_trial, link.up) == (True, True, False), trial
        broker.refuse_send = ""
        link.announce(BODY, "id-1")
        change = recorder.next_change()
        assert (change.up, change.on_trial) == (True, False)
        assert link.up
        broker.refuse_send = "No space left on device"
        with pytest.raises(LinkBlocked):
            link.announce(BODY, "id-2")
        assert recorder.next_change().blocked
    assert lines == []


@pytest.mark.field("27a")
def test_a_link_that_only_status_messages_use_tells_once_that_it_is_blocked_and_up(server: BrokerThread) -> None:
    broker = server.broker
    broker.refuse_send, broker.refuse_in_transaction = "No space left on device", False

    def send() -> bool:
        with suppress(LinkDown):
            link.announce(BODY, "id-1")
            return True
        return False

    def sent() -> int:
        """SENDs so far: the first, then two for each attempt, one of them in its transaction."""
        return server.call(lambda: broker.counters.received["SEND"])

    with (
        logged("INFO") as lines,
        running_link(parameters(server.port, subscribe=""), LinkRecorder(), changed=None) as link,
    ):
        wait_until(lambda: link.up, "connected")
        send()
        for attempts in (1, 2, 3):
            server.wait_until(lambda attempts=attempts: broker.counters.received["ABORT"] >= attempts)
            # The link takes a message only once it has read the answer to its ABORT.
            wait_until(lambda attempts=attempts: send() or sent() > 2 * attempts, "refused")  # type: ignore[misc]
        broker.refuse_send = ""
        wait_until(send, "accepted")
        wait_until(lambda: link.up, "up again")
    told = [line.partition(":")[0] for line in lines if "stopped" not in line]
    assert told == ["broker link up", "broker link blocked", "broker link up"]


def test_after_a_receipt_that_did_not_come_the_link_is_up_only_when_receipts_come(
    server: BrokerThread, recorder: LinkRecorder
) -> None:
    broker = server.broker
    with connected_link(parameters(server.port, subscribe="", receipt_s=0.5), recorder) as link:
        broker.no_receipts = True
        with pytest.raises(LinkDown, match="RECEIPT"):
            link.announce(BODY, "id-1")
        assert not recorder.next_change().up
        server.wait_until(lambda: broker.counters.received["BEGIN"] >= 2)
        assert not link.up
        broker.no_receipts = False
        recorder.wait_until_up()
        link.announce(BODY, "id-1")

"""The broker goes, dies, falls silent, refuses, repeats itself, or carries what nobody can read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from fastmon_daemon.testbed.stomp_broker import Frame
from tests.faults.agents import OwnBroker
from tests.faults.matrix import EVERY, fault
from tests.faults.stage import Stage
from tests.faults.wire import Wire
from tests.processes import TOPIC, name, wait_until
from tests.real_brokers.link import DeadClient, Link

pytestmark = pytest.mark.timeout(2700)

GONE = "link to the broker is down"
BACK = "broker link up"


@pytest.fixture
def wire(stage: Stage) -> Iterator[Wire]:
    with Wire(stage.broker.port) as made:
        yield made


def goes_and_comes_back(stage: Stage, end: Callable[[], None]) -> None:
    """With STFs on their way in and announcements on their way out."""
    stage.daemon()
    stage.send(*range(1, 11))
    end()
    wait_until(lambda: GONE in stage.log(), "the daemon notices")
    stage.let_pass(30 if stage.long else 2)
    stage.broker.start()
    stage.fault_is_over()
    stage.send(*range(11, 21))
    stage.comes_to_rest()
    stage.close_account(cuts=1, note=stage.back_after("broker"))


@fault(8, "the broker stopped and started", EVERY)
def test_the_broker_is_stopped_and_started(stage: Stage) -> None:
    goes_and_comes_back(stage, stage.broker.stop)


@fault(8, "the broker killed and started", EVERY)
def test_the_broker_is_killed_and_started(stage: Stage) -> None:
    goes_and_comes_back(stage, stage.broker.kill)


@fault(8, "the link half-open: a proxy swallows every byte without a word", EVERY)
def test_the_link_is_half_open(stage: Stage, wire: Wire) -> None:
    stage.daemon(ACTIVEMQ_PORT=str(wire.port))
    stage.send(1)
    stage.comes_to_rest()
    wire.swallow()
    stage.send(2, 3, 4)  # the broker sends them into the void
    wait_until(lambda: GONE in stage.log(), "the daemon notices", deadline_s=60)
    stage.let_pass(30 if stage.long else 0)
    wire.mend()
    stage.fault_is_over()
    stage.comes_to_rest()
    note = f"broker reached after {wire.reached_s:.1f} s, {stage.back_after('broker')}"
    if "still has an earlier session" in stage.log():
        note += ": till then it held the dead session"
    stage.close_account(cuts=1, note=note)


@fault(8, "a slow reader beside us, who never reads", EVERY)
def test_a_slow_reader(stage: Stage) -> None:
    stage.daemon()
    with DeadClient(stage.broker, "slow", 0, {"destination": stage.door.topic}):
        for _ in range(5000 if stage.long else 1000):  # 8 MB: more than the sockets hold
            stage.publish({"msg_type": "noise", "text": "x" * 8000})
        stage.send(*range(1, 11))
        stage.fault_is_over()
        stage.comes_to_rest()
        stage.close_account()


@fault(8, "ERROR frames in answer to every fifth frame of ours")
def test_error_frames(stage: Stage) -> None:
    broker = own(stage).broker
    stage.daemon()
    counted = 0

    def refuse(what: str, _session: object, frame: Frame) -> str | None:
        nonlocal counted
        counted += what == "receive" and frame.command in {"SEND", "ACK"}
        return "refuse" if what == "receive" and frame.command in {"SEND", "ACK"} and counted % 5 == 0 else None

    broker.hook = refuse
    stage.send(*range(1, 6))
    rounds = 20 if stage.long else 5
    wait_until(lambda: stage.log().count("sent an ERROR") >= rounds, f"{rounds} ERRORs", deadline_s=240)
    broker.hook = None
    stage.fault_is_over()
    stage.comes_to_rest()
    errors = stage.log().count("sent an ERROR")
    stage.close_account(cuts=errors, note=f"{errors} ERRORs")


@fault(8, "no receipts")
def test_no_receipts(stage: Stage) -> None:
    broker = own(stage).broker
    stage.daemon()
    broker.no_receipts = True
    stage.send(*range(1, 6))
    wait_until(lambda: GONE in stage.log(), "the daemon gives up waiting", deadline_s=60)
    stage.let_pass(60 if stage.long else 0)
    broker.no_receipts = False
    stage.fault_is_over()
    stage.comes_to_rest()
    stage.close_account(cuts=1)


@fault(8, "redelivery storm: no ACK and no SEND arrives, then the link is cut, again and again", EVERY)
def test_redelivery_storms(stage: Stage, wire: Wire) -> None:
    stage.daemon(ACTIVEMQ_PORT=str(wire.port))
    stage.send(1)
    stage.comes_to_rest()
    storms = 5  # Artemis gives a message up after 10 deliveries
    for storm in range(storms):
        wire.deaf(True)
        fresh = range(10 * storm + 2, 10 * storm + 7)
        stage.send(*fresh)
        wait_until(lambda last=fresh[-1]: f"{name(last)}: received" in stage.log(), "all are delivered")
        wire.cut()
        wire.deaf(False)
        wait_until(lambda count=storm + 2: stage.log().count(BACK) >= count, "the daemon is back")
    stage.fault_is_over()
    stage.comes_to_rest()
    stage.close_account(cuts=storms, note=f"{storms} cuts")


@fault(8, "every message three times", EVERY)
def test_duplicate_deliveries_of_everything(stage: Stage) -> None:
    stage.daemon()
    numbers = range(1, 201 if stage.long else 21)
    stage.register(*numbers)
    for n in numbers:
        for _ in range(3):
            stage.announce(n)
    stage.announce(*numbers)
    stage.fault_is_over()
    stage.comes_to_rest()
    stage.close_account()


@fault(14, "the broker killed in the middle of a run on a plain topic, what was sent meanwhile is lost there", EVERY)
def test_an_outage_on_a_plain_topic_in_the_middle_of_a_run(stage: Stage) -> None:
    seconds = 30 if stage.long else 5
    run = {"run_id": "100014", "execution_id": "e-1"}
    stage.daemon(FASTMON_DURABLE="off")
    stage.publish({"msg_type": "start_run", **run})
    stage.send(*range(1, 6))
    stage.broker.kill()
    wait_until(lambda: GONE in stage.log(), "the daemon notices")
    for n in range(6, 6 + 2 * seconds):  # the run goes on: registered, but nobody can be told
        stage.register(n)
        stage.expect(n)
        stage.let_pass(0.5)
    stage.broker.start()
    stage.fault_is_over()
    wait_until(lambda: stage.log().count(BACK) == 2, "the daemon is back")
    last = 5 + 2 * seconds
    stage.send(*range(last + 1, last + 6))
    stage.publish({"msg_type": "end_run", **run, "total_stf_files": last + 5})
    told = stage.call("verdict", "100014", "--json", "--wait", "30")
    stage.comes_to_rest()
    assert told.returncode == 0, told.stdout
    verdict = json.loads(told.stdout)
    assert verdict["missing"] == 0
    assert verdict["recovered"] >= 2 * seconds
    assert "broker" in [outage["link"] for outage in verdict["outages"]]
    stage.close_account(cuts=1, note=f"{seconds} s; {verdict['recovered']} recovered; the verdict: complete")


UGLY = [
    "", "not JSON", "[]", "null", '"stf_ready"', "{", '{"msg_type": "stf_ready"}', "\x01\x02",
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": null, "filename": "a.stf"}',
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": "1", "filename": 7}',
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": "1", "filename": "' + "x" * 300 + '"}',
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": "1", "filename": "b.stf", "tf_count": "many"}',
    "[" * 5000 + "]" * 5000, '{"msg_type": "tf_file_registered", "tf_file_id": []}', json.dumps({"msg_type": ["x"]}),
]  # fmt: skip


@fault(11, "malformed messages among good ones", EVERY)
def test_malformed_messages(stage: Stage) -> None:
    stage.daemon()
    for n in range(1, 6):
        stage.send(n)
        say_raw(stage, UGLY)
    stage.send(6)
    stage.fault_is_over()
    stage.comes_to_rest()
    refused = json.loads(stage.call("inspect", "--rejected", "--json").stdout)["rejected"]
    assert refused
    assert stage.log().count(BACK) == 1, "none of them costs the link"
    stage.close_account(note=f"{5 * len(UGLY)} of them, {len(refused)} kept aside")


def say_raw(stage: Stage, bodies: list[str]) -> None:
    """Send these as they are."""
    if isinstance(stage.broker, OwnBroker):
        for body in bodies:
            stage.broker.thread.call(lambda body=body: own(stage).broker.publish(TOPIC, body))
        return
    with Link(stage.broker) as link:
        for body in bodies:
            link.send(stage.door.topic, body, persistent="true")


def own(stage: Stage) -> OwnBroker:
    """The embedded broker, for the faults that only it has."""
    assert isinstance(stage.broker, OwnBroker)
    return stage.broker

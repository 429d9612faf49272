"""The broker stops, dies, hangs, rejects, redelivers, or delivers malformed messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from fastmon_daemon.testbed.stomp_broker import Frame
from tests.faults.matrix import EVERY, fault
from tests.faults.other_agents import EmbeddedBroker
from tests.faults.proxy import FaultyProxy
from tests.faults.scenario import Scenario
from tests.processes import TOPIC, name, wait_until
from tests.real_brokers.link import DeadClient, Link

pytestmark = pytest.mark.timeout(2700)

LINK_DOWN = "link to the broker is down"
LINK_UP = "link to the broker is up"


@pytest.fixture
def proxy(scenario: Scenario) -> Iterator[FaultyProxy]:
    with FaultyProxy(scenario.broker.port) as made:
        yield made


def restart_broker(scenario: Scenario, end_broker: Callable[[], None]) -> None:
    """End and restart the broker while STFs and announcements are in flight."""
    scenario.daemon()
    scenario.send(*range(1, 11))
    end_broker()
    wait_until(lambda: LINK_DOWN in scenario.log(), "the daemon notices")
    scenario.wait(30 if scenario.long else 2)
    scenario.broker.start()
    scenario.fault_is_over()
    scenario.send(*range(11, 21))
    scenario.wait_until_finished()
    scenario.close_account(cuts=1, note=scenario.back_after("broker"))


@fault(8, "the broker stopped and started", EVERY)
def test_the_broker_is_stopped_and_started(scenario: Scenario) -> None:
    restart_broker(scenario, scenario.broker.stop)


@fault(8, "the broker killed and started", EVERY)
def test_the_broker_is_killed_and_started(scenario: Scenario) -> None:
    restart_broker(scenario, scenario.broker.kill)


@fault(8, "the link half-open: a proxy silently drops every byte", EVERY)
def test_the_link_is_half_open(scenario: Scenario, proxy: FaultyProxy) -> None:
    scenario.daemon(ACTIVEMQ_PORT=str(proxy.port))
    scenario.send(1)
    scenario.wait_until_finished()
    proxy.swallow()
    scenario.send(2, 3, 4)  # the broker sends them, and they are dropped
    wait_until(lambda: LINK_DOWN in scenario.log(), "the daemon notices", deadline_s=60)
    scenario.wait(30 if scenario.long else 0)
    proxy.restore()
    scenario.fault_is_over()
    scenario.wait_until_finished()
    note = f"broker reached after {proxy.reached_s:.1f} s, {scenario.back_after('broker')}"
    if "still has an earlier session" in scenario.log():
        note += ": until then it kept the dead session"
    scenario.close_account(cuts=1, note=note)


@fault(8, "another subscriber that never reads", EVERY)
def test_a_subscriber_that_never_reads(scenario: Scenario) -> None:
    scenario.daemon()
    with DeadClient(scenario.broker, "slow", 0, {"destination": scenario.broker_access.topic}):
        for _ in range(5000 if scenario.long else 1000):  # 8 MB: more than the socket buffers
            scenario.publish({"msg_type": "noise", "text": "x" * 8000})
        scenario.send(*range(1, 11))
        scenario.fault_is_over()
        scenario.wait_until_finished()
        scenario.close_account()


@fault(8, "an ERROR in response to every fifth frame of the daemon")
def test_error_frames(scenario: Scenario) -> None:
    broker = embedded(scenario).broker
    scenario.daemon()
    frames = 0

    def refuse(what: str, _session: object, frame: Frame) -> str | None:
        nonlocal frames
        frames += what == "receive" and frame.command in {"SEND", "ACK"}
        return "refuse" if what == "receive" and frame.command in {"SEND", "ACK"} and frames % 5 == 0 else None

    broker.hook = refuse
    scenario.send(*range(1, 6))
    rounds = 20 if scenario.long else 5
    wait_until(lambda: scenario.log().count("sent an ERROR") >= rounds, f"{rounds} ERRORs", deadline_s=240)
    broker.hook = None
    scenario.fault_is_over()
    scenario.wait_until_finished()
    errors = scenario.log().count("sent an ERROR")
    scenario.close_account(cuts=errors, note=f"{errors} ERRORs")


@fault(8, "no receipts")
def test_no_receipts(scenario: Scenario) -> None:
    broker = embedded(scenario).broker
    scenario.daemon()
    broker.no_receipts = True
    scenario.send(*range(1, 6))
    wait_until(lambda: "link for announcements is " in scenario.log(), "the daemon stops waiting", deadline_s=60)
    scenario.wait(60 if scenario.long else 0)
    broker.no_receipts = False
    scenario.fault_is_over()
    scenario.wait_until_finished()
    scenario.close_account(cuts=1)


@fault(8, "redelivery storm: no ACK and no SEND arrives, then the link is cut, repeatedly", EVERY)
def test_redelivery_storms(scenario: Scenario, proxy: FaultyProxy) -> None:
    scenario.daemon(ACTIVEMQ_PORT=str(proxy.port), SWF_LOG_LEVEL="DEBUG")
    scenario.send(1)
    scenario.wait_until_finished()
    storms = 5  # Artemis gives up on a message after 10 deliveries
    for storm in range(storms):
        proxy.drop_upstream(True)
        batch = range(10 * storm + 2, 10 * storm + 7)
        scenario.send(*batch)
        wait_until(lambda last=batch[-1]: f"{name(last)}: received" in scenario.log(), "all are delivered")
        proxy.cut()
        proxy.drop_upstream(False)
        wait_until(lambda count=storm + 2: scenario.log().count(LINK_UP) >= count, "the daemon is back")
    scenario.fault_is_over()
    scenario.wait_until_finished()
    scenario.close_account(cuts=storms, note=f"{storms} cuts")


@fault(8, "every message three times", EVERY)
def test_duplicate_deliveries_of_everything(scenario: Scenario) -> None:
    scenario.daemon()
    numbers = range(1, 201 if scenario.long else 21)
    scenario.register(*numbers)
    for n in numbers:
        for _ in range(3):
            scenario.announce(n)
    scenario.announce(*numbers)
    scenario.fault_is_over()
    scenario.wait_until_finished()
    scenario.close_account()


@fault(14, "the broker killed during a run on a plain topic; messages sent meanwhile are lost", EVERY)
def test_an_outage_on_a_plain_topic_in_the_middle_of_a_run(scenario: Scenario) -> None:
    seconds = 30 if scenario.long else 5
    run = {"run_id": "100014", "execution_id": "e-1"}
    scenario.daemon(FASTMON_DURABLE="off")
    scenario.publish({"msg_type": "start_run", **run})
    scenario.send(*range(1, 6))
    scenario.broker.kill()
    wait_until(lambda: LINK_DOWN in scenario.log(), "the daemon notices")
    for n in range(6, 6 + 2 * seconds):  # the run goes on: STFs are registered, but not announced
        scenario.register(n)
        scenario.expect(n)
        scenario.wait(0.5)
    scenario.broker.start()
    scenario.fault_is_over()
    wait_until(lambda: scenario.log().count(LINK_UP) == 2, "the daemon is back")
    last = 5 + 2 * seconds
    scenario.send(*range(last + 1, last + 6))
    scenario.publish({"msg_type": "end_run", **run, "total_stf_files": last + 5})
    done = scenario.call("verdict", "100014", "--json", "--wait", "30")
    scenario.wait_until_finished()
    assert done.returncode == 0, done.stdout
    verdict = json.loads(done.stdout)
    assert verdict["missing"] == 0
    assert verdict["recovered"] >= 2 * seconds
    assert "broker" in [outage["link"] for outage in verdict["outages"]]
    scenario.close_account(cuts=1, note=f"{seconds} s; {verdict['recovered']} recovered; verdict complete")


MALFORMED = [
    "", "not JSON", "[]", "null", '"stf_ready"', "{", '{"msg_type": "stf_ready"}', "\x01\x02",
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": null, "filename": "a.stf"}',
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": "1", "filename": 7}',
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": "1", "filename": "' + "x" * 300 + '"}',
    '{"msg_type": "stf_ready", "namespace": "ns", "run_id": "1", "filename": "b.stf", "tf_count": "many"}',
    "[" * 5000 + "]" * 5000, '{"msg_type": "tf_file_registered", "tf_file_id": []}', json.dumps({"msg_type": ["x"]}),
]  # fmt: skip


@fault(11, "malformed messages among valid ones", EVERY)
def test_malformed_messages(scenario: Scenario) -> None:
    scenario.daemon()
    for n in range(1, 6):
        scenario.send(n)
        send_raw(scenario, MALFORMED)
    scenario.send(6)
    scenario.fault_is_over()
    scenario.wait_until_finished()
    rejected = json.loads(scenario.call("inspect", "--rejected", "--json").stdout)["rejected"]
    assert rejected
    assert scenario.log().count(LINK_UP) == 1, "no message ends the connection"
    scenario.close_account(note=f"{5 * len(MALFORMED)} sent, {len(rejected)} rejected")


def send_raw(scenario: Scenario, bodies: list[str]) -> None:
    """Send *bodies* unchanged."""
    if isinstance(scenario.broker, EmbeddedBroker):
        for body in bodies:
            scenario.broker.thread.call(lambda body=body: embedded(scenario).broker.publish(TOPIC, body))
        return
    with Link(scenario.broker) as link:
        for body in bodies:
            link.send(scenario.broker_access.topic, body, persistent="true")


def embedded(scenario: Scenario) -> EmbeddedBroker:
    """The embedded broker, for faults that only it has."""
    assert isinstance(scenario.broker, EmbeddedBroker)
    return scenario.broker

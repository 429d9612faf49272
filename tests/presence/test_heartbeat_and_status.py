"""What is told of the daemon, piece by piece: name, heart-beat, status messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from loguru import logger

from fastmon_daemon import service
from fastmon_daemon.base.errors import FastmonError, LinkDown, PermanentError
from fastmon_daemon.base.links import LINK_OF_STEP
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.monitor import AgentClient, RestClient
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.presence.health import HealthCheckConfig, HealthChecker, HealthStatus
from fastmon_daemon.presence.heartbeat import Heartbeat
from fastmon_daemon.presence.identity import Registration, agent_name
from fastmon_daemon.presence.periodic_worker import PeriodicWorker, WorkerErrors
from fastmon_daemon.presence.status import StatusPublisher
from fastmon_daemon.presence.stuck import StuckRule
from fastmon_daemon.service.agent_factory import agent_client
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import World, settle
from tests.monitor.scripted import Server, says
from tests.processes import wait_until

TOKEN = "f" * 40
NAME = "fastmon-agent-test-1"


class Topic:
    """Takes messages while it is up."""

    def __init__(self) -> None:
        self.up = True
        self.heard: list[dict[str, Any]] = []

    def announce(self, body: str, _event_id: str) -> None:
        if not self.up:
            raise LinkDown("no broker")
        self.heard.append(json.loads(body))

    def words(self) -> list[str]:
        return [str(message["status"]) for message in self.heard]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def outbox(world: World) -> Iterator[Outbox]:
    opened = world.outbox()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def checkup_of(world: World, topic: Topic, errors: WorkerErrors | None = None) -> HealthChecker:
    return HealthChecker(
        HealthCheckConfig(
            database=world.folder / "outbox.db",
            stuck=StuckRule(chart=load_statechart("stf"), links=LINK_OF_STEP, stuck_after_s=60),
            errors=errors or WorkerErrors(),
            connected=lambda: topic.up,
            clock=world.time.clock(),
        )
    )


def test_a_watcher_that_fails_is_a_warning_that_names_the_error(world: World, outbox: Outbox) -> None:
    failures = [None, "ValueError"]
    checkup = HealthChecker(
        HealthCheckConfig(
            database=outbox.path,
            stuck=StuckRule(chart=load_statechart("stf"), links=LINK_OF_STEP, stuck_after_s=60),
            errors=WorkerErrors({"watcher": lambda: failures.pop(0)}),
            connected=None,
            clock=world.time.clock(),
        )
    )
    assert checkup.health().level == HealthStatus.OK
    health = checkup.health()
    assert (health.level, health.problems) == (HealthStatus.WARNING, ("watcher failing",))
    assert "ValueError" in health.why
    checkup.reports.close()


def desk_of(monitor: MonitorThread) -> AgentClient:
    return AgentClient(RestClient(monitor.url, lambda: TOKEN, connections=1, timeout_s=(5, 5)))


def goes(outbox: Outbox, world: World, link: str, *, blocked: bool = False) -> None:
    with outbox.transaction():
        outbox.outages.link_lost(link, "no answer", world.time.at, blocked=blocked)


def returns(outbox: Outbox, world: World, link: str) -> None:
    with outbox.transaction():
        outbox.outages.link_back(link, world.time.at)


class Hearing:
    """The status messages of a daemon, a look every two seconds."""

    def __init__(self, world: World) -> None:
        self.topic = Topic()
        self.status = StatusPublisher(self.topic.announce, NAME, "ns", checkup_of(world, self.topic))
        self.world = world

    def look(self, times: int = 4) -> list[str]:
        for _ in range(times):
            self.status.tick()
            self.world.time.pass_(seconds=2)
        return self.topic.words()


def test_the_topic_hears_of_start_degradation_recovery_and_stop_once_each(world: World, outbox: Outbox) -> None:
    hearing = Hearing(world)
    hearing.look()
    goes(outbox, world, "monitor")
    hearing.look()
    assert "monitor down: no answer" in hearing.topic.heard[-1]["message"]
    returns(outbox, world, "monitor")
    hearing.look()
    hearing.status.on_stop()
    assert hearing.topic.words() == ["started", "degraded", "recovered", "stopped"]
    for message in hearing.topic.heard:
        assert message.keys() == {
            "msg_type", "event_id", "namespace", "processed_by", "sender", "status", "message", "timestamp",
            "run_number",
        }  # fmt: skip
    assert len({message["event_id"] for message in hearing.topic.heard}) == 4


def test_with_the_broker_away_nothing_is_queued_and_the_latest_is_told_at_its_return(
    world: World, outbox: Outbox
) -> None:
    hearing = Hearing(world)
    hearing.look()
    hearing.topic.up = False
    for _ in range(5):
        goes(outbox, world, "broker")
        hearing.look()
        returns(outbox, world, "broker")
        hearing.look()
    hearing.topic.up = True
    assert hearing.look() == ["started", "recovered"]


def test_between_two_status_messages_are_five_seconds(world: World, outbox: Outbox) -> None:
    hearing = Hearing(world)
    hearing.status.tick()
    goes(outbox, world, "monitor")
    for pause_s, words in ((4.9, ["started"]), (0.1, ["started", "degraded"])):
        world.time.pass_(seconds=pause_s)
        hearing.status.tick()
        assert hearing.topic.words() == words


@pytest.mark.parametrize("refusal", [PermanentError("no such call"), LinkDown("wait", retry_after_s=1)])
def test_a_status_message_that_is_refused_is_tried_again_after_a_minute(
    world: World, outbox: Outbox, refusal: FastmonError
) -> None:
    asked: list[str] = []

    def refuse(body: str, _event_id: str) -> None:
        asked.append(body)
        raise refusal

    status = StatusPublisher(refuse, NAME, "ns", checkup_of(world, Topic()))
    for pause_s, times in ((0, 1), (59.9, 1), (0.1, 2)):
        world.time.pass_(seconds=pause_s)
        status.tick()
        assert len(asked) == times


def test_who_starts_with_a_fault_says_that_too(world: World, outbox: Outbox) -> None:
    goes(outbox, world, "monitor")
    assert Hearing(world).look() == ["started", "degraded"]


def test_a_status_message_names_the_run_that_was_heard_of_last(world: World, outbox: Outbox) -> None:
    with outbox.transaction():
        outbox.runs.record_message("ns", "100014", "running", world.time.at, None)
    hearing = Hearing(world)
    hearing.look()
    assert hearing.topic.heard[0]["run_number"] == 100014


def heartbeat_of(world: World, monitor: MonitorThread, topic: Topic, name: str) -> Heartbeat:
    agent_client = desk_of(monitor)
    registration = Registration(agent_client, name, "ns", "tester", "/topic/epictopic")
    return Heartbeat(agent_client, name, "ns", checkup_of(world, topic), registration)


def row_of(monitor: MonitorThread, name: str) -> dict[str, Any]:
    rows = requests.get(f"{monitor.url}/api/systemagents/", timeout=20).json()
    return next(row for row in rows if row["instance_name"] == name)


def test_a_heartbeat_says_how_we_are_and_leaves_nothing_out(
    world: World, outbox: Outbox, monitor: MonitorThread
) -> None:
    topic = Topic()
    topic.up = False
    heartbeat = heartbeat_of(world, monitor, topic, "a-health")
    seen = []

    def look() -> None:
        heartbeat.tick()
        row = row_of(monitor, "a-health")
        seen.append((row["status"], row["operational_state"]))
        assert (row["agent_type"], row["namespace"]) == ("fastmon", "ns")
        world.time.pass_(seconds=10)

    look()
    topic.up = True
    look()
    goes(outbox, world, "monitor")
    look()
    goes(outbox, world, "monitor", blocked=True)
    world.receive(outbox)
    look()
    assert "monitor blocked: no answer" in row_of(monitor, "a-health")["description"]
    returns(outbox, world, "monitor")
    world.time.pass_(minutes=2)
    look()
    assert "stuck: 1 STFs" in row_of(monitor, "a-health")["description"]
    settle(world.engine(outbox))
    look()
    look()
    assert seen == [
        ("OK", "STARTING"), ("OK", "READY"), ("WARNING", "READY"), ("ERROR", "PROCESSING"), ("WARNING", "PROCESSING"),
        ("OK", "PROCESSING"), ("OK", "READY"),
    ]  # fmt: skip
    row = row_of(monitor, "a-health")
    assert (row["current_stf_count"], row["total_stf_processed"]) == (0, 1)
    assert row["last_stf_processed"] is not None
    assert "MQ: connected. 0 STFs active, 1 completed, 0 failed." in row["description"]


def test_without_news_there_is_a_heartbeat_a_minute(world: World, outbox: Outbox, monitor: MonitorThread) -> None:
    heartbeat = heartbeat_of(world, monitor, Topic(), "a-minute")
    before = monitor.counts()["heartbeats"]
    for _ in range(5 * 60):
        heartbeat.tick()
        world.time.pass_(seconds=1)
    assert monitor.counts()["heartbeats"] - before == 5


def test_an_stf_is_stuck_at_its_limit_and_not_before(world: World, outbox: Outbox) -> None:
    checkup = checkup_of(world, Topic())
    world.receive(outbox)
    world.time.pass_(seconds=59.9)
    assert checkup.health().level is HealthStatus.OK
    world.time.pass_(seconds=0.1)
    assert (checkup.health().level, checkup.health().problems) == (HealthStatus.WARNING, ("stuck",))


def test_one_link_that_is_held_beside_one_that_is_down_is_an_error(world: World, outbox: Outbox) -> None:
    checkup = checkup_of(world, Topic())
    goes(outbox, world, "broker")
    assert checkup.health().level is HealthStatus.WARNING
    goes(outbox, world, "monitor", blocked=True)
    assert checkup.health().level is HealthStatus.ERROR
    returns(outbox, world, "monitor")
    returns(outbox, world, "broker")
    assert checkup.health().level is HealthStatus.OK


def test_five_seconds_after_the_last_work_we_are_ready(world: World, outbox: Outbox, monitor: MonitorThread) -> None:
    heartbeat = heartbeat_of(world, monitor, Topic(), "a-ready")
    world.receive(outbox)
    heartbeat.tick()
    settle(world.engine(outbox))
    heartbeat.tick()
    for pause_s, state in ((4.9, "PROCESSING"), (0.1, "READY")):
        world.time.pass_(seconds=pause_s)
        heartbeat.tick()
        assert row_of(monitor, "a-ready")["operational_state"] == state


def test_a_refused_patch_of_the_agents_row_stops_no_heartbeat(
    world: World, outbox: Outbox, monitor: MonitorThread
) -> None:
    heartbeat = heartbeat_of(world, monitor, Topic(), "a-patch")
    before = monitor.counts()["heartbeats"]
    heartbeat.tick()
    key = row_of(monitor, "a-patch")["id"]
    monitor.faults(error_rate=1, error_status=405, endpoints=[f"/api/systemagents/{key}/"])
    world.receive(outbox)
    for _ in range(4):
        world.time.pass_(minutes=1)
        heartbeat.tick()
    monitor.faults()
    assert monitor.counts()["heartbeats"] - before == 5


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


LATER = [says(status, Retry_After="600") for status in (503, 429, 503)]
DONE = says(200, {"id": 7})


def beats_in(world: World, server: Server, minutes: int) -> int:
    settings = Settings(monitor_url=f"http://127.0.0.1:{server.port}", monitor_token=TOKEN, namespace="ns")
    desk = agent_client(
        service.ProcessContext(
            settings=settings, values={}, database=world.folder, database_rule="", secrets=SecretRedactor()
        )
    )
    registration = Registration(desk, NAME, "ns", "tester", "/topic/epictopic")
    heartbeat = Heartbeat(desk, NAME, "ns", checkup_of(world, Topic()), registration)
    for _ in range(minutes * 60):
        heartbeat.tick()
        world.time.pass_(seconds=1)
    desk.close()
    return sum("heartbeat" in asked for asked in server.asked)


def test_a_retry_after_at_heartbeats_delays_them_by_a_minute_at_most(
    world: World, outbox: Outbox, server: Server
) -> None:
    server.script = [*LATER[:2], *[DONE] * 20]
    assert beats_in(world, server, minutes=5) == 5


def test_one_page_of_404_in_front_of_the_monitor_costs_one_heartbeat(
    world: World, outbox: Outbox, server: Server
) -> None:
    server.script = [says(404), *[DONE] * 20]
    assert beats_in(world, server, minutes=5) == 5


def test_a_retry_after_at_another_call_delays_no_heartbeat(world: World, outbox: Outbox, server: Server) -> None:
    server.script = [DONE, *LATER, *[DONE] * 20]
    assert beats_in(world, server, minutes=5) == 5
    assert [asked for asked in server.asked if "heartbeat" not in asked] == [
        "PATCH /api/systemagents/7/", "POST /api/namespaces/ensure/", "POST /api/subscribers/",
    ]  # fmt: skip


def no_monitor() -> int:
    raise LinkDown("no monitor")


def test_the_name_is_given_or_kept_or_made_of_a_number_that_is_asked_for_once(outbox: Outbox) -> None:
    asked: list[int] = []

    def number() -> int:
        asked.append(7)
        return 7

    assert agent_name(outbox, "mine", "ana", "abcd", number) == "mine"
    assert not asked
    for _ in range(2):
        assert agent_name(outbox, None, "ana", "abcd", number) == "fastmon-agent-ana-7"
    assert len(asked) == 1


def test_without_a_monitor_the_name_is_of_the_instance_and_kept_for_good(outbox: Outbox) -> None:
    name = agent_name(outbox, None, "ana maria/" + "x" * 200, "abcd", no_monitor)
    assert name.startswith("fastmon-agent-ana_maria_xxx")
    assert name.endswith("-abcd")
    assert len(name) == 100
    assert agent_name(outbox, None, "ana", "abcd", lambda: 8) == name


@pytest.mark.parametrize("error", [RuntimeError("a secret"), SystemExit("a secret")])
def test_while_a_lane_stumbles_we_are_not_ok_and_it_goes_on(world: World, outbox: Outbox, error: BaseException) -> None:
    errors = WorkerErrors()
    checkup = checkup_of(world, Topic(), errors)
    rounds = iter([error])

    def turn() -> float:
        if (stumble := next(rounds, None)) is not None:
            raise stumble
        return 60.0

    lane = PeriodicWorker("log-shipping", turn, errors=errors)
    lane.start()
    wait_until(errors.now, "it stumbles")
    health = checkup.health()
    assert (health.level, health.problems) == (HealthStatus.WARNING, ("log-shipping failing",))
    assert health.why == f"log-shipping failing: {type(error).__name__}, see the log"
    lane.wake()
    wait_until(lambda: not errors.now(), "its next round succeeds")
    assert checkup.health().level is HealthStatus.OK
    lane.stop()
    assert lane.join(20)


def test_a_lane_that_stumbles_again_and_again_tells_the_same_error_once() -> None:
    errors = iter(["malformed"] * 3 + ["locked"] + [""] + ["malformed"] * 2)
    told: list[str] = []

    def turn() -> float:
        lane.wake()  # the next round is at once
        error = next(errors, None)
        if error:
            raise RuntimeError(error)
        if error is None:
            lane.stop()
        return 0.0

    sink = logger.add(lambda line: told.append(str(line).splitlines()[-1]), level="ERROR", format="{message}")
    lane = PeriodicWorker("heart-beats", turn, errors=WorkerErrors())
    lane.start()
    assert lane.join(20)
    logger.remove(sink)
    assert told == [f"RuntimeError: {error}" for error in ("malformed", "locked", "malformed")]

"""Agent name, health, heart-beats, status messages and periodic workers, each by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from fastmon_daemon import service
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import FastmonError, LinkDown, PermanentError, StorageUnavailable
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.monitor.directory import Statement
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.presence.health import HealthStatus
from fastmon_daemon.presence.heartbeat import Heartbeat
from fastmon_daemon.presence.identity import AgentName, registration_calls
from fastmon_daemon.presence.periodic_worker import PeriodicWorker, WorkerErrors
from fastmon_daemon.presence.status import StatusPublisher
from fastmon_daemon.service.clients import agent_client
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import NO_RELOAD, FakeTestbed, logged, settle
from tests.monitor.scripted_monitor import Server, says
from tests.presence.builders import TOKEN, agent_client_for, checker_for
from tests.processes import wait_until

NAME = "fastmon-agent-test-1"
QUEUE = "/topic/epictopic::fastmon"


class Topic:
    """Accepts messages while it is up."""

    def __init__(self) -> None:
        self.up = True
        self.received: list[dict[str, Any]] = []

    def announce(self, body: str, _event_id: str) -> None:
        if not self.up:
            raise LinkDown("no broker")
        self.received.append(json.loads(body))

    def words(self) -> list[str]:
        return [str(message["status"]) for message in self.received]


@pytest.fixture
def testbed(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path)


@pytest.fixture
def outbox(testbed: FakeTestbed) -> Iterator[Outbox]:
    opened = testbed.outbox()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def test_a_failing_watcher_is_a_warning_with_its_error(testbed: FakeTestbed, outbox: Outbox) -> None:
    errors = WorkerErrors()
    checker = checker_for(testbed, errors=errors)
    assert checker.health().status == HealthStatus.OK
    errors.failed("watcher", ValueError())
    health = checker.health()
    assert (health.status, health.problems) == (HealthStatus.WARNING, ("watcher failing",))
    assert "ValueError" in health.why
    checker.reports.close()


def lose(outbox: Outbox, testbed: FakeTestbed, link: str, *, blocked: bool = False) -> None:
    with outbox.transaction():
        outbox.outages.link_lost(link, "no answer", testbed.time.at, blocked=blocked)


def restore(outbox: Outbox, testbed: FakeTestbed, link: str) -> None:
    with outbox.transaction():
        outbox.outages.link_back(link, testbed.time.at)


class StatusProbe:
    """A status publisher that ticks every two seconds, and its topic."""

    def __init__(self, testbed: FakeTestbed) -> None:
        self.topic = Topic()
        self.publisher = StatusPublisher(
            self.topic.announce, NAME, "ns", checker_for(testbed, connected=lambda: self.topic.up)
        )
        self.testbed = testbed

    def tick(self, times: int = 4) -> list[str]:
        for _ in range(times):
            self.publisher.tick()
            self.testbed.time.pass_(seconds=2)
        return self.topic.words()


@pytest.mark.field("30")
def test_start_degradation_recovery_and_stop_are_published_once_each(testbed: FakeTestbed, outbox: Outbox) -> None:
    probe = StatusProbe(testbed)
    probe.tick()
    lose(outbox, testbed, "monitor")
    probe.tick()
    assert probe.topic.received[-1]["message"] == "monitor down: no answer"
    restore(outbox, testbed, "monitor")
    probe.tick()
    probe.publisher.on_stop()
    assert probe.topic.words() == ["started", "degraded", "recovered", "stopped"]
    for message in probe.topic.received:
        assert message.keys() == {
            "msg_type", "event_id", "namespace", "processed_by", "sender", "status", "message", "timestamp",
            "run_number",
        }  # fmt: skip
    assert len({message["event_id"] for message in probe.topic.received}) == 4


def test_after_a_broker_outage_only_the_latest_status_is_published(testbed: FakeTestbed, outbox: Outbox) -> None:
    probe = StatusProbe(testbed)
    probe.tick()
    probe.topic.up = False
    for _ in range(5):
        lose(outbox, testbed, "broker")
        probe.tick()
        restore(outbox, testbed, "broker")
        probe.tick()
    probe.topic.up = True
    assert probe.tick() == ["started", "recovered"]


def test_two_status_messages_are_at_least_five_seconds_apart(testbed: FakeTestbed, outbox: Outbox) -> None:
    probe = StatusProbe(testbed)
    probe.publisher.tick()
    lose(outbox, testbed, "monitor")
    for pause_s, words in ((4.9, ["started"]), (0.1, ["started", "degraded"])):
        testbed.time.pass_(seconds=pause_s)
        probe.publisher.tick()
        assert probe.topic.words() == words


@pytest.mark.field("27a")
@pytest.mark.parametrize("rejection", [PermanentError("no such call"), LinkDown("wait", retry_after_s=1)])
def test_a_rejected_status_message_is_retried_after_a_minute(
    testbed: FakeTestbed, outbox: Outbox, rejection: FastmonError
) -> None:
    sent: list[str] = []

    def reject(body: str, _event_id: str) -> None:
        sent.append(body)
        raise rejection

    status = StatusPublisher(reject, NAME, "ns", checker_for(testbed))
    for pause_s, times in ((0, 1), (59.9, 1), (0.1, 2)):
        testbed.time.pass_(seconds=pause_s)
        status.tick()
        assert len(sent) == times


def test_a_start_with_a_problem_publishes_started_and_degraded(testbed: FakeTestbed, outbox: Outbox) -> None:
    lose(outbox, testbed, "monitor")
    assert StatusProbe(testbed).tick() == ["started", "degraded"]


def test_a_status_message_carries_the_latest_run(testbed: FakeTestbed, outbox: Outbox) -> None:
    with outbox.transaction():
        outbox.runs.record_message("ns", "100014", "running", testbed.time.at, None)
    probe = StatusProbe(testbed)
    probe.tick()
    assert probe.topic.received[0]["run_number"] == 100014


def heartbeat_of(testbed: FakeTestbed, monitor: MonitorThread, topic: Topic, name: str) -> Heartbeat:
    client = agent_client_for(monitor)
    registration = registration_calls(client, name, "ns", "tester", "/topic/epictopic")
    health = checker_for(testbed, connected=lambda: topic.up)
    return Heartbeat(client, name, "ns", health, registration, partial(Statement, reconcile="on", destination=QUEUE))


def row_of(monitor: MonitorThread, name: str) -> dict[str, Any]:
    rows = requests.get(f"{monitor.url}/api/systemagents/", timeout=20).json()
    return next(row for row in rows if row["instance_name"] == name)


def test_a_heartbeat_carries_status_state_counts_and_problems(
    testbed: FakeTestbed, outbox: Outbox, monitor: MonitorThread
) -> None:
    topic = Topic()
    topic.up = False
    heartbeat = heartbeat_of(testbed, monitor, topic, "a-health")
    seen = []

    def beat() -> None:
        heartbeat.tick()
        row = row_of(monitor, "a-health")
        seen.append((row["status"], row["operational_state"]))
        assert (row["agent_type"], row["namespace"]) == ("fastmon", "ns")
        testbed.time.pass_(seconds=10)

    beat()
    topic.up = True
    beat()
    lose(outbox, testbed, "monitor")
    beat()
    lose(outbox, testbed, "monitor", blocked=True)
    testbed.receive(outbox)
    beat()
    assert "monitor blocked: no answer" in row_of(monitor, "a-health")["description"]
    restore(outbox, testbed, "monitor")
    testbed.time.pass_(minutes=2)
    beat()
    assert "stuck: 1 STF, 1 unfinished" in row_of(monitor, "a-health")["description"]
    settle(testbed.engine(outbox))
    beat()
    beat()
    assert seen == [
        ("OK", "STARTING"), ("OK", "READY"), ("WARNING", "READY"), ("ERROR", "PROCESSING"), ("WARNING", "PROCESSING"),
        ("OK", "PROCESSING"), ("OK", "READY"),
    ]  # fmt: skip
    row = row_of(monitor, "a-health")
    assert (row["current_stf_count"], row["total_stf_processed"]) == (0, 1)
    assert row["last_stf_processed"] is not None
    assert "MQ: connected. 0 STFs active, 1 completed, 0 failed." in row["description"]


def test_a_heartbeat_tells_the_other_daemons_what_is_done(
    testbed: FakeTestbed, outbox: Outbox, monitor: MonitorThread
) -> None:
    heartbeat = heartbeat_of(testbed, monitor, Topic(), "a-statement")

    def statement() -> Statement | None:
        heartbeat.on_stop()
        return Statement.parse(row_of(monitor, "a-statement")["description"])

    idle = statement()
    assert idle == Statement(format_timestamp(testbed.time.at), "on", QUEUE)
    testbed.receive(outbox, 1, note="a" * 400)
    received_at = testbed.time.at
    testbed.time.pass_(minutes=2)
    testbed.receive(outbox, 2)
    lose(outbox, testbed, "monitor " * 50)  # the verdict alone would fill the description
    waiting = statement()
    assert waiting == Statement(format_timestamp(received_at), "on", QUEUE)
    settle(testbed.engine(outbox))
    done = statement()
    assert done == Statement(format_timestamp(testbed.time.at), "on", QUEUE)


@pytest.mark.field("6")
def test_without_a_change_there_are_four_heartbeats_a_minute(
    testbed: FakeTestbed, outbox: Outbox, monitor: MonitorThread
) -> None:
    """An idle daemon has no other call that would find its monitor dead."""
    heartbeat = heartbeat_of(testbed, monitor, Topic(), "a-minute")
    before = monitor.counts()["heartbeats"]
    for _ in range(5 * 60):
        heartbeat.tick()
        testbed.time.pass_(seconds=1)
    assert monitor.counts()["heartbeats"] - before == 20


def test_an_stf_is_stuck_exactly_at_its_limit(testbed: FakeTestbed, outbox: Outbox) -> None:
    checker = checker_for(testbed)
    testbed.receive(outbox)
    testbed.time.pass_(seconds=59.9)
    assert checker.health().status is HealthStatus.OK
    testbed.time.pass_(seconds=0.1)
    assert (checker.health().status, checker.health().problems) == (HealthStatus.WARNING, ("stuck",))


def test_a_blocked_link_beside_one_that_is_down_is_an_error(testbed: FakeTestbed, outbox: Outbox) -> None:
    checker = checker_for(testbed)
    lose(outbox, testbed, "broker")
    assert checker.health().status is HealthStatus.WARNING
    lose(outbox, testbed, "monitor", blocked=True)
    assert checker.health().status is HealthStatus.ERROR
    restore(outbox, testbed, "monitor")
    restore(outbox, testbed, "broker")
    assert checker.health().status is HealthStatus.OK


def test_the_state_is_ready_five_seconds_after_the_work(
    testbed: FakeTestbed, outbox: Outbox, monitor: MonitorThread
) -> None:
    heartbeat = heartbeat_of(testbed, monitor, Topic(), "a-ready")
    testbed.receive(outbox)
    heartbeat.tick()
    settle(testbed.engine(outbox))
    heartbeat.tick()
    for pause_s, state in ((4.9, "PROCESSING"), (0.1, "READY")):
        testbed.time.pass_(seconds=pause_s)
        heartbeat.tick()
        assert row_of(monitor, "a-ready")["operational_state"] == state


def test_a_rejected_patch_of_the_agents_row_stops_no_heartbeat(
    testbed: FakeTestbed, outbox: Outbox, monitor: MonitorThread
) -> None:
    heartbeat = heartbeat_of(testbed, monitor, Topic(), "a-patch")
    before = monitor.counts()["heartbeats"]
    heartbeat.tick()
    key = row_of(monitor, "a-patch")["id"]
    monitor.faults(error_rate=1, error_status=405, endpoints=[f"/api/systemagents/{key}/"])
    testbed.receive(outbox)
    for _ in range(4):
        testbed.time.pass_(minutes=1)
        heartbeat.tick()
    monitor.faults()
    assert monitor.counts()["heartbeats"] - before == 5


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


RETRY_LATER = [says(status, Retry_After="600") for status in (503, 429, 503)]
DONE = says(200, {"id": 7})


def beats_in(testbed: FakeTestbed, server: Server, minutes: int) -> int:
    settings = Settings(monitor_url=f"http://127.0.0.1:{server.port}", monitor_token=TOKEN, namespace="ns")
    client = agent_client(
        service.ProcessContext(
            settings=settings,
            values={},
            database=testbed.folder,
            database_rule="",
            secrets=SecretRedactor(),
            **NO_RELOAD,
        )
    )
    registration = registration_calls(client, NAME, "ns", "tester", "/topic/epictopic")
    statement = partial(Statement, reconcile="on", destination=QUEUE)
    heartbeat = Heartbeat(client, NAME, "ns", checker_for(testbed), registration, statement)
    for _ in range(minutes * 60):
        heartbeat.tick()
        testbed.time.pass_(seconds=1)
    client.close()
    return sum("heartbeat" in request for request in server.request_lines)


def test_a_retry_after_delays_heartbeats_by_a_minute_at_most(
    testbed: FakeTestbed, outbox: Outbox, server: Server
) -> None:
    server.script = [*RETRY_LATER[:2], *[DONE] * 20]
    assert beats_in(testbed, server, minutes=3) == 2 + 4


def test_a_404_delays_heartbeats_by_a_minute(testbed: FakeTestbed, outbox: Outbox, server: Server) -> None:
    server.script = [says(404), *[DONE] * 20]
    assert beats_in(testbed, server, minutes=3) == 1 + 8


def test_a_retry_after_of_another_call_delays_no_heartbeat(
    testbed: FakeTestbed, outbox: Outbox, server: Server
) -> None:
    server.script = [DONE, *RETRY_LATER, *[DONE] * 20]
    assert beats_in(testbed, server, minutes=3) == 12
    assert [request for request in server.request_lines if "heartbeat" not in request] == [
        "PATCH /api/systemagents/7/", "POST /api/namespaces/ensure/", "POST /api/subscribers/",
    ]  # fmt: skip


def test_a_name_with_a_number_of_the_monitor_is_stored(outbox: Outbox) -> None:
    assert str(AgentName(outbox, "mine", "ana", "abcd")) == "mine"
    name = AgentName(outbox, None, "ana", "abcd")
    assert not name.is_settled
    name.use_number(7)
    again = AgentName(outbox, None, "ana", "abcd")
    assert str(name) == str(again) == "fastmon-agent-ana-7"
    assert again.is_settled


@pytest.mark.field("9")
def test_a_name_made_of_the_instance_is_stored_only_once_something_was_told_under_it(outbox: Outbox) -> None:
    name = AgentName(outbox, None, "ana maria/" + "x" * 200, "abcd")
    assert str(name).startswith("fastmon-agent-ana_maria_xxx")
    assert str(name).endswith("-abcd")
    assert len(str(name)) == 100
    assert not AgentName(outbox, None, "ana", "abcd").is_settled
    name.settle()
    again = AgentName(outbox, None, "ana", "abcd")
    assert (str(again), again.is_settled) == (str(name), True)


@pytest.mark.parametrize("error", [RuntimeError("a secret"), SystemExit("a secret")])
def test_a_failing_worker_is_a_warning_and_it_goes_on(
    testbed: FakeTestbed, outbox: Outbox, error: BaseException
) -> None:
    errors = WorkerErrors()
    checker = checker_for(testbed, errors=errors)
    rounds = iter([error])

    def tick() -> float:
        if (failure := next(rounds, None)) is not None:
            raise failure
        return 60.0

    worker = PeriodicWorker("log-shipping", tick, errors=errors)
    worker.start()
    wait_until(errors.now, "it fails")
    health = checker.health()
    assert (health.status, health.problems) == (HealthStatus.WARNING, ("log-shipping failing",))
    assert health.why == f"log-shipping failing: {type(error).__name__}"
    worker.wake()
    wait_until(lambda: not errors.now(), "its next round succeeds")
    assert checker.health().status is HealthStatus.OK
    worker.stop()
    assert worker.join(20)


def test_a_worker_logs_a_repeated_error_once() -> None:
    errors = iter(["malformed"] * 3 + ["locked"] + [""] + ["malformed"] * 2)

    def tick() -> float:
        worker.wake()  # the next round begins at once
        error = next(errors, None)
        if error:
            raise RuntimeError(error)
        if error is None:
            worker.stop()
        return 0.0

    worker = PeriodicWorker("heart-beats", tick, errors=WorkerErrors())
    with logged("ERROR") as lines:
        worker.start()
        assert worker.join(20)
    expected = [f"RuntimeError: {error}" for error in ("malformed", "locked", "malformed")]
    assert [line.splitlines()[-1] for line in lines] == expected


@pytest.mark.field("19")
def test_an_error_of_ours_is_one_line_and_another_has_its_traceback() -> None:
    errors = WorkerErrors()
    with logged("ERROR") as lines:
        for error in (StorageUnavailable("outbox.db: cannot be opened"), KeyError("x")):
            for _ in range(2):
                try:
                    raise error
                except Exception as exc:  # noqa: BLE001 (as the worker does)
                    errors.failed("status", exc)
    ours, other = lines
    assert ours == "status: outbox.db: cannot be opened; repetitions are not logged\n"
    assert "Traceback" in other


@pytest.mark.field("19")
def test_one_cause_that_several_workers_meet_is_told_once_and_so_is_its_end() -> None:
    errors, cause = WorkerErrors(), "outbox.db: cannot be opened: Too many open files"
    with logged("INFO") as lines:
        for worker in ("heart-beat", "stages", "status"):
            errors.failed(worker, StorageUnavailable(cause))
        assert set(errors.now()) == {"heart-beat", "stages", "status"}
        errors.failed("status", StorageUnavailable("outbox.db: full"))
        for worker in ("heart-beat", "stages", "status"):
            errors.worked(worker)
    ending = "repetitions are not logged\n"
    assert lines[:2] == [f"heart-beat: {cause}; {ending}", f"status: outbox.db: full; {ending}"]
    assert lines[2:] == ["stages: works again\n", "status: works again\n"]

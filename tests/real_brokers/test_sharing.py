"""Several daemons on one queue of a real broker: who does what, and what becomes of the work of one that dies."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.commands.verdict import read_verdict
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.reconciler.verdict import Verdict
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.processes import TOKEN, BaseTestbed, BrokerAccess, ended, wait_until
from tests.real_brokers.conftest import Names
from tests.real_brokers.servers import Server
from tests.real_brokers.test_daemon_on_broker import OtherAgent

pytestmark = [pytest.mark.broker, pytest.mark.timeout(150)]
LATENCY_MS = 50
TF_FILES = 7


@dataclass
class Member:
    """One of the daemons, with a folder of its own."""

    testbed: BaseTestbed
    database: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def states(self) -> dict[str, int]:
        with suppress(StorageError):
            reports = open_for_reading(self.database)
            try:
                return {state: count for state, count in reports.counts_by_state().items() if count}
            finally:
                reports.close()
        return {}

    @property
    def agent_name(self) -> str:
        reports = open_for_reading(self.database)
        try:
            return reports.recall("agent_name") or ""
        finally:
            reports.close()

    @property
    def verdict(self) -> Verdict | None:
        return read_verdict(self.database, "100014", "ns")

    @property
    def is_complete(self) -> bool:
        found = self.verdict
        return found is not None and found.complete


@dataclass
class Group:
    """Daemons that share the queue."""

    testbed: BaseTestbed
    other_agent: OtherAgent
    queue: str

    def member(self, name: str, **changes: str) -> Member:
        folder = self.testbed.folder / name
        folder.mkdir()
        made = Member(self.testbed, folder / "outbox.db")
        made.process = self.testbed.daemon(FASTMON_DB=str(made.database), FASTMON_SUBSCRIBE=self.queue, **changes)
        return made

    @property
    def tellers(self) -> int:
        """Number of daemons whose heart-beats say that they use the queue."""
        return sum(
            f"Subscribed to {self.queue}." in (row["description"] or "") for row in self.testbed.rows("systemagents")
        )

    def announced(self) -> tuple[int, int]:
        """All announcements, and the distinct ones."""
        return len(self.other_agent.event_ids), len(set(self.other_agent.event_ids))

    def pass_minutes(self, minutes: int, agent_name: str) -> None:
        """Let *minutes* pass since the last heart-beat of an agent that is dead."""
        row = next(each for each in self.testbed.rows("systemagents") if each["instance_name"] == agent_name)
        then = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
        answer = requests.patch(
            f"{self.testbed.monitor.url}/api/systemagents/{row['id']}/", json={"last_heartbeat": then},
            headers={"Authorization": f"Token {TOKEN}"}, timeout=20,
        )  # fmt: skip
        assert answer.json()["last_heartbeat"] < row["last_heartbeat"], answer.text


@pytest.fixture
def group(tmp_path: Path, broker: Server, names: Names) -> Iterator[Group]:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker does not offer the shared queue of a topic")
    topic = names.topic
    if broker.kind == "artemis":  # the name of a queue is unique in the broker, not only at its address
        queue = f"{topic}::{topic.removeprefix('/topic/')}.fastmon"
    else:
        queue = topic.replace("/topic/", "/queue/Consumer.fastmon.")
    agent = OtherAgent(broker, topic)
    access = BrokerAccess(
        port=broker.port, publish=agent.send, host=broker.host, user=broker.user, password=broker.password, topic=topic
    )
    with MonitorThread(TOKEN) as monitor, ended(BaseTestbed(tmp_path, monitor, access)) as testbed:
        yield Group(testbed, agent, queue)
    agent.stop()


def test_daemons_share_the_work_and_each_accounts_for_all_of_it(
    group: Group, broker: Server, note: Callable[[str, object], None]
) -> None:
    testbed, stfs = group.testbed, 60
    one, two = group.member("one", FASTMON_RECONCILE="on"), group.member("two", FASTMON_RECONCILE="off")
    wait_until(lambda: group.tellers == 2, "both tell which queue they use")
    stranger = Member(testbed, testbed.folder / "stranger.db")
    testbed.start("run", FASTMON_DB=str(stranger.database), FASTMON_SUBSCRIBE=group.queue, FASTMON_NAMESPACE="other")
    wait_until(lambda: "give each namespace a queue of its own" in testbed.log(), "the other namespace is refused")
    testbed.monitor.faults(latency_ms=LATENCY_MS)
    testbed.register(*range(1, stfs + 1))
    testbed.publish({"msg_type": "start_run", "run_id": "100014"})
    testbed.announce(*range(1, stfs + 1))
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": stfs})
    wait_until(lambda: one.is_complete and two.is_complete, f"{one.verdict}, {two.verdict}", 90)
    shares = [member.states()["completed"] for member in (one, two)]
    note("two daemons on a shared queue: shares of 60 STFs", shares)
    assert sum(shares) == stfs
    assert min(shares) >= stfs // 4
    assert group.announced() == (stfs * TF_FILES, stfs * TF_FILES)
    counts = testbed.monitor.counts()
    assert (counts["fastmon_files"], counts["duplicate_posts"]) == (stfs * TF_FILES, 0)
    for member, share in zip((one, two), shares, strict=True):
        found = member.verdict
        assert found is not None
        assert (found.received, found.recovered, found.elsewhere, found.missing) == (share, 0, stfs - share, 0)
    assert stranger.states() == {}


def test_the_last_of_three_daemons_finishes_what_the_others_left(
    group: Group, broker: Server, note: Callable[[str, object], None]
) -> None:
    """One dies between registering and announcing, and one, which reconciled, is frozen and then killed."""
    testbed, stfs = group.testbed, 40
    first = group.member("first", FASTMON_RECONCILE="auto")
    testbed.monitor.faults(latency_ms=LATENCY_MS)
    dying = group.member("dying", FASTMON_RECONCILE="auto", FASTMON_TEST_CRASH="before_send:20")
    last = group.member("last", FASTMON_RECONCILE="auto")
    testbed.register(*range(1, stfs + 1))
    testbed.publish({"msg_type": "start_run", "run_id": "100014"})
    testbed.announce(*range(1, stfs + 1))
    wait_until(lambda: dying.process.poll() is not None, "it is killed when it announces")
    first.process.send_signal(signal.SIGSTOP)
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": stfs})
    time.sleep(5)  # what the broker had sent to the frozen daemon stays there while its connection lives
    first.process.kill()
    left = [member.states() for member in (first, dying)]
    for member in (first, dying):
        group.pass_minutes(4, member.agent_name)
    wait_until(lambda: last.is_complete, f"{last.verdict}\n{testbed.log()[-3000:]}", 100)
    every, distinct = group.announced()
    note("three daemons, two died: announced, distinct, left by the dead", (every, distinct, left))
    assert distinct == stfs * TF_FILES
    assert testbed.monitor.counts()["fastmon_files"] == stfs * TF_FILES
    if broker.kind == "artemis":
        assert every == distinct, "duplicate detection"
    begun = sum(count for states in left for state, count in states.items() if state not in ("received", "sampled"))
    assert every - distinct <= begun * TF_FILES, "only what the dead had begun since their last heart-beats"
    found = last.verdict
    assert found is not None
    assert found.received + found.recovered + found.elsewhere == stfs


def test_a_reconciler_that_died_is_missed_by_the_others(group: Group) -> None:
    one, two = group.member("one", FASTMON_RECONCILE="on"), group.member("two", FASTMON_RECONCILE="off")
    wait_until(lambda: len(group.testbed.rows("systemagents")) == 2, "both have sent a heart-beat")
    one.process.kill()
    group.pass_minutes(1, one.agent_name)

    def says(text: str) -> bool:
        rows = group.testbed.rows("systemagents")
        return any(text in row["description"] for row in rows if row["instance_name"] == two.agent_name)

    wait_until(lambda: says(f"no daemon of {group.queue} that runs reconciles"), "its heart-beat says so")


def test_a_daemon_of_a_wrong_namespace_loses_nobodys_messages(group: Group) -> None:
    """It is alone, so that no other daemon tells it whose queue this is."""
    testbed, stfs = group.testbed, 20
    wrong = group.member("wrong", FASTMON_NAMESPACE="other")
    testbed.register(*range(1, stfs + 1))
    testbed.announce(*range(1, stfs + 1))

    def says() -> bool:
        return any("check FASTMON_NAMESPACE" in row["description"] for row in testbed.rows("systemagents"))

    wait_until(says, "its heart-beat says so")
    wrong.process.send_signal(signal.SIGTERM)
    assert wrong.process.wait(30) == 0
    right = group.member("right")
    wait_until(lambda: right.states() == {"completed": stfs}, f"{right.states()}")
    assert group.announced() == (stfs * TF_FILES, stfs * TF_FILES)

"""STFs that other daemons of the queue have: counted, asked after, never done twice, and finished for one that died."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import EnoughWork, LinkBlocked
from fastmon_daemon.intake.handler import ENOUGH_STFS
from fastmon_daemon.intake.shared_queue import NO_WORK
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.monitor.directory import Agent, Statement
from fastmon_daemon.runs.peers import PeerDirectory, Peers
from tests.builders import START
from tests.reconciler.harness import Harness, file_name

QUEUE = "/topic/epictopic::fastmon"
PEER = "fastmon-agent-far-2"


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    """One of two daemons that share a queue."""
    made = Harness(tmp_path, shared_queue=QUEUE)
    made.beat(PEER)
    return made


def pass_time(harness: Harness, seconds: float, **peer: float) -> None:
    """As `Harness.pass_time`, while the peer sends its heart-beats."""
    for _ in range(int(seconds / 10)):
        harness.pass_time(10)
        harness.beat(PEER, **peer)


def posts(harness: Harness, sequence: int) -> int:
    return sum(count for name, count in harness.monitor.posts.items() if f"{sequence:06d}_tf" in name)


def test_what_another_daemon_has_finished_is_counted_and_not_done_again(harness: Harness) -> None:
    harness.register(1, 2)
    harness.registered_by(PEER, 2)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    pass_time(harness, 60)
    found = harness.verdict
    assert (harness.row.state, found.complete) == ("complete", True)
    assert (found.received, found.recovered, found.elsewhere, found.missing) == (1, 0, 1, 0)
    assert (len(harness.announced), posts(harness, 2)) == (7, 0)


def test_what_another_daemon_has_in_work_is_asked_after_and_waited_for(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.registered_by(PEER, 2, files=3)
    harness.process("end_run", total_stf_files=2)
    pass_time(harness, 1200, done_s=2000)
    assert harness.verdict.incomplete_reasons == ("not finished by other daemons: 1",)
    lookups = harness.monitor.lookups.count(file_name(2))
    assert lookups == 1, "its daemon says that it is not done: no lookup can say more"
    harness.registered_by(PEER, 2)
    pass_time(harness, 60)
    assert (harness.row.state, harness.verdict.elsewhere) == ("complete", 1)
    assert posts(harness, 2) == 0


def test_what_nobody_has_begun_is_left_to_the_others_while_they_have_work_of_that_time(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    pass_time(harness, 120, done_s=300)
    assert (posts(harness, 2), harness.verdict.missing) == (0, 1)
    pass_time(harness, 60)
    assert (harness.row.state, harness.verdict.recovered, posts(harness, 2)) == ("complete", 1, 7)


def test_a_daemon_that_starts_again_keeps_what_it_had_received(harness: Harness) -> None:
    harness.register(1)
    harness.process("end_run", total_stf_files=1)
    received = harness.time.at
    for _ in range(6):
        harness.pass_time(10)
        harness.beat(PEER, statement=Statement(format_timestamp(received), "on", ""))  # not subscribed yet
    assert posts(harness, 1) == 0
    pass_time(harness, 40)
    assert posts(harness, 1) == 7


@pytest.mark.parametrize("files", [3, 7])
def test_what_a_daemon_left_behind_that_is_gone_is_announced_once_and_marked_late(harness: Harness, files: int) -> None:
    harness.register(1, 2, 3)
    harness.registered_by(PEER, 3)
    pass_time(harness, 10)  # its last heart-beat: the third STF is done
    harness.registered_by(PEER, 2, files=files)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=3)
    harness.pass_time(100)
    assert len(harness.announced) == 7
    harness.pass_time(100)
    harness.tick()
    assert (harness.row.state, len(harness.announced)) == ("complete", 14)
    assert harness.first_note(2) == f"recovered: {PEER}, which had begun it, is gone"
    assert (harness.verdict.recovered, harness.verdict.elsewhere) == (1, 1)


def test_of_several_daemons_that_have_a_part_of_an_stf_the_one_that_was_there_last_counts() -> None:
    def agent(name: str, seconds: int) -> Agent:
        beat_at = START + timedelta(seconds=seconds)
        return Agent(name=name, kind="fastmon", namespace="ns", status="OK", host=None, beat_at=beat_at)

    def tf_of(name: str) -> TfFile:
        return TfFile(
            tf_filename=f"a_{name}.tf", stf_filename="a.stf", tf_first=0, tf_last=9, tf_count=10, file_size_bytes=None,
            metadata={"agent_name": name, "tf_files_per_stf": 3}, tf_file_id="id",
        )  # fmt: skip

    peers = Peers(agents={name: agent(name, at) for name, at in (("early", 0), ("late", 20))}, at=START)
    for names in itertools.permutations(("early", "late", "ours")):
        _, claim = peers.judge(map(tf_of, names), "ours", None, START)
        assert claim is not None
        assert claim.agent == "late"


def test_a_lost_database_announces_only_what_its_daemon_had_not_finished(tmp_path: Path) -> None:
    """The new database has another agent name: the old one is an agent that is gone. No queue is shared."""
    harness = Harness(tmp_path)
    harness.register(*range(1, 41))
    harness.registered_by(PEER, *range(1, 40))
    harness.pass_time(10)
    harness.beat(PEER)
    harness.registered_by(PEER, 40)
    harness.pass_time(300)
    harness.process("end_run", total_stf_files=40)
    harness.pass_time(60)
    assert (harness.row.state, harness.verdict.elsewhere, len(harness.announced)) == ("complete", 39, 7)


def test_a_daemon_that_does_not_recover_accounts_for_what_another_one_takes_over(tmp_path: Path) -> None:
    harness = Harness(tmp_path, shared_queue=QUEUE, recovers=False)
    harness.beat("gone")
    harness.pass_time(10)
    harness.register(1, 2, 3)
    harness.registered_by("gone", 2)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=2)
    pass_time(harness, 200)
    assert (harness.verdict.elsewhere_unfinished, harness.verdict.missing) == (1, 0)
    pass_time(harness, 200)
    assert (harness.row.state, harness.verdict.elsewhere, len(harness.announced)) == ("ended", 1, 7)
    assert harness.verdict.incomplete_reasons == ("listed by the monitor, not received yet: 1",), "nobody has the third"


def test_a_message_that_comes_again_after_its_stf_was_finished_elsewhere_is_known(harness: Harness) -> None:
    harness.register(1)
    harness.registered_by(PEER, 1)
    harness.process("end_run", total_stf_files=1)
    pass_time(harness, 60)
    harness.stf_ready(1)
    assert (harness.verdict.elsewhere, harness.verdict.received, harness.announced) == (1, 0, [])


def test_an_stf_that_arrives_after_all_is_not_counted_twice(harness: Harness) -> None:
    harness.register(1)
    harness.registered_by(PEER, 1, files=3)
    harness.process("end_run", total_stf_files=1)
    pass_time(harness, 40, done_s=600)
    assert harness.verdict.elsewhere_unfinished == 1
    harness.stf_ready(1)
    pass_time(harness, 40)
    assert (harness.verdict.elsewhere_unfinished, harness.verdict.received, harness.row.state) == (0, 1, "complete")


def test_stfs_that_are_not_selected_are_nobodys_work(tmp_path: Path) -> None:
    harness = Harness(tmp_path, shared_queue=QUEUE)
    harness.settings = type(harness.settings)(namespace="ns", selection_fraction=0.01)
    harness.start()
    harness.beat(PEER)
    harness.register(*range(1, 101))
    harness.registered_by(PEER, 1, 100)
    harness.process("end_run", total_stf_files=100)
    pass_time(harness, 60)
    assert (harness.row.state, harness.verdict.elsewhere, harness.verdict.recovered) == ("complete", 100, 0)


def test_a_daemon_that_joined_since_the_agents_were_read_is_known(tmp_path: Path) -> None:
    harness = Harness(tmp_path, shared_queue=QUEUE)
    harness.stf_ready(1)
    harness.register(1)
    harness.pass_time(3)  # the agents have been read
    harness.beat(PEER)
    harness.register(2)
    harness.registered_by(PEER, 2)
    harness.process("end_run", total_stf_files=2)
    pass_time(harness, 60)
    assert (harness.verdict.recovered, harness.verdict.elsewhere) == (0, 1)


@pytest.fixture
def directory(harness: Harness) -> Callable[..., PeerDirectory]:
    """The directory of the daemon `b` with FASTMON_RECONCILE=*reconcile*."""

    def make(reconcile: str) -> PeerDirectory:
        return PeerDirectory(
            harness.list_agents, "b", "ns", destination=QUEUE, reconcile=reconcile, clock=harness.time.clock()
        )

    return make


def mode(harness: Harness, name: str, reconcile: str, **changes: Any) -> None:
    done = format_timestamp(harness.time.at)
    harness.beat(name, statement=Statement(done, reconcile, QUEUE), **changes)


@pytest.mark.parametrize(
    ("own", "others", "recovers", "fault"),
    [
        ("on", {"a": "off", "c": "off"}, True, ""),
        ("off", {"a": "on"}, False, ""),
        ("off", {"a": "off"}, False, f"no daemon of {QUEUE} that runs reconciles: missed STFs are not processed"),
        ("on", {"a": "on"}, True, f"2 daemons of {QUEUE} reconcile: a, b"),
        ("auto", {"a": "auto"}, False, ""),
        ("auto", {"c": "auto"}, True, ""),
        ("auto", {"c": "on"}, False, ""),
        ("auto", {"a": "off"}, True, ""),
    ],
)
def test_exactly_one_daemon_of_the_queue_recovers(
    harness: Harness,
    directory: Callable[..., PeerDirectory],
    own: str,
    others: dict[str, str],
    recovers: bool,
    fault: str,
) -> None:
    harness.agents.clear()
    for name, reconcile in others.items():
        mode(harness, name, reconcile)
    peers = directory(own)
    peers.refresh()
    assert (peers.recovers(), peers.fault()) == (recovers, fault)


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_reconciler_that_died_is_missed_and_replaced_within_a_minute(
    harness: Harness, directory: Callable[..., PeerDirectory], end: str
) -> None:
    mode(harness, "a", "on")
    standby, other = directory("auto"), directory("off")
    for each in (standby, other):
        each.refresh()
    assert (standby.recovers(), other.fault()) == (False, "")
    if end == "stopped":
        mode(harness, "a", "on", status="EXITED")
    harness.time.pass_(seconds=11 if end == "stopped" else 45)
    harness.beat(PEER)
    for each in (standby, other):
        each.refresh()
    assert standby.recovers()
    assert other.fault().startswith("no daemon of")


def test_a_standby_does_nothing_before_it_knows_the_others(
    harness: Harness, directory: Callable[..., PeerDirectory]
) -> None:
    harness.monitor.down = True
    peers = directory("auto")
    peers.refresh()
    assert (peers.recovers(), peers.fault()) == (False, "")


def test_the_queue_of_another_namespace_is_refused(harness: Harness, directory: Callable[..., PeerDirectory]) -> None:
    harness.beat("x", namespace="other")
    peers = directory("on")
    with pytest.raises(LinkBlocked, match=r"x \(other\): give each namespace a queue of its own"):
        peers.may_subscribe()
    assert peers.statement("now").destination == "", "we take nothing from them"
    harness.time.pass_(seconds=200)  # it is gone
    peers.may_subscribe()
    assert peers.statement("now").destination == QUEUE
    harness.beat("x", namespace="other")  # it has come back
    harness.time.pass_(seconds=11)
    peers.refresh()
    assert "x (other)" in peers.fault()


def test_each_daemon_knows_a_run_from_the_topic_and_leaves_its_stfs_to_the_queue(harness: Harness) -> None:
    def hear(kind: str, **fields: object) -> None:
        message = {"msg_type": kind, "namespace": "ns", "run_id": "100014", **fields}
        if store := harness.handler.prepare_run_message(json.dumps(message)):
            store()

    hear("start_run")
    hear("stf_ready", filename=file_name(1))
    assert (harness.row.state, harness.row.claimed, harness.known()) == ("running", True, [])
    first = harness.row.last_message_at
    harness.time.pass_(seconds=29)
    hear("stf_ready", filename=file_name(2))
    assert harness.row.last_message_at == first
    harness.time.pass_(seconds=2)
    hear("stf_ready", filename=file_name(3))
    assert harness.row.last_message_at > first, "it goes on"
    hear("end_run", total_stf_files=3)
    assert (harness.row.state, harness.row.expected) == ("ended", 3)
    hear("stf_ready", filename="../evil")
    assert harness.live_outbox.rejected_count() == 0, "the daemon that gets it from the queue rejects it"


def test_a_daemon_with_enough_to_do_leaves_messages_to_the_others(tmp_path: Path) -> None:
    harness = Harness(tmp_path, shared_queue=QUEUE)
    harness.monitor.down = True
    for n in range(ENOUGH_STFS):
        harness.deliver("stf_ready", filename=file_name(n))
    with pytest.raises(EnoughWork):
        harness.deliver("stf_ready", filename=file_name(ENOUGH_STFS))
    harness.deliver("end_run", total_stf_files=3)
    harness.monitor.down = False
    harness.tick(100)
    harness.deliver("stf_ready", filename=file_name(ENOUGH_STFS))


def test_a_daemon_that_gets_only_messages_without_work_says_so(tmp_path: Path) -> None:
    """With two daemons the broker gives one every `stf_gen` and the other every `stf_ready`."""
    harness = Harness(tmp_path, shared_queue=QUEUE)
    for n in range(NO_WORK):
        harness.deliver("stf_gen", filename=file_name(n))
    assert "no stf_ready came from the queue" in harness.handler.queue_fault()
    harness.deliver("stf_ready", filename=file_name(1))
    assert harness.handler.queue_fault() == ""


def test_a_daemon_of_a_wrong_namespace_leaves_the_messages_at_the_broker(tmp_path: Path) -> None:
    harness = Harness(tmp_path, shared_queue=QUEUE)
    with pytest.raises(EnoughWork):
        harness.deliver("stf_ready", namespace="other", filename=file_name(1))
    assert harness.handler.queue_fault().startswith("only messages of the namespaces 'other' have come, none of 'ns'")
    own = harness.handler.prepare_run_message(json.dumps({"msg_type": "start_run", "namespace": "ns", "run_id": 1}))
    assert own is not None  # our namespace is heard on the topic: it is right, and others use the topic, too
    harness.deliver("stf_ready", namespace="other", filename=file_name(1))
    assert (harness.handler.queue_fault(), harness.live_outbox.runs.latest()) == ("", [])


def test_a_daemon_that_knows_a_run_of_its_namespace_ignores_others_from_the_start(tmp_path: Path) -> None:
    harness = Harness(tmp_path, shared_queue=QUEUE)
    harness.deliver("start_run")
    harness.start()
    harness.deliver("stf_ready", namespace="other", filename=file_name(1))
    assert harness.handler.queue_fault() == ""

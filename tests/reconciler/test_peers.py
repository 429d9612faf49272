"""STFs that other daemons of the queue have: counted, asked after, never done twice, and finished for one that died."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_without_a_list_of_agents_a_lookup_is_tried_again(harness: Harness) -> None:
    harness.register(1)
    harness.registered_by(PEER, 1)
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(3)
    harness.agents.clear()
    harness.beat(PEER)
    pass_time(harness, 60)
    assert harness.verdict.elsewhere == 1

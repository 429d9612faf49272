"""The monitor is away, ill, slow, drips, lies, shows a login page, forgets us, or does not know the STF yet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastmon_daemon.base.errors import LinkDown, TransientError
from fastmon_daemon.monitor import MonitorClient, TfFile
from tests.builders import World, named, settle
from tests.faults.account import read_lives
from tests.faults.matrix import EVERY, fault
from tests.faults.stage import Stage
from tests.faults.wire import Wire
from tests.processes import TOKEN, wait_until

pytestmark = pytest.mark.timeout(2700)

IDENTICAL = 8


def says(stage: Stage, *words: str) -> None:
    """Wait until the daemon's log has all the words."""
    wait_until(lambda: all(word in stage.log() for word in words), f"the log says {words}", deadline_s=90)


def no_attempt_was_burned(stage: Stage) -> None:
    assert {stf.attempts for stf, _ in read_lives(stage.database)} <= {0}
    assert "attempt 1 failed" not in stage.log()


@fault(4, "the monitor away", EVERY)
def test_the_monitor_is_away(stage: Stage) -> None:
    seconds = 60 if stage.long else 5
    stage.daemon()
    stage.send(1)
    stage.comes_to_rest()
    stage.monitor.stop()
    stage.send_over(seconds, range(2, 2 + 2 * seconds))
    stage.wait_for(completed=1, sampled=2 * seconds)  # received, acknowledged, sampled
    no_attempt_was_burned(stage)
    stage.monitor.start()
    stage.fault_is_over()
    stage.comes_to_rest()
    no_attempt_was_burned(stage)
    stage.close_account(note=f"{seconds} s; {stage.back_after('monitor')}")


@fault(4, "the monitor half-open: a proxy swallows every byte without a word")
def test_the_monitor_is_half_open(stage: Stage) -> None:
    with Wire(stage.monitor.port) as wire:
        stage.daemon(SWF_MONITOR_URL=f"http://127.0.0.1:{wire.port}")
        stage.send(1)
        stage.comes_to_rest()
        wire.swallow()
        stage.send(2, 3, 4)
        says(stage, "link to the monitor is down")
        stage.let_pass(60 if stage.long else 12)  # probes wait for their own deadline
        no_attempt_was_burned(stage)
        wire.mend()
        stage.fault_is_over()
        stage.comes_to_rest()
        no_attempt_was_burned(stage)
        stage.close_account(note=f"monitor reached after {wire.reached_s:.1f} s, {stage.back_after('monitor')}")


@fault(5, "the monitor answers 500, to 20 %, then to all")
def test_the_monitor_answers_500(stage: Stage) -> None:
    seconds = 30 if stage.long else 4
    stage.daemon()
    stage.monitor.faults(error_rate=0.2)
    stage.send_over(seconds, range(1, 2 * seconds))
    stage.monitor.faults(error_rate=1.0)
    stage.send_over(seconds, range(101, 101 + 2 * seconds))
    says(stage, "link to the monitor is down")
    stage.monitor.faults(error_rate=0.0)
    stage.fault_is_over()
    stage.comes_to_rest()
    stage.close_account(note=f"{seconds} s each; {stage.back_after('monitor')}")


@fault(6, "answers lost, and 500 said, after the monitor has committed (20 % each)")
def test_answers_are_lost_after_the_commit(stage: Stage) -> None:
    stage.daemon()
    stage.monitor.faults(drop_rate=0.2, error_after_commit_rate=0.2)
    stage.send(*range(1, 100 if stage.long else 9))
    stage.comes_to_rest()
    stage.close_account(note=f"{stage.monitor.counts()['duplicate_posts']} second POSTs refused")


@fault(6, "eight identical requests at once beside the daemon's own, 500 said after the commit (30 %)")
def test_eight_identical_requests_at_once(stage: Stage) -> None:
    stage.monitor.stop()
    daemon = stage.daemon()
    stfs = 10 if stage.long else 2
    stage.send(*range(1, stfs + 1))
    wait_until(lambda: sum(len(stf.tfs) for stf, _ in read_lives(stage.database)) == 7 * stfs, "the samples are drawn")
    wanted = [(stf.filename, tf) for stf, _ in read_lives(stage.database) for tf in stf.tfs]
    stage.monitor.faults(latency_ms=20, error_after_commit_rate=0.3)
    stage.monitor.start()
    says(stage, "link to the monitor is up")
    writer = MonitorClient(stage.monitor.url, lambda: TOKEN, connections=IDENTICAL)

    def register(item: tuple[str, Any]) -> str | None:
        stf_filename, tf = item
        body = TfFile(
            tf_filename=tf.filename, stf_filename=stf_filename, tf_first=tf.first, tf_last=tf.last, tf_count=tf.count,
            file_size_bytes=tf.size_bytes, metadata=None,
        )  # fmt: skip
        while True:
            try:
                return writer.register_tf(body)[0].tf_file_id
            except (TransientError, LinkDown):
                continue  # its outcome is unknown: asked again

    with ThreadPoolExecutor(IDENTICAL) as pool:
        for each in wanted:
            ids = set(pool.map(register, [each] * IDENTICAL))
            assert len(ids) == 1, f"{each[1].filename} has {len(ids)} ids"
    writer.close()
    stage.monitor.faults()
    stage.fault_is_over()
    assert daemon.poll() is None
    stage.comes_to_rest()
    stage.close_account(note=f"{stage.monitor.counts()['duplicate_posts']} second POSTs refused")


@fault(7, "a slow monitor (2 s a call)")
def test_a_slow_monitor(stage: Stage) -> None:
    stage.daemon()
    stage.monitor.faults(latency_ms=2000)
    stage.send(*range(1, 21 if stage.long else 3))
    stage.comes_to_rest()
    assert "link to the monitor is down" not in stage.log()
    stage.close_account()


LIES: list[tuple[str, dict[str, Any], str]] = [
    ("a monitor that drips its answers byte by byte, longer than the deadline of a call", {"drip_ms": 100}, "down"),
    ("HTML pages with status 200", {"html_200_rate": 1.0}, "down"),
    ("redirects to a login page", {"redirect": True}, "blocked"),
    ("a token revoked, and restored", {"revoked": True}, "blocked"),
]


def lie(stage: Stage, faults: dict[str, Any], word: str) -> None:
    """An illness that shuts the gate: nobody is blamed, all goes on when it is over."""
    stage.daemon()
    stage.send(1)
    stage.comes_to_rest()
    stage.monitor.faults(**faults)
    stage.send(2, 3)
    says(stage, f"link to the monitor is {word}")
    stage.send(4)
    stage.let_pass(30 if stage.long else 1)
    assert stage.states().get("failed", 0) == 0
    stage.monitor.faults()
    stage.fault_is_over()
    stage.comes_to_rest()
    no_attempt_was_burned(stage)
    stage.close_account(note=stage.back_after("monitor"))


@fault(7, LIES[0][0])
def test_a_dripping_monitor(stage: Stage) -> None:
    lie(stage, *LIES[0][1:])


@fault(7, LIES[1][0])
def test_html_with_200(stage: Stage) -> None:
    lie(stage, *LIES[1][1:])


@fault(7, LIES[2][0])
def test_redirects_to_a_login_page(stage: Stage) -> None:
    lie(stage, *LIES[2][1:])
    assert "SWF_" in stage.log()


@fault(7, LIES[3][0])
def test_a_token_revoked_and_restored(stage: Stage) -> None:
    lie(stage, *LIES[3][1:])
    assert "SWF_API_TOKEN" in stage.log()


@fault(9, "stf_ready a second before the STF is registered, for every STF", EVERY)
def test_every_message_comes_a_second_before_its_registration(stage: Stage) -> None:
    stage.daemon()
    for n in range(1, 61 if stage.long else 9):
        stage.announce(n)
        stage.let_pass(1)
        stage.register(n)
    stage.fault_is_over()
    stage.comes_to_rest()
    assert "does not exist" in stage.log()
    stage.close_account()


@fault(9, "the real data agent's form: no filename, one message a run, before the registrations", EVERY)
def test_the_real_data_agents_form(stage: Stage) -> None:
    count = 60 if stage.long else 10
    stage.daemon()
    stage.publish({"msg_type": "stf_ready", "req_id": 1, "run_id": 100014})
    for n in range(1, count + 1):
        stage.let_pass(0.3)
        stage.register(n)
        stage.expect(n)
    stage.publish({"msg_type": "end_run", "run_id": 100014, "total_stf_files": count})
    stage.fault_is_over()
    stage.comes_to_rest()
    stage.close_account()


class ByHand(World):
    """The engine in this process: only so can 15 minutes of its clock be shown in seconds."""

    def announce(self, body: str, event_id: str) -> None:
        self.send(body)


@fault(10, "a parent that is never registered (15 minutes of a clock moved by hand)")
def test_a_parent_that_is_never_registered(stage: Stage) -> None:
    edge = MonitorClient(stage.monitor.url, lambda: TOKEN, connections=4)
    world = ByHand(stage.folder, monitor=edge)
    world.send = stage.agents.send
    outbox = world.outbox()
    orphan = world.receive(outbox, 1)
    engine = world.engine(outbox)
    stage.expect(*range(1, 31))
    stage.register(*range(2, 31))
    for n in range(2, 31):
        fresh = world.receive(outbox, n)
        settle(engine)
        assert named(outbox, fresh).state == "completed", "the orphan delays it"
        world.time.pass_(seconds=40)
    for _ in range(60):
        settle(engine)
        world.time.pass_(seconds=40)
    failed = named(outbox, orphan)
    outbox.close()
    edge.close()
    assert (failed.state, str(failed.last_error).partition(": ")[0]) == ("failed", "stf_not_registered")
    stage.comes_to_rest(failing={orphan})
    stage.close_account(
        failing={orphan}, note="engine, outbox and REST edge in one process; no other STF waited for it"
    )

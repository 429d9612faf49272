"""The monitor is down, fails, is slow, sends login pages, rejects the token, or does not have the STF yet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastmon_daemon.base.errors import LinkDown, TransientError
from fastmon_daemon.monitor import MonitorClient, TfFile
from tests.builders import FakeTestbed, named, settle
from tests.faults.account import read_stfs
from tests.faults.matrix import EVERY, fault
from tests.faults.proxy import FaultyProxy
from tests.faults.scenario import Scenario
from tests.processes import TOKEN, wait_until

pytestmark = pytest.mark.timeout(2700)

IDENTICAL = 8


def wait_for_log(scenario: Scenario, *words: str) -> None:
    """Wait until the daemon's log contains all *words*."""
    wait_until(lambda: all(word in scenario.log() for word in words), f"the log contains {words}", deadline_s=90)


def assert_no_attempt_was_counted(scenario: Scenario) -> None:
    assert {stf.attempts for stf, _ in read_stfs(scenario.database)} <= {0}
    assert "attempt 1 failed" not in scenario.log()


@fault(4, "the monitor down", EVERY)
def test_the_monitor_is_down(scenario: Scenario) -> None:
    seconds = 60 if scenario.long else 5
    scenario.daemon()
    scenario.send(1)
    scenario.wait_until_finished()
    scenario.monitor.stop()
    scenario.send_over(seconds, range(2, 2 + 2 * seconds))
    scenario.wait_for(completed=1, sampled=2 * seconds)  # received, acknowledged, sampled
    assert_no_attempt_was_counted(scenario)
    scenario.monitor.start()
    scenario.fault_is_over()
    scenario.wait_until_finished()
    assert_no_attempt_was_counted(scenario)
    scenario.close_account(note=f"{seconds} s; {scenario.back_after('monitor')}")


@fault(4, "the monitor half-open: a proxy silently drops every byte")
def test_the_monitor_is_half_open(scenario: Scenario) -> None:
    with FaultyProxy(scenario.monitor.port) as proxy:
        scenario.daemon(SWF_MONITOR_URL=f"http://127.0.0.1:{proxy.port}")
        scenario.send(1)
        scenario.wait_until_finished()
        proxy.swallow()
        scenario.send(2, 3, 4)
        wait_for_log(scenario, "link to the monitor is down")
        scenario.wait(60 if scenario.long else 12)  # longer than the deadline of a probe
        assert_no_attempt_was_counted(scenario)
        proxy.restore()
        scenario.fault_is_over()
        scenario.wait_until_finished()
        assert_no_attempt_was_counted(scenario)
        scenario.close_account(note=f"monitor reached after {proxy.reached_s:.1f} s, {scenario.back_after('monitor')}")


@fault(5, "the monitor answers 500, first to 20 %, then to all requests")
def test_the_monitor_answers_500(scenario: Scenario) -> None:
    seconds = 30 if scenario.long else 4
    scenario.daemon()
    scenario.monitor.faults(error_rate=0.2)
    scenario.send_over(seconds, range(1, 2 * seconds))
    scenario.monitor.faults(error_rate=1.0)
    scenario.send_over(seconds, range(101, 101 + 2 * seconds))
    wait_for_log(scenario, "link to the monitor is down")
    scenario.monitor.faults(error_rate=0.0)
    scenario.fault_is_over()
    scenario.wait_until_finished()
    scenario.close_account(note=f"{seconds} s each; {scenario.back_after('monitor')}")


@fault(6, "responses lost, and 500 sent, after the monitor has committed (20 % each)")
def test_responses_are_lost_after_the_commit(scenario: Scenario) -> None:
    scenario.daemon()
    scenario.monitor.faults(drop_rate=0.2, error_after_commit_rate=0.2)
    scenario.send(*range(1, 100 if scenario.long else 9))
    scenario.wait_until_finished()
    scenario.close_account(note=f"{scenario.monitor.counts()['duplicate_posts']} duplicate POSTs rejected")


@fault(6, "eight identical requests at once beside the daemon's own, 500 sent after the commit (30 %)")
def test_eight_identical_requests_at_once(scenario: Scenario) -> None:
    scenario.monitor.stop()
    daemon = scenario.daemon()
    stfs = 10 if scenario.long else 2
    scenario.send(*range(1, stfs + 1))
    wait_until(
        lambda: sum(len(stf.tfs) for stf, _ in read_stfs(scenario.database)) == 7 * stfs, "the samples are drawn"
    )
    wanted = [(stf.filename, tf) for stf, _ in read_stfs(scenario.database) for tf in stf.tfs]
    scenario.monitor.faults(latency_ms=20, error_after_commit_rate=0.3)
    scenario.monitor.start()
    wait_for_log(scenario, "link to the monitor is up")
    writer = MonitorClient(scenario.monitor.url, lambda: TOKEN, connections=IDENTICAL)

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
                continue  # unknown outcome: try again

    with ThreadPoolExecutor(IDENTICAL) as pool:
        for each in wanted:
            ids = set(pool.map(register, [each] * IDENTICAL))
            assert len(ids) == 1, f"{each[1].filename} has {len(ids)} ids"
    writer.close()
    scenario.monitor.faults()
    scenario.fault_is_over()
    assert daemon.poll() is None
    scenario.wait_until_finished()
    scenario.close_account(note=f"{scenario.monitor.counts()['duplicate_posts']} duplicate POSTs rejected")


@fault(7, "a slow monitor (2 s per request)")
def test_a_slow_monitor(scenario: Scenario) -> None:
    scenario.daemon()
    scenario.monitor.faults(latency_ms=2000)
    scenario.send(*range(1, 21 if scenario.long else 3))
    scenario.wait_until_finished()
    assert "link to the monitor is down" not in scenario.log()
    scenario.close_account()


LINK_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("responses sent byte by byte, beyond the deadline of a call", {"drip_ms": 100}, "down"),
    ("HTML pages with status 200", {"html_200_rate": 1.0}, "down"),
    ("redirects to a login page", {"redirect": True}, "blocked"),
    ("a token revoked and restored", {"revoked": True}, "blocked"),
]


def run_link_fault(scenario: Scenario, faults: dict[str, Any], word: str) -> None:
    """A fault that takes the link down or blocks it: no STF fails, and all are completed afterwards."""
    scenario.daemon()
    scenario.send(1)
    scenario.wait_until_finished()
    scenario.monitor.faults(**faults)
    scenario.send(2, 3)
    wait_for_log(scenario, f"link to the monitor is {word}")
    scenario.send(4)
    scenario.wait(30 if scenario.long else 1)
    assert scenario.states().get("failed", 0) == 0
    scenario.monitor.faults()
    scenario.fault_is_over()
    scenario.wait_until_finished()
    assert_no_attempt_was_counted(scenario)
    scenario.close_account(note=scenario.back_after("monitor"))


@fault(7, LINK_FAULTS[0][0])
def test_a_dripping_monitor(scenario: Scenario) -> None:
    run_link_fault(scenario, *LINK_FAULTS[0][1:])


@fault(7, LINK_FAULTS[1][0])
def test_html_with_200(scenario: Scenario) -> None:
    run_link_fault(scenario, *LINK_FAULTS[1][1:])


@fault(7, LINK_FAULTS[2][0])
def test_redirects_to_a_login_page(scenario: Scenario) -> None:
    run_link_fault(scenario, *LINK_FAULTS[2][1:])
    assert "SWF_" in scenario.log()


@fault(7, LINK_FAULTS[3][0])
def test_a_token_revoked_and_restored(scenario: Scenario) -> None:
    run_link_fault(scenario, *LINK_FAULTS[3][1:])
    assert "SWF_API_TOKEN" in scenario.log()


@fault(9, "stf_ready one second before the registration, for every STF", EVERY)
def test_every_message_precedes_its_registration_by_a_second(scenario: Scenario) -> None:
    scenario.daemon()
    for n in range(1, 61 if scenario.long else 9):
        scenario.announce(n)
        scenario.wait(1)
        scenario.register(n)
    scenario.fault_is_over()
    scenario.wait_until_finished()
    assert "does not exist" in scenario.log()
    scenario.close_account()


@fault(9, "the real data agent: one stf_ready per run without a filename, before the registrations", EVERY)
def test_the_real_data_agent(scenario: Scenario) -> None:
    count = 60 if scenario.long else 10
    scenario.daemon()
    scenario.publish({"msg_type": "stf_ready", "req_id": 1, "run_id": 100014})
    for n in range(1, count + 1):
        scenario.wait(0.3)
        scenario.register(n)
        scenario.expect(n)
    scenario.publish({"msg_type": "end_run", "run_id": 100014, "total_stf_files": count})
    scenario.fault_is_over()
    scenario.wait_until_finished()
    scenario.close_account()


class ManualClock(FakeTestbed):
    """The engine in this process, so that 15 minutes of its clock take seconds."""

    def announce(self, body: str, event_id: str) -> None:
        self.send(body)


@fault(10, "an STF that is never registered (15 minutes on a manual clock)")
def test_an_stf_that_is_never_registered(scenario: Scenario) -> None:
    client = MonitorClient(scenario.monitor.url, lambda: TOKEN, connections=4)
    testbed = ManualClock(scenario.folder, monitor=client)
    testbed.send = scenario.agents.send
    outbox = testbed.outbox()
    orphan = testbed.receive(outbox, 1)
    engine = testbed.engine(outbox)
    scenario.expect(*range(1, 31))
    scenario.register(*range(2, 31))
    for n in range(2, 31):
        new = testbed.receive(outbox, n)
        settle(engine)
        assert named(outbox, new).state == "completed", "the orphan delays it"
        testbed.time.pass_(seconds=40)
    for _ in range(60):
        settle(engine)
        testbed.time.pass_(seconds=40)
    failed = named(outbox, orphan)
    outbox.close()
    client.close()
    assert (failed.state, str(failed.last_error).partition(": ")[0]) == ("failed", "stf_not_registered")
    scenario.wait_until_finished(failing={orphan})
    scenario.close_account(
        failing={orphan}, note="engine, outbox and REST edge in one process; no other STF was delayed"
    )

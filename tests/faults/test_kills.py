"""The daemon is killed, restarted, and started twice."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.faults.matrix import EVERY, fault
from tests.faults.scenario import Scenario
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(2700)

CRASH_POINTS = [f"{side}_{what}" for what in ("commit", "call", "http", "send", "ack") for side in ("before", "after")]


@fault(1, "kill -9 before and after each commit, call, HTTP request, SEND and ACK", EVERY)
def test_kill_9_at_every_crash_point(scenario: Scenario) -> None:
    passes = (1, 2, 3, 5, 8, 13) if scenario.long else (2, 5) if scenario.broker.kind == "embedded" else (3,)
    scenario.kill(scenario.daemon())  # from now on the broker keeps messages for the daemon
    cuts = 0
    for nth in passes:
        for point in CRASH_POINTS:
            daemon = scenario.daemon(FASTMON_TEST_CRASH=f"{point}:{nth}")
            scenario.send(*range(100 * cuts + 1, 100 * cuts + 1 + nth))
            wait_until(lambda daemon=daemon: daemon.poll() is not None, f"{point} is passed {nth} times")
            assert daemon.returncode == -signal.SIGKILL
            cuts += 1
    scenario.fault_is_over()
    scenario.daemon()
    scenario.wait_until_finished()
    scenario.close_account(cuts=cuts, note=f"{cuts} kills")


@fault(2, "kill -9 at random moments", EVERY)
def test_kill_9_at_random_moments(scenario: Scenario) -> None:
    kills = 200 if scenario.long else 15
    rng = random.Random(2)
    scenario.monitor.faults(latency_ms=5)
    daemon = scenario.daemon()
    for kill in range(kills):
        scenario.send(*range(5 * kill + 1, 5 * kill + 6))
        scenario.wait(rng.uniform(0.0, 0.5))
        scenario.kill(daemon)
        daemon = scenario.daemon()
    scenario.fault_is_over()
    scenario.wait_until_finished()
    scenario.close_account(cuts=kills, note=f"{kills} kills")


@fault(13, "two daemons on one database")
def test_two_daemons_on_one_database(scenario: Scenario) -> None:
    first = scenario.daemon()
    scenario.send(*range(1, 11))
    assert scenario.call("run").returncode == 75
    scenario.wait_until_finished()
    scenario.kill(first)
    both = [scenario.start("run"), scenario.start("run")]
    wait_until(lambda: any(child.poll() is not None for child in both), "one of the two exits")
    scenario.send(*range(11, 21))
    scenario.wait_until_finished()
    assert sorted(str(child.poll()) for child in both) == ["75", "None"]
    scenario.close_account(cuts=1)


@fault(15, "restart with many unfinished STFs")
def test_restart_with_many_unfinished_stfs(scenario: Scenario) -> None:
    count, tf_files = (10_000, "7") if scenario.long else (1000, "2")
    options = {"FASTMON_TF_FILES_PER_STF": tf_files, "FASTMON_LATE_ANNOUNCE_RATE": "0"}
    scenario.monitor.stop()
    daemon = scenario.daemon(**options)
    scenario.send(*range(1, count + 1))
    wait_until(lambda: scenario.states() == {"sampled": count}, "all are sampled", deadline_s=600)
    scenario.kill(daemon)
    scenario.monitor.start()
    scenario.fault_is_over()
    began = time.monotonic()
    scenario.daemon(**options)
    wait_until(lambda: scenario.states().get("completed", 0) > 0, "the first is completed")
    first = time.monotonic() - began
    scenario.wait_until_finished()
    scenario.close_account(note=f"{count} STFs of {tf_files} TF files; the first was completed after {first:.0f} s")

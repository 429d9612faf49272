"""The daemon is killed, restarted, and started twice."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.faults.matrix import EVERY, fault
from tests.faults.stage import Stage
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(2700)

CRASH_POINTS = [f"{side}_{what}" for what in ("commit", "call", "http", "send", "ack") for side in ("before", "after")]


@fault(1, "kill -9 before and after each commit, effect, HTTP call, SEND and ACK", EVERY)
def test_kill_9_at_every_crash_point(stage: Stage) -> None:
    meetings = (1, 2, 3, 5, 8, 13) if stage.long else (2, 5) if stage.broker.kind == "embedded" else (3,)
    stage.kill(stage.daemon())  # from now on the broker keeps what is sent
    cuts = 0
    for nth in meetings:
        for point in CRASH_POINTS:
            daemon = stage.daemon(FASTMON_TEST_CRASH=f"{point}:{nth}")
            stage.send(*range(100 * cuts + 1, 100 * cuts + 1 + nth))
            wait_until(lambda daemon=daemon: daemon.poll() is not None, f"{point} is met {nth} times")
            assert daemon.returncode == -signal.SIGKILL
            cuts += 1
    stage.fault_is_over()
    stage.daemon()
    stage.comes_to_rest()
    stage.close_account(cuts=cuts, note=f"{cuts} kills")


@fault(2, "kill -9 at random moments", EVERY)
def test_kill_9_at_random_moments(stage: Stage) -> None:
    kills = 200 if stage.long else 15
    chance = random.Random(2)
    stage.monitor.faults(latency_ms=5)
    daemon = stage.daemon()
    for kill in range(kills):
        stage.send(*range(5 * kill + 1, 5 * kill + 6))
        stage.let_pass(chance.uniform(0.0, 0.5))
        stage.kill(daemon)
        daemon = stage.daemon()
    stage.fault_is_over()
    stage.comes_to_rest()
    stage.close_account(cuts=kills, note=f"{kills} kills")


@fault(13, "two daemons on one database")
def test_two_daemons_on_one_database(stage: Stage) -> None:
    first = stage.daemon()
    stage.send(*range(1, 11))
    assert stage.call("run").returncode == 75
    stage.comes_to_rest()
    stage.kill(first)
    both = [stage.start("run"), stage.start("run")]
    wait_until(lambda: any(child.poll() is not None for child in both), "one of two gives way")
    stage.send(*range(11, 21))
    stage.comes_to_rest()
    assert sorted(str(child.poll()) for child in both) == ["75", "None"]
    stage.close_account(cuts=1)


@fault(15, "restart with many unfinished STFs")
def test_restart_with_many_unfinished_stfs(stage: Stage) -> None:
    count, tf_files = (10_000, "7") if stage.long else (1000, "2")
    plenty = {"FASTMON_TF_FILES_PER_STF": tf_files, "FASTMON_LATE_ANNOUNCE_RATE": "0"}
    stage.monitor.stop()
    daemon = stage.daemon(**plenty)
    stage.send(*range(1, count + 1))
    wait_until(lambda: stage.states() == {"sampled": count}, "all are sampled", deadline_s=600)
    stage.kill(daemon)
    stage.monitor.start()
    stage.fault_is_over()
    begun = time.monotonic()
    stage.daemon(**plenty)
    wait_until(lambda: stage.states().get("completed", 0) > 0, "the first is completed")
    first = time.monotonic() - begun
    stage.comes_to_rest()
    stage.close_account(note=f"{count} STFs of {tf_files} TF files; the first was completed after {first:.0f} s")

"""Live tuning: what `fastmon-daemon reload` and SIGHUP change while the daemon runs, and what they do not."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import LiveTestbed, live_testbed, wait_until

IN_A_TERMINAL = """
import os, sys, fcntl, termios
os.setsid()
ours, theirs = os.openpty()
os.set_inheritable(ours, True)  # open as long as the program runs
fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def write(testbed: LiveTestbed, **settings: str) -> None:
    path = testbed.folder / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    path.chmod(0o600)


def start(testbed: LiveTestbed) -> None:
    """Start a daemon without a terminal, whose fraction comes from `.env`."""
    write(testbed, FASTMON_SELECTION_FRACTION="1.0")
    testbed.daemon(new_session=True, FASTMON_SELECTION_FRACTION="")


def stf(testbed: LiveTestbed, run: int, sequence: int) -> None:
    name = f"swf.{run}.{sequence:06d}.stf"
    testbed.publish({"msg_type": "stf_ready", "run_id": run, "filename": name, "sequence": sequence, "tf_count": 1000})


def test_a_new_fraction_holds_from_the_next_run_on_and_through_a_restart(testbed: LiveTestbed) -> None:
    testbed.monitor.faults(error_rate=1, error_status=503)  # nothing is registered: only the choice matters
    start(testbed)
    stf(testbed, 1, 1)
    wait_until(lambda: testbed.states().get("sampled") == 1, "run 1 is known")
    write(testbed, FASTMON_SELECTION_FRACTION="0", FASTMON_KEEP_DAYS="3", SWF_LOG_LEVEL="DEBUG", FASTMON_DRAIN_S="5")
    done = testbed.call("reload", "--json", FASTMON_SELECTION_FRACTION="")
    assert json.loads(done.stdout) == {
        "changed": {
            "FASTMON_SELECTION_FRACTION": ["1", "0"],
            "FASTMON_KEEP_DAYS": ["7", "3"],
            "SWF_LOG_LEVEL": ["INFO", "DEBUG"],
        },
        "needs_restart": ["FASTMON_DRAIN_S"],
    }, done.stderr
    again = testbed.call("reload", FASTMON_SELECTION_FRACTION="")
    assert again.stdout.splitlines()[-1] == "FASTMON_DRAIN_S: changed, but needs a restart"
    stf(testbed, 2, 1)
    stf(testbed, 1, 2)
    wait_until(lambda: testbed.states() == {"sampled": 2, "skipped": 1}, "run 1 goes on, run 2 begins with 0")
    assert "FASTMON_SELECTION_FRACTION: 1 -> 0 from the next run on" in testbed.log()
    assert "need a restart: FASTMON_DRAIN_S" in testbed.log()
    (act,) = json.loads(testbed.call("acts", "--json").stdout)["acts"]
    assert (act["action"], act["count"]) == ("reload", 3)
    testbed.children[-1].kill()
    testbed.children[-1].wait()
    testbed.daemon(new_session=True, FASTMON_SELECTION_FRACTION="")
    stf(testbed, 1, 3)
    wait_until(lambda: testbed.states() == {"sampled": 3, "skipped": 1}, "run 1 goes on as it began")


def test_a_reload_is_published_as_a_status_message(testbed: LiveTestbed) -> None:
    def texts() -> list[str]:
        heard = [json.loads(body) for body in testbed.heard]
        return [each["message"] for each in heard if each["msg_type"] == "fastmon_status"]

    start(testbed)
    wait_until(texts, "started")
    write(testbed, FASTMON_SELECTION_FRACTION="1.0", FASTMON_LATE_ANNOUNCE_RATE="5")
    testbed.children[-1].send_signal(signal.SIGHUP)
    told = "settings changed (SIGHUP): FASTMON_LATE_ANNOUNCE_RATE: 30 -> 5"
    wait_until(lambda: any(told in text for text in texts()), "the change is published")


def test_a_new_late_rate_holds_for_those_that_wait(testbed: LiveTestbed) -> None:
    write(testbed, FASTMON_SELECTION_FRACTION="1.0", FASTMON_LATE_ANNOUNCE_RATE="0.001")
    testbed.daemon(new_session=True, FASTMON_SELECTION_FRACTION="")
    testbed.register(1, 2, 3)
    assert testbed.call("reconcile", "--run", "100014").returncode == 0
    testbed.wait_for(completed=1, tf_registered=2)  # the next may be announced in two hours
    write(testbed, FASTMON_SELECTION_FRACTION="1.0", FASTMON_LATE_ANNOUNCE_RATE="0")
    done = testbed.call("reload", FASTMON_SELECTION_FRACTION="")
    assert (done.returncode, done.stdout) == (0, "FASTMON_LATE_ANNOUNCE_RATE: 0.001 -> 0\n")
    testbed.wait_for(completed=3)


def test_an_invalid_file_changes_nothing(testbed: LiveTestbed) -> None:
    start(testbed)
    write(testbed, FASTMON_SELECTION_FRACTION="0.5", FASTMON_KEEP_DAYS="soon")
    done = testbed.call("reload", FASTMON_SELECTION_FRACTION="")
    assert done.returncode == 78
    assert "FASTMON_KEEP_DAYS='soon'" in done.stderr
    testbed.children[-1].send_signal(signal.SIGHUP)
    wait_until(lambda: testbed.log().count("settings not changed: FASTMON_KEEP_DAYS='soon'") == 2, "both are logged")
    write(testbed, FASTMON_SELECTION_FRACTION="1.0")
    done = testbed.call("reload", FASTMON_SELECTION_FRACTION="")
    assert (done.returncode, done.stdout) == (0, "no setting that may change while the daemon runs has changed\n")
    write(testbed, FASTMON_SELECTION_FRACTION="0.5")
    done = testbed.call("reload", FASTMON_SELECTION_FRACTION="")
    assert (done.returncode, done.stdout) == (0, "FASTMON_SELECTION_FRACTION: 1 -> 0.5 from the next run on\n")


@pytest.mark.field("21")
def test_a_terminal_that_closes_drains(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(under=[sys.executable, "-c", IN_A_TERMINAL])
    daemon.send_signal(signal.SIGHUP)
    daemon.send_signal(signal.SIGHUP)  # a terminal that closes sends two
    assert daemon.wait(30) == 0
    assert "SIGHUP: stopping" in testbed.log()
    done = testbed.call("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no daemon is running" in done.stderr

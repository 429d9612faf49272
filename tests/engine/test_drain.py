"""The drain: calls in flight are finished, or repeated by the next process; the deadline always holds."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import LiveTestbed, live_testbed, wait_until

SOON_S = 12.0
"""Far below the 20 s after which a call to a hanging monitor or broker times out."""


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def daemon_with_hanging_calls(testbed: LiveTestbed, **changes: str) -> subprocess.Popen[bytes]:
    """A daemon whose calls to the monitor hang, and whose broker is silent."""
    daemon = testbed.daemon(**changes)
    testbed.register(1, 2)
    testbed.monitor.faults(hang_s=600)
    testbed.announce(1, 2)
    testbed.wait_for(sampled=2)
    testbed.broker.call(lambda: testbed.broker.broker.silent(600))
    return daemon


def registered(testbed: LiveTestbed) -> int:
    with closing(sqlite3.connect(testbed.database)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(db.execute("select count(*) from tf where registered_at is not null").fetchone()[0])


def heal(testbed: LiveTestbed) -> None:
    testbed.monitor.faults(hang_s=0)
    testbed.broker.stop()
    testbed.broker.start()
    testbed.daemon()
    testbed.wait_for(completed=2)
    counts = testbed.monitor.counts()
    assert (counts["fastmon_files"], counts["distinct_announcements"]) == (14, 14)


def test_at_the_deadline_the_process_exits_whatever_hangs_and_nothing_is_lost(testbed: LiveTestbed) -> None:
    daemon = daemon_with_hanging_calls(testbed, FASTMON_DRAIN_S="1")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(SOON_S) == 75
    assert "stopped at the deadline" in testbed.log()
    assert registered(testbed) == 0
    heal(testbed)


def test_a_second_signal_exits_immediately(testbed: LiveTestbed) -> None:
    daemon = daemon_with_hanging_calls(testbed, FASTMON_DRAIN_S="600")
    daemon.send_signal(signal.SIGTERM)
    wait_until(lambda: "SIGTERM: stopping" in testbed.log(), "it drains")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(SOON_S) == 75
    assert registered(testbed) == 0
    heal(testbed)


def test_calls_in_flight_are_finished_and_stored(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon()
    testbed.register(1, 2)
    testbed.monitor.faults(latency_ms=1500)
    testbed.announce(1, 2)
    testbed.wait_for(sampled=2)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert registered(testbed) == testbed.monitor.counts()["fastmon_files"] > 0
    testbed.monitor.faults(latency_ms=0)
    heal(testbed)

"""The drain: calls in flight are finished, or repeated by the next process; the deadline always holds."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import OnEmbedded, living, wait_until

SOON_S = 12.0
"""Far below the 20 s after which a call to a hanging monitor or broker times out."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        yield made


def daemon_with_hanging_calls(world: OnEmbedded, **changes: str) -> subprocess.Popen[bytes]:
    """A daemon whose calls to the monitor hang, and whose broker is silent."""
    daemon = world.daemon(**changes)
    world.register(1, 2)
    world.monitor.faults(hang_s=600)
    world.announce(1, 2)
    world.wait_for(sampled=2)
    world.broker.call(lambda: world.broker.broker.silent(600))
    return daemon


def registered(world: OnEmbedded) -> int:
    with closing(sqlite3.connect(world.database)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(db.execute("select count(*) from tf where registered_at is not null").fetchone()[0])


def heal(world: OnEmbedded) -> None:
    world.monitor.faults(hang_s=0)
    world.broker.stop()
    world.broker.start()
    world.daemon()
    world.wait_for(completed=2)
    counts = world.monitor.counts()
    assert (counts["fastmon_files"], counts["distinct_announcements"]) == (14, 14)


def test_at_the_deadline_the_process_exits_whatever_hangs_and_nothing_is_lost(world: OnEmbedded) -> None:
    daemon = daemon_with_hanging_calls(world, FASTMON_DRAIN_S="1")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(SOON_S) == 75
    assert "stopped at the deadline" in world.log()
    assert registered(world) == 0
    heal(world)


def test_a_second_signal_exits_immediately(world: OnEmbedded) -> None:
    daemon = daemon_with_hanging_calls(world, FASTMON_DRAIN_S="600")
    daemon.send_signal(signal.SIGTERM)
    wait_until(lambda: "SIGTERM: stopping" in world.log(), "it drains")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(SOON_S) == 75
    assert registered(world) == 0
    heal(world)


def test_calls_in_flight_are_finished_and_stored(world: OnEmbedded) -> None:
    daemon = world.daemon()
    world.register(1, 2)
    world.monitor.faults(latency_ms=1500)
    world.announce(1, 2)
    world.wait_for(sampled=2)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert registered(world) == world.monitor.counts()["fastmon_files"] > 0
    world.monitor.faults(latency_ms=0)
    heal(world)

"""Backups: made while a daemon is running, complete or absent, and usable by a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmon_daemon.base.errors import PermanentError, StorageError
from fastmon_daemon.commands.backup import _Progress
from fastmon_daemon.outbox import back_up, check_database, open_for_reading
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, HandClock
from tests.processes import LiveTestbed, live_testbed

CHARTS = (load_statechart("stf"), load_statechart("run"))


@pytest.fixture
def small(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path / "live")


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def silent(_done: int, _total: int) -> None:
    pass


def test_a_backup_is_one_snapshot_although_another_connection_writes_meanwhile(
    small: FakeTestbed, tmp_path: Path
) -> None:
    outbox = small.outbox()
    for n in range(1, 1001):
        small.receive(outbox, n, body="x" * 3000)
    steps: list[tuple[int, int]] = []

    def write(done: int, total: int) -> None:
        steps.append((done, total))
        small.receive(outbox, 2000 + len(steps))

    made = back_up(outbox.path, tmp_path / "copy.db", write)
    assert len(steps) > 1
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})  # it never restarted
    assert made.stfs == 1000
    assert made.bytes == (tmp_path / "copy.db").stat().st_size
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert open_for_reading(tmp_path / "copy.db").counts_by_state() == {"received": 1000}
    assert outbox.unfinished() == 1000 + len(steps)
    assert {each.name for each in tmp_path.iterdir()} <= {"live", "copy.db", "copy.db-shm", "copy.db-wal"}


def test_a_failed_backup_overwrites_nothing_and_leaves_nothing(small: FakeTestbed, tmp_path: Path) -> None:
    outbox = small.outbox()
    small.receive(outbox)
    existing = tmp_path / "existing.db"
    existing.write_text("precious")
    with pytest.raises(PermanentError, match="file exists and is not overwritten"):
        back_up(outbox.path, existing, silent)
    with pytest.raises(PermanentError, match="cannot be written: No such file or directory"):
        back_up(outbox.path, tmp_path / "none" / "copy.db", silent)
    with pytest.raises(StorageError, match="no such database"):
        back_up(tmp_path / "no.db", tmp_path / "copy.db", silent)

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(outbox.path, tmp_path / "copy.db", stop)
    assert existing.read_text() == "precious"
    assert {each.name for each in tmp_path.iterdir()} == {"live", "existing.db"}


def test_a_daemon_on_a_restored_backup_continues_and_repeats_nothing(testbed: LiveTestbed, tmp_path: Path) -> None:
    daemon = testbed.daemon()
    testbed.register(*range(1, 11))
    testbed.announce(*range(1, 5))
    testbed.wait_for(completed=4)
    testbed.monitor.stop()
    testbed.announce(5)
    testbed.wait_for(completed=4, sampled=1)
    made = testbed.call("backup", "copy.db", "--json")
    assert made.returncode == 0, made.stderr
    answer = json.loads(made.stdout)
    assert (answer["stfs"], answer["database"]) == (5, str(testbed.database))
    testbed.monitor.start()
    testbed.announce(*range(6, 11))
    testbed.wait_for(completed=10)
    daemon.kill()
    daemon.wait()

    testbed.database = tmp_path / "copy.db"
    testbed.daemon()
    testbed.wait_for(completed=5)
    testbed.announce(*range(6, 11))  # as the broker or the reconciler delivers them again
    testbed.wait_for(completed=10)
    assert testbed.monitor.counts()["fastmon_files"] == 70
    assert check_database(testbed.database, *CHARTS) == []
    again = testbed.call("backup", "copy.db")
    assert (again.returncode, "is not overwritten" in again.stderr) == (1, True)
    plain = testbed.call("backup", "second.db")
    assert "10 STFs" in plain.stdout
    assert testbed.call("backup", "third.db", FASTMON_DB=str(tmp_path / "none.db")).returncode == 3


def test_a_long_backup_reports_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    time = HandClock()
    progress = _Progress(time.clock().monotonic)
    progress(1, 10)
    assert capsys.readouterr().err == ""
    time.pass_(minutes=1)
    progress(5, 10)
    assert capsys.readouterr().err == "copied 5 of 10 pages (50 %)\n"

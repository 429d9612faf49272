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
from tests.builders import HandClock, World
from tests.processes import OnEmbedded, living

CHARTS = (load_statechart("stf"), load_statechart("run"))


@pytest.fixture
def small(tmp_path: Path) -> World:
    return World(tmp_path / "live")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        yield made


def silent(_done: int, _total: int) -> None:
    pass


def test_a_backup_is_one_snapshot_although_another_connection_writes_meanwhile(small: World, tmp_path: Path) -> None:
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


def test_a_failed_backup_overwrites_nothing_and_leaves_nothing(small: World, tmp_path: Path) -> None:
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


def test_a_daemon_on_a_restored_backup_continues_and_repeats_nothing(world: OnEmbedded, tmp_path: Path) -> None:
    daemon = world.daemon()
    world.register(*range(1, 11))
    world.announce(*range(1, 5))
    world.wait_for(completed=4)
    world.monitor.stop()
    world.announce(5)
    world.wait_for(completed=4, sampled=1)
    made = world.call("backup", "copy.db", "--json")
    assert made.returncode == 0, made.stderr
    answer = json.loads(made.stdout)
    assert (answer["stfs"], answer["database"]) == (5, str(world.database))
    world.monitor.start()
    world.announce(*range(6, 11))
    world.wait_for(completed=10)
    daemon.kill()
    daemon.wait()

    world.database = tmp_path / "copy.db"
    world.daemon()
    world.wait_for(completed=5)
    world.announce(*range(6, 11))  # as the broker or the reconciler delivers them again
    world.wait_for(completed=10)
    assert world.monitor.counts()["fastmon_files"] == 70
    assert check_database(world.database, *CHARTS) == []
    again = world.call("backup", "copy.db")
    assert (again.returncode, "is not overwritten" in again.stderr) == (1, True)
    plain = world.call("backup", "second.db")
    assert "10 STFs" in plain.stdout
    assert world.call("backup", "third.db", FASTMON_DB=str(tmp_path / "none.db")).returncode == 3


def test_a_long_backup_reports_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    time = HandClock()
    progress = _Progress(time.clock().monotonic)
    progress(1, 10)
    assert capsys.readouterr().err == ""
    time.pass_(minutes=1)
    progress(5, 10)
    assert capsys.readouterr().err == "copied 5 of 10 pages (50 %)\n"

"""Upgrades: the database is copied before a migration, from every earlier schema that has a sample; and going back."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.outbox import check_database, database, open_for_reading, open_outbox
from fastmon_daemon.outbox.schema import VERSION
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, HandClock, query

FOLDER = Path(__file__).parent / "old_databases"
SAMPLES = [FOLDER / f"v{version}.sql.gz" for version in range(1, VERSION)]
"""A sample for each former schema."""
STFS = "select id, filename, state, attempts, plan, received_at from stf order by id"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
UNFINISHED = ("received", "sampled", "tf_registered", "notified")


def unpack(sample: Path, path: Path) -> int:
    """Make the database of a sample; return its schema version."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(gzip.decompress(sample.read_bytes()).decode())
        connection.execute("pragma journal_mode = wal")
    path.chmod(0o600)
    version: int = query(path, "pragma user_version")[0][0]
    return version


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name.partition(".")[0])
def test_a_database_is_copied_before_its_migration_and_can_be_put_back(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    version = unpack(sample, path)
    before = dump(path)
    assert query(path, "select count(*) from stf where due_at is not null") > [(0,)], "unfinished work"
    for _ in range(2):  # the second time after going back
        open_outbox(path).close()
        copy = tmp_path / f"outbox.db.schema-{version}"
        assert query(path, "pragma user_version") == [(VERSION,)]
        assert (query(copy, "pragma user_version"), dump(copy)) == ([(version,)], before)
        assert copy.stat().st_mode & 0o777 == 0o600
        shutil.copy(copy, path)
    open_outbox(path).close()
    open_outbox(path).close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["outbox.db", copy.name]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name.partition(".")[0])
def test_each_stf_is_kept_and_its_work_goes_on_after_the_migration(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    version, before = unpack(sample, path), query(path, STFS)
    open_outbox(path).close()
    assert query(path, STFS) == before or version == 7, "kept, but for the runs that schema 8 merges"
    outbox, testbed = open_outbox(path), FakeTestbed(tmp_path, time=HandClock(at=NOW))
    counts = outbox.counts_by_state()
    unfinished = sum(counts.get(state, 0) for state in UNFINISHED)
    engine = testbed.engine(outbox)
    while outbox.unfinished():
        engine.tick(0)
        testbed.time.pass_(seconds=1)
    assert unfinished > 0
    assert outbox.counts_by_state()["completed"] == counts["completed"] + unfinished
    assert check_database(path, load_statechart("stf"), load_statechart("run")) == []


def test_the_last_two_copies_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for age, name in ((3, "outbox.db.schema-3"), (2, "outbox.db.schema-4"), (9, "other.db.schema-2")):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (age, 1_000_000_000 - age * 1000))
    unpack(SAMPLES[0], path)
    open_outbox(path).close()
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"outbox.db", "outbox.db.schema-4", "outbox.db.schema-1", "other.db.schema-2"}


def test_nothing_is_migrated_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outbox.db"
    version = unpack(SAMPLES[0], path)

    def full(_new: Path, _path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(database, "put_in_place", full)
    with pytest.raises(StorageUnavailable):
        open_outbox(path)
    assert query(path, "pragma user_version") == [(version,)]
    assert [each.name for each in tmp_path.glob(".*")] == []


def test_an_interrupted_migration_keeps_the_copy_from_before_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    version = unpack(SAMPLES[0], path)
    copy = tmp_path / f"outbox.db.schema-{version}"
    open_outbox(path).close()
    before = dump(copy)
    query(path, f"pragma user_version = {version}")  # killed after all migrations, before the version was written
    open_outbox(path).close()
    assert dump(copy) == before
    open_for_reading(path).close()


def test_a_new_database_needs_no_copy(tmp_path: Path) -> None:
    open_outbox(tmp_path / "outbox.db").close()
    assert [each.name for each in tmp_path.iterdir()] == ["outbox.db"]

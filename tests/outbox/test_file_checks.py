"""Files that cannot be used as the database, damaged databases, and the complete check."""

from __future__ import annotations

import getpass
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fastmon_daemon.base.errors import StorageError, StorageUnavailable
from fastmon_daemon.outbox import (
    DatabaseLock,
    attach,
    check_database,
    open_for_reading,
    open_outbox,
    owner_of,
)
from fastmon_daemon.outbox.file_checks import check_local_file_system, file_system_of, quick_check
from fastmon_daemon.outbox.integrity import IntegrityProblem
from fastmon_daemon.outbox.schema import VERSION
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, settle

PAGE = 4096


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of 20 finished STFs, closed."""
    testbed = FakeTestbed(tmp_path_factory.mktemp("intact"))
    outbox = testbed.outbox()
    for n in range(1, 21):
        testbed.receive(outbox, n)
    settle(testbed.engine(outbox), ticks=1000)
    outbox.close()
    return (testbed.folder / "outbox.db").read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def check(path: Path) -> list[IntegrityProblem]:
    return check_database(path, load_statechart("stf"), load_statechart("run"))


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def newer(path: Path) -> None:
    open_outbox(path).close()
    execute(path, f"pragma user_version = {VERSION + 1}")


UNUSABLE: dict[str, tuple[Callable[[Path, bytes], object], str]] = {
    "a directory": (lambda path, _: path.mkdir(), "not a regular file: set FASTMON_DB"),
    "an empty file": (lambda path, _: path.touch(), "file is empty: restore a backup, or delete it"),
    "garbage": (lambda path, _: path.write_bytes(b"not a database at all" * 100), "not an SQLite database"),
    "no tables": (
        lambda path, _: execute(path, "pragma journal_mode = wal"),
        "has no tables: restore a backup, or delete it",
    ),
    "another program's": (
        lambda path, _: execute(path, "create table t (x)"),
        "SQLite database of another program: set FASTMON_DB to another",
    ),
    "a newer schema": (lambda path, _: newer(path), "start the newer fastmon"),
    "the first half": (
        lambda path, intact: path.write_bytes(intact[: len(intact) // 2]),
        r"truncated: \d+ of \d+ pages",
    ),
    "cut inside a page": (lambda path, intact: path.write_bytes(intact[:-100]), "truncated"),
    "its first bytes": (lambda path, intact: path.write_bytes(intact[:50]), "header is damaged"),
    "a flipped magic": (lambda path, intact: path.write_bytes(b"s" + intact[1:]), "not an SQLite database"),
    "a flipped page size": (
        lambda path, intact: path.write_bytes(intact[:16] + b"\3" + intact[17:]),
        "header is damaged",
    ),
    "a flipped owner": (lambda path, intact: path.write_bytes(intact[:68] + b"x" + intact[69:]), "another program"),
    "a log alone": (
        lambda path, _: path.with_name("outbox.db-wal").write_bytes(b"x" * 5000),
        "database is missing, but its log outbox.db-wal exists: put the database back",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_file_is_reported_with_a_hint_and_left_unchanged(path: Path, intact: bytes, kind: str) -> None:
    make, message = UNUSABLE[kind]
    make(path, intact)
    before = contents(path.parent)
    with pytest.raises(StorageError, match=message) as error:
        open_outbox(path)
    assert str(path) in str(error.value)
    assert contents(path.parent) == before


@pytest.mark.parametrize("counter", [b"\0\0\0\1", b"\xff\0\0\0"])
def test_an_outdated_page_count_does_not_count_as_truncation(path: Path, intact: bytes, counter: bytes) -> None:
    """SQLite trusts the page count in the header only if both change counters agree, and so does fastmon."""
    more = (len(intact) // PAGE + 1).to_bytes(4, "big")
    path.write_bytes(intact[:28] + more + intact[32:])
    with pytest.raises(StorageError, match="truncated"):
        open_outbox(path)
    path.write_bytes(intact[:24] + counter + more + intact[32:])
    outbox = open_outbox(path)
    assert outbox.counts_by_state() == {"completed": 20}
    outbox.close()


def test_a_file_without_its_last_page_is_truncated(path: Path, intact: bytes) -> None:
    path.write_bytes(intact[:-PAGE])
    there = len(intact) // PAGE
    with pytest.raises(StorageError, match=f"truncated: {there - 1} of {there} pages"):
        open_outbox(path)


def contents(folder: Path) -> dict[str, bytes]:
    """The files in *folder* without the index of the log, which a reader may leave."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file() and each.suffix != ".db-shm"
            and each.stat().st_size}  # fmt: skip


def test_files_of_an_interrupted_first_start_do_not_disturb_the_next(path: Path) -> None:
    for name in ("outbox.db.new", "outbox.db.new-wal", "outbox.db.new-shm"):
        path.with_name(name).write_bytes(b"incomplete")
    open_outbox(path).close()
    assert {each.name for each in path.parent.iterdir()} == {"outbox.db"}


def test_attach_does_not_create_a_deleted_database(path: Path) -> None:
    outbox = open_outbox(path)
    path.unlink()
    with pytest.raises(StorageUnavailable, match="the file was removed"):
        attach(path)
    assert not path.exists()
    outbox.close()


def test_a_damaged_page_is_found_at_the_start_and_by_the_complete_check(path: Path, intact: bytes) -> None:
    path.write_bytes(intact)
    assert check(path) == []
    path.write_bytes(intact[: 5 * PAGE] + b"\xff" * PAGE + intact[6 * PAGE :])
    with pytest.raises(StorageError, match="restore a backup"):
        open_outbox(path)
    found = check(path)
    assert found
    assert "backup" in found[0].hint


def test_a_quick_check_that_takes_too_long_is_abandoned(path: Path, intact: bytes) -> None:
    path.write_bytes(intact)
    connection = sqlite3.connect(path)
    connection.set_progress_handler(connection.interrupt, 10)  # the timeout expires during the check
    assert not quick_check(path, connection, timeout_s=1000.0)
    connection.set_progress_handler(None, 0)
    assert quick_check(path, connection, timeout_s=1000.0)
    connection.close()


def test_a_network_file_system_is_detected_also_through_a_symbolic_link(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/home {home} nfs4 rw 0 0\n")
    assert file_system_of(home / "outbox.db", mounts) == "nfs4"
    assert file_system_of(Path("/var/lib/outbox.db"), mounts) == "ext4"
    with pytest.raises(StorageError, match="set FASTMON_DB to a local path"):
        check_local_file_system(tmp_path / "link" / "outbox.db", mounts)


def test_missing_permissions_are_reported_with_a_hint(path: Path) -> None:
    open_outbox(path).close()
    with DatabaseLock(path):
        pass
    path.chmod(0o000)
    path.with_name("outbox.db.lock").chmod(0o000)
    errors = as_nobody(lambda: open_outbox(path)), as_nobody(lambda: owner_of(path)), as_nobody(lambda: check(path))
    assert "permission denied" in errors[0]
    owner = f"belongs to {getpass.getuser()}: type sudo -u {getpass.getuser()} before the command"
    assert all(owner in each for each in errors)


def as_nobody(action: Callable[[], object]) -> str:
    """The error of *action* for a user without permissions; as root, this needs a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            action()
        except StorageError as exc:
            os.write(writer, str(exc).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        text = output.read().decode()
    os.waitpid(child, 0)
    return text


BROKEN_RULES = {
    "update stf set state = 'sampled', due_at = born_at where id = 1": "history ends in another state or life",
    "update stf set life = 2 where id = 1": "history ends in another state or life",
    "delete from history where stf = 1": "without history",
    "delete from history where stf = 1 and dest = 'sampled'": "history has a gap",
    "delete from history where stf = 1 and trigger is null": "does not begin with its receipt",
    "update tf set registered_at = null where stf = 1 and sequence = 1": "announced but not registered",
    "update tf set monitor_id = null where stf = 1 and sequence = 1": "registered but has no id of the monitor",
    "update stf set plan = null where id = 1": "no sample plan",
    "update stf set state = 'lost' where id = 1": "state not in the statechart: lost",
    "update stf set due_at = born_at where id = 1": "finalized, but with a due time",
    "update history set trigger = 'skip' where stf = 1 and dest = 'sampled'": "transition not in the statechart: skip",
    "insert into tf (stf, sequence, filename) values (999, 1, 'x')": "row of tf refers to a missing row of stf",
}


@pytest.mark.parametrize("damage", BROKEN_RULES)
def test_the_complete_check_reports_each_violated_rule(path: Path, intact: bytes, damage: str) -> None:
    path.write_bytes(intact)
    execute(path, damage)
    assert any(BROKEN_RULES[damage] in problem.what for problem in check(path)), check(path)
    open_outbox(path).close()  # such a problem does not stop the daemon


def test_a_reader_reports_a_missing_and_a_damaged_database(path: Path, intact: bytes) -> None:
    with pytest.raises(StorageError, match="no such database"):
        check(path)
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        open_for_reading(path)
    path.write_bytes(intact)
    assert open_for_reading(path).counts_by_state() == {"completed": 20}

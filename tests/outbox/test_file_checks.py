"""The storage and its faults: files that are no database of ours, damage, the whole check, a disk that is full."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fastmon_daemon.base.errors import StorageError, StorageUnavailable
from fastmon_daemon.outbox import (
    DatabaseLock,
    IntegrityProblem,
    attach,
    check_database,
    open_for_reading,
    open_outbox,
    owner_of,
)
from fastmon_daemon.outbox.file_checks import check_local_file_system, file_system_of, is_readable
from fastmon_daemon.outbox.schema import VERSION
from fastmon_daemon.statechart import load_statechart
from tests.builders import World, settle

PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of 20 finished STFs, closed."""
    world = World(tmp_path_factory.mktemp("whole"))
    outbox = world.outbox()
    for n in range(1, 21):
        world.receive(outbox, n)
    settle(world.engine(outbox), turns=1000)
    outbox.close()
    return (world.folder / "outbox.db").read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def check(path: Path) -> list[IntegrityProblem]:
    return check_database(path, load_statechart("stf"), load_statechart("run"))


def other_program(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (x)")
    connection.close()


def without_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("pragma journal_mode = wal")
    connection.close()


def newer(path: Path) -> None:
    open_outbox(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"pragma user_version = {VERSION + 1}")
    connection.close()


def overwritten(path: Path, at: int, what: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


UNFIT: dict[str, tuple[Callable[[Path, bytes], object], str]] = {
    "a directory": (lambda path, _: path.mkdir(), "is no file: name the database file itself"),
    "nothing": (lambda path, _: path.touch(), "is empty, hence no database: go on from a backup, or remove it"),
    "garbage": (lambda path, _: path.write_bytes(b"not a database at all" * 100), "is no SQLite database"),
    "no tables": (lambda path, _: without_tables(path), "has no tables: go on from a backup, or remove it"),
    "another program's": (lambda path, _: other_program(path), "another program's SQLite database: name another file"),
    "a newer schema": (lambda path, _: newer(path), "start the newer fastmon"),
    "half of it": (lambda path, whole: path.write_bytes(whole[: len(whole) // 2]), r"is cut off: \d+ of \d+ pages"),
    "cut inside a page": (lambda path, whole: path.write_bytes(whole[:-100]), "is cut off"),
    "its first bytes": (lambda path, whole: path.write_bytes(whole[:50]), "its header is damaged"),
    "a flipped magic": (lambda path, whole: path.write_bytes(b"s" + whole[1:]), "is no SQLite database"),
    "a flipped page size": (lambda path, whole: path.write_bytes(whole[:16] + b"\3" + whole[17:]), "header is damaged"),
    "a flipped owner": (lambda path, whole: path.write_bytes(whole[:68] + b"x" + whole[69:]), "another program's"),
    "a log alone": (
        lambda path, _: path.with_name("outbox.db-wal").write_bytes(b"x" * 5000),
        "is gone, and its log outbox.db-wal is still there: put the database back",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_is_no_database_of_ours_is_refused_with_what_to_do_and_left_alone(
    path: Path, whole: bytes, kind: str
) -> None:
    make, said = UNFIT[kind]
    make(path, whole)
    before = contents(path.parent)
    with pytest.raises(StorageError, match=said) as told:
        open_outbox(path)
    assert str(path) in str(told.value)
    assert contents(path.parent) == before


@pytest.mark.parametrize("counter", [b"\0\0\0\1", b"\xff\0\0\0"])
def test_a_page_count_that_its_writer_left_behind_is_not_taken_for_a_cut(
    path: Path, whole: bytes, counter: bytes
) -> None:
    """SQLite believes the count in the header only where both of its counters agree, and so do we."""
    more = (len(whole) // PAGE + 1).to_bytes(4, "big")
    path.write_bytes(whole[:28] + more + whole[32:])
    with pytest.raises(StorageError, match="is cut off"):
        open_outbox(path)
    path.write_bytes(whole[:24] + counter + more + whole[32:])
    outbox = open_outbox(path)
    assert outbox.reports.counts_by_state() == {"completed": 20}
    outbox.close()


def test_a_file_that_lacks_its_last_page_is_cut(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[:-PAGE])
    there = len(whole) // PAGE
    with pytest.raises(StorageError, match=f"is cut off: {there - 1} of {there} pages are there"):
        open_outbox(path)


def contents(folder: Path) -> dict[str, bytes]:
    """What lies there; a reader may leave an index of the log, which is nothing that anyone wrote."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file() and each.suffix != ".db-shm"
            and each.stat().st_size}  # fmt: skip


def test_a_first_start_that_was_cut_leaves_nothing_that_is_in_the_way_of_the_next(path: Path) -> None:
    for name in ("outbox.db.new", "outbox.db.new-wal", "outbox.db.new-shm"):
        path.with_name(name).write_bytes(b"half of it")
    open_outbox(path).close()
    assert {each.name for each in path.parent.iterdir()} == {"outbox.db"}


def test_a_database_that_somebody_took_away_is_not_made_anew_in_its_place(path: Path) -> None:
    outbox = open_outbox(path)
    path.unlink()
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        attach(path)
    assert not path.exists()
    outbox.close()


def test_a_page_that_was_flipped_is_found_at_the_start_and_named_by_the_whole_check(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)
    assert check(path) == []
    overwritten(path, 5 * PAGE, b"\xff" * PAGE)
    with pytest.raises(StorageError, match="go on from a backup"):
        open_outbox(path)
    found = check(path)
    assert found
    assert "backup" in found[0].remedy


def test_a_look_that_takes_too_long_is_given_up_and_the_database_opens(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)
    connection = sqlite3.connect(path)
    connection.set_progress_handler(connection.interrupt, 10)  # the time is up in the middle of it
    assert not is_readable(path, connection, patience_s=1000.0)
    connection.set_progress_handler(None, 0)
    assert is_readable(path, connection, patience_s=1000.0)
    connection.close()


def test_a_network_file_system_is_recognised_through_a_link_too_and_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/home {home} nfs4 rw 0 0\n")
    assert file_system_of(home / "outbox.db", mounts) == "nfs4"
    assert file_system_of(Path("/var/lib/outbox.db"), mounts) == "ext4"
    with pytest.raises(StorageError, match="name a local path in FASTMON_DB"):
        check_local_file_system(tmp_path / "link" / "outbox.db", mounts)


def test_a_database_that_is_closed_to_this_user_is_refused_with_what_to_do(path: Path) -> None:
    open_outbox(path).close()
    with DatabaseLock(path):
        pass
    unreadable(path)
    unreadable(path.with_name("outbox.db.lock"))
    said = as_nobody(lambda: open_outbox(path)), as_nobody(lambda: owner_of(path)), as_nobody(lambda: check(path))
    assert "Permission denied" in said[0]
    assert all("be the daemon's user" in each for each in said[1:])


def unreadable(path: Path) -> None:
    path.chmod(0o000)


def as_nobody(act: Callable[[], object]) -> str:
    """What the act was refused with, for a user who may do nothing; root needs a child process to be one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            act()
        except StorageError as exc:
            os.write(writer, str(exc).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    return text


BROKEN_RULES = {
    "update stf set state = 'sampled', due_at = born_at where id = 1": "history ends in another state or life",
    "update stf set life = 2 where id = 1": "history ends in another state or life",
    "delete from history where stf = 1": "without history",
    "delete from history where stf = 1 and dest = 'sampled'": "history has a gap",
    "delete from history where stf = 1 and trigger is null": "does not begin with its arrival",
    "update tf set registered_at = null where stf = 1 and sequence = 1": "announced and not registered",
    "update tf set monitor_id = null where stf = 1 and sequence = 1": "without its number in the monitor",
    "update stf set plan = null where id = 1": "without the plan of its sample",
    "update stf set state = 'lost' where id = 1": "a state that the chart does not know: lost",
    "update stf set due_at = born_at where id = 1": "nothing is owed, but it is due",
    "update history set trigger = 'skip' where stf = 1 and dest = 'sampled'": "a transition that the chart does not",
    "insert into tf (stf, sequence, filename) values (999, 1, 'x')": "belongs to a row of stf that is not there",
}


@pytest.mark.parametrize("damage", BROKEN_RULES)
def test_the_whole_check_names_each_rule_that_does_not_hold(path: Path, whole: bytes, damage: str) -> None:
    path.write_bytes(whole)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(damage)
    connection.close()
    assert any(BROKEN_RULES[damage] in finding.what for finding in check(path)), check(path)
    open_outbox(path).close()  # such a thing stops nobody


def test_a_reader_is_told_of_no_database_and_of_damage(path: Path, whole: bytes) -> None:
    with pytest.raises(StorageError, match="no such database"):
        check(path)
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        open_for_reading(path)
    path.write_bytes(whole)
    assert open_for_reading(path).counts_by_state() == {"completed": 20}

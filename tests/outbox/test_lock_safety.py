"""The lock file and the folder of the database, where somebody else may write or has written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.outbox import DatabaseLock, open_outbox
from fastmon_daemon.outbox.lock import lock_path, owner_of

is_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def lock_error(database: Path) -> str:
    with pytest.raises(StorageError) as caught, DatabaseLock(database):
        pass
    return str(caught.value)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_planted_link_is_neither_followed_nor_emptied(folder: Path, tmp_path: Path, link: object) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lock = lock_path(folder / "outbox.db")
    assert callable(link)
    link(victim, lock)
    for error in (lock_error(folder / "outbox.db"), owner_error(folder / "outbox.db")):
        assert error.startswith(f"{lock}: not a file of its own")
        assert "remove it" in error
    assert victim.read_text() == "precious"


def owner_error(database: Path) -> str:
    with pytest.raises(StorageError) as caught:
        owner_of(database)
    return str(caught.value)


def test_a_planted_fifo_blocks_nobody(folder: Path) -> None:
    os.mkfifo(lock_path(folder / "outbox.db"))
    assert "not a file of its own" in lock_error(folder / "outbox.db")
    assert "not a file of its own" in owner_error(folder / "outbox.db")


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o707])
def test_a_folder_that_others_may_write_is_refused_with_what_to_type(folder: Path, bits: int) -> None:
    folder.chmod(bits)
    error = lock_error(folder / "outbox.db")
    assert error.startswith(f"{folder}: other users may write there (drwx")
    assert f"type chmod go-w {folder}" in error
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    with DatabaseLock(folder / "outbox.db"):
        pass


@is_root
def test_a_folder_that_a_group_may_write_is_refused_unless_the_group_is_ours_alone(folder: Path) -> None:
    folder.chmod(0o770)
    with DatabaseLock(folder / "outbox.db"):
        pass
    os.chown(folder, 0, 65534)
    assert "other users may write there" in lock_error(folder / "outbox.db")


@is_root
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    assert lock_error(folder / "outbox.db").startswith(f"{folder}: folder of another user: {folder} belongs to nobody")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277, 0o777], indirect=True)
def test_folders_and_files_get_their_mode_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    database = tmp_path / "one" / "two" / "outbox.db"
    with DatabaseLock(database):
        open_outbox(database).close()
    assert [mode(each) for each in (tmp_path / "one", tmp_path / "one/two")] == [0o700, 0o700]
    assert [mode(each) for each in (database, lock_path(database))] == [0o600, 0o600]

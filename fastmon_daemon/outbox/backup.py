"""A copy of the database, made while a daemon works on it: whole, checked, and there only when it is finished.

It reads the database and writes the copy. It must not know how progress is shown.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from fastmon_daemon.base.errors import PermanentError, StorageError
from fastmon_daemon.outbox.database import connect_read_only, open_for_reading, put_in_place
from fastmon_daemon.outbox.sqlite_errors import storage_errors

_PAGES_A_STEP = 500

Progress = Callable[[int, int], None]
"""Takes the pages that are copied, and all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What was written."""

    bytes: int
    stfs: int


def back_up(database: Path, target: Path, progress: Progress) -> Backup:
    """Copy *database* to *target*, which must not exist; it appears when the copy is whole and checked.

    Raises `StorageError` for a database that cannot be copied, `StorageUnavailable` where the target's disk is full,
    `PermanentError` for a target that cannot be.
    """
    open_for_reading(database).close()  # it is there, and ours
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _refuse_existing(target)
        with storage_errors(target):
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            _copy(database, part, target, progress)
            backup = Backup(bytes=part.stat().st_size, stfs=_checked(part, database))
            _refuse_existing(target)
            put_in_place(part, target)
    except OSError as exc:
        raise PermanentError(f"{target}: cannot be written: {exc.strerror}: name another place") from exc
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return backup


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise PermanentError(f"{target}: is there already, and nothing is overwritten: name another file")


def _copy(database: Path, part: Path, target: Path, progress: Progress) -> None:
    with closing(connect_read_only(database)) as source, closing(sqlite3.connect(part)) as copy:
        copy.execute("pragma synchronous = off")  # the whole file is synced at its end
        # One snapshot for all steps: else each commit of the daemon would let the copy begin anew. In WAL mode it
        # blocks no writer, the log only grows meanwhile.
        with storage_errors(database):
            source.execute("begin")
            source.execute("select count(*) from sqlite_master").fetchone()
        with storage_errors(target):
            source.backup(
                copy, pages=_PAGES_A_STEP, progress=lambda _status, left, total: progress(total - left, total)
            )


def _checked(part: Path, database: Path) -> int:
    """Read the copy through; how many STFs are in it."""
    uri = f"{part.absolute().as_uri()}?immutable=1"  # no log is made beside it
    with closing(sqlite3.connect(uri, uri=True)) as copy:
        problem = copy.execute("pragma quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise StorageError(f"{database}: its copy is damaged: {problem}: look with fastmon-daemon check")
        return int(copy.execute("select count(*) from stf").fetchone()[0])

"""Copies the database while a daemon uses it; the copy appears only when it is complete and checked."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from fastmon_daemon.base.errors import PermanentError, StorageError
from fastmon_daemon.outbox.database import connect_read_only, create_private, open_for_reading, put_in_place
from fastmon_daemon.outbox.sqlite_errors import storage_errors

_PAGES_PER_STEP = 500

Progress = Callable[[int, int], None]
"""Called with the number of copied pages and of all pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """The size of a backup in bytes, and its number of STFs."""

    bytes: int
    stfs: int


def back_up(database: Path, target: Path, progress: Progress) -> Backup:
    """Copy *database* to *target*, which must not exist.

    Raises: StorageError; StorageUnavailable if the disk of *target* is full; PermanentError for an invalid *target*.
    """
    open_for_reading(database).close()  # raises if it is missing or not ours
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _check_does_not_exist(target)
        with storage_errors(target):
            create_private(part)
            _copy(database, part, target, progress)
            backup = Backup(bytes=part.stat().st_size, stfs=_check_copy(part, database))
            _check_does_not_exist(target)
            put_in_place(part, target)
    except OSError as exc:
        raise PermanentError(f"{target}: cannot be written: {exc.strerror}: choose another path") from exc
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return backup


def _check_does_not_exist(target: Path) -> None:
    if os.path.lexists(target):
        raise PermanentError(f"{target}: file exists and is not overwritten: choose another name")


def _copy(database: Path, part: Path, target: Path, progress: Progress) -> None:
    with closing(connect_read_only(database)) as source, closing(sqlite3.connect(part)) as copy:
        copy.execute("pragma synchronous = off")  # the whole file is synced at the end
        # One snapshot for all steps: otherwise each commit of the daemon would restart the copy. In WAL mode it blocks
        # no writer; the log only grows meanwhile.
        with storage_errors(database):
            source.execute("begin")
            source.execute("select count(*) from sqlite_master").fetchone()
        with storage_errors(target):
            source.backup(
                copy, pages=_PAGES_PER_STEP, progress=lambda _status, left, total: progress(total - left, total)
            )


def _check_copy(part: Path, database: Path) -> int:
    """Check the copy and return the number of its STFs."""
    uri = f"{part.absolute().as_uri()}?immutable=1"  # creates no log file
    with closing(sqlite3.connect(uri, uri=True)) as copy:
        problem = copy.execute("pragma quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise StorageError(f"{database}: the copy is damaged: {problem}: run fastmon-daemon check")
        return int(copy.execute("select count(*) from stf").fetchone()[0])

"""Errors of SQLite: temporary ones become `StorageUnavailable`, damage becomes `StorageError`, a bug of ours stays."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastmon_daemon.base.errors import StorageError, StorageUnavailable

_TEMPORARY = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})

RESTORE_HINT = "stop the daemon, run fastmon-daemon check, and restore a backup"


@contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Convert SQLite and disk errors of the block. Raises: StorageUnavailable; StorageError if *path* is damaged."""
    try:
        yield
    except sqlite3.Error as exc:
        code = primary_code(exc)
        if code in _TEMPORARY:
            raise disk_full(path, exc) from exc
        if code in _DAMAGED:
            raise StorageError(f"{path}: {exc}: {RESTORE_HINT}") from exc
        raise
    except OSError as exc:
        if exc.errno in _DISK_ERRORS:
            raise disk_full(path, exc.strerror) from exc
        raise


def primary_code(exc: sqlite3.Error) -> int | None:
    """SQLite's primary error code; None if Python's module raised the error."""
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def disk_full(path: Path | str, reason: object) -> StorageUnavailable:
    """The error for a *path* that cannot be written now."""
    return StorageUnavailable(f"{path}: cannot be written: {reason}: make room on its file system, or repair it")

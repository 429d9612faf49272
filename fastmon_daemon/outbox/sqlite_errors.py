"""What an error of SQLite means: not now (`StorageUnavailable`), never again (`StorageError`), or a bug of ours.

It must not know what was being read or written.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastmon_daemon.base.errors import StorageError, StorageUnavailable

_NOT_NOW = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
)
_NEVER = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})

BROKEN = "stop the daemon, look with fastmon-daemon check, and go on from a backup"


@contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Errors of the database at *path*, told apart by what can be done; a mistake in our SQL stays what it is."""
    try:
        yield
    except sqlite3.Error as exc:
        code = primary_code(exc)
        if code in _NOT_NOW:
            raise disk_full(path, exc) from exc
        if code in _NEVER:
            raise StorageError(f"{path}: {exc}: {BROKEN}") from exc
        raise
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise disk_full(path, exc.strerror) from exc
        raise


def primary_code(exc: sqlite3.Error) -> int | None:
    """SQLite's own number of an error, without its details; None where Python's module raised it."""
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def disk_full(path: Path | str, reason: object) -> StorageUnavailable:
    """The error that says what to do where *path* cannot be written just now."""
    return StorageUnavailable(f"{path}: cannot be written: {reason}: make room on its file system, or mend it")

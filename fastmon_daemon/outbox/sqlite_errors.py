"""Errors of SQLite and of files: temporary ones become `StorageUnavailable`, damage becomes `StorageError`.

Each message ends with the remedy for its cause. A bug of ours stays what it is.
"""

from __future__ import annotations

import errno
import os
import pwd
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastmon_daemon.base.errors import StorageError, StorageUnavailable

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_ACCESS = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_TEMPORARY = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}) | _BUSY | _NO_ACCESS
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
_FILE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}) | _NO_DESCRIPTOR

_SPARE_DESCRIPTORS = 16
"""With fewer than these, descriptors are the cause: SQLite needs three, and others may have closed some since."""
_ROOM_HINT = "make room on its file system, or repair it"
RESTORE_HINT = "stop the daemon, run fastmon-daemon check, and restore a backup"


@contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Convert SQLite and disk errors of the block. Raises: StorageUnavailable; StorageError if *path* is damaged."""
    try:
        yield
    except sqlite3.Error as exc:
        code = primary_code(exc)
        if code in _TEMPORARY:
            raise StorageUnavailable(f"{path}: {_cause_of_sqlite_error(Path(path), code, exc)}") from exc
        if code in _DAMAGED:
            raise StorageError(f"{path}: {exc}: {RESTORE_HINT}") from exc
        raise
    except OSError as exc:
        if exc.errno in _FILE_ERRORS:
            raise StorageUnavailable(f"{path}: {_cause_of_os_error(exc)}") from exc
        raise


def primary_code(exc: sqlite3.Error) -> int | None:
    """SQLite's primary error code; None if Python's module raised the error."""
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def no_access(path: Path) -> str | None:
    """What this user may not do with the database at *path*, and what to type; None if nothing is forbidden."""
    for each in (path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))):
        try:
            each.stat()
            if os.access(each, os.R_OK, effective_ids=True):
                continue
        except FileNotFoundError:
            continue
        except PermissionError:
            pass
        except OSError:
            return None
        return f"permission denied for {_name_of(os.geteuid())}: {as_owner(each)}"
    return None


def as_owner(path: Path) -> str:
    """Who owns *path* (or the nearest folder that this user may see), and what to type to act as that user."""
    for each in (path, *path.absolute().parents):
        try:
            owner = _name_of(each.stat().st_uid)
        except OSError:
            continue
        return f"{each} belongs to {owner}: type sudo -u {owner} before the command"
    return "type sudo before the command"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # sudo takes this form


def _cause_of_sqlite_error(path: Path, code: int | None, exc: sqlite3.Error) -> str:
    """SQLite does not tell the cause of its codes: look for it."""
    if code in _BUSY:
        return f"held by another program ({exc}): {_holders(path)}"
    if lacking := _lack_of_descriptors():
        return _cause_of_os_error(lacking)
    if code in _NO_ACCESS:
        return _cause_of_no_access(path) or f"cannot be written: {exc}: check the file and its folder"
    return f"cannot be written: {exc}: {_ROOM_HINT}"


def _cause_of_no_access(path: Path) -> str | None:
    try:
        path.stat()
        mount = os.statvfs(path)
    except FileNotFoundError:
        return "the file was removed: stop the daemon, and restore the file or a backup"
    except OSError:
        return no_access(path)
    if mount.f_flag & os.ST_RDONLY:
        return "its file system became read-only: check the disk, and mount it for writing"
    if mount.f_blocks and not mount.f_bavail:
        return f"cannot be written: {os.strerror(errno.ENOSPC)}: {_ROOM_HINT}"
    for each in (path, path.parent):
        if not os.access(each, os.W_OK, effective_ids=True):
            return f"{_name_of(os.geteuid())} may not write: {as_owner(each)}"
    return no_access(path)


def _lack_of_descriptors() -> OSError | None:
    """The error of opening as many files as should be left; None if they can be opened."""
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(_SPARE_DESCRIPTORS))
    except OSError as exc:
        return exc if exc.errno in _NO_DESCRIPTOR else None
    finally:
        for each in opened:
            os.close(each)
    return None


def _cause_of_os_error(exc: OSError) -> str:
    if exc.errno in _NO_DESCRIPTOR:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"cannot be opened: {exc.strerror}: raise the limit of {limit} (ulimit -n; LimitNOFILE= of a unit)"
    if exc.errno == errno.EROFS:
        return f"cannot be written: {exc.strerror}: check the disk, and mount it for writing"
    return f"cannot be written: {exc.strerror}: {_ROOM_HINT}"


def _holders(path: Path) -> str:
    """Who holds a lock for writing on the database; its files are not opened, which would release our own locks."""
    try:
        files = {path.with_name(f"{path.name}{suffix}").stat().st_ino for suffix in ("", "-shm") if path.exists()}
        locks = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        files, locks = set(), []
    holders = {lock[4] for lock in locks if "->" not in lock and lock[3] == "WRITE"
               and lock[5].rpartition(":")[2] in map(str, files)} - {str(os.getpid())}  # fmt: skip
    found = ", ".join(f"process {pid}{_program(pid)}" for pid in sorted(holders))
    return f"{found}: end it" if found else "end what uses it (fuser -v names it)"


def _program(pid: str) -> str:
    try:
        return f" ({Path('/proc', pid, 'comm').read_text(encoding='utf-8').strip()})"
    except (OSError, ValueError):
        return ""

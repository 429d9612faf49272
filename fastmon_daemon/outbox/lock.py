"""Class DatabaseLock: one process at a time owns a database, by a lock file beside it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Self

from fastmon_daemon.base.errors import DatabaseInUse, StorageError
from fastmon_daemon.outbox.file_checks import check_folder, check_mounted_for_writing
from fastmon_daemon.outbox.sqlite_errors import as_owner, no_access, storage_errors

_SAFE_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Whoever may write into the folder may have put a link or a FIFO there."""
_NO_LOCK_FILE = (
    "not a file of its own, but a link to another or no regular file: find out who put it there, and remove it"
)
_FLOCK = "hhqqi"  # struct flock: l_type, l_whence, l_start, l_len, l_pid


class DatabaseLock:
    """The ownership of a database; the kernel releases it when the process ends in any way.

    An open-file-description lock: unlike a POSIX lock, it is not lost when this process opens and closes the lock file
    again. The file contains the process id of the owner. Entering raises: DatabaseInUse, StorageError;
    ConfigError on a read-only mount.
    """

    def __init__(self, database: Path) -> None:
        self._path = lock_path(database)
        self._file: int | None = None

    def __enter__(self) -> Self:
        check_mounted_for_writing(self._path)
        make_folder(self._path.parent)
        check_folder(self._path.parent)
        try:
            with storage_errors(self._path):
                self._acquire()
        except OSError as exc:
            raise _lock_error(self._path, exc) from exc
        return self

    def _acquire(self) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | _SAFE_FLAGS, 0o600)
        try:
            _check_is_lock_file(file)
            os.fchmod(file, 0o600)  # whatever the umask is
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK))
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
        except OSError as exc:
            os.close(file)
            if exc.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            owner = _owner_in(self._path) or "unknown"
            raise DatabaseInUse(f"{self._path}: process {owner} owns this database: stop it first") from exc
        self._file = file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def lock_path(database: Path) -> Path:
    """The lock file of *database*."""
    return database.with_name(f"{database.name}.lock")


def owner_of(database: Path) -> int | None:
    """The process id of the daemon that owns *database* (0 if unknown), or None; acquires no lock.

    Raises: StorageError if this user has no access to the lock file.
    """
    path = lock_path(database)
    try:
        file = os.open(path, os.O_RDONLY | _SAFE_FLAGS)
        try:
            _check_is_lock_file(file)
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _flock(fcntl.F_RDLCK))
            return None if struct.unpack(_FLOCK, answer)[0] == fcntl.F_UNLCK else _pid_in(file)
        finally:
            os.close(file)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _lock_error(path, exc) from exc


def make_folder(folder: Path) -> None:
    """Create the folder of a database, with access for its owner only, whatever the umask is. Raises: StorageError."""
    try:
        with storage_errors(folder):
            for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
                missing.mkdir(mode=0o700, exist_ok=True)
                missing.chmod(0o700)
            folder.mkdir(exist_ok=True)  # raises if it is no folder
    except OSError as exc:
        hint = f"{as_owner(folder)}, or " if isinstance(exc, PermissionError) else ""
        raise StorageError(
            f"{folder}: folder cannot be created: {exc.strerror}: {hint}set FASTMON_DB to a local path"
        ) from exc


def _lock_error(path: Path, exc: OSError) -> StorageError:
    if exc.errno == errno.ELOOP:
        return StorageError(f"{path}: {_NO_LOCK_FILE}")
    denied = isinstance(exc, PermissionError)
    hint = (no_access(path) or as_owner(path.parent)) if denied else "run this as the daemon's user, or as root"
    return StorageError(f"{path}: lock file cannot be opened: {exc.strerror}: {hint}")


def _flock(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _check_is_lock_file(file: int) -> None:
    """Check that *file* is a file of its own, and no link to another. Raises: OSError."""
    stats = os.fstat(file)
    if not stat.S_ISREG(stats.st_mode) or stats.st_nlink > 1:
        raise OSError(errno.ELOOP, "not a file of its own")


def _owner_in(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDONLY | _SAFE_FLAGS)
    except OSError:
        return 0
    try:
        return _pid_in(file)
    finally:
        os.close(file)


def _pid_in(file: int) -> int:
    try:
        return int(os.pread(file, 20, 0))
    except (OSError, ValueError):
        return 0

"""Who owns a database: one process at a time, by a lock file beside it. It must not know what the database holds."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Self

from fastmon_daemon.base.errors import DatabaseInUse, StorageError
from fastmon_daemon.outbox.sqlite_errors import storage_errors

_FLOCK = "hhqqi"  # struct flock: l_type, l_whence, l_start, l_len, l_pid


class DatabaseLock:
    """The ownership of a database: one process at a time, given back by the kernel however the process ends.

    It is an open-file-description lock: unlike POSIX locks, it is not lost when this process opens and closes the lock
    file once more. The owner's process id stands in the file.
    """

    def __init__(self, database: Path) -> None:
        self._path = lock_path(database)
        self._file: int | None = None

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        try:
            with storage_errors(self._path):
                self._take()
        except OSError as exc:
            raise _unusable(self._path, exc) from exc
        return self

    def _take(self) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK))
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()}\n".encode())
        except OSError as exc:
            os.close(file)
            if exc.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            owner = _written(self._path) or "unknown"
            raise DatabaseInUse(f"{self._path}: process {owner} owns this database: stop it first") from exc
        self._file = file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def lock_path(database: Path) -> Path:
    """The lock file beside *database*."""
    return database.with_name(f"{database.name}.lock")


def owner_of(database: Path) -> int | None:
    """The process id of the daemon that owns *database* (0 if it cannot be told), or None; asking takes no lock.

    Raises `StorageError` where this user may not ask.
    """
    path = lock_path(database)
    try:
        with path.open("rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _request(fcntl.F_RDLCK))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _unusable(path, exc) from exc
    return None if struct.unpack(_FLOCK, answer)[0] == fcntl.F_UNLCK else _written(path)


def make_folder(folder: Path) -> None:
    """Make the folder of a database, for its owner only. Raises `StorageError`."""
    try:
        with storage_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"{folder}: cannot be made: {exc.strerror}: name a local path in FASTMON_DB") from exc


def _unusable(path: Path, exc: OSError) -> StorageError:
    return StorageError(f"{path}: the lock file cannot be used: {exc.strerror}: be the daemon's user, or root")


def _request(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _written(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0

"""How the database is found fit, opened and owned: file mode, pragmas, migrations and the lock.

It must not know what stands in the tables.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
from pathlib import Path
from typing import Self

from sqlite_utils import Database

from fastmon_daemon.errors import DatabaseInUse, StorageError
from fastmon_daemon.outbox.reports import Reports
from fastmon_daemon.outbox.schema import migrate, refuse_older
from fastmon_daemon.outbox.store import Outbox

BUSY_TIMEOUT_S = 5.0
_NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs"}
    | {"gpfs", "lustre", "nfs", "nfs4", "orangefs", "smb3", "smbfs"}
)
_FLOCK = "hhqqi"  # struct flock: l_type, l_whence, l_start, l_len, l_pid


class Lock:
    """The ownership of a database: one process at a time, given back by the kernel however the process ends.

    It is an open-file-description lock: unlike POSIX locks, it is not lost when this process opens and closes the lock
    file once more. The owner's process id stands in the file.
    """

    def __init__(self, database: Path) -> None:
        self._path = lock_path(database)
        self._file: int | None = None

    def __enter__(self) -> Self:
        _make_folder(self._path.parent)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK))
        except OSError as exc:
            os.close(file)
            raise DatabaseInUse(
                f"{self._path}: process {_written(self._path) or 'unknown'} owns this database: stop it first"
            ) from exc
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def lock_path(database: Path) -> Path:
    """The lock file beside *database*."""
    return database.with_name(f"{database.name}.lock")


def owner_of(database: Path) -> int | None:
    """The process id of the daemon that owns *database* (0 if it cannot be told), or None; asking takes no lock."""
    path = lock_path(database)
    if not path.exists():
        return None
    with path.open("rb") as file:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _request(fcntl.F_RDLCK))
    return None if struct.unpack(_FLOCK, answer)[0] == fcntl.F_UNLCK else _written(path)


def _request(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _written(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def open_outbox(path: Path) -> Outbox:
    """Open *path* for writing, made and migrated as need be; call it with the `Lock` held.

    Raises `StorageError` with what to do for a database that cannot or may not be used.
    """
    _refuse_network_file_system(path)
    try:
        _make_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        db = _connect(path)
        migrate(db)
    except (OSError, sqlite3.DatabaseError) as exc:
        raise StorageError(f"{path}: cannot be opened: {exc}: mend the file, or name another in FASTMON_DB") from exc
    except StorageError as exc:
        raise StorageError(f"{path}: {exc}") from exc
    return Outbox(db)


def attach(path: Path) -> Outbox:
    """A further connection to a database that this process has opened already, for another thread."""
    return Outbox(_connect(path))


def open_for_reading(path: Path) -> Reports:
    """Open *path* read-only, while a daemon works on it or when it is dead.

    Raises `StorageError` where there is none, or it is not an outbox.
    """
    if not path.is_file():
        raise StorageError(f"{path}: no such database: start fastmon-daemon, or name it with FASTMON_DB")
    try:
        db = Database(_connect_read_only(path), recursive_triggers=False)
        if db.execute("select count(*) from sqlite_master where name = 'stf'").fetchone()[0] == 0:
            raise StorageError(f"{path}: not a fastmon database: name the right one with FASTMON_DB")
    except sqlite3.DatabaseError as exc:
        raise StorageError(f"{path}: cannot be read: {exc}") from exc
    refuse_older(db, path)
    return Reports(db)


def _connect(path: Path) -> Database:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    db = Database(connection, recursive_triggers=False)
    if db.execute("pragma journal_mode").fetchone()[0] != "wal":
        db.execute("pragma journal_mode = wal")
    # FULL: an acknowledged message is on disk. The price was measured and is not worth saving.
    for pragma in ("synchronous = full", "foreign_keys = on", "journal_size_limit = 67108864"):
        connection.execute(f"pragma {pragma}")
    return db


def _connect_read_only(path: Path) -> sqlite3.Connection:
    def open_as(options: str) -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?{options}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    connection = open_as("mode=ro")
    try:
        connection.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # A reader that may not write the folder cannot make the WAL index of a database at rest; without a WAL
        # file nothing can be missed by reading it as immutable.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection.close()
        connection = open_as("immutable=1")
    return connection


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"{folder}: cannot be made: {exc}: name a local path in FASTMON_DB") from exc


def _refuse_network_file_system(path: Path) -> None:
    kind = file_system_of(path, Path("/proc/mounts"))
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"{path}: lies on a network file system ({kind}), where SQLite's log is not safe: "
            "name a local path in FASTMON_DB, for example /var/lib/fastmon-daemon/outbox.db"
        )


def file_system_of(path: Path, mounts: Path) -> str | None:
    """The type of the file system that holds *path*, by the longest mount point in *mounts*; None if unknown."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        _, point, type_, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if path.absolute().is_relative_to(point) and len(point) >= best:
            best, kind = len(point), type_
    return kind

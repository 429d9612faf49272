"""Whether a file may be opened as our database: its file system, its header, and a bounded look into it.

Nothing here writes. It must not know what stands in the tables.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.outbox.sqlite_errors import BROKEN

_NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs"}
    | {"gpfs", "lustre", "nfs", "nfs4", "orangefs", "smb3", "smbfs"}
)
_MAGIC = b"SQLite format 3\0"
LOOK_S = 2.0
"""Longest look into a database at the start, in seconds: a large one must not delay the daemon."""


def check_local_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> None:
    """Raise `StorageError` where *path* lies on a file system whose locks and syncs cannot be relied upon."""
    kind = file_system_of(path, mounts)
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
    real = Path(os.path.realpath(path))
    best, kind = -1, None
    for line in lines:
        _, point, type_, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if real.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), type_
    return kind


def check_file(path: Path) -> bool:
    """Raise `StorageError` for a file that cannot be a whole database; False where there is none yet.

    SQLite would take an empty file for a new database, throw its log away, and put a log without a database into the
    next one of that name: what was acknowledged would be gone without a word.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        found = path.stat()
    except FileNotFoundError:
        if _size(log):
            raise StorageError(
                f"{path}: is gone, and its log {log.name} is still there: "
                "put the database back, or go on from a backup and move the log away"
            ) from None
        return False
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path}: is no file: name the database file itself in FASTMON_DB")
    if found.st_size == 0:
        raise StorageError(f"{path}: is empty, hence no database: go on from a backup, or remove it to begin anew")
    _refuse_header(path, found.st_size, has_log=_size(log) > 0)
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _refuse_header(path: Path, size: int, *, has_log: bool) -> None:
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(_MAGIC):
        raise StorageError(f"{path}: is no SQLite database: name the right file in FASTMON_DB, or go on from a backup")
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    if len(header) < 100 or page < 512 or page & (page - 1):
        raise StorageError(f"{path}: its header is damaged: {BROKEN}")
    said, there = int.from_bytes(header[28:32], "big"), size // page
    # With a log, the file may be behind: its pages stand there.
    if not has_log and there < said and header[24:28] == header[92:96]:
        raise StorageError(f"{path}: is cut off: {there} of {said} pages are there: {BROKEN}")


def is_readable(path: Path, connection: sqlite3.Connection, patience_s: float = LOOK_S) -> bool:
    """Check the database for at most *patience_s* seconds; False if that was too short. Raises `StorageError`."""
    # An interrupt and not a progress handler: before SQLite 3.41 the check of a table is one step of its machine.
    timer = threading.Timer(patience_s, connection.interrupt)
    timer.start()
    try:
        problems = [row[0] for row in connection.execute("pragma quick_check(1)")]
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    finally:
        timer.cancel()
        timer.join()
    if problems != ["ok"]:
        raise StorageError(f"{path}: is damaged: {problems[0].splitlines()[-1]}: {BROKEN}")
    return True

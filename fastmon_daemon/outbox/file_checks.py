"""Checks before a file is opened as the database: its file system, its header, and a time-limited content check.

Nothing is written, and no table is read.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

from fastmon_daemon.base.errors import ConfigError, StorageError
from fastmon_daemon.base.users import is_private_group
from fastmon_daemon.outbox.sqlite_errors import RESTORE_HINT, as_owner

_NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs"}
    | {"gpfs", "lustre", "nfs", "nfs4", "orangefs", "smb3", "smbfs"}
)
_MAGIC = b"SQLite format 3\0"
QUICK_CHECK_S = 2.0
"""Limit of the content check in seconds, so that a large database does not delay the start."""


def check_local_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raises: StorageError if *path* is on a network file system, whose locks and syncs are not reliable."""
    kind = file_system_of(path, mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"{path}: on a network file system ({kind}), where SQLite is not safe: "
            "set FASTMON_DB to a local path, for example /var/lib/fastmon-daemon/outbox.db"
        )


def check_folder(folder: Path) -> None:
    """Check that only we, or root, may put files into the folder of a database.

    Raises: StorageError if another user owns it, or if others may write.
    """
    stats = folder.stat()
    if stats.st_uid not in {0, os.geteuid()}:
        raise StorageError(f"{folder}: folder of another user: {as_owner(folder)}")
    writers = stat.S_IWOTH if is_private_group(stats.st_gid) else stat.S_IWOTH | stat.S_IWGRP
    if stats.st_mode & writers:
        mode = stat.filemode(stats.st_mode)
        raise StorageError(
            f"{folder}: other users may write there ({mode}): type chmod go-w {folder}, or set FASTMON_DB to a path in "
            "a folder of your own"
        )


def check_mounted_for_writing(path: Path) -> None:
    """Raises: ConfigError if *path* is on a read-only mount: no later try can succeed."""
    for folder in path.absolute().parents:
        try:
            flags = os.statvfs(folder).f_flag
        except OSError:
            continue  # it does not exist yet, or is hidden
        if flags & os.ST_RDONLY:
            raise ConfigError(
                f"{path}: on a read-only file system: set FASTMON_DB to a path that can be written "
                "(under systemd: in StateDirectory=, or in a folder of ReadWritePaths=)"
            )
        return


def file_system_of(path: Path, mounts: Path) -> str | None:
    """The type of the file system of *path*, by the longest mount point in *mounts*; None if unknown."""
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
    """Check that *path* can be a complete database; False if there is no file yet. Raises: StorageError.

    SQLite takes an empty file for a new database and deletes its log, and applies a log without a database to the next
    database of that name: acknowledged messages would be lost silently.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        stats = path.stat()
    except FileNotFoundError:
        if _size(log):
            raise StorageError(
                f"{path}: database is missing, but its log {log.name} exists: "
                "put the database back, or move the log away and restore a backup"
            ) from None
        return False
    if not stat.S_ISREG(stats.st_mode):
        raise StorageError(f"{path}: not a regular file: set FASTMON_DB to the database file")
    if stats.st_size == 0:
        raise StorageError(f"{path}: file is empty: restore a backup, or delete it to create a new database")
    _check_header(path, stats.st_size, has_log=_size(log) > 0)
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_header(path: Path, size: int, *, has_log: bool) -> None:
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(_MAGIC):
        raise StorageError(f"{path}: not an SQLite database: set FASTMON_DB to the right file, or restore a backup")
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    if len(header) < 100 or page < 512 or page & (page - 1):
        raise StorageError(f"{path}: header is damaged: {RESTORE_HINT}")
    expected, found = int.from_bytes(header[28:32], "big"), size // page
    # With a log, pages may be missing in the file because they are in the log.
    if not has_log and found < expected and header[24:28] == header[92:96]:
        raise StorageError(f"{path}: truncated: {found} of {expected} pages: {RESTORE_HINT}")


def quick_check(path: Path, connection: sqlite3.Connection, timeout_s: float = QUICK_CHECK_S) -> bool:
    """Check the database for up to *timeout_s* seconds; False if it was not finished. Raises: StorageError."""
    # An interrupt, not a progress handler: before SQLite 3.41 the check of a table is one step of its virtual machine.
    timer = threading.Timer(timeout_s, connection.interrupt)
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
        raise StorageError(f"{path}: damaged: {problems[0].splitlines()[-1]}: {RESTORE_HINT}")
    return True

"""Opens the database: checks the file, creates or migrates it, and sets its file mode and pragmas."""

from __future__ import annotations

import glob
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from loguru import logger
from sqlite_utils import Database

from fastmon_daemon.base.errors import StorageError, StorageUnavailable
from fastmon_daemon.outbox.file_checks import check_file, check_local_file_system, quick_check
from fastmon_daemon.outbox.lock import make_folder
from fastmon_daemon.outbox.reader import OutboxReader
from fastmon_daemon.outbox.schema import check_compatible, check_not_older, migrate, version_to_keep
from fastmon_daemon.outbox.sqlite_errors import no_access, storage_errors
from fastmon_daemon.outbox.store import MAX_LOG_BYTES, Committed, Outbox

BUSY_TIMEOUT_S = 5.0
KEPT_BACKUPS = 2
"""Copies of the database that are kept, each from before a migration."""


def open_outbox(path: Path, committed: Callable[[Committed], object] = lambda _: None) -> Outbox:
    """Open *path* for writing; create or migrate it if necessary. The caller holds the `DatabaseLock`.

    *committed* as of `Outbox`.

    Raises: StorageUnavailable; StorageError for a file that cannot be used, which is left unchanged.
    """
    check_local_file_system(path)
    try:
        with storage_errors(path):
            if not check_file(path):
                _create(path)
            os.close(os.open(path, os.O_RDWR))
            _check_content(path)
            return Outbox(_migrated(path), committed)
    except PermissionError as exc:
        raise StorageError(f"{path}: {no_access(path) or exc.strerror}") from exc
    except (OSError, sqlite3.DatabaseError) as exc:
        raise StorageError(f"{path}: cannot be opened: {exc}: repair the file, or set FASTMON_DB to another") from exc


def _migrated(path: Path) -> Database:
    db = connect(path)
    try:
        if version := version_to_keep(db):
            _back_up_before_migration(path, db, version)
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _back_up_before_migration(path: Path, db: Database, version: int) -> None:
    """Copy the database to `NAME.schema-VERSION` beside it, and keep the last `KEPT_BACKUPS` such copies."""
    target = path.with_name(f"{path.name}.schema-{version}")
    part = path.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with storage_errors(target):
            create_private(part)
            with closing(sqlite3.connect(part)) as copy:
                copy.execute("pragma synchronous = off")  # the whole file is synced at the end
                db.conn.backup(copy)
            put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)
    logger.info("schema {} is updated: the database as it was is {}", version, target)
    copies = [copy for copy in path.parent.glob(f"{glob.escape(path.name)}.schema-*") if copy.is_file()]
    copies.sort(key=lambda copy: copy.stat().st_mtime_ns)
    for old in copies[:-KEPT_BACKUPS]:
        old.unlink()


def _create(path: Path) -> None:
    """Create the database under a temporary name and rename it: fastmon never leaves an empty file at *path*."""
    make_folder(path.parent)
    new = path.with_name(f"{path.name}.new")
    for left_over in (new, new.with_name(f"{new.name}-wal"), new.with_name(f"{new.name}-shm")):
        left_over.unlink(missing_ok=True)
    create_private(new)
    _migrated(new).close()  # moves the log into the file
    put_in_place(new, path)


def create_private(path: Path) -> None:
    """Create an empty file that only we may read and write, whatever the umask is. Raises: OSError if it exists."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o600)
    finally:
        os.close(file)


def put_in_place(new: Path, path: Path) -> None:
    """Rename the complete file *new* to *path*, durably."""
    _sync(new)
    new.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _check_content(path: Path) -> None:
    """Check the content on a read-only connection, so that a database that is not ours is not changed."""
    with closing(connect_read_only(path)) as connection:
        check_compatible(Database(connection, recursive_triggers=False), path)
        if not quick_check(path, connection):
            logger.info("{}: not checked completely (it is large): run fastmon-daemon check for a complete check", path)


def attach(path: Path, committed: Callable[[Committed], object] = lambda _: None) -> Outbox:
    """Another connection, for another thread, to a database that this process has opened. Raises: StorageError."""
    with storage_errors(path):
        return Outbox(connect(path), committed)


def open_for_reading(path: Path) -> OutboxReader:
    """Open *path* read-only, whether or not a daemon is running.

    Raises: StorageError if it does not exist, is not an outbox, or has an older schema.
    """
    check_exists(path)
    try:
        with storage_errors(path):
            db = Database(connect_read_only(path), recursive_triggers=False)
    except sqlite3.DatabaseError as exc:
        raise StorageError(f"{path}: cannot be read: {exc}") from exc
    try:
        with storage_errors(path):
            if db.execute("select count(*) from sqlite_master where name = 'stf'").fetchone()[0] == 0:
                raise StorageError(f"{path}: not a fastmon database: set FASTMON_DB to the right one")
        check_not_older(db, path)
    except BaseException:
        db.close()
        raise
    return OutboxReader(db)


class SharedReader:
    """Lets the threads of one process read the database one after the other, so that all need one connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    @contextmanager
    def open(self) -> Iterator[OutboxReader]:
        """Raises: StorageError; StorageUnavailable if others read for `BUSY_TIMEOUT_S`."""
        if not self._lock.acquire(timeout=BUSY_TIMEOUT_S):
            raise StorageUnavailable(f"{self.path}: earlier requests still read it")
        try:
            with storage_errors(self.path), closing(open_for_reading(self.path)) as reports:
                yield reports
        finally:
            self._lock.release()


def check_exists(path: Path) -> None:
    """Raises: StorageError if there is no database at *path*, or this user may not read it, with what to type."""
    if denied := no_access(path):
        raise StorageError(f"{path}: {denied}")
    if not os.access(path, os.F_OK) or not path.is_file():
        raise StorageError(f"{path}: no such database: start fastmon-daemon, or set FASTMON_DB")


def connect(path: Path) -> Database:
    """A connection for writing, with its pragmas set."""
    connection = _open_as(path, "mode=rw")  # a deleted file is not created again
    try:
        db = Database(connection, recursive_triggers=False)
        if db.execute("pragma journal_mode").fetchone()[0] != "wal":
            db.execute("pragma journal_mode = wal")
        # FULL: an acknowledged message is on disk. The measured cost is small.
        for pragma in ("synchronous = full", "foreign_keys = on", f"journal_size_limit = {MAX_LOG_BYTES}"):
            connection.execute(f"pragma {pragma}")
    except BaseException:
        connection.close()
        raise
    return db


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A read-only connection; works also if this user cannot write to the folder."""
    connection = _open_as(path, "mode=ro")
    try:
        connection.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.Error as exc:
        # A reader without write access to the folder cannot create the WAL index of a closed database. Without a WAL
        # file, an immutable connection misses nothing.
        connection.close()
        if not isinstance(exc, sqlite3.OperationalError) or path.with_name(f"{path.name}-wal").exists():
            raise
        connection = _open_as(path, "immutable=1")
    return connection


def _open_as(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

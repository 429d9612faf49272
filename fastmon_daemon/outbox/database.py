"""How the database is opened: found fit, made or migrated, with its file mode and pragmas.

Who owns it stands in `owning`, what makes a file unfit in `fitness`. It must not know what stands in the tables.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from loguru import logger
from sqlite_utils import Database

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.outbox.file_checks import check_file, check_local_file_system, is_readable
from fastmon_daemon.outbox.lock import make_folder
from fastmon_daemon.outbox.reader import OutboxReader
from fastmon_daemon.outbox.schema import check_current, check_ours, migrate
from fastmon_daemon.outbox.sqlite_errors import storage_errors
from fastmon_daemon.outbox.store import Outbox

BUSY_TIMEOUT_S = 5.0


def open_outbox(path: Path) -> Outbox:
    """Open *path* for writing, made and migrated as need be; call it with the `DatabaseLock` held.

    Raises `StorageError` with what to do for a database that cannot or may not be used; it is left as it is.
    """
    check_local_file_system(path)
    try:
        with storage_errors(path):
            if not check_file(path):
                _make(path)
            os.close(os.open(path, os.O_RDWR))
            _refuse_unfit_content(path)
            db = connect(path)
            migrate(db)
    except (OSError, sqlite3.DatabaseError) as exc:
        raise StorageError(f"{path}: cannot be opened: {exc}: mend the file, or name another in FASTMON_DB") from exc
    return Outbox(db)


def _make(path: Path) -> None:
    """A new database appears whole or not at all: an empty file of its name was never made by us."""
    make_folder(path.parent)
    new = path.with_name(f"{path.name}.new")
    for left_over in (new, new.with_name(f"{new.name}-wal"), new.with_name(f"{new.name}-shm")):
        left_over.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    db = connect(new)
    migrate(db)
    db.close()  # which moves the log into the file
    put_in_place(new, path)


def put_in_place(new: Path, path: Path) -> None:
    """Give a file that is whole its name, for good."""
    _sync(new)
    new.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _refuse_unfit_content(path: Path) -> None:
    """By a connection that cannot write: what is not ours is left as it is."""
    with closing(connect_read_only(path)) as connection:
        check_ours(Database(connection, recursive_triggers=False), path)
        if not is_readable(path, connection):
            logger.info("{}: too large to be checked at the start: fastmon-daemon check does it", path)


def attach(path: Path) -> Outbox:
    """A further connection to a database that this process has opened already, for another thread."""
    with storage_errors(path):
        return Outbox(connect(path))


def open_for_reading(path: Path) -> OutboxReader:
    """Open *path* read-only, while a daemon works on it or when it is dead.

    Raises `StorageError` where there is none, or it is not an outbox.
    """
    if not path.is_file():
        raise StorageError(f"{path}: no such database: start fastmon-daemon, or name it with FASTMON_DB")
    try:
        with storage_errors(path):
            db = Database(connect_read_only(path), recursive_triggers=False)
            if db.execute("select count(*) from sqlite_master where name = 'stf'").fetchone()[0] == 0:
                raise StorageError(f"{path}: not a fastmon database: name the right one with FASTMON_DB")
    except sqlite3.DatabaseError as exc:
        raise StorageError(f"{path}: cannot be read: {exc}") from exc
    check_current(db, path)
    return OutboxReader(db)


def connect(path: Path) -> Database:
    """A connection for writing, with our pragmas."""
    connection = _open_as(path, "mode=rw")  # a file that somebody took away is not made anew
    db = Database(connection, recursive_triggers=False)
    if db.execute("pragma journal_mode").fetchone()[0] != "wal":
        db.execute("pragma journal_mode = wal")
    # FULL: an acknowledged message is on disk. The price was measured and is not worth saving.
    for pragma in ("synchronous = full", "foreign_keys = on", "journal_size_limit = 67108864"):
        connection.execute(f"pragma {pragma}")
    return db


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also where this user may not write the folder."""
    connection = _open_as(path, "mode=ro")
    try:
        connection.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # A reader that may not write the folder cannot make the WAL index of a database at rest; without a WAL
        # file nothing can be missed by reading it as immutable.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection.close()
        connection = _open_as(path, "immutable=1")
    return connection


def _open_as(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

"""Whether there is room for more: what is free on the database's file system, and inside the database.

It must not know what is to be stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.outbox.database import connect_read_only
from fastmon_daemon.outbox.sqlite_errors import storage_errors

_MB = 1_000_000
LOOK_EVERY_S = 1.0
"""The file system is asked at most once in so many seconds."""

Free = Callable[[Path], int | None]


def free_bytes(folder: Path) -> int | None:
    """What an ordinary user may still write on the file system of *folder*; None where it does not say."""
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize if told.f_blocks else None


def shortage(database: Path, least_mb: int, free: Free = free_bytes) -> str | None:
    """Why nothing more may be stored, or None; pages that pruning freed inside the database count as room."""
    with storage_errors(database):
        there = free(database.parent)
        if there is None or there >= least_mb * _MB:
            return None
        with closing(connect_read_only(database)) as connection:
            pages, size = (
                connection.execute(f"pragma {what}").fetchone()[0] for what in ("freelist_count", "page_size")
            )
        if there + pages * size >= least_mb * _MB:
            return None
        inside = f" (and {pages * size // _MB} MB inside the database)" if pages else ""
    return f"{there // _MB} MB free{inside}, FASTMON_MIN_FREE_MB is {least_mb}"


class DiskSpaceGuard:
    """The room of one database, asked before each message and looked at seldom. Callable from any thread."""

    def __init__(self, database: Path, least_mb: int, monotonic: Callable[[], float], free: Free = free_bytes) -> None:
        self._database = database
        self._least_mb = least_mb
        self._monotonic = monotonic
        self._free = free
        self._look_at = monotonic()
        self._shortage: str | None = None

    def check(self) -> None:
        """Raise `StorageUnavailable`, with what to do, where too little is free."""
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._shortage = shortage(self._database, self._least_mb, self._free)
        if self._shortage:
            raise StorageUnavailable(f"{self._database}: {self._shortage}: make room on its file system")

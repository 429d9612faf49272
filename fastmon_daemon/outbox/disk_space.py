"""Whether the database has room: free space on its file system, and free pages inside the database."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.outbox.database import connect_read_only
from fastmon_daemon.outbox.sqlite_errors import storage_errors

_MB = 1_000_000
CHECK_INTERVAL_S = 1.0
"""The file system is checked at most once in this time."""

Free = Callable[[Path], int | None]


def free_bytes(folder: Path) -> int | None:
    """Bytes that an ordinary user can write on the file system of *folder*; None if it does not report them."""
    stats = os.statvfs(folder)
    return stats.f_bavail * stats.f_frsize if stats.f_blocks else None


def shortage(database: Path, min_free_mb: int, free: Free = free_bytes) -> str | None:
    """Why intake must stop (less than *min_free_mb* MB free), or None; free pages inside the database count too.

    Raises: StorageUnavailable, StorageError.
    """
    with storage_errors(database):
        outside = free(database.parent)
        if outside is None or outside >= min_free_mb * _MB:
            return None
        with closing(connect_read_only(database)) as connection:
            pages, size = (
                connection.execute(f"pragma {what}").fetchone()[0] for what in ("freelist_count", "page_size")
            )
        if outside + pages * size >= min_free_mb * _MB:
            return None
        inside = f" (and {pages * size // _MB} MB inside the database)" if pages else ""
    return f"{outside // _MB} MB free{inside}, FASTMON_MIN_FREE_MB is {min_free_mb}"


class DiskSpaceGuard:
    """Stops intake while one database has too little room. Thread-safe; called before each message."""

    def __init__(
        self, database: Path, min_free_mb: int, monotonic: Callable[[], float], free: Free = free_bytes
    ) -> None:
        self._database = database
        self._min_free_mb = min_free_mb
        self._monotonic = monotonic
        self._free = free
        self._next_check = monotonic()
        self._shortage: str | None = None

    def check(self) -> None:
        """Raises: StorageUnavailable if too little is free."""
        now = self._monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL_S
            self._shortage = shortage(self._database, self._min_free_mb, self._free)
        if self._shortage:
            raise StorageUnavailable(f"{self._database}: {self._shortage}: make room on its file system")

"""The files of the watched folders that were taken: remembered with the STF, in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlite_utils import Database


class Files:
    """The table `file_seen`; used inside the transactions of the `Outbox` that owns it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def remember(self, fingerprint: str, filename: str) -> None:
        """The file with this fingerprint was taken under this name."""
        self._db.execute("insert into file_seen values (?, ?) on conflict do nothing", [fingerprint, filename])

    def forget(self, fingerprints: Sequence[str]) -> None:
        """These files are gone for good."""
        marks = ", ".join("?" * len(fingerprints))
        self._db.execute(f"delete from file_seen where fingerprint in ({marks})", list(fingerprints))  # noqa: S608

    def taken(self) -> dict[str, str]:
        """Fingerprint -> the name under which the file was taken."""
        return dict(self._db.execute("select fingerprint, filename from file_seen").fetchall())

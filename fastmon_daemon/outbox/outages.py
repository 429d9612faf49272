"""The outages of the links, and the times in which we were not there ourselves: begun, given reasons, ended.

It must not know what a link is for.
"""

from __future__ import annotations

from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.clock import stamp
from fastmon_daemon.outbox.rows import ABSENCE, Outage


class Outages:
    """The part of `Outbox` that keeps the table `outage`; it writes inside the transactions of that."""

    _db: Database

    def outages(self) -> list[Outage]:
        """The outages that have not ended."""
        columns = "link, began_at, ended_at, reason, held, next_probe_at"
        rows = self._db.execute(f"select {columns} from outage where ended_at is null")  # noqa: S608
        return [Outage(link=r[0], began_at=r[1], ended_at=r[2], reason=r[3], held=bool(r[4]), next_probe_at=r[5])
                for r in rows]  # fmt: skip

    def link_lost(self, link: str, reason: str, now: datetime, *, held: bool) -> None:
        """Begin an outage of *link*, or give the present one its newest reason."""
        values = [reason[:500], held, link]
        if not self._db.execute(
            "update outage set reason = ?, held = ? where link = ? and ended_at is null", values
        ).rowcount:
            self._db.execute(
                "insert into outage (reason, held, link, began_at) values (?, ?, ?, ?)", [*values, stamp(now)]
            )

    def next_probe(self, link: str, at: datetime) -> None:
        """Note when *link* is looked at again, for `inspect`."""
        self._db.execute("update outage set next_probe_at = ? where link = ? and ended_at is null", [stamp(at), link])

    def absence(self, began: datetime, ended: datetime, reason: str) -> None:
        """Remember a window in which the daemon itself was not there, as an outage of the link `daemon`."""
        self._db.execute(
            "insert into outage (link, began_at, ended_at, reason, held) values (?, ?, ?, ?, 0)",
            [ABSENCE, stamp(began), stamp(ended), reason],
        )

    def link_back(self, link: str, now: datetime) -> None:
        """End the outage of *link*."""
        self._db.execute("update outage set ended_at = ? where link = ? and ended_at is null", [stamp(now), link])

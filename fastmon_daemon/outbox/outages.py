"""The outages of the links, and the times in which we were not there ourselves: begun, given reasons, ended, told.

It must not know what a link is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import DAEMON_DOWNTIME, Outage


class Outages:
    """The table `outage`; what writes is used inside the transactions of the `Outbox` that owns it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def open(self) -> list[Outage]:
        """Those that have not ended."""
        return self._where("ended_at is null order by id", [])

    def latest(self, *, open_only: bool, limit: int) -> list[Outage]:
        """The latest first; *open_only*: of those that have not ended."""
        return self._where(f"{'ended_at is null' if open_only else 1} order by id desc limit ?", [limit])

    def between(self, began: str, ended: str) -> list[Outage]:
        """Those that overlap the window, the first one first."""
        where = "began_at <= ? and (ended_at is null or ended_at >= ?) order by began_at, id"
        return self._where(where, [ended, began])

    def seconds(self, now: datetime) -> dict[str, float]:
        """Link -> how long it was away in all, up to *now*."""
        days = "sum(julianday(coalesce(ended_at, ?)) - julianday(began_at))"
        rows = self._db.execute(f"select link, {days} from outage group by link", [format_timestamp(now)])  # noqa: S608
        return {link: max(0.0, count * 86400) for link, count in rows}

    def link_lost(self, link: str, reason: str, now: datetime, *, blocked: bool) -> None:
        """Begin an outage of *link*, or give the present one its newest reason."""
        values = [reason[:500], blocked, link]
        if not self._db.execute(
            "update outage set reason = ?, blocked = ? where link = ? and ended_at is null", values
        ).rowcount:
            self._db.execute(
                "insert into outage (reason, blocked, link, began_at) values (?, ?, ?, ?)",
                [*values, format_timestamp(now)],
            )

    def next_probe(self, link: str, at: datetime) -> None:
        """Note when *link* is looked at again, for `inspect`."""
        self._db.execute(
            "update outage set next_probe_at = ? where link = ? and ended_at is null", [format_timestamp(at), link]
        )

    def record_downtime(self, began: datetime, ended: datetime, reason: str) -> None:
        """Remember a window in which the daemon itself was not there, as an outage of the link `daemon`."""
        self._db.execute(
            "insert into outage (link, began_at, ended_at, reason, blocked) values (?, ?, ?, ?, 0)",
            [DAEMON_DOWNTIME, format_timestamp(began), format_timestamp(ended), reason],
        )

    def link_back(self, link: str, now: datetime) -> None:
        """End the outage of *link*."""
        self._db.execute(
            "update outage set ended_at = ? where link = ? and ended_at is null", [format_timestamp(now), link]
        )

    def _where(self, where: str, values: Sequence[Any]) -> list[Outage]:
        columns = "link, began_at, ended_at, reason, blocked, next_probe_at"
        rows = self._db.execute(f"select {columns} from outage where {where}", values)  # noqa: S608
        return [Outage(link=r[0], began_at=r[1], ended_at=r[2], reason=r[3], blocked=bool(r[4]), next_probe_at=r[5])
                for r in rows.fetchall()]  # fmt: skip

"""Class Outages: the outages of the links, and the downtimes of the daemon itself."""

from __future__ import annotations

from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import DAEMON_DOWNTIME, Outage
from fastmon_daemon.outbox.queries import load


class Outages:
    """The table `outage`; its writing methods are called inside a transaction of the `Outbox`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def open(self) -> list[Outage]:
        """The outages that have not ended."""
        return load(self._db, Outage, "where ended_at is null order by id")

    def latest(self, limit: int) -> list[Outage]:
        """Up to *limit* outages, the latest first."""
        return load(self._db, Outage, "order by id desc limit ?", [limit])

    def between(self, began: str, ended: str) -> list[Outage]:
        """The outages that overlap the period, the earliest first."""
        tail = "where began_at <= ? and (ended_at is null or ended_at >= ?) order by began_at, id"
        return load(self._db, Outage, tail, [ended, began])

    def seconds(self, now: datetime) -> dict[str, float]:
        """Link -> total seconds of its outages up to *now*."""
        days = "sum(julianday(coalesce(ended_at, ?)) - julianday(began_at))"
        rows = self._db.execute(f"select link, {days} from outage group by link", [format_timestamp(now)])  # noqa: S608
        return {link: max(0.0, count * 86400) for link, count in rows}

    def link_lost(self, link: str, reason: str, now: datetime, *, blocked: bool) -> None:
        """Begin an outage of *link*; if one is open, update its reason."""
        if not self._update_open(link, "reason = ?, blocked = ?", reason[:500], blocked):
            row = {"reason": reason[:500], "blocked": blocked, "link": link, "began_at": format_timestamp(now)}
            self._db.table("outage").insert(row)

    def next_probe(self, link: str, at: datetime) -> None:
        """Store the time of the next probe of *link*, for `inspect`."""
        self._update_open(link, "next_probe_at = ?", format_timestamp(at))

    def link_back(self, link: str, now: datetime) -> None:
        """End the outage of *link*."""
        self._update_open(link, "ended_at = ?", format_timestamp(now))

    def record_downtime(self, began: datetime, ended: datetime, reason: str) -> None:
        """Store a downtime of the daemon, as an outage of the link `daemon`."""
        period = {"began_at": format_timestamp(began), "ended_at": format_timestamp(ended)}
        self._db.table("outage").insert({"link": DAEMON_DOWNTIME, **period, "reason": reason, "blocked": 0})

    def _update_open(self, link: str, change: str, *values: object) -> bool:
        """Change the open outage of *link*; False if there is none."""
        query = f"update outage set {change} where link = ? and ended_at is null"  # noqa: S608
        return bool(self._db.execute(query, [*values, link]).rowcount)

"""Class Outages: the outages of the links, and the downtimes of the daemon itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import DAEMON_DOWNTIME, Outage
from fastmon_daemon.outbox.queries import columns_of, fetch


class Outages:
    """The table `outage`; its writing methods are called inside a transaction of the `Outbox`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def open(self) -> list[Outage]:
        """The outages that have not ended."""
        return self._where("ended_at is null order by id", [])

    def latest(self, *, open_only: bool, limit: int) -> list[Outage]:
        """Up to *limit* outages (or those that have not ended), the latest first."""
        return self._where(f"{'ended_at is null' if open_only else 1} order by id desc limit ?", [limit])

    def between(self, began: str, ended: str) -> list[Outage]:
        """The outages that overlap the period, the earliest first."""
        where = "began_at <= ? and (ended_at is null or ended_at >= ?) order by began_at, id"
        return self._where(where, [ended, began])

    def seconds(self, now: datetime) -> dict[str, float]:
        """Link -> total seconds of its outages up to *now*."""
        days = "sum(julianday(coalesce(ended_at, ?)) - julianday(began_at))"
        rows = self._db.execute(f"select link, {days} from outage group by link", [format_timestamp(now)])  # noqa: S608
        return {link: max(0.0, count * 86400) for link, count in rows}

    def link_lost(self, link: str, reason: str, now: datetime, *, blocked: bool) -> None:
        """Begin an outage of *link*; if one is open, update its reason."""
        values = [reason[:500], blocked, link]
        if not self._db.execute(
            "update outage set reason = ?, blocked = ? where link = ? and ended_at is null", values
        ).rowcount:
            self._db.execute(
                "insert into outage (reason, blocked, link, began_at) values (?, ?, ?, ?)",
                [*values, format_timestamp(now)],
            )

    def next_probe(self, link: str, at: datetime) -> None:
        """Store the time of the next probe of *link*, for `inspect`."""
        self._db.execute(
            "update outage set next_probe_at = ? where link = ? and ended_at is null", [format_timestamp(at), link]
        )

    def record_downtime(self, began: datetime, ended: datetime, reason: str) -> None:
        """Store a downtime of the daemon, as an outage of the link `daemon`."""
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
        rows = fetch(self._db, f"select {columns_of(Outage)} from outage where {where}", values)  # noqa: S608
        return [Outage(**{**row, "blocked": bool(row["blocked"])}) for row in rows]

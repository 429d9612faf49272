"""Class Outages: the outages of the links, and the downtimes of the daemon itself."""

from __future__ import annotations

from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import DAEMON_DOWNTIME, Outage
from fastmon_daemon.outbox.queries import load

MAX_ENDED = 1000
"""Ended outages of a link that are kept; of older ones only the total duration, since a link may flap for days."""
_PRUNED = "outage_seconds:"
"""Prefix of the keys in `meta` with the total duration of the deleted outages of a link."""
_DAYS = "sum(max(0, julianday(coalesce(ended_at, :now)) - julianday(began_at)))"
"""A clock that is set back makes no duration negative."""


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
        pruned = self._db.execute("select key, value from meta where key like ?", [f"{_PRUNED}%"])
        seconds = {key.removeprefix(_PRUNED): float(value) for key, value in pruned}
        rows = self._db.execute(f"select link, {_DAYS} from outage group by link", {"now": format_timestamp(now)})  # noqa: S608
        for link, days in rows:
            seconds[link] = seconds.get(link, 0.0) + days * 86400
        return seconds

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
        self._update_open(link, "ended_at = max(?, began_at)", format_timestamp(now))
        self._prune(link)

    def record_downtime(self, began: datetime, ended: datetime, reason: str) -> None:
        """Store a downtime of the daemon, as an outage of the link `daemon`."""
        period = {"began_at": format_timestamp(began), "ended_at": format_timestamp(ended)}
        self._db.table("outage").insert({"link": DAEMON_DOWNTIME, **period, "reason": reason, "blocked": 0})
        self._prune(DAEMON_DOWNTIME)

    def _prune(self, link: str) -> None:
        """Delete the oldest ended outages of *link* above `MAX_ENDED`, but keep their total duration."""
        where = (
            "link = :link and ended_at is not null and id <= "
            "(select id from outage where link = :link and ended_at is not null order by id desc limit 1 offset :keep)"
        )
        values = {"link": link, "keep": MAX_ENDED, "now": None}
        (pruned,) = self._db.execute(f"select {_DAYS} from outage where {where}", values).fetchone()  # noqa: S608
        if pruned is not None:
            self._db.execute(f"delete from outage where {where}", values)  # noqa: S608
            self._db.execute(
                "insert into meta values (?, ?) on conflict (key) do update set value = value + excluded.value",
                [f"{_PRUNED}{link}", pruned * 86400],
            )

    def _update_open(self, link: str, change: str, *values: object) -> bool:
        """Change the open outage of *link*; False if there is none."""
        query = f"update outage set {change} where link = ? and ended_at is null"  # noqa: S608
        return bool(self._db.execute(query, [*values, link]).rowcount)

"""Class Acts: what operators did. Rows are never changed, except that the batches of one command are one act."""

from __future__ import annotations

from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import Act
from fastmon_daemon.outbox.queries import load

MAX_ACTS = 10_000
"""Acts that are kept; the oldest are deleted."""
MAX_TEXT = 1000


class Acts:
    """The table `act`; `record` is called inside a transaction of the `Outbox`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, now: datetime, act: Act) -> None:
        """Store *act*; if it goes on with the last one (same command, person and time of request), add to it."""
        values = [act.action, act.who, act.reason[:MAX_TEXT], act.requested_at]
        last = self._db.execute("select max(id) from act").fetchone()[0]
        same = "id = ? and action = ? and who = ? and reason = ? and requested_at = ?"
        if (
            act.requested_at
            and self._db.execute(
                f"update act set count = count + ?, at = ? where {same}",  # noqa: S608 (only placeholders are put in)
                [act.count, format_timestamp(now), last, *values],
            ).rowcount
        ):
            return
        query = "insert into act (at, subject, count, action, who, reason, requested_at) values (?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(query, [format_timestamp(now), act.subject[:MAX_TEXT], act.count, *values])
        self._db.execute("delete from act where id <= (select max(id) from act) - ?", [MAX_ACTS])

    def since(self, at: str, limit: int = -1) -> list[Act]:
        """Up to *limit* acts (negative: all) since the time *at*, the latest first."""
        return load(self._db, Act, "where at >= ? order by id desc limit ?", [at, limit])

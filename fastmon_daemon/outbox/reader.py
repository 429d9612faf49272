"""Class OutboxReader: the queries of the outbox. Read-only; every read is short, no transaction stays open.

Knows no names of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.acts import Acts
from fastmon_daemon.outbox.models import HistoryRow, RejectedRow, Stf
from fastmon_daemon.outbox.periods import Periods
from fastmon_daemon.outbox.queries import count_stfs_by_state, load, load_stfs, where_in
from fastmon_daemon.outbox.retention import Retention
from fastmon_daemon.outbox.runs import Runs
from fastmon_daemon.outbox.stage_reports import StageReports

_COUNTER = "count:"


class OutboxReader:
    """One connection; it belongs to one thread. Other tables than those of the STFs are attributes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.runs = Runs(db)
        self.outages = self.runs.outages
        self.stages = StageReports(db)
        self.retention = Retention(db)
        self.acts = Acts(db)
        self.periods = Periods(db)
        self.path = Path(db.execute("pragma database_list").fetchone()[2])
        """The database file."""

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def get(self, stf_id: int) -> Stf:
        """The STF as stored. Raises: KeyError if it does not exist."""
        found = load_stfs(self._db, "where id = ?", [stf_id])
        if not found:
            raise KeyError(stf_id)
        return found[0]

    def find(
        self, states: Sequence[str] | None = None, *, before: str | None = None, limit: int = -1, **where: str | None
    ) -> list[Stf]:
        """Up to *limit* STFs (negative: all) in *states* with all given columns (None: any), the latest received first.

        With *before*: those in their state since that time or longer, the longest first.
        """
        if before is None:
            condition, values = where_in({"state": states, **where})
            return load_stfs(self._db, f"where {condition} order by id desc limit ?", [*values, limit])
        found: list[Stf] = []
        for state in states or ():  # each in the order of its index: nothing sorts a long backlog
            condition, values = where_in({"state": state, **where})
            tail = f"where {condition} and since <= ? order by since, id limit ?"
            found += load_stfs(self._db, tail, [*values, before, limit])
        found.sort(key=lambda stf: (stf.since, stf.id))
        return found if limit < 0 else found[:limit]

    def count_stfs(self, states: Sequence[str] | None = None, *, before: str | None = None, **where: str | None) -> int:
        """The number of STFs that `find` returns without a limit.

        With *before* only those that entered their state later are counted, however long the backlog is, and are
        subtracted from all: both in one statement, or an STF that moves meanwhile would make the difference wrong.
        """
        condition, values = where_in({"state": states, **where})
        if before is None:
            return self._db.table("stf").count_where(condition, values)
        later = f"select count(*) from stf where {condition} and since > ?"  # noqa: S608 (only placeholders are put in)
        all_of_them = f"select coalesce(sum(stfs), 0) from stf_count where {condition}"  # noqa: S608 (the same)
        found: int = self._db.execute(f"select ({all_of_them}) - ({later})", [*values, *values, before]).fetchone()[0]
        return found

    def counts_by_state(self, run: str | None = None) -> dict[str, int]:
        """State -> number of STFs of *run* (None: of all); states without STFs are left out."""
        return count_stfs_by_state(self._db, run=run)

    def unfinished(self, run: str | None = None, namespace: str | None = None) -> int:
        """The number of STFs (of *run*, of *namespace*) that are not finalized."""
        condition, values = where_in({"run": run, "namespace": namespace})
        return self._db.table("stf").count_where(f"{condition} and due_at is not null", values)

    def has_fresh_work(self, enough: int) -> bool:
        """Whether at least *enough* STFs are unfinished that never failed."""
        found: int = self._db.execute(_FRESH_WORK, [enough]).fetchone()[0]
        return found >= enough

    def oldest_unfinished(self, states: Sequence[str]) -> Stf | None:
        """The STF that was born first of those in *states* that are not finalized, or None.

        In each state that is the first one due of those without a failure, or one of those that failed before.
        """
        found: list[tuple[str, int]] = []
        for state in states:
            for query in (_FIRST_DUE, _OLDEST_RETRYING):
                found += (row for row in self._db.execute(query, [state]) if row[0])
        return self.get(min(found)[1]) if found else None

    def last_transition_to(self, state: str) -> str | None:
        """When an STF last entered *state*, of those that are still in it."""
        found: str | None = self._db.execute("select max(since) from stf where state = ?", [state]).fetchone()[0]
        return found

    def longest_in(self, state: str) -> str | None:
        """Since when the STF that has been in *state* for the longest time is in it; None if there is none."""
        found: str | None = self._db.execute("select min(since) from stf where state = ?", [state]).fetchone()[0]
        return found

    def last_received(self) -> str | None:
        """When the latest stored STF was received; None if there is none."""
        row = self._db.execute("select received_at from stf order by id desc limit 1").fetchone()
        return row[0] if row else None

    def done_before(self, now: datetime) -> str:
        """The time before which no STF was received that is unfinished; *now* must be earlier than this call."""
        row = self._db.execute(_FIRST_UNFINISHED).fetchone()
        return min(row[0], format_timestamp(now)) if row else format_timestamp(now)

    def history(self, stf_id: int) -> list[HistoryRow]:
        """The transitions of an STF, in order."""
        return load(self._db, HistoryRow, "where stf = ? order by id", [stf_id])

    def rejected(self, ids: Sequence[int] | None = None, *, limit: int = -1) -> list[RejectedRow]:
        """Up to *limit* rejected messages (negative: all), of *ids* if given, the latest first."""
        condition, values = where_in({"id": ids})
        return load(self._db, RejectedRow, f"where {condition} order by id desc limit ?", [*values, limit])

    def rejected_ids(self) -> list[int]:
        """The ids of all rejected messages, the first one first."""
        return [row["id"] for row in self._db.table("rejected").rows_where(select="id", order_by="id")]

    def rejected_count(self) -> int:
        """The number of rejected messages in the database."""
        return self._db.table("rejected").count

    def counters(self) -> dict[str, int]:
        """The counters of `Outbox.count`, by name."""
        rows = self._db.table("meta").rows_where("key like ?", [f"{_COUNTER}%"], order_by="key")
        return {row["key"].removeprefix(_COUNTER): int(row["value"]) for row in rows}

    def recall(self, key: str) -> str | None:
        """The value that `Outbox.remember` stored under *key*, or None."""
        return next((row["value"] for row in self._db.table("meta").rows_where("key = ?", [key])), None)


# The index holds the unfinished only, with their ids: those that are finalized are not read.
_FIRST_UNFINISHED = """
select received_at from stf where id = (select min(id) from stf indexed by stf_due where due_at is not null)"""
_FRESH_WORK = """
select count(*) from (
    select 1 from stf indexed by stf_due where (attempts > 0) = 0 and due_at is not null limit ?
)"""
_FIRST_DUE = """
select born_at, id from stf where state = ? and (attempts > 0) = 0 and due_at is not null order by due_at limit 1"""
_OLDEST_RETRYING = """
select min(born_at), id from stf where state = ? and (attempts > 0) = 1 and due_at is not null"""

"""Class OutboxReader: the queries of the outbox. Read-only; every read is short, no transaction stays open.

Knows no names of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlite_utils import Database

from fastmon_daemon.outbox.models import HistoryRow, RejectedRow, Stf
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
        condition, values = _selection(states, before, where)
        order = "since, id" if before else "id desc"
        return load_stfs(self._db, f"where {condition} order by {order} limit ?", [*values, limit])

    def count_stfs(self, states: Sequence[str] | None = None, *, before: str | None = None, **where: str | None) -> int:
        """The number of STFs that `find` returns without a limit."""
        condition, values = _selection(states, before, where)
        return self._db.table("stf").count_where(condition, values)

    def counts_by_state(self, run: str | None = None) -> dict[str, int]:
        """State -> number of STFs of *run* (None: of all); states without STFs are left out."""
        return count_stfs_by_state(self._db, run=run)

    def unfinished(self, run: str | None = None, namespace: str | None = None) -> int:
        """The number of STFs (of *run*, of *namespace*) that are not finalized."""
        condition, values = where_in({"run": run, "namespace": namespace})
        return self._db.table("stf").count_where(f"{condition} and due_at is not null", values)

    def oldest_unfinished(self) -> Stf | None:
        """The STF that was born first of those not finalized, or None."""
        return next(iter(load_stfs(self._db, "where due_at is not null order by born_at, id limit 1")), None)

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


def _selection(states: Sequence[str] | None, before: str | None, where: dict[str, str | None]) -> tuple[str, list[str]]:
    condition, values = where_in({"state": states, **where})
    return (condition, values) if before is None else (f"{condition} and since <= ?", [*values, before])

"""Class OutboxReader: the queries of the outbox. Read-only; every read is short, no transaction stays open.

Knows no names of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import HistoryRow, PrunedRun, RejectedRow, RunRow, Stf
from fastmon_daemon.outbox.queries import columns_of, fetch, load_runs, load_stfs, placeholders, where_equal
from fastmon_daemon.outbox.retention import pruned_runs
from fastmon_daemon.outbox.runs import RunReader
from fastmon_daemon.outbox.stage_reports import PendingReports

_COUNTER = "count:"


class OutboxReader:
    """One connection for reading. It belongs to one thread."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.by_run = RunReader(db)
        """The queries about one run."""
        self.outages = self.by_run.outages
        self.stages = PendingReports(db)
        """The transitions that were not reported yet."""

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def counts_by_state(self, run: str | None = None) -> dict[str, int]:
        """State -> number of STFs of *run* (None: of all); states without STFs are left out."""
        where, values = where_equal({"run": run})
        query = f"select state, count(*) from stf {where} group by state"  # noqa: S608 (only a fixed text is put in)
        return {state: int(count) for state, count in self._db.execute(query, values)}

    def run_counts(self) -> dict[str, int]:
        """State -> number of runs; states without runs are left out."""
        rows = self._db.execute("select state, count(*) from run group by state")
        return {state: int(count) for state, count in rows}

    def in_state_since(self, states: Sequence[str], before: datetime, limit: int, run: str | None = None) -> list[Stf]:
        """Up to *limit* STFs (of *run*) that have been in one of *states* since *before*, the longest first."""
        where, values = _in_state_since(states, before, run)
        return load_stfs(self._db, f"where {where} order by since, stf.id limit ?", [*values, limit])

    def count_in_state_since(self, states: Sequence[str], before: datetime, run: str | None = None) -> int:
        """The number of STFs that `in_state_since` finds without a limit."""
        where, values = _in_state_since(states, before, run)
        return int(self._db.execute(f"select count(*) from stf where {where}", values).fetchone()[0])  # noqa: S608

    def any_unfinished(self) -> bool:
        """Whether any STF is not finalized."""
        return bool(self._db.execute("select exists (select 1 from stf where due_at is not null)").fetchone()[0])

    def last_transition_to(self, state: str) -> str | None:
        """When an STF last entered *state*, of those that are still in it."""
        found: str | None = self._db.execute("select max(since) from stf where state = ?", [state]).fetchone()[0]
        return found

    def oldest_unfinished(self) -> Stf | None:
        """The STF that was born first of those not finalized, or None."""
        oldest = "select id from stf where due_at is not null order by born_at, id limit 1"
        return next(iter(load_stfs(self._db, f"where stf.id = ({oldest})", [])), None)

    def stf(self, name: str, run: str | None = None) -> list[Stf]:
        """The STFs with the filename *name*, one for each run and namespace that has it."""
        return self._matching({"filename": name, "stf.run": run}, limit=-1)

    def list_stfs(self, state: str | None = None, run: str | None = None, *, limit: int) -> list[Stf]:
        """STFs in *state* and of *run* (None: any), the latest received first; a negative limit means all."""
        return self._matching({"stf.state": state, "stf.run": run}, limit)

    def count_stfs(self, state: str | None = None, run: str | None = None, namespace: str | None = None) -> int:
        """The number of STFs in *state*, of *run* and *namespace* (None: any)."""
        where, values = where_equal({"state": state, "run": run, "namespace": namespace})
        return int(self._db.execute(f"select count(*) from stf {where}", values).fetchone()[0])  # noqa: S608

    def history(self, stf_id: int) -> list[HistoryRow]:
        """The transitions of an STF, in order."""
        query = f"select {columns_of(HistoryRow)} from history where stf = ? order by id"  # noqa: S608
        return [HistoryRow(**row) for row in fetch(self._db, query, [stf_id])]

    def rejected(self, limit: int) -> list[RejectedRow]:
        """Up to *limit* rejected messages, the latest first."""
        query = f"select {columns_of(RejectedRow)} from rejected order by id desc limit ?"  # noqa: S608
        return [RejectedRow(**row) for row in fetch(self._db, query, [limit])]

    def rejected_ids(self) -> list[int]:
        """The ids of all rejected messages, the first one first."""
        return [number for (number,) in self._db.execute("select id from rejected order by id")]

    def rejected_count(self) -> int:
        """The number of rejected messages in the database."""
        return int(self._db.execute("select count(*) from rejected").fetchone()[0])

    def counters(self) -> dict[str, int]:
        """The counters of `Outbox.count`, by name."""
        rows = self._db.execute("select key, value from meta where key like ? order by key", [f"{_COUNTER}%"])
        return {key.removeprefix(_COUNTER): int(value) for key, value in rows}

    def runs(self, limit: int = -1) -> list[RunRow]:
        """Up to *limit* runs, that of the latest message first; a negative limit means all."""
        return load_runs(self._db, "order by last_message_at desc, namespace, run limit ?", [limit])

    def pruned_runs(self) -> list[PrunedRun]:
        """The runs whose STFs were pruned."""
        return pruned_runs(self._db)

    def pruned_stf(self, name: str) -> list[tuple[str, str]]:
        """(run, time of pruning) of the pruned STFs with the filename *name*."""
        query = "select pruned.run, at from pruned join pruned_run using (namespace, run) where filename = ?"
        return [(run, at) for run, at in self._db.execute(query, [name])]

    def recall(self, key: str) -> str | None:
        """The value that `Outbox.remember` stored under *key*, or None."""
        row = self._db.execute("select value from meta where key = ?", [key]).fetchone()
        return row[0] if row else None

    def _matching(self, wanted: dict[str, str | None], limit: int) -> list[Stf]:
        where, values = where_equal(wanted)
        return load_stfs(self._db, f"{where} order by stf.id desc limit ?", [*values, limit])


def _in_state_since(states: Sequence[str], before: datetime, run: str | None) -> tuple[str, list[str]]:
    where = f"stf.state in ({placeholders(states)}) and since <= ?"
    values = [*states, format_timestamp(before)]
    return (where, values) if run is None else (f"{where} and stf.run = ?", [*values, run])

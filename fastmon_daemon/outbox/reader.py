"""The reading half of the outbox: what people ask of it. Every read is short, no transaction is held open.

It writes nothing, and must not know the names of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import RUN_COLUMNS, HistoryRow, RunRow, Stf, load_stfs, read_run, where_equal
from fastmon_daemon.outbox.retention import PrunedRun, pruned_runs
from fastmon_daemon.outbox.runs import RunReports
from fastmon_daemon.outbox.stage_reports import PendingReports

_COUNTER = "count:"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """One message that could not be taken."""

    id: int
    at: str
    reason: str
    bytes: int
    """Size of the message as it came; *body* may be cut."""
    body: str


class OutboxReader:
    """One connection to the database, for reading. It belongs to one thread."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.by_run = RunReports(db)
        """What is asked of a run."""
        self.outages = self.by_run.outages
        self.stages = PendingReports(db)
        """What the monitor is still to be told."""

    def close(self) -> None:
        """Give the connection back."""
        self._db.close()

    def counts_by_state(self, run: str | None = None) -> dict[str, int]:
        """State -> how many STFs are in it, of *run* or of all; states without any are absent."""
        where, values = ("where run = ?", [run]) if run is not None else ("", [])
        query = f"select state, count(*) from stf {where} group by state"  # noqa: S608 (only a fixed text is put in)
        return {state: int(count) for state, count in self._db.execute(query, values)}

    def run_counts(self) -> dict[str, int]:
        """State of a run -> how many runs are in it."""
        return {
            state: int(count) for state, count in self._db.execute("select state, count(*) from run group by state")
        }

    def in_state_since(self, states: Sequence[str], before: datetime, limit: int, run: str | None = None) -> list[Stf]:
        """STFs (of *run*, or of all) in one of *states* since *before* or longer, the longest first."""
        where, values = _in_state_since(states, before, run)
        return load_stfs(self._db, f"where {where} order by since, stf.id limit ?", [*values, limit])

    def count_in_state_since(self, states: Sequence[str], before: datetime, run: str | None = None) -> int:
        """How many `in_state_since` would find without a limit."""
        where, values = _in_state_since(states, before, run)
        return int(self._db.execute(f"select count(*) from stf where {where}", values).fetchone()[0])  # noqa: S608

    def any_unfinished(self) -> bool:
        """Whether an STF is not resting."""
        return bool(self._db.execute("select exists (select 1 from stf where due_at is not null)").fetchone()[0])

    def last_transition_to(self, state: str) -> str | None:
        """When an STF came into *state* last, of those that are there."""
        found: str | None = self._db.execute("select max(since) from stf where state = ?", [state]).fetchone()[0]
        return found

    def oldest_unfinished(self) -> Stf | None:
        """The STF that was born first of those not resting, or None."""
        oldest = "select id from stf where due_at is not null order by born_at, id limit 1"
        return next(iter(load_stfs(self._db, f"where stf.id = ({oldest})", [])), None)

    def stf(self, name: str, run: str | None = None) -> list[Stf]:
        """The STFs called *name*, one for each run (and namespace) that has it."""
        return self._matching({"filename": name, "stf.run": run}, limit=-1)

    def list_stfs(self, state: str | None = None, run: str | None = None, *, limit: int) -> list[Stf]:
        """STFs in *state* and of *run*, the latest received first; None means any, a negative limit means all."""
        return self._matching({"stf.state": state, "stf.run": run}, limit)

    def count_stfs(self, state: str | None = None, run: str | None = None, namespace: str | None = None) -> int:
        """How many `list_stfs` would find without a limit (of *namespace*, where one is given)."""
        where, values = where_equal({"state": state, "run": run, "namespace": namespace})
        return int(self._db.execute(f"select count(*) from stf {where}", values).fetchone()[0])  # noqa: S608

    def history(self, stf_id: int) -> list[HistoryRow]:
        """The transitions of an STF in the order in which they happened."""
        query = "select life, trigger, source, dest, at, note from history where stf = ? order by id"
        return [HistoryRow(**row) for row in self._rows(query, [stf_id])]

    def rejected(self, limit: int) -> list[RejectedRow]:
        """Rejected messages, the latest first."""
        query = "select id, at, reason, bytes, body from rejected order by id desc limit ?"
        return [RejectedRow(**row) for row in self._rows(query, [limit])]

    def rejected_ids(self) -> list[int]:
        """The numbers of the rejected messages that are kept, the first one first."""
        return [number for (number,) in self._db.execute("select id from rejected order by id")]

    def rejected_count(self) -> int:
        """How many rejected messages are kept."""
        return int(self._db.execute("select count(*) from rejected").fetchone()[0])

    def counters(self) -> dict[str, int]:
        """What `Outbox.count` counted, by name."""
        rows = self._db.execute("select key, value from meta where key like ? order by key", [f"{_COUNTER}%"])
        return {key.removeprefix(_COUNTER): int(value) for key, value in rows}

    def runs(self, limit: int = -1) -> list[RunRow]:
        """The runs, the latest heard of first; a negative limit means all."""
        query = f"select {RUN_COLUMNS} from run order by last_message_at desc, namespace, run limit ?"  # noqa: S608
        return [read_run(row) for row in self._db.execute(query, [limit]).fetchall()]

    def pruned_runs(self) -> list[PrunedRun]:
        """The runs whose STFs were dropped because they were old."""
        return pruned_runs(self._db)

    def pruned_stf(self, name: str) -> list[tuple[str, str]]:
        """The runs that had an STF called *name* and were pruned, each with the time of that."""
        query = "select pruned.run, at from pruned join pruned_run using (namespace, run) where filename = ?"
        return [(run, at) for run, at in self._db.execute(query, [name])]

    def recall(self, key: str) -> str | None:
        """What `Outbox.remember` kept under *key*."""
        row = self._db.execute("select value from meta where key = ?", [key]).fetchone()
        return row[0] if row else None

    def _matching(self, wanted: dict[str, str | None], limit: int) -> list[Stf]:
        where, values = where_equal(wanted)
        return load_stfs(self._db, f"{where} order by stf.id desc limit ?", [*values, limit])

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        found = self._db.execute(query, values)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]


def _in_state_since(states: Sequence[str], before: datetime, run: str | None) -> tuple[str, list[str]]:
    where = f"stf.state in ({', '.join('?' * len(states))}) and since <= ?"
    values = [*states, format_timestamp(before)]
    return (where, values) if run is None else (f"{where} and stf.run = ?", [*values, run])

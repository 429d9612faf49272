"""The runs in the outbox: what was heard of them, and when the monitor is to be asked for their STFs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlite_utils import Database

from fastmon_daemon.clock import stamp
from fastmon_daemon.outbox.rows import RunRow
from fastmon_daemon.outbox.run_reports import RUN_COLUMNS, read_run

MOST_ABSENT = 1000
"""Names of absent STFs that are kept of a run."""
_MOST_DUE = 100
_FAR = timedelta(minutes=10)
"""A look that is due later than this is no pause but a clock that jumped: it counts as due. No pause is longer."""


class Runs:
    """The table `run`; used inside the transactions of the `Outbox` that owns it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, namespace: str, run: str) -> RunRow | None:
        """The run, or None if nothing was heard of it."""
        return next(iter(self._where("namespace = ? and run = ?", [namespace, run])), None)

    def hear(self, namespace: str, run_id: str | int, state: str, now: datetime, execution_id: str | None) -> None:
        """Note that the run was heard of; a run that is new begins in *state*, and is looked at."""
        self._db.execute(_HEAR, {
            "namespace": namespace, "run": str(run_id), "run_id": json.dumps(run_id), "state": state,
            "execution_id": execution_id, "now": stamp(now),
        })  # fmt: skip

    def enter(self, row: RunRow, state: str, *, ended_at: datetime | None = None, ended_by: str | None = None) -> bool:
        """Move a run to *state*; False if somebody else moved it meanwhile."""
        moved = self._db.execute(_ENTER, {
            "namespace": row.namespace, "run": row.run, "source": row.state, "dest": state,
            "ended_at": stamp(ended_at) if ended_at else None, "ended_by": ended_by,
        })  # fmt: skip
        return bool(moved.rowcount)

    def expect(self, row: RunRow, expected: int, by: str) -> None:
        """Note how many STFs there were, and who says so."""
        self._set(row, "expected = ?, expected_by = ?", [expected, by])

    def nameless(self, row: RunRow, now: datetime) -> None:
        """It was announced without filenames: look at it, and take in at once what is found."""
        self._set(row, "nameless = 1, look_at = ?", [stamp(now)])

    def reached(self, row: RunRow, sequence: int) -> None:
        """Note the number of an STF that was heard of."""
        self._set(row, "last_sequence = max(coalesce(last_sequence, ?), ?)", [sequence, sequence])

    def look(self, row: RunRow, at: datetime | None, error: str | None = None) -> None:
        """Ask the monitor for the run's STFs at *at* (None: no more); *error* is what the last look met."""
        self._set(row, "look_at = ?, look_error = ?", [stamp(at) if at else None, error])

    def look_by(self, row: RunRow, at: datetime) -> None:
        """Look at *at*, if not sooner."""
        self._set(row, "look_at = min(coalesce(look_at, ?), ?)", [stamp(at), stamp(at)])

    def looked(self, row: RunRow, at: datetime | None, named: int, absent: Sequence[str]) -> None:
        """A look was answered: *named* STFs, of which we did not know *absent*; the next one is at *at*."""
        kept = json.dumps(sorted(absent)[:MOST_ABSENT])
        change = "look_at = ?, look_error = null, looks = looks + 1, named = ?, absent = ?"
        self._set(row, change, [stamp(at) if at else None, named, kept])

    def not_absent(self, row: RunRow, filename: str) -> None:
        """An STF that the last look did not know is taken in; *row* as it stands now."""
        if filename in row.absent:
            self._set(row, "absent = ?", [json.dumps([name for name in row.absent if name != filename])])

    def look_at_all(self, now: datetime, but: Sequence[str]) -> None:
        """Look at every run that is in no state of *but*."""
        self._db.execute(f"update run set look_at = ? where state not in ({_marks(but)})", [stamp(now), *but])  # noqa: S608

    def to_look_at(self, now: datetime, *, nameless_only: bool) -> list[RunRow]:
        """The runs whose look is due, the longest due first, some at a time."""
        where = "(look_at <= ? or look_at > ?) and nameless >= ? order by look_at limit ?"
        return self._where(where, [stamp(now), stamp(now + _FAR), nameless_only, _MOST_DUE])

    def in_states(self, states: Sequence[str]) -> list[RunRow]:
        """The runs in these states."""
        return self._where(f"state in ({_marks(states)})", list(states))

    def keep_verdict(self, row: RunRow, verdict: str) -> None:
        """The run is complete: keep its verdict, as JSON; now its summary is owed, perhaps not the first."""
        self._set(row, "verdict = ?, summary_at = null", [verdict])

    def owing_summary(self) -> list[tuple[RunRow, str]]:
        """The runs that are complete and whose summary was not sent, each with its verdict."""
        rows = self._db.execute(
            f"select {RUN_COLUMNS}, verdict from run where verdict is not null and summary_at is null"  # noqa: S608
        )
        return [(read_run(row[:-1]), row[-1]) for row in rows.fetchall()]

    def summary_sent(self, row: RunRow, verdict: str, now: datetime) -> None:
        """Nothing is owed any more, unless the verdict is another one by now."""
        self._set(row, "summary_at = case verdict when ? then ? end", [verdict, stamp(now)])

    def all_names(self) -> set[str]:
        """The runs that were heard of, in any namespace."""
        return {name for (name,) in self._db.execute("select run from run")}

    def known_names(self, row: RunRow) -> set[str]:
        """The filenames of the run's STFs that were taken in, pruned ones too: the one place that says so."""
        where = "where namespace = ? and run = ?"
        query = f"select filename from stf {where} union all select filename from pruned {where}"  # noqa: S608
        return {name for (name,) in self._db.execute(query, [row.namespace, row.run] * 2)}

    def _set(self, row: RunRow, change: str, values: Sequence[object]) -> None:
        self._db.execute(f"update run set {change} where namespace = ? and run = ?", [*values, row.namespace, row.run])  # noqa: S608

    def _where(self, where: str, values: Sequence[object]) -> list[RunRow]:
        rows = self._db.execute(f"select {RUN_COLUMNS} from run where {where}", list(values))  # noqa: S608
        return [read_run(row) for row in rows.fetchall()]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


_HEAR = """
insert into run (namespace, run, run_id, state, execution_id, heard_at, look_at)
values (:namespace, :run, :run_id, :state, :execution_id, :now, :now)
on conflict (namespace, run) do update set heard_at = excluded.heard_at,
                                           execution_id = coalesce(run.execution_id, excluded.execution_id)"""
_ENTER = """
update run set state = :dest, ended_at = coalesce(:ended_at, ended_at), ended_by = coalesce(:ended_by, ended_by)
where namespace = :namespace and run = :run and state = :source"""

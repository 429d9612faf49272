"""The runs in the outbox: what was heard of them, and when the monitor is to be asked for their STFs."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.clock import stamp
from fastmon_daemon.outbox.rows import RunRow

_COLUMNS = "namespace, run, run_id, state, execution_id, expected, heard_at, ended_at, look_at, looks, look_error"


class Runs:
    """The table `run`; used inside the transactions of the `Outbox` that owns it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, namespace: str, run: str) -> RunRow | None:
        """The run, or None if nothing was heard of it."""
        where = "where namespace = ? and run = ?"
        row = self._db.execute(f"select {_COLUMNS} from run {where}", [namespace, run]).fetchone()  # noqa: S608
        return _read(row) if row else None

    def hear(self, namespace: str, run_id: str | int, state: str, now: datetime, execution_id: str | None) -> None:
        """Note that the run was heard of; a run that is new begins in *state*."""
        self._db.execute(_HEAR, [namespace, str(run_id), json.dumps(run_id), state, execution_id, stamp(now)])

    def enter(self, row: RunRow, state: str, *, expected: int | None = None, ended_at: datetime | None = None) -> bool:
        """Move a run to *state*, with what its end said; False if somebody else moved it meanwhile."""
        moved = self._db.execute(_ENTER, {
            "namespace": row.namespace, "run": row.run, "source": row.state, "dest": state, "expected": expected,
            "ended_at": stamp(ended_at) if ended_at else None,
        })  # fmt: skip
        return bool(moved.rowcount)

    def look(self, row: RunRow, at: datetime | None, *, looked: bool = False, error: str | None = None) -> None:
        """Ask the monitor for the run's STFs at *at* (None: no more); *looked* counts a look that was answered."""
        self._db.execute(
            "update run set look_at = ?, looks = looks + ?, look_error = ? where namespace = ? and run = ?",
            [stamp(at) if at else None, looked, error, row.namespace, row.run],
        )

    def to_look_at(self, now: datetime) -> list[RunRow]:
        """The runs whose look is due."""
        rows = self._db.execute(f"select {_COLUMNS} from run where look_at <= ?", [stamp(now)])  # noqa: S608
        return [_read(row) for row in rows]

    def known_names(self, row: RunRow) -> set[str]:
        """The filenames of the run's STFs that were taken in."""
        query = "select filename from stf where namespace = ? and run = ?"
        return {name for (name,) in self._db.execute(query, [row.namespace, row.run])}


def _read(row: tuple[Any, ...]) -> RunRow:
    return RunRow(
        namespace=row[0], run=row[1], run_id=json.loads(row[2]), state=row[3], execution_id=row[4], expected=row[5],
        heard_at=row[6], ended_at=row[7], look_at=row[8], looks=row[9], look_error=row[10],
    )  # fmt: skip


_HEAR = """
insert into run (namespace, run, run_id, state, execution_id, heard_at) values (?, ?, ?, ?, ?, ?)
on conflict (namespace, run) do update set heard_at = excluded.heard_at,
                                           execution_id = coalesce(run.execution_id, excluded.execution_id)"""
_ENTER = """
update run set state = :dest, expected = coalesce(:expected, expected), ended_at = coalesce(:ended_at, ended_at)
where namespace = :namespace and run = :run and state = :source"""

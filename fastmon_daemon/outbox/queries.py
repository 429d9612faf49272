"""SQL that several modules of the outbox share: columns, conditions, how rows become models, and which STFs are due."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import Origin, RunRow, SamplePlan, Stf, Tf


def columns_of(model: type) -> str:
    """The columns of a table whose names are the fields of *model*."""
    return ", ".join(each.name for each in fields(model))


RUN_COLUMNS = columns_of(RunRow)
STF_COLUMNS = """
stf.id, stf.namespace, stf.run, stf.run_id, filename, sequence, size_bytes, checksum, tf_count,
coalesce(stf.execution_id, run.execution_id) as execution_id, body, origin, included, stf.state, life, since,
received_at, born_at, due_at, attempts, spent_s, last_error, remark, plan, preexisting,
exists (select 1 from stf as other where other.filename = stf.filename and other.run <> stf.run)
or exists (select 1 from pruned where pruned.filename = stf.filename and pruned.run <> stf.run)
or coalesce(run.unlisted, '[]') <> '[]' as is_doubtful
from stf left join run on run.namespace = stf.namespace and run.run = stf.run"""
"""The columns of an `Stf`; its execution is that of its message, else that of its run."""


def fetch(db: Database, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """All rows of *query*, by column name."""
    found = db.execute(query, values)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def placeholders(values: Collection[object]) -> str:
    """`?, ?, ...`, one for each of *values*."""
    return ", ".join("?" * len(values))


def where_equal(given: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """The `where` clause for the columns whose value is not None (empty if there are none), and its values."""
    wanted = {column: value for column, value in given.items() if value is not None}
    return f"where {' and '.join(f'{column} = ?' for column in wanted)}" if wanted else "", list(wanted.values())


def load_stfs(db: Database, tail: str, values: Sequence[Any]) -> list[Stf]:
    """The STFs that *tail* (where, order, limit) selects, with their TF files."""
    return [read_stf(row, load_tfs(db, row["id"])) for row in fetch(db, f"select {STF_COLUMNS} {tail}", values)]


def load_tfs(db: Database, stf_id: int) -> tuple[Tf, ...]:
    """The TF files of an STF, in order."""
    rows = fetch(db, f"select {columns_of(Tf)} from tf where stf = ? order by sequence", [stf_id])  # noqa: S608
    return tuple(Tf(**row) for row in rows)


def read_stf(row: Mapping[str, Any], tfs: tuple[Tf, ...]) -> Stf:
    """The `Stf` in a row of `STF_COLUMNS`."""
    plan, preexisting = row["plan"], row["preexisting"]
    return Stf(**{
        **row,
        "run_id": json.loads(row["run_id"]), "origin": Origin(row["origin"]), "included": bool(row["included"]),
        "is_doubtful": bool(row["is_doubtful"]),
        "plan": SamplePlan(**json.loads(plan)) if plan else None,
        "preexisting": tuple(json.loads(preexisting or "[]")), "tfs": tfs,
    })  # fmt: skip


def load_runs(db: Database, tail: str, values: Sequence[object] = ()) -> list[RunRow]:
    """The runs that *tail* (where, order, limit) selects."""
    return [read_run(row) for row in fetch(db, f"select {RUN_COLUMNS} from run {tail}", values)]  # noqa: S608


def read_run(row: Mapping[str, Any]) -> RunRow:
    """The `RunRow` in a row of `RUN_COLUMNS`."""
    names = {column: tuple(json.loads(row[column])) for column in ("absent", "unlisted")}
    return RunRow(**{**row, "run_id": json.loads(row["run_id"]), "nameless": bool(row["nameless"]),
                     "claimed": bool(row["claimed"]), **names})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DueQuery:
    """Selects due STFs."""

    now: datetime
    far: datetime
    """No backoff is longer: a due time later than this means that the clock jumped, and counts as now."""
    retrying: bool
    """True: STFs that failed before. False: the others, which are due at any time."""
    newest: bool
    limit: int
    busy: tuple[int, ...] = ()
    """Ids of STFs that are in progress."""
    fresh_since: datetime | None = None
    """Only STFs that were not recovered and were born after this; None: all."""

    @property
    def sql(self) -> str:
        """The query for one state; each part uses the index `stf_due`."""
        order = "desc" if self.newest else "asc"
        where = f"state = ? and (attempts > 0) = {int(self.retrying)} and id not in ({placeholders(self.busy)})"
        where += " and origin <> ? and born_at >= ?" if self.fresh_since else ""
        part = f"select due_at, id from stf where {where} and due_at"  # noqa: S608 (only placeholders are put in)
        tail = f"order by due_at {order}, id {order} limit ?"
        if not self.retrying:
            return f"{part} is not null {tail}"
        return f"select * from ({part} <= ? {tail}) union all select * from ({part} > ? {tail})"  # noqa: S608 (the same)

    def arguments(self, state: str) -> list[Any]:
        """The parameters of `sql` for *state*."""
        where: list[Any] = [state, *self.busy]
        if self.fresh_since:
            where += [Origin.RECOVERED, format_timestamp(self.fresh_since)]
        if not self.retrying:
            return [*where, self.limit]
        return [*where, format_timestamp(self.now), self.limit, *where, format_timestamp(self.far), self.limit]

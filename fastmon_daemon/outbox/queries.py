"""SQL that several modules of the outbox share: how rows become models, conditions, and which STFs are due."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import (
    Act,
    HistoryRow,
    Origin,
    Outage,
    PrunedRun,
    RejectedRow,
    RunRow,
    SamplePlan,
    StageKeys,
    Stf,
    Tf,
)

M = TypeVar("M")

_TABLES: Mapping[type, str] = {
    Stf: "stf", StageKeys: "stf", Tf: "tf", HistoryRow: "history", RunRow: "run", Outage: "outage",
    RejectedRow: "rejected", PrunedRun: "pruned_run", Act: "act",
}  # fmt: skip
_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "run_id": json.loads,
    "states": json.loads,
    **dict.fromkeys(("absent", "unlisted"), lambda text: tuple(json.loads(text))),
    "preexisting": lambda text: tuple(json.loads(text or "[]")),
    "plan": lambda text: SamplePlan(**json.loads(text)) if text else None,
    "origin": Origin,
    **dict.fromkeys(("included", "is_doubtful", "nameless", "claimed", "blocked", "is_whole"), bool),
}
"""Column -> how its value is read, if not as it is."""
_EXECUTION = """coalesce(execution_id, (select execution_id from run where run.namespace = stf.namespace
and run.run = stf.run)) as execution_id"""
"""The execution of an STF is that of its message, else that of its run."""
_IS_DOUBTFUL = """(exists (select 1 from stf as other where other.filename = stf.filename and other.run <> stf.run)
or exists (select 1 from pruned where pruned.filename = stf.filename and pruned.run <> stf.run)
or exists (select 1 from run where run.namespace = stf.namespace and run.run = stf.run and unlisted <> '[]')
) as is_doubtful"""
_COMPUTED = {"execution_id": _EXECUTION, "is_doubtful": _IS_DOUBTFUL}
"""Fields of an `Stf` that are not columns of its table."""


def _select(model: type, table: str) -> str:
    """The query for all rows of *table*; its columns are the fields of *model*."""
    names = [each.name for each in fields(model) if each.name != "tfs"]
    columns = ", ".join(_COMPUTED.get(name, name) if model is Stf else name for name in names)
    return f"select {columns} from {table}"  # noqa: S608 (only fixed names are put in)


_SELECT = {model: _select(model, table) for model, table in _TABLES.items()}


def _decode(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a model in the columns of a row."""
    return {name: _DECODERS[name](value) if name in _DECODERS else value for name, value in row.items()}


def load(db: Database, model: type[M], tail: str = "", values: Sequence[object] = ()) -> list[M]:
    """The rows of the model's table that *tail* (where, order, limit) selects; STFs without their TF files."""
    return [model(**_decode(row)) for row in db.query(f"{_SELECT[model]} {tail}", list(values))]


def load_stfs(db: Database, tail: str, values: Sequence[object] = ()) -> list[Stf]:
    """The STFs that *tail* selects, with their TF files."""
    rows = _rows(db, f"{_SELECT[Stf]} {tail}", values)
    return [Stf(**_decode(row), tfs=load_tfs(db, row["id"])) for row in rows]


def load_tfs(db: Database, stf_id: int) -> tuple[Tf, ...]:
    """The TF files of an STF, in order."""
    rows = _rows(db, f"{_SELECT[Tf]} where stf = ? order by sequence", [stf_id])
    return tuple(Tf(**_decode(row)) for row in rows)


def _rows(db: Database, query: str, values: Sequence[object]) -> list[dict[str, Any]]:
    """The rows of a query on the engine's path: `Database.query` takes a savepoint, which doubles the time."""
    cursor = db.execute(query, list(values))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def count_stfs_by_state(db: Database, **where: str | None) -> dict[str, int]:
    """State -> number of STFs with that namespace and run (None: any), as the triggers of the table keep it."""
    condition, values = where_in(where)
    query = f"select state, sum(stfs) from stf_count where {condition} group by state"  # noqa: S608
    return dict(db.execute(query, values).fetchall())


def placeholders(values: Collection[object]) -> str:
    """`?, ?, ...`, one for each of *values*."""
    return ", ".join("?" * len(values))


def where_in(wanted: Mapping[str, object]) -> tuple[str, list[Any]]:
    """A condition and its values, from column -> the wanted value, or a list of allowed ones; None: any."""
    condition, values = "1", list[Any]()
    for column, value in wanted.items():
        if value is not None:
            allowed = value if isinstance(value, list | tuple) else [value]
            condition += f" and {column} in ({placeholders(allowed)})"
            values += allowed
    return condition, values


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

    def for_state(self, state: str) -> tuple[str, list[Any]]:
        """The query for one state, and its values; each part uses the index `stf_due`."""
        where = f"state = ? and (attempts > 0) = {int(self.retrying)} and id not in ({placeholders(self.busy)})"
        values: list[Any] = [state, *self.busy]
        if self.fresh_since:
            since = format_timestamp(self.fresh_since)  # no STF is due before its birth: the index skips the old ones
            where += " and origin <> ? and born_at >= ? and due_at >= ?"
            values += [Origin.RECOVERED, since, since]
        part = f"select due_at, id from stf where {where} and due_at"  # noqa: S608 (only placeholders are put in)
        order = "desc" if self.newest else "asc"
        tail = f"order by due_at {order}, id {order} limit ?"
        if not self.retrying:
            return f"{part} is not null {tail}", [*values, self.limit]
        query = f"select * from ({part} <= ? {tail}) union all select * from ({part} > ? {tail})"  # noqa: S608 (the same)
        now, far = format_timestamp(self.now), format_timestamp(self.far)
        return query, [*values, now, self.limit, *values, far, self.limit]

"""SQL that several modules of the outbox share: how rows become models, conditions, and which STFs are due."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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


_DECODED = {
    model: tuple((each.name, _DECODERS[each.name]) for each in fields(model) if each.name in _DECODERS)
    for model in _TABLES
}
"""Model -> the columns that are not read as they are."""


def load(db: Database, model: type[M], tail: str = "", values: Sequence[object] = ()) -> list[M]:
    """The rows of the model's table that *tail* (where, order, limit) selects; STFs without their TF files."""
    return [model(**row) for row in _rows(db, model, tail, values)]


def load_stfs(db: Database, tail: str, values: Sequence[object] = ()) -> list[Stf]:
    """The STFs that *tail* selects, with their TF files."""
    return [Stf(**row, tfs=load_tfs(db, row["id"])) for row in list(_rows(db, Stf, tail, values))]


def load_tfs(db: Database, stf_id: int) -> tuple[Tf, ...]:
    """The TF files of an STF, in order."""
    return tuple(load(db, Tf, "where stf = ? order by sequence", [stf_id]))


def _rows(db: Database, model: type, tail: str, values: Sequence[object]) -> Iterator[dict[str, Any]]:
    """The fields of a model, for each row. (`Database.query` takes a savepoint, which doubles the time.)"""
    cursor = db.execute(f"{_SELECT[model]} {tail}", list(values))
    names, decoded = [column[0] for column in cursor.description], _DECODED[model]
    for row in cursor:
        found = dict(zip(names, row, strict=True))
        for name, decode in decoded:
            found[name] = decode(found[name])
        yield found


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
    busy: Collection[int] = ()
    """Ids of STFs that are in progress."""
    fresh_since: datetime | None = None
    """Only STFs that were not recovered and were born after this; None: all."""

    def in_state(self, state: str) -> list[tuple[str, list[Any]]]:
        """The queries for one state, with their values, in the order of due times; each uses the index `stf_due`.

        *busy* is left to the caller: SQLite keeps prepared what is always the same text.
        """
        where, values = f"state = ? and (attempts > 0) = {int(self.retrying)}", [state]
        if self.fresh_since:
            since = format_timestamp(self.fresh_since)  # no STF is due before its birth: the index skips the old ones
            where += " and origin <> ? and born_at >= ? and due_at >= ?"
            values += [Origin.RECOVERED, since, since]
        order = "desc" if self.newest else "asc"
        query = f"select due_at, id from stf where {where} and due_at %s order by due_at {order}, id {order}"  # noqa: S608 (only placeholders are put in)
        if not self.retrying:
            return [(query % "is not null", values)]
        now, far = format_timestamp(self.now), format_timestamp(self.far)
        return [(query % "<= ?", [*values, now]), (query % "> ?", [*values, far])]

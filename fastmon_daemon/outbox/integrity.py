"""The complete check of a database: SQLite's own check, and the rules that our rows always satisfy.

Read-only, also while a daemon is running. State names come from the statecharts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.outbox.database import connect_read_only
from fastmon_daemon.outbox.file_checks import check_file, check_local_file_system
from fastmon_daemon.outbox.schema import check_compatible
from fastmon_daemon.outbox.sqlite_errors import RESTORE_HINT, no_access, primary_code
from fastmon_daemon.statechart import StateMachine

_EXAMPLES = 3
_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityProblem:
    """One problem in a database."""

    what: str
    """The violated rule, or SQLite's message."""
    count: int = 1
    """Number of affected rows."""
    examples: tuple[str, ...] = ()
    hint: str = RESTORE_HINT


def check_database(path: Path, stf_chart: StateMachine, run_chart: StateMachine) -> list[IntegrityProblem]:
    """All problems in the database at *path*; none if it is sound.

    Raises: StorageError if there is no database, or this user cannot read it.
    """
    try:
        check_local_file_system(path)
        if not check_file(path):
            raise StorageError(f"{path}: no such database: start fastmon-daemon, or set FASTMON_DB")
        with closing(connect_read_only(path)) as connection:
            db = Database(connection, recursive_triggers=False)
            check_compatible(db, path)
            found = list(_sqlite_problems(db))
            # Our queries may fail on a database that SQLite finds damaged.
            return found or [*_row_problems(db), *_chart_problems(db, stf_chart, run_chart)]
    except sqlite3.DatabaseError as exc:
        if primary_code(exc) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return [IntegrityProblem(what=str(exc))]
        raise StorageError(f"{path}: cannot be read: {exc}") from exc
    except OSError as exc:
        hint = no_access(path) or "check the disk"
        raise StorageError(f"{path}: cannot be read: {exc.strerror}: {hint}") from exc


def _sqlite_problems(db: Database) -> Iterator[IntegrityProblem]:
    for (text,) in db.execute(f"pragma integrity_check({_MAX_PROBLEMS})"):
        if text != "ok":
            yield IntegrityProblem(what=text)
    for table, row, parent, _ in db.execute("pragma foreign_key_check").fetchmany(_MAX_PROBLEMS):
        yield IntegrityProblem(what=f"row of {table} refers to a missing row of {parent}", examples=(f"row {row}",))


def _row_problems(db: Database) -> Iterator[IntegrityProblem]:
    tables = db.table_names()
    later = [rules for table, rules in _RULES_OF_LATER_TABLES.items() if table in tables]  # an older schema has less
    for what, query in (rule for rules in (_RULES, *later) for rule in rules.items()):
        names = [str(name) for (name,) in db.execute(query)]
        if names:
            yield IntegrityProblem(what=what, count=len(names), examples=tuple(names[:_EXAMPLES]))


def _chart_problems(db: Database, stf_chart: StateMachine, run_chart: StateMachine) -> Iterator[IntegrityProblem]:
    for chart, table in ((stf_chart, "stf"), (run_chart, "run")):
        counts = dict(db.execute(f"select state, count(*) from {table} group by state").fetchall())  # noqa: S608
        for state in counts.keys() - set(chart.states):
            yield IntegrityProblem(what=f"state not in the statechart: {state}", count=counts[state])
    known = set(stf_chart.states)
    for state, finalized, count in db.execute("select state, due_at is null, count(*) from stf group by 1, 2"):
        if state in known and bool(finalized) != stf_chart.is_finalized(state):
            what = "unfinished, but without a due time" if finalized else "finalized, but with a due time"
            yield IntegrityProblem(what=f"STF in state {state}: {what}", count=count)
    transitions = "select trigger, source, dest, count(*) from history where trigger is not null group by 1, 2, 3"
    for trigger, source, dest, count in db.execute(transitions):
        legal = stf_chart.may(source, trigger) and stf_chart.after(source, trigger) == dest
        if not legal:
            yield IntegrityProblem(what=f"transition not in the statechart: {trigger}, {source} -> {dest}", count=count)


_RULES = {
    "STF without history": """
        select filename from stf where not exists (select 1 from history where stf = stf.id)""",
    "STF whose history ends in another state or life": """
        select filename from stf join history h on h.id = (select max(id) from history where stf = stf.id)
        where h.dest <> stf.state or h.life <> stf.life""",
    "STF whose history does not begin with its receipt": """
        select filename from stf join history h on h.id = (select min(id) from history where stf = stf.id)
        where h.trigger is not null or h.source is not null""",
    "STF whose history has a gap": """
        select filename from stf where id in (select stf from (
            select stf, source, trigger, lag(dest) over (partition by stf order by id) as before from history
        ) where trigger is not null and source is not before)""",
    "TF file that was announced but not registered": """
        select filename from tf where announced_at is not null and registered_at is null""",
    "TF file that was registered but has no id of the monitor": """
        select filename from tf where registered_at is not null and monitor_id is null""",
    "STF with TF files but no sample plan": """
        select filename from stf where plan is null and exists (select 1 from tf where stf = stf.id)""",
}
_RULES_OF_LATER_TABLES = {
    "pruned": {
        "STF that was pruned but is still stored": """
        select filename from stf join pruned using (namespace, run, filename)""",
    },
    "stf_count": {
        "run and state whose kept number of STFs is wrong": """
        select run || ' ' || state from (
            select namespace, run, state, count(*) as stfs from stf group by 1, 2, 3 union all
            select namespace, run, state, -stfs from stf_count
        ) group by namespace, run, state having sum(stfs) <> 0""",
    },
}

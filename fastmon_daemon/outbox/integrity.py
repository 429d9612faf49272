"""The whole check of a database: SQLite's own, and what must hold between our rows whatever happened.

It reads only, beside a working daemon too. States are asked of the charts, never named.
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
from fastmon_daemon.outbox.schema import check_ours
from fastmon_daemon.outbox.sqlite_errors import BROKEN, primary_code
from fastmon_daemon.statechart import StateMachine

_EXAMPLES = 3
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityProblem:
    """One thing that is wrong in a database."""

    what: str
    """The rule that does not hold, or SQLite's own words."""
    count: int = 1
    """How many rows it is about."""
    examples: tuple[str, ...] = ()
    remedy: str = BROKEN


def check_database(path: Path, stf_chart: StateMachine, run_chart: StateMachine) -> list[IntegrityProblem]:
    """Everything that is wrong in the database at *path*, read to its end; nothing where it is sound.

    Raises `StorageError` where there is no database, or this user may not read it.
    """
    try:
        check_local_file_system(path)
        if not check_file(path):
            raise StorageError(f"{path}: no such database: start fastmon-daemon, or name it with FASTMON_DB")
        with closing(connect_read_only(path)) as connection:
            db = Database(connection, recursive_triggers=False)
            check_ours(db, path)
            found = list(_of_sqlite(db))
            # What SQLite cannot walk, our queries cannot either.
            return found or [*_of_ours(db), *_of_charts(db, stf_chart, run_chart)]
    except sqlite3.DatabaseError as exc:
        if primary_code(exc) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return [IntegrityProblem(what=str(exc))]
        raise StorageError(f"{path}: cannot be read: {exc}") from exc
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read: {exc.strerror}: be the daemon's user, or root") from exc


def _of_sqlite(db: Database) -> Iterator[IntegrityProblem]:
    for (text,) in db.execute(f"pragma integrity_check({_MOST_PROBLEMS})"):
        if text != "ok":
            yield IntegrityProblem(what=text)
    for table, row, parent, _ in db.execute("pragma foreign_key_check").fetchmany(_MOST_PROBLEMS):
        yield IntegrityProblem(
            what=f"a row of {table} belongs to a row of {parent} that is not there", examples=(f"row {row}",)
        )


def _of_ours(db: Database) -> Iterator[IntegrityProblem]:
    pruned = _RULES_OF_PRUNED if "pruned" in db.table_names() else {}  # not so in an older schema
    for what, query in {**_RULES, **pruned}.items():
        names = [str(name) for (name,) in db.execute(query)]
        if names:
            yield IntegrityProblem(what=what, count=len(names), examples=tuple(names[:_EXAMPLES]))


def _of_charts(db: Database, stf_chart: StateMachine, run_chart: StateMachine) -> Iterator[IntegrityProblem]:
    for chart, table in ((stf_chart, "stf"), (run_chart, "run")):
        counts = dict(db.execute(f"select state, count(*) from {table} group by state").fetchall())  # noqa: S608
        for state in counts.keys() - set(chart.states):
            yield IntegrityProblem(what=f"a state that the chart does not know: {state}", count=counts[state])
    known = set(stf_chart.states)
    for state, rests, count in db.execute("select state, due_at is null, count(*) from stf group by 1, 2"):
        if state in known and bool(rests) != stf_chart.is_finalized(state):
            what = f"{state}, where {'work is owed, and' if rests else 'nothing is owed, but'} it is "
            yield IntegrityProblem(what=what + ("at rest" if rests else "due"), count=count)
    arrows = "select trigger, source, dest, count(*) from history where trigger is not null group by 1, 2, 3"
    for trigger, source, dest, count in db.execute(arrows):
        legal = stf_chart.may(source, trigger) and stf_chart.after(source, trigger) == dest
        if not legal:
            yield IntegrityProblem(
                what=f"a transition that the chart does not have: {trigger}, {source} -> {dest}", count=count
            )


_RULES = {
    "an STF without history": """
        select filename from stf where not exists (select 1 from history where stf = stf.id)""",
    "an STF whose history ends in another state or life": """
        select filename from stf join history h on h.id = (select max(id) from history where stf = stf.id)
        where h.dest <> stf.state or h.life <> stf.life""",
    "an STF whose history does not begin with its arrival": """
        select filename from stf join history h on h.id = (select min(id) from history where stf = stf.id)
        where h.trigger is not null or h.source is not null""",
    "an STF whose history has a gap": """
        select filename from stf where id in (select stf from (
            select stf, source, trigger, lag(dest) over (partition by stf order by id) as before from history
        ) where trigger is not null and source is not before)""",
    "a TF file that is announced and not registered": """
        select filename from tf where announced_at is not null and registered_at is null""",
    "a TF file that is registered without its number in the monitor": """
        select filename from tf where registered_at is not null and monitor_id is null""",
    "an STF with TF files and without the plan of its sample": """
        select filename from stf where plan is null and exists (select 1 from tf where stf = stf.id)""",
}
_RULES_OF_PRUNED = {
    "an STF that was pruned and is there all the same": """
        select filename from stf join pruned using (namespace, run, filename)""",
}

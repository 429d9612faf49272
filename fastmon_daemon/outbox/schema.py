"""The tables of the outbox and their migrations.

The oldest supported SQLite is 3.34 (Enterprise Linux 9): no STRICT, no RETURNING.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.outbox.run_merging import merge_runs

APPLICATION_ID = 0x464D4F4E
"""`FMON`: distinguishes an outbox from other SQLite databases, also for `file`."""

VERSION = 13
"""The `user_version`; a higher one means that a newer fastmon wrote the database."""

migrations = Migrations("fastmon")
"""Databases record the names of their migrations: a renamed migration would run again."""

_FIRST = """
create table stf (
    id integer primary key,
    namespace text not null,
    run text not null,
    run_id text not null,          -- as it came, as JSON
    filename text not null,
    sequence integer,
    size_bytes integer,
    checksum text,
    tf_count integer,
    execution_id text,
    body text not null,
    origin text not null,
    admitted integer not null default 0,
    state text not null,
    life integer not null default 1,
    since text not null,
    received_at text not null,
    born_at text not null,
    due_at text,                   -- null: resting
    attempts integer not null default 0,
    spent_s real not null default 0,
    last_error text,
    remark text,
    plan text,
    unique (namespace, run, filename)
);
create index stf_due on stf (state, due_at) where due_at is not null;
create index stf_state on stf (state, since);
create index stf_filename on stf (filename);

create table tf (
    stf integer not null references stf (id) on delete cascade,
    sequence integer not null,
    filename text not null,
    first integer,
    last integer,
    count integer,
    size_bytes integer,
    monitor_id text,
    registered_at text,
    announced_at text,
    adopted text,
    primary key (stf, sequence)
) without rowid;

create table history (
    id integer primary key,
    stf integer not null references stf (id) on delete cascade,
    life integer not null,
    trigger text,
    source text,
    dest text not null,
    at text not null,
    note text
);
create index history_stf on history (stf);

create table run (
    namespace text not null,
    run text not null,
    run_id text not null,
    state text not null,
    execution_id text,
    expected integer,
    heard_at text not null,
    ended_at text,
    look_at text,
    looks integer not null default 0,
    look_error text,
    primary key (namespace, run)
) without rowid;
create index run_look on run (look_at) where look_at is not null;

create table outage (
    id integer primary key,
    link text not null,
    began_at text not null,
    ended_at text,
    reason text not null,
    held integer not null,
    next_probe_at text
);
create index outage_open on outage (link) where ended_at is null;

create table refused (
    id integer primary key,
    at text not null,
    reason text not null,
    bytes integer not null,
    body text not null
);

create table meta (key text primary key, value text not null) without rowid;
"""


@migrations(name="first")
def m0001_tables(db: Database) -> None:
    """The tables of version 1."""
    db.executescript(_FIRST)


@migrations(name="files_seen")
def m0002_seen_files(db: Database) -> None:
    """Ingested files of the watched folders, by a fingerprint that survives renaming."""
    db.execute("create table file_seen (fingerprint text primary key, filename text not null) without rowid")


_RECONCILIATION = """
alter table stf add column stood text;                              -- JSON: names of TF files
alter table run add column nameless integer not null default 0;
alter table run add column expected_by text;
alter table run add column ended_by text;
alter table run add column last_sequence integer;
alter table run add column named integer;
alter table run add column absent text not null default '[]';       -- JSON: filenames
alter table run add column verdict text;                            -- JSON, as it was when the run became complete
alter table run add column summary_at text;
update run set nameless = 1 where look_at is not null;
update run set expected_by = 'end_run' where expected is not null;
create index stf_run on stf (namespace, run, state);
create index run_state on run (state);
create index run_owes on run (run) where verdict is not null and summary_at is null;
"""


@migrations(name="ledger")
def m0003_reconciliation(db: Database) -> None:
    """What the reconciler stores of a run."""
    db.executescript(_RECONCILIATION)


@migrations(name="due_by_health")
def m0004_due_by_health(db: Database) -> None:
    """Separate index ranges for STFs that failed before, so that many of them do not hide the others."""
    db.execute("drop index stf_due")
    db.execute("create index stf_due on stf (state, (attempts > 0), due_at) where due_at is not null")


_STAGES = """
alter table stf add column workflow_id text;
alter table stf add column stage_id text;
alter table stf add column unreportable text;                       -- why no stage can be reported of it
alter table history add column reported_at text;
update history set reported_at = at where stf in (select id from stf where due_at is null);
create index history_owed on history (id) where reported_at is null;
"""


@migrations(name="stages")
def m0005_stage_reports(db: Database) -> None:
    """Which transitions were reported to the monitor; those of finalized STFs count as reported."""
    db.executescript(_STAGES)


@migrations(name="pruned")
def m0006_pruned_runs(db: Database) -> None:
    """What is kept of a pruned run."""
    db.execute(
        "create table pruned (namespace text not null, run text not null, filename text not null,"
        " primary key (namespace, run, filename)) without rowid"
    )
    db.execute(
        "create table pruned_run (namespace text not null, run text not null, at text not null,"
        " states text not null, tf_files integer not null, primary key (namespace, run)) without rowid"
    )


_VOCABULARY = """
alter table refused rename to rejected;
alter table stf rename column admitted to included;
alter table stf rename column stood to preexisting;
alter table run rename column heard_at to last_message_at;
alter table run rename column look_at to poll_at;
alter table run rename column looks to polls;
alter table run rename column look_error to reconcile_error;
alter table run rename column named to monitor_count;
alter table outage rename column held to blocked;
drop index run_look;
create index run_poll on run (poll_at) where poll_at is not null;
update stf set origin = 'polled' where origin = 'look';
update history set trigger = 'include' where trigger = 'admit';
update meta set key = 'count:rejected_dropped' where key = 'count:refused_dropped';
update meta set key = 'count:runs_unknown' where key = 'count:runs_unheard';
update meta set key = 'count:stf_polled' where key = 'count:stf_look';
update meta set key = replace(key, 'count:foreign_', 'count:ignored_') where key like 'count:foreign_%';
update meta set key = replace(key, 'forgotten:', 'purged:') where key like 'forgotten:%';
"""
_VERDICT_KEYS = {
    "why_not": "incomplete_reasons",
    "named": "monitor_count",
    "heard_at": "last_message_at",
    "look_error": "reconcile_error",
    "held": "blocked",
    "stood": "preexisting",
}


@migrations(name="vocabulary")
def m0007_vocabulary(db: Database) -> None:
    """Renames tables, columns, values and JSON keys; adds and drops nothing."""
    db.executescript(_VOCABULARY)
    saved = db.execute("select namespace, run, verdict from run where verdict is not null").fetchall()
    for namespace, run, verdict in saved:
        renamed = json.dumps(_renamed(json.loads(verdict)))
        db.execute("update run set verdict = ? where namespace = ? and run = ?", [renamed, namespace, run])


def _renamed(value: Any) -> Any:
    """*value* with the keys of a verdict renamed."""
    if isinstance(value, dict):
        return {_VERDICT_KEYS.get(key, key): _renamed(each) for key, each in value.items()}
    return [_renamed(each) for each in value] if isinstance(value, list) else value


_CLAIMS = """
alter table run add column claimed integer not null default 1;
alter table run add column other_namespace text;
"""


@migrations(name="one_run")
def m0008_one_run(db: Database) -> None:
    """One identity for each run: `0300123` is `300123`; and whether a run is ours: those known until now are."""
    db.executescript(_CLAIMS)
    merge_runs(db)


_NAMES_AND_BODIES = """
create index pruned_filename on pruned (filename);
alter table run add column unlisted text not null default '[]';     -- JSON: filenames
alter table rejected add column is_whole integer not null default 1;
update rejected set is_whole = bytes <= 65536;
"""


@migrations(name="names_and_bodies")
def m0009_names_and_bodies(db: Database) -> None:
    """Other runs are found by a name, STFs are noted that stand in another run, and bodies that were cut."""
    db.executescript(_NAMES_AND_BODIES)


_COUNTS = """
create table stf_count (
    namespace text not null,
    run text not null,
    state text not null,
    stfs integer not null,
    primary key (namespace, run, state)
) without rowid;
insert into stf_count select namespace, run, state, count(*) from stf group by namespace, run, state;
create trigger stf_count_insert after insert on stf begin
    insert into stf_count values (new.namespace, new.run, new.state, 1)
    on conflict (namespace, run, state) do update set stfs = stfs + 1;
end;
create trigger stf_count_delete after delete on stf begin
    update stf_count set stfs = stfs - 1 where namespace = old.namespace and run = old.run and state = old.state;
    delete from stf_count
    where namespace = old.namespace and run = old.run and state = old.state and stfs = 0;
end;
create trigger stf_count_update after update of namespace, run, state on stf begin
    update stf_count set stfs = stfs - 1 where namespace = old.namespace and run = old.run and state = old.state;
    delete from stf_count
    where namespace = old.namespace and run = old.run and state = old.state and stfs = 0;
    insert into stf_count values (new.namespace, new.run, new.state, 1)
    on conflict (namespace, run, state) do update set stfs = stfs + 1;
end;
"""


@migrations(name="stf_counts")
def m0010_stf_counts(db: Database) -> None:
    """The numbers of STFs by run and state, kept by triggers: counting a long backlog at each scrape takes too long."""
    db.executescript(_COUNTS)


@migrations(name="reports_of_begun_stfs")
def m0011_reports_of_begun_stfs(db: Database) -> None:
    """The transitions of an STF without a sample are not pending: `reported_at` is empty, see `StageReports.owe`."""
    no_sample = "select id from stf where plan is null"
    db.execute(f"update history set reported_at = '' where reported_at is null and stf in ({no_sample})")  # noqa: S608


_ACTS = """
create table act (
    id integer primary key,
    at text not null,
    action text not null,
    who text not null,
    reason text not null,
    subject text not null,
    count integer not null,
    requested_at text not null
);
create temp table old_act as
select at, trigger as action, substr(note, 4) as who, count(*) as stfs from history
where trigger in ('retry', 'discard', 'include') and note like 'by %' group by at, trigger, note
union all
select at, 'replay', substr(note, 13), count(*) from history
where trigger is null and note like 'replayed by %' group by at, note
union all
select substr(value, 1, instr(value, ' ') - 1), 'purge', substr(value, instr(value, ' ') + 4), 1 from meta
where key like 'purged:%' and value like '% by %';
insert into act (at, action, who, reason, subject, count, requested_at)
select at, action, substr(who, 1, instr(who || ': ', ': ') - 1), substr(who, instr(who || ': ', ': ') + 2), '', stfs, ''
from old_act order by at;
drop table old_act;
"""


@migrations(name="acts")
def m0012_acts(db: Database) -> None:
    """What persons did, as far as the history still has it: later also what changes no STF."""
    db.executescript(_ACTS)


_ELSEWHERE = """
create table elsewhere (
    namespace text not null,
    run text not null,
    filename text not null,
    agent text not null,
    finished integer not null,
    primary key (namespace, run, filename)
) without rowid;
create trigger stf_taken_over after insert on stf begin
    delete from elsewhere where namespace = new.namespace and run = new.run and filename = new.filename;
end;
"""


@migrations(name="elsewhere")
def m0013_elsewhere(db: Database) -> None:
    """The STFs of our runs that other daemons process, or have processed."""
    db.executescript(_ELSEWHERE)


def check_compatible(db: Database, path: Path) -> None:
    """Raises: StorageError if the database is not an outbox, or of a newer fastmon."""
    version = db.execute("pragma user_version").fetchone()[0]
    owner = db.execute("pragma application_id").fetchone()[0]
    if not db.table_names():  # fastmon never leaves a database without tables
        raise StorageError(f"{path}: database has no tables: restore a backup, or delete it to create a new database")
    if owner != APPLICATION_ID:
        raise StorageError(f"{path}: SQLite database of another program: set FASTMON_DB to another file")
    if version > VERSION:
        raise StorageError(
            f"{path}: schema version {version} is newer than {VERSION}, that of this fastmon: "
            "start the newer fastmon, or set FASTMON_DB to another file"
        )


def version_to_keep(db: Database) -> int | None:
    """Return the schema version if a migration is to change the database as it is: it is to be copied before.

    None if there is nothing to migrate, or if a migration was interrupted: the copy was made before it began.
    """
    version: int = db.execute("pragma user_version").fetchone()[0]
    if not 0 < version < VERSION:
        return None
    applied = db.execute("select count(*) from _sqlite_migrations where migration_set = 'fastmon'").fetchone()[0]
    return None if applied > version else version


def migrate(db: Database) -> None:
    """Apply the missing migrations."""
    version = db.execute("pragma user_version").fetchone()[0]
    if version < VERSION:
        db.execute(f"pragma application_id = {APPLICATION_ID}")  # first, in case a migration is interrupted
    migrations.apply(db)
    if version < VERSION:
        db.execute(f"pragma user_version = {VERSION}")


def check_not_older(db: Database, path: Path) -> None:
    """Raises: StorageError if the schema is older than this fastmon; a reader cannot migrate it."""
    version = db.execute("pragma user_version").fetchone()[0]
    if version < VERSION:
        raise StorageError(
            f"{path}: schema version {version} is older than {VERSION}, that of this fastmon: "
            "start fastmon-daemon run once to update it"
        )

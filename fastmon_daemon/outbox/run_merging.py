"""Migration to one identity for each run: the rows of run `0300123` become those of run `300123`.

Where both forms of a run have an STF, the row that is further advanced stays. It takes over what only the other had: TF
files that were registered or announced, ids of the monitor, fields of the message; and the other's history, as a note
of its own first transition. The names of states are those of schema 8.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sqlite_utils import Database

_ADVANCE = ("skipped", "discarded", "failed", "received", "sampled", "tf_registered", "notified", "completed")
"""States of an STF, the most advanced last. Work that is under way is more than a failure, and a failure more than a
decision against the STF: an operator sees what failed."""
_OVER = ("ended", "complete")
_TABLES = ("stf", "run", "pruned", "pruned_run")

Row = dict[str, Any]


def merge_runs(db: Database) -> None:
    """Rename each run that is a number with leading zeros, and merge it with the run of that number."""
    parts = " union ".join(f"select namespace, run from {table}" for table in _TABLES)  # noqa: S608
    leading_zero = "run glob '0?*' and run not glob '*[^0-9]*'"
    for namespace, run in db.execute(f"select * from ({parts}) where {leading_zero} order by 1, 2").fetchall():  # noqa: S608
        names = {"namespace": namespace, "old": run, "new": run.lstrip("0") or "0"}
        _merge_stfs(db, names)
        _merge_pruned(db, names)
        _merge_run(db, names)


def _merge_stfs(db: Database, names: Row) -> None:
    for old, new in db.execute(_SAME_NAME, names).fetchall():
        stays = old if new is None else _merge_stf(db, old, new)
        db.execute("update stf set run = ? where id = ?", [names["new"], stays])


def _merge_stf(db: Database, *ids: int) -> int:
    """Merge two rows of one STF, and return the id of the one that stays."""
    goes, stays = sorted((next(db.query(_PROGRESS, [stf_id])) for stf_id in ids), key=_advance)
    pair = {"goes": goes["id"], "stays": stays["id"]}
    if stays["plan"] is None:
        db.execute("update tf set stf = :stays where stf = :goes", pair)
    else:
        db.execute(_COPY_REGISTERED, pair)
        db.execute(_COPY_ANNOUNCED, pair)
    db.execute(_COPY_FIELDS, pair)
    note = f"; also received as run {goes['run_id']}: {_history(db, goes['id'])}"
    db.execute("update history set note = coalesce(note, '') || ? where id = (select min(id) from history"
               " where stf = ?)", [note, stays["id"]])  # fmt: skip
    for table, column in (("tf", "stf"), ("history", "stf"), ("stf", "id")):
        db.execute(f"delete from {table} where {column} = ?", [goes["id"]])  # noqa: S608 (only fixed names are put in)
    return int(stays["id"])


def _advance(row: Row) -> tuple[int, int, int, int]:
    return _ADVANCE.index(row["state"]), row["announced"], row["registered"], -row["id"]


def _history(db: Database, stf_id: int) -> str:
    """The transitions of an STF in one line."""
    rows = db.query("select dest, at, note from history where stf = ? order by id", [stf_id])
    return ", ".join(f"{row['dest']} {row['at']}" + (f" ({row['note']})" if row["note"] else "") for row in rows)


def _merge_pruned(db: Database, names: Row) -> None:
    """Merge pruned names and their counts; an STF that is still stored in the other form is not pruned any more."""
    count = "select count(*) from pruned where namespace = :namespace and run in (:old, :new)"
    before = db.execute(count, names).fetchone()[0]
    db.execute("insert or ignore into pruned select namespace, :new, filename from pruned"
               " where namespace = :namespace and run = :old", names)  # fmt: skip
    db.execute("delete from pruned where namespace = :namespace and run = :old", names)
    db.execute(_STILL_STORED, names)
    twice = before - db.execute(count, names).fetchone()[0]
    rows = list(db.query("select * from pruned_run where namespace = :namespace and run in (:old, :new)", names))
    states = sum((Counter(json.loads(row["states"])) for row in rows), Counter[str]())
    total = states.total()
    for state in sorted(states, key=_ADVANCE.index, reverse=True):
        fewer = min(twice, states[state])
        states[state], twice = states[state] - fewer, twice - fewer
    db.execute("delete from pruned_run where namespace = :namespace and run in (:old, :new)", names)
    if +states:
        at = max(row["at"] for row in rows)
        tf_files = round(sum(row["tf_files"] for row in rows) * states.total() / total)  # each STF has about as many
        db.execute("insert into pruned_run (namespace, run, at, states, tf_files) values (?, ?, ?, ?, ?)",
                   [names["namespace"], names["new"], at, json.dumps(+states), tf_files])  # fmt: skip


def _merge_run(db: Database, names: Row) -> None:
    query = "select * from run where namespace = :namespace and run in (:new, :old) order by run = :old"
    rows = list(db.query(query, names))
    if not rows:
        return
    merged = {**(rows[0] if len(rows) == 1 else _merged(db, rows, names)), "run": names["new"]}
    if merged["verdict"]:
        merged["verdict"] = json.dumps(json.loads(merged["verdict"]) | {"run": names["new"]})
    db.execute("delete from run where namespace = :namespace and run in (:new, :old)", names)
    columns = ", ".join(merged)
    db.execute(f"insert into run ({columns}) values ({', '.join('?' * len(merged))})", list(merged.values()))  # noqa: S608


def _merged(db: Database, rows: list[dict[str, Any]], names: Row) -> dict[str, Any]:
    """One row of two: over if one of them is over, but not complete: the reconciler decides that anew."""
    latest = max(rows, key=lambda row: (row["state"] != "imminent", row["last_message_at"]))
    over = max((row for row in rows if row["state"] in _OVER), key=lambda row: row["ended_at"], default=None)
    total = max(rows, key=lambda row: (row["expected_by"] == "end_run", row["expected"] or 0))
    known = {name for (name,) in db.execute(_KNOWN_NAMES, names)}
    absent = {name for row in rows for name in json.loads(row["absent"])} - known
    saved = next((row for row in rows if row["verdict"] and _has_pruned(db, names)), None)
    last_message_at = max(row["last_message_at"] for row in rows)
    return {
        **rows[0],
        "state": "ended" if over else latest["state"],
        "ended_at": over and over["ended_at"],
        "ended_by": over and over["ended_by"],
        "execution_id": next((row["execution_id"] for row in rows if row["execution_id"]), None),
        "expected": total["expected"],
        "expected_by": total["expected_by"],
        "last_message_at": last_message_at,
        "poll_at": last_message_at,  # at once
        "nameless": max(row["nameless"] for row in rows),
        "last_sequence": max((row["last_sequence"] for row in rows if row["last_sequence"] is not None), default=None),
        "polls": sum(row["polls"] for row in rows),
        "reconcile_error": None,
        "monitor_count": max((row["monitor_count"] for row in rows if row["monitor_count"] is not None), default=None),
        "absent": json.dumps(sorted(absent)),
        "verdict": saved and saved["verdict"],
        "summary_at": saved and saved["summary_at"],
    }


def _has_pruned(db: Database, names: Row) -> bool:
    query = "select 1 from pruned where namespace = :namespace and run = :new limit 1"
    return db.execute(query, names).fetchone() is not None


_SAME_NAME = """
select a.id, b.id from stf a left join stf b on b.namespace = a.namespace and b.run = :new and b.filename = a.filename
where a.namespace = :namespace and a.run = :old"""
_PROGRESS = """
select id, run_id, state, plan, (select count(registered_at) from tf where stf = stf.id) as registered,
       (select count(announced_at) from tf where stf = stf.id) as announced
from stf where id = ?"""
_COPY_REGISTERED = """
update tf set (first, last, count, size_bytes, monitor_id, registered_at, adopted) = (
    select first, last, count, size_bytes, monitor_id, registered_at, adopted from tf as other
    where other.stf = :goes and other.filename = tf.filename)
where stf = :stays and registered_at is null
      and filename in (select filename from tf where stf = :goes and registered_at is not null)"""
_COPY_ANNOUNCED = """
update tf set announced_at = (
    select announced_at from tf as other where other.stf = :goes and other.monitor_id = tf.monitor_id)
where stf = :stays and announced_at is null and registered_at is not null"""
_COPY_FIELDS = """
update stf set plan = coalesce(stf.plan, other.plan), sequence = coalesce(stf.sequence, other.sequence),
    size_bytes = coalesce(stf.size_bytes, other.size_bytes), checksum = coalesce(stf.checksum, other.checksum),
    tf_count = coalesce(stf.tf_count, other.tf_count), execution_id = coalesce(stf.execution_id, other.execution_id),
    origin = iif(other.origin = 'message', other.origin, stf.origin), included = max(stf.included, other.included),
    workflow_id = coalesce(stf.workflow_id, other.workflow_id),
    stage_id = iif(stf.workflow_id is null, other.stage_id, stf.stage_id),
    unreportable = iif(stf.workflow_id is null and other.workflow_id is not null, other.unreportable, stf.unreportable)
from (select * from stf where id = :goes) as other where stf.id = :stays"""
_STILL_STORED = """
delete from pruned where namespace = :namespace and run = :new and filename in (
    select filename from stf where namespace = :namespace and run = :new)"""
_KNOWN_NAMES = """
select filename from stf where namespace = :namespace and run = :new union
select filename from pruned where namespace = :namespace and run = :new"""

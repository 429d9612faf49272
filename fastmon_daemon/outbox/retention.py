"""Class Retention: removes old runs in small batches, and keeps their names so that no STF counts as new again.

The caller decides which run is old, and opens the transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import PrunedRun
from fastmon_daemon.outbox.queries import columns_of, fetch, placeholders, where_equal


class Retention:
    """The tables `pruned` (names) and `pruned_run` (counts)."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def unpruned(self, states: Sequence[str]) -> list[tuple[str, str]]:
        """(namespace, run) of the runs in *states* that still have STFs, in the order of their ends."""
        return self._db.execute(
            f"select namespace, run from run where state in ({placeholders(states)})"  # noqa: S608
            " and exists (select 1 from stf where stf.namespace = run.namespace and stf.run = run.run)"
            " order by coalesce(ended_at, last_message_at)",
            list(states),
        ).fetchall()

    def has_any(self, namespace: str, run: str, states: Sequence[str]) -> bool:
        """Whether an STF of the run is in one of *states*."""
        where = f"namespace = ? and run = ? and state in ({placeholders(states)})"
        found = self._db.execute(f"select 1 from stf where {where} limit 1", [namespace, run, *states])  # noqa: S608
        return found.fetchone() is not None

    def prune(self, namespace: str, run: str, now: datetime, limit: int) -> int:
        """Remove up to *limit* STFs of a run and keep their names and counts; returns how many were removed."""
        rows = self._db.execute(
            "select id, state, (select count(*) from tf where stf = stf.id) from stf"
            " where namespace = ? and run = ? limit ?",
            [namespace, run, limit],
        ).fetchall()
        if rows:
            ids = [row[0] for row in rows]
            where = f"where id in ({placeholders(ids)})"
            self._db.execute(f"insert into pruned select namespace, run, filename from stf {where}", ids)  # noqa: S608
            self._db.execute(f"delete from stf {where}", ids)  # noqa: S608 (cascades to TF files and history)
            self._count(namespace, run, rows, now)
        return len(rows)

    def _count(self, namespace: str, run: str, rows: list[tuple[int, str, int]], now: datetime) -> None:
        before = next(iter(pruned_runs(self._db, namespace, run)), None)
        states = Counter(before.states if before else {}) + Counter(state for _, state, _ in rows)
        tf_files = (before.tf_files if before else 0) + sum(count for _, _, count in rows)
        self._db.execute(
            "insert into pruned_run (namespace, run, at, states, tf_files) values (?, ?, ?, ?, ?)"
            " on conflict (namespace, run) do update"
            " set at = excluded.at, states = excluded.states, tf_files = excluded.tf_files",
            [namespace, run, format_timestamp(now), json.dumps(states), tf_files],
        )


def pruned_runs(db: Database, namespace: str | None = None, run: str | None = None) -> list[PrunedRun]:
    """The pruned runs; None: any namespace, any run."""
    where, values = where_equal({"namespace": namespace, "run": run})
    rows = fetch(db, f"select {columns_of(PrunedRun)} from pruned_run {where}", values)  # noqa: S608
    return [PrunedRun(**{**row, "states": json.loads(row["states"])}) for row in rows]

"""Class Retention: removes old runs in small batches, and keeps their names so that no STF counts as new again.

The caller decides which run is old, and opens the transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import PrunedRun
from fastmon_daemon.outbox.queries import load, placeholders, where_in


class Retention:
    """The tables `pruned` (names) and `pruned_run` (counts)."""

    def __init__(self, db: Database) -> None:
        self._db = db

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
        states, tf_files = Counter(state for _, state, _ in rows), sum(count for _, _, count in rows)
        for before in self.runs(namespace, run):
            states.update(before.states)
            tf_files += before.tf_files
        row = [namespace, run, format_timestamp(now), json.dumps(states), tf_files]
        self._db.execute("insert or replace into pruned_run values (?, ?, ?, ?, ?)", row)

    def runs(self, namespace: str | None = None, run: str | None = None) -> list[PrunedRun]:
        """The pruned runs; None: any namespace, any run."""
        condition, values = where_in({"namespace": namespace, "run": run})
        return load(self._db, PrunedRun, f"where {condition}", values)

    def find(self, name: str) -> list[tuple[str, str]]:
        """(run, time of pruning) of the pruned STFs with the filename *name*."""
        query = "select pruned.run, at from pruned join pruned_run using (namespace, run) where filename = ?"
        return self._db.execute(query, [name]).fetchall()

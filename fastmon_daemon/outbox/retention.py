"""What leaves the outbox when it is old: whole runs, in small steps; their names stay, lest they count as new again.

Which states are final, and which STFs a person may still act on, is told by the caller. Used inside his transactions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.clock import stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """Which runs may go."""

    complete: Sequence[str]
    """States of runs of which nothing is missing."""
    kept: Sequence[str]
    """States of STFs that are never dropped; a run with one of them stays as a whole."""
    ended_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedRun:
    """What is still known of a run whose STFs were dropped."""

    namespace: str
    run: str
    at: str
    states: dict[str, int]
    """State -> how many STFs were in it."""
    tf_files: int


class Retention:
    """The tables `pruned` (names) and `pruned_run` (counts)."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def next_run(self, old: Old) -> tuple[str, str] | None:
        """Namespace and name of a run that may go and still has STFs, the one that ended first; None: there is none."""
        marks = ", ".join("?" * len(old.complete))
        for namespace, run in self._db.execute(
            f"select namespace, run from run where state in ({marks}) and coalesce(ended_at, heard_at) <= ?"  # noqa: S608
            " and exists (select 1 from stf where stf.namespace = run.namespace and stf.run = run.run)"
            " order by coalesce(ended_at, heard_at)",
            [*old.complete, stamp(old.ended_before)],
        ):
            if not any(self._has(namespace, run, state) for state in old.kept):
                return namespace, run
        return None

    def _has(self, namespace: str, run: str, state: str) -> bool:
        query = "select 1 from stf where namespace = ? and run = ? and state = ? limit 1"
        return self._db.execute(query, [namespace, run, state]).fetchone() is not None

    def prune(self, namespace: str, run: str, kept: Sequence[str], now: datetime, most: int) -> int:
        """Drop up to *most* STFs of a run and remember their names and counts; how many it were."""
        marks = ", ".join("?" * len(kept))
        rows = self._db.execute(
            f"select id, state, (select count(*) from tf where stf = stf.id) from stf"  # noqa: S608
            f" where namespace = ? and run = ? and state not in ({marks}) limit ?",
            [namespace, run, *kept, most],
        ).fetchall()
        if rows:
            ids = [row[0] for row in rows]
            those = f"where id in ({', '.join('?' * len(ids))})"
            self._db.execute(f"insert into pruned select namespace, run, filename from stf {those}", ids)  # noqa: S608
            self._db.execute(f"delete from stf {those}", ids)  # noqa: S608 (and so its TF files and its history)
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
            [namespace, run, stamp(now), json.dumps(states), tf_files],
        )


def pruned_runs(db: Database, namespace: str | None = None, run: str | None = None) -> list[PrunedRun]:
    """The runs that were pruned, or that one of them."""
    values: list[Any] = [namespace, namespace, run, run]
    query = (
        "select namespace, run, at, states, tf_files from pruned_run"
        " where (? is null or namespace = ?) and (? is null or run = ?)"
    )
    return [
        PrunedRun(namespace=row[0], run=row[1], at=row[2], states=json.loads(row[3]), tf_files=row[4])
        for row in db.execute(query, values)
    ]

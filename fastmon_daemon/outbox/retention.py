"""What leaves the outbox when it is old: whole runs, in small steps; their names stay, lest they count as new again.

Which run may go is the caller's rule. Used inside his transactions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp


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

    def unpruned(self, states: Sequence[str]) -> list[tuple[str, str]]:
        """Namespace and name of the runs in these states that still have STFs, in the order of their ends."""
        return self._db.execute(
            f"select namespace, run from run where state in ({', '.join('?' * len(states))})"  # noqa: S608
            " and exists (select 1 from stf where stf.namespace = run.namespace and stf.run = run.run)"
            " order by coalesce(ended_at, last_message_at)",
            list(states),
        ).fetchall()

    def has_any(self, namespace: str, run: str, states: Sequence[str]) -> bool:
        """Whether an STF of the run is in one of these states."""
        where = f"namespace = ? and run = ? and state in ({', '.join('?' * len(states))})"
        found = self._db.execute(f"select 1 from stf where {where} limit 1", [namespace, run, *states])  # noqa: S608
        return found.fetchone() is not None

    def prune(self, namespace: str, run: str, now: datetime, most: int) -> int:
        """Drop up to *most* STFs of a run and remember their names and counts; how many it were."""
        rows = self._db.execute(
            "select id, state, (select count(*) from tf where stf = stf.id) from stf"
            " where namespace = ? and run = ? limit ?",
            [namespace, run, most],
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
            [namespace, run, format_timestamp(now), json.dumps(states), tf_files],
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

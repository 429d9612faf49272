"""What is asked of a run: how many of its STFs are in which state, their numbers, how long each step took.

It writes nothing, and must not know the names of states.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.outbox.retention import pruned_runs
from fastmon_daemon.outbox.rows import Origin, Outage, RunRow

RUN_COLUMNS = (
    "namespace, run, run_id, state, execution_id, expected, expected_by, heard_at, ended_at, ended_by, nameless,"
    " last_sequence, look_at, looks, look_error, named, absent, summary_at"
)
"""The columns of `read_run`, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TfCounts:
    """The TF files of a run's STFs."""

    drawn: int
    registered: int
    announced: int
    stood: int
    """Not announced, because they stood in the monitor before us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long one arrow of the chart took, in seconds; *source* None: from the birth of the STF."""

    source: str | None
    dest: str
    count: int
    p50_s: float
    p95_s: float
    max_s: float


class RunReports:
    """One connection to the database, for reading."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def called(self, run: str, namespace: str | None = None) -> list[RunRow]:
        """The runs of that name, one for each namespace that has it (None: any)."""
        query = f"select {RUN_COLUMNS} from run where run = ? and namespace = coalesce(?, namespace) order by namespace"  # noqa: S608
        return [read_run(row) for row in self._db.execute(query, [run, namespace]).fetchall()]

    def kept_verdict(self, row: RunRow) -> str | None:
        """The verdict as it was when the run became complete, as JSON."""
        query = "select verdict from run where namespace = ? and run = ?"
        found = self._db.execute(query, [row.namespace, row.run]).fetchone()
        return found[0] if found else None

    def pruned(self, row: RunRow) -> int:
        """How many STFs of the run were dropped because it is old."""
        return sum(sum(each.states.values()) for each in pruned_runs(self._db, row.namespace, row.run))

    def known_counts(self) -> dict[tuple[str, str], int]:
        """(namespace, run) -> how many STFs were taken in."""
        rows = self._db.execute("select namespace, run, count(*) from stf group by namespace, run")
        return {(namespace, run): int(count) for namespace, run, count in rows}

    def counts_by_state(self, row: RunRow) -> dict[str, int]:
        """State -> how many STFs of the run are in it; states without any are absent."""
        query = "select state, count(*) from stf where namespace = ? and run = ? group by state"
        return {state: int(count) for state, count in self._db.execute(query, [row.namespace, row.run])}

    def recovered(self, row: RunRow) -> int:
        """How many STFs of the run were missed and found."""
        query = "select count(*) from stf where namespace = ? and run = ? and origin = ?"
        return int(self._db.execute(query, [row.namespace, row.run, Origin.RECOVERED]).fetchone()[0])

    def sequences(self, row: RunRow) -> set[int]:
        """The numbers of the run's STFs that were taken in."""
        query = "select sequence from stf where namespace = ? and run = ? and sequence is not null"
        return {int(number) for (number,) in self._db.execute(query, [row.namespace, row.run])}

    def tf_counts(self, row: RunRow) -> TfCounts:
        """The TF files that were drawn for the run's STFs, and what became of them."""
        drawn, registered, announced, stood = self._db.execute(_TFS, [row.namespace, row.run]).fetchone()
        return TfCounts(drawn=drawn, registered=registered, announced=announced, stood=stood or 0)

    def window(self, row: RunRow) -> tuple[str, str]:
        """From the birth of the run's first STF to the last that was heard of it."""
        query = "select min(born_at), max(received_at) from stf where namespace = ? and run = ?"
        born, received = self._db.execute(query, [row.namespace, row.run]).fetchone()
        return min(born or row.heard_at, row.heard_at), max(row.ended_at or row.heard_at, row.heard_at, received or "")

    def outages(self, began: str, ended: str) -> list[Outage]:
        """The outages (and absences of the daemon) that overlap the window, the first one first."""
        query = (
            "select link, began_at, ended_at, reason, held, next_probe_at from outage"
            " where began_at <= ? and (ended_at is null or ended_at >= ?) order by began_at, id"
        )
        return [
            Outage(link=r[0], began_at=r[1], ended_at=r[2], reason=r[3], held=bool(r[4]), next_probe_at=r[5])
            for r in self._db.execute(query, [ended, began]).fetchall()
        ]

    def latencies(self, row: RunRow) -> list[Latency]:
        """For each arrow that the run's STFs took: the median, the 95th percentile (nearest rank) and the longest."""
        seconds: defaultdict[tuple[str | None, str], array[float]] = defaultdict(lambda: array("d"))
        last_stf, last_at = None, None
        for stf, source, dest, at, born_at in self._db.execute(_ARROWS, [row.namespace, row.run]):
            then = datetime.fromisoformat(at)
            began = last_at if last_at and stf == last_stf else datetime.fromisoformat(born_at)
            seconds[source, dest].append(max(0.0, (then - began).total_seconds()))  # a clock may have jumped
            last_stf, last_at = stf, then
        return [_latency(source, dest, sorted(values)) for (source, dest), values in seconds.items()]


def _latency(source: str | None, dest: str, values: list[float]) -> Latency:
    p50, p95 = (values[(len(values) * percent + 99) // 100 - 1] for percent in (50, 95))
    return Latency(source=source, dest=dest, count=len(values), p50_s=p50, p95_s=p95, max_s=values[-1])


def read_run(row: tuple[Any, ...]) -> RunRow:
    """The `RunRow` in a row of `RUN_COLUMNS`."""
    return RunRow(
        namespace=row[0], run=row[1], run_id=json.loads(row[2]), state=row[3], execution_id=row[4], expected=row[5],
        expected_by=row[6], heard_at=row[7], ended_at=row[8], ended_by=row[9], nameless=bool(row[10]),
        last_sequence=row[11], look_at=row[12], looks=row[13], look_error=row[14], named=row[15],
        absent=tuple(json.loads(row[16])), summary_at=row[17],
    )  # fmt: skip


_TFS = """
select count(*), count(registered_at), count(announced_at),
       sum(announced_at is null and stf.stood is not null and instr(stf.stood, '"' || tf.filename || '"') > 0)
from stf join tf on tf.stf = stf.id where stf.namespace = ? and stf.run = ?"""
_ARROWS = """
select stf.id, history.source, history.dest, history.at, stf.born_at
from stf join history on history.stf = stf.id where stf.namespace = ? and stf.run = ?
order by history.stf, history.id"""

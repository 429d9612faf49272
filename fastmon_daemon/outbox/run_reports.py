"""What is asked of a run: how many of its STFs are in which state, their numbers, how long each step took.

It writes nothing, and must not know the names of states.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.clock import stamp
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
        return [
            Latency(source=r[0], dest=r[1], count=r[2], p50_s=r[3], p95_s=r[4], max_s=r[5])
            for r in self._db.execute(_LATENCIES, [row.namespace, row.run]).fetchall()
        ]

    def last_sign_of_life(self, now: datetime) -> str | None:
        """When the daemon wrote for the last time, as far as can be told."""
        query = """
            select max(at) from (select at from (select at from history order by id desc limit 1)
                                 union all select max(heard_at) from run
                                 union all select value from meta where key = 'listened_at')
            where at <= ?"""
        found = self._db.execute(query, [stamp(now)]).fetchone()
        return found[0] if found else None


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
_LATENCIES = """
with step as (
    select history.source as source, history.dest as dest,
           max(0, (julianday(history.at)
                   - julianday(coalesce(lag(history.at) over (partition by history.stf order by history.id),
                                        stf.born_at))) * 86400) as s
    from stf join history on history.stf = stf.id where stf.namespace = ? and stf.run = ?),
ranked as (
    select source, dest, s, row_number() over (partition by source, dest order by s) as place,
           count(*) over (partition by source, dest) as n
    from step)
select source, dest, n, max(iif(place = (n * 50 + 99) / 100, s, null)), max(iif(place = (n * 95 + 99) / 100, s, null)),
       max(s)
from ranked group by source, dest"""

"""The runs in the outbox: what was heard of them, when the monitor is asked for their STFs, what became of those.

It must not know the names of states.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import RUN_COLUMNS, Origin, RunRow, read_run
from fastmon_daemon.outbox.outages import Outages
from fastmon_daemon.outbox.retention import pruned_runs

MAX_ABSENT = 1000
"""Names of absent STFs that are kept of a run."""
_MOST_DUE = 100
_FAR = timedelta(minutes=10)
"""A look that is due later than this is no pause but a clock that jumped: it counts as due. No pause is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TfCounts:
    """The TF files of a run's STFs."""

    drawn: int
    registered: int
    announced: int
    preexisting: int
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


class Runs:
    """The table `run`; used inside the transactions of the `Outbox` that owns it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, namespace: str, run: str) -> RunRow | None:
        """The run, or None if nothing was heard of it."""
        return next(iter(self._where("namespace = ? and run = ?", [namespace, run])), None)

    def record_message(
        self, namespace: str, run_id: str | int, state: str, now: datetime, execution_id: str | None
    ) -> None:
        """Note that the run was heard of; a run that is new begins in *state*, and is looked at."""
        self._db.execute(_HEAR, {
            "namespace": namespace, "run": str(run_id), "run_id": json.dumps(run_id), "state": state,
            "execution_id": execution_id, "now": format_timestamp(now),
        })  # fmt: skip

    def set_state(
        self, row: RunRow, state: str, *, ended_at: datetime | None = None, ended_by: str | None = None
    ) -> bool:
        """Move a run to *state*; False if somebody else moved it meanwhile."""
        moved = self._db.execute(_ENTER, {
            "namespace": row.namespace, "run": row.run, "source": row.state, "dest": state,
            "ended_at": format_timestamp(ended_at) if ended_at else None, "ended_by": ended_by,
        })  # fmt: skip
        return bool(moved.rowcount)

    def expect(self, row: RunRow, expected: int, by: str) -> None:
        """Note how many STFs there were, and who says so."""
        self._set(row, "expected = ?, expected_by = ?", [expected, by])

    def mark_nameless(self, row: RunRow, now: datetime) -> None:
        """It was announced without filenames: look at it, and take in at once what is found."""
        self._set(row, "nameless = 1, poll_at = ?", [format_timestamp(now)])

    def record_sequence(self, row: RunRow, sequence: int) -> None:
        """Note the number of an STF that was heard of."""
        self._set(row, "last_sequence = max(coalesce(last_sequence, ?), ?)", [sequence, sequence])

    def schedule_poll(self, row: RunRow, at: datetime | None, error: str | None = None) -> None:
        """Ask the monitor for the run's STFs at *at* (None: no more); *error* is what the last look met."""
        self._set(row, "poll_at = ?, reconcile_error = ?", [format_timestamp(at) if at else None, error])

    def poll_by(self, row: RunRow, at: datetime) -> None:
        """Look at *at*, if not sooner."""
        self._set(row, "poll_at = min(coalesce(poll_at, ?), ?)", [format_timestamp(at), format_timestamp(at)])

    def record_poll(self, row: RunRow, at: datetime | None, named: int, absent: Sequence[str]) -> None:
        """A look was answered: *named* STFs, of which we did not know *absent*; the next one is at *at*."""
        kept = json.dumps(sorted(absent)[:MAX_ABSENT])
        change = "poll_at = ?, reconcile_error = null, polls = polls + 1, monitor_count = ?, absent = ?"
        self._set(row, change, [format_timestamp(at) if at else None, named, kept])

    def not_absent(self, row: RunRow, filename: str) -> None:
        """An STF that the last look did not know is taken in; *row* as it stands now."""
        if filename in row.absent:
            self._set(row, "absent = ?", [json.dumps([name for name in row.absent if name != filename])])

    def schedule_all(self, now: datetime, but: Sequence[str]) -> None:
        """Look at every run that is in no state of *but*."""
        self._db.execute(
            f"update run set poll_at = ? where state not in ({_marks(but)})",  # noqa: S608 (only placeholders are put in)
            [format_timestamp(now), *but],
        )

    def due_for_poll(self, now: datetime, *, nameless_only: bool) -> list[RunRow]:
        """The runs whose look is due, the longest due first, some at a time."""
        where = "(poll_at <= ? or poll_at > ?) and nameless >= ? order by poll_at limit ?"
        return self._where(where, [format_timestamp(now), format_timestamp(now + _FAR), nameless_only, _MOST_DUE])

    def in_states(self, states: Sequence[str]) -> list[RunRow]:
        """The runs in these states."""
        return self._where(f"state in ({_marks(states)})", list(states))

    def save_verdict(self, row: RunRow, verdict: str) -> None:
        """The run is complete: keep its verdict, as JSON; now its summary is owed, perhaps not the first."""
        self._set(row, "verdict = ?, summary_at = null", [verdict])

    def owing_summary(self) -> list[tuple[RunRow, str]]:
        """The runs that are complete and whose summary was not sent, each with its verdict."""
        rows = self._db.execute(
            f"select {RUN_COLUMNS}, verdict from run where verdict is not null and summary_at is null"  # noqa: S608
        )
        return [(read_run(row[:-1]), row[-1]) for row in rows.fetchall()]

    def summary_sent(self, row: RunRow, verdict: str, now: datetime) -> None:
        """Nothing is owed any more, unless the verdict is another one by now."""
        self._set(row, "summary_at = case verdict when ? then ? end", [verdict, format_timestamp(now)])

    def all_names(self) -> set[str]:
        """The runs that were heard of, in any namespace."""
        return {name for (name,) in self._db.execute("select run from run")}

    def known_names(self, row: RunRow) -> set[str]:
        """The filenames of the run's STFs that were taken in, pruned ones too: the one place that says so."""
        where = "where namespace = ? and run = ?"
        query = f"select filename from stf {where} union all select filename from pruned {where}"  # noqa: S608
        return {name for (name,) in self._db.execute(query, [row.namespace, row.run] * 2)}

    def _set(self, row: RunRow, change: str, values: Sequence[object]) -> None:
        self._db.execute(f"update run set {change} where namespace = ? and run = ?", [*values, row.namespace, row.run])  # noqa: S608

    def _where(self, where: str, values: Sequence[object]) -> list[RunRow]:
        rows = self._db.execute(f"select {RUN_COLUMNS} from run where {where}", list(values))  # noqa: S608
        return [read_run(row) for row in rows.fetchall()]


class RunReports:
    """What is asked of a run; reads only."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.outages = Outages(db)

    def find(self, run: str, namespace: str | None = None) -> list[RunRow]:
        """The runs of that name, one for each namespace that has it (None: any)."""
        query = f"select {RUN_COLUMNS} from run where run = ? and namespace = coalesce(?, namespace) order by namespace"  # noqa: S608
        return [read_run(row) for row in self._db.execute(query, [run, namespace]).fetchall()]

    def saved_verdict(self, row: RunRow) -> str | None:
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
        return TfCounts(drawn=drawn, registered=registered, announced=announced, preexisting=stood or 0)

    def window(self, row: RunRow) -> tuple[str, str]:
        """From the birth of the run's first STF to the last that was heard of it."""
        query = "select min(born_at), max(received_at) from stf where namespace = ? and run = ?"
        born, received = self._db.execute(query, [row.namespace, row.run]).fetchone()
        return min(born or row.last_message_at, row.last_message_at), max(
            row.ended_at or row.last_message_at, row.last_message_at, received or ""
        )

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


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


_HEAR = """
insert into run (namespace, run, run_id, state, execution_id, last_message_at, poll_at)
values (:namespace, :run, :run_id, :state, :execution_id, :now, :now)
on conflict (namespace, run) do update set last_message_at = excluded.last_message_at,
                                           execution_id = coalesce(run.execution_id, excluded.execution_id)"""
_ENTER = """
update run set state = :dest, ended_at = coalesce(:ended_at, ended_at), ended_by = coalesce(:ended_by, ended_by)
where namespace = :namespace and run = :run and state = :source"""
_TFS = """
select count(*), count(registered_at), count(announced_at),
       sum(announced_at is null and stf.preexisting is not null
           and instr(stf.preexisting, '"' || tf.filename || '"') > 0)
from stf join tf on tf.stf = stf.id where stf.namespace = ? and stf.run = ?"""
_ARROWS = """
select stf.id, history.source, history.dest, history.at, stf.born_at
from stf join history on history.stf = stf.id where stf.namespace = ? and stf.run = ?
order by history.stf, history.id"""

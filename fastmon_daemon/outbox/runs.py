"""Class Runs: the table `run`, and the queries about the STFs of one run. Knows no names of states."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.messages import run_identity, sequence_in
from fastmon_daemon.outbox.models import Elsewhere, Latency, Origin, RunRow, TfCounts
from fastmon_daemon.outbox.outages import Outages
from fastmon_daemon.outbox.queries import count_stfs_by_state, load, placeholders, where_in
from fastmon_daemon.outbox.retention import Retention

MAX_ABSENT = 1000
"""Names of absent STFs that are kept of a run."""
_NAMES_AT_ONCE = 500
"""Names that one query looks up."""
_MAX_DUE = 100
_MAX_PAUSE = timedelta(minutes=10)
"""No pause is longer: a poll that is due later than this means that the clock jumped, and is due now."""


class Runs:
    """The table `run`; its writing methods are called inside a transaction of the `Outbox`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.outages = Outages(db)

    def get(self, namespace: str, run: str) -> RunRow | None:
        """The run, or None if it is unknown."""
        return next(iter(self.find(run, namespace)), None)

    def find(self, run: str, namespace: str | None = None) -> list[RunRow]:
        """The runs of that name in *namespace*; None: one for each namespace that has it."""
        condition, values = where_in({"run": run, "namespace": namespace})
        return load(self._db, RunRow, f"where {condition} order by namespace", values)

    def latest(self, limit: int = -1) -> list[RunRow]:
        """Up to *limit* runs, that of the latest message first; a negative limit means all."""
        return load(self._db, RunRow, "order by last_message_at desc, namespace, run limit ?", [limit])

    def in_states(self, states: Sequence[str]) -> list[RunRow]:
        """The runs in *states*."""
        return load(self._db, RunRow, f"where state in ({placeholders(states)})", states)

    def with_unlisted(self, states: Sequence[str]) -> list[RunRow]:
        """The runs in *states* with STFs that the monitor does not list."""
        return load(self._db, RunRow, f"where unlisted <> '[]' and state in ({placeholders(states)})", states)

    def unpruned(self, states: Sequence[str]) -> list[RunRow]:
        """The runs in *states*, or not claimed, that still have STFs, in the order of their ends."""
        has_stfs = "exists (select 1 from stf where stf.namespace = run.namespace and stf.run = run.run)"
        over = f"(not claimed or state in ({placeholders(states)}))"
        tail = f"where {has_stfs} and {over} order by coalesce(ended_at, last_message_at)"
        return load(self._db, RunRow, tail, states)

    def unpruned_names(self) -> list[tuple[str, str]]:
        """(namespace, run) of all runs that still have STFs, or may get some."""
        has_stfs = "exists (select 1 from stf where stf.namespace = run.namespace and stf.run = run.run)"
        query = f"select namespace, run from run where {has_stfs} or ended_at is null order by namespace, run"  # noqa: S608
        return list(self._db.execute(query).fetchall())

    def counts(self) -> dict[str, int]:
        """State -> number of runs; states without runs are left out."""
        return dict(self._db.execute("select state, count(*) from run group by state").fetchall())

    def record_message(
        self, namespace: str, run_id: str | int, state: str, now: datetime, execution_id: str | None,
        *, claims: bool = True,
    ) -> None:  # fmt: skip
        """Note a message of the run; a new run begins in *state*. It is polled once a message *claims* it as ours."""
        self._db.execute(_RECORD_MESSAGE, {
            "namespace": namespace, "run": run_identity(run_id), "run_id": json.dumps(run_id), "state": state,
            "execution_id": execution_id, "claims": claims, "now": format_timestamp(now),
        })  # fmt: skip

    def claim(self, row: RunRow, now: datetime) -> None:
        """An operator claims the run for good; it is polled at once."""
        self._set(row, "claimed = 1, poll_at = ?", [format_timestamp(now)])

    def release(self, row: RunRow, other_namespace: str) -> bool:
        """The run is not ours, because TF files of *other_namespace* stand in it: it is polled no more.

        False if an operator claimed it although that was known.
        """
        query = (
            "update run set claimed = 0, other_namespace = ?, poll_at = null, monitor_count = null, absent = '[]',"
            " unlisted = '[]', expected = null, expected_by = null"
            " where namespace = ? and run = ? and other_namespace is null"
        )
        return bool(self._db.execute(query, [other_namespace, row.namespace, row.run]).rowcount)

    def set_state(
        self, row: RunRow, state: str, *, ended_at: datetime | None = None, ended_by: str | None = None
    ) -> bool:
        """Move a run to *state*; False if it left the state in *row* meanwhile."""
        moved = self._db.execute(_SET_STATE, {
            "namespace": row.namespace, "run": row.run, "source": row.state, "dest": state,
            "ended_at": format_timestamp(ended_at) if ended_at else None, "ended_by": ended_by,
        })  # fmt: skip
        return bool(moved.rowcount)

    def expect(self, row: RunRow, expected: int, by: str) -> None:
        """Store how many STFs the run has, and the source of that number."""
        self._set(row, "expected = ?, expected_by = ?", [expected, by])

    def mark_nameless(self, row: RunRow, now: datetime) -> None:
        """After an `stf_ready` without a filename: poll the run from now on; every listed STF is stored at once."""
        self._set(row, "nameless = 1, poll_at = iif(claimed, ?, null)", [format_timestamp(now)])

    def record_sequence(self, row: RunRow, sequence: int) -> None:
        """Note the sequence number of an STF."""
        self._set(row, "last_sequence = max(coalesce(last_sequence, ?), ?)", [sequence, sequence])

    def schedule_poll(self, row: RunRow, at: datetime | None, error: str | None = None) -> None:
        """Poll the run at *at* (None: never again); *error* is that of the last poll."""
        self._set(row, "poll_at = ?, reconcile_error = ?", [format_timestamp(at) if at else None, error])

    def poll_by(self, row: RunRow, at: datetime) -> None:
        """Poll the run at *at* or earlier."""
        earlier = "poll_at = iif(claimed, min(coalesce(poll_at, ?), ?), null)"
        self._set(row, earlier, [format_timestamp(at), format_timestamp(at)])

    def record_poll(
        self, row: RunRow, at: datetime | None, listed: int, absent: Iterable[str], unlisted: Iterable[str]
    ) -> None:
        """Store the answer to a poll: *listed* STFs, of which *absent* are unknown; the next poll is at *at*.

        *unlisted* STFs should have been listed too.
        """
        names = [json.dumps(sorted(each)[:MAX_ABSENT]) for each in (absent, unlisted)]
        change = "poll_at = ?, reconcile_error = null, polls = polls + 1, monitor_count = ?, absent = ?, unlisted = ?"
        self._set(row, change, [format_timestamp(at) if at else None, listed, *names])

    def remove_absent(self, row: RunRow, filename: str) -> None:
        """An STF that was unknown at the last poll is stored now; *row* must be current."""
        if filename in row.absent:
            self._set(row, "absent = ?", [json.dumps([name for name in row.absent if name != filename])])

    def schedule_all(self, now: datetime, but: Sequence[str]) -> None:
        """Poll every claimed run that is in none of the states *but*."""
        self._db.execute(
            f"update run set poll_at = ? where claimed and state not in ({placeholders(but)})",  # noqa: S608 (only placeholders are put in)
            [format_timestamp(now), *but],
        )

    def due_for_poll(self, now: datetime, *, nameless_only: bool) -> list[RunRow]:
        """Up to 100 runs whose poll is due, the longest due first."""
        where = "where (poll_at <= ? or poll_at > ?) and nameless >= ? order by poll_at limit ?"
        limits = format_timestamp(now), format_timestamp(now + _MAX_PAUSE)
        return load(self._db, RunRow, where, [*limits, nameless_only, _MAX_DUE])

    def save_verdict(self, row: RunRow, verdict: str) -> None:
        """Store the verdict of a complete run, as JSON; its summary is pending now, even if one was sent before."""
        self._set(row, "verdict = ?, summary_at = null", [verdict])

    def pending_summaries(self) -> list[tuple[RunRow, str]]:
        """The runs with a stored verdict whose summary was not sent, with that verdict."""
        rows = load(self._db, RunRow, "where verdict is not null and summary_at is null")
        return [(row, verdict) for row in rows if (verdict := self.saved_verdict(row))]

    def summary_sent(self, row: RunRow, verdict: str, now: datetime) -> None:
        """The summary is not pending any more, unless the verdict has changed since."""
        self._set(row, "summary_at = case verdict when ? then ? end", [verdict, format_timestamp(now)])

    def has_claimed(self, namespace: str) -> bool:
        """Whether any run of *namespace* is claimed."""
        return self._db.table("run").count_where("namespace = ? and claimed", [namespace]) > 0

    def all_names(self) -> set[str]:
        """The names of all known runs, of any namespace."""
        return {row["run"] for row in self._db.table("run").rows_where(select="run")}

    def unknown_names(self, namespace: str, run: str, names: Iterable[str]) -> set[str]:
        """Those of *names* that no STF of the run has that was ever stored, or finished elsewhere; pruned ones count.

        However many STFs the run has, only those that are named are looked up.
        """
        left, unknown = iter(names), set[str]()
        while some := list(islice(left, _NAMES_AT_ONCE)):
            query = _UNKNOWN.format(", ".join(["(?)"] * len(some)))
            found = {name for (name,) in self._db.execute(query, [*some, *[namespace, run] * 3])}
            unknown.update(name for name in some if name in found)  # the caller's texts: a copy of each takes memory
        return unknown

    def record_elsewhere(self, row: RunRow, filename: str, agent: str, *, finished: bool) -> None:
        """Note that the daemon *agent* processes an STF that we do not have, or has finished it."""
        self._db.execute(_RECORD_ELSEWHERE, [row.namespace, row.run, filename, agent, finished])

    def elsewhere(self, row: RunRow) -> Elsewhere:
        """The numbers of the run's STFs that other daemons have."""
        query = f"select coalesce(sum(finished), 0), count(*) from elsewhere where {_OF_RUN}"  # noqa: S608
        finished, total = self._db.execute(query, [row.namespace, row.run]).fetchone()
        return Elsewhere(finished=finished, unfinished=total - finished)

    def known_count(self, row: RunRow) -> int:
        """The number of the run's STFs that we know: stored, pruned, or with other daemons."""
        return self.stored_count(row) + self.elsewhere(row).unfinished

    def stored_count(self, row: RunRow) -> int:
        """The number of the run's STFs that were ever stored, or finished elsewhere; pruned ones count."""
        stored = sum(self.counts_by_state(row).values())
        return stored + self.pruned(row) + self.elsewhere(row).finished

    def unlisted_names(
        self, namespace: str, run: str, states: Sequence[str], until: datetime, listed: Container[str]
    ) -> set[str]:
        """The STFs of the run in *states* of which a TF file was registered until then, and that are not *listed*."""
        query = (
            f"select filename from stf where {_OF_RUN} and state in ({placeholders(states)})"  # noqa: S608
            " and exists (select 1 from tf where tf.stf = stf.id and tf.registered_at <= ?)"
        )
        found = self._db.execute(query, [namespace, run, *states, format_timestamp(until)])
        return {name for (name,) in found if name not in listed}

    def saved_verdict(self, row: RunRow) -> str | None:
        """The verdict that was stored when the run became complete, as JSON."""
        return next(
            (found["verdict"] for found in self._db.table("run").rows_where(_OF_RUN, [row.namespace, row.run])), None
        )

    def pruned(self, row: RunRow) -> int:
        """The number of pruned STFs of the run."""
        return sum(sum(each.states.values()) for each in Retention(self._db).runs(row.namespace, row.run))

    def known_counts(self) -> dict[tuple[str, str], int]:
        """(namespace, run) -> number of STFs that are stored, or with other daemons."""
        rows = self._db.execute(_KNOWN_COUNTS)
        return {(namespace, run): count for namespace, run, count in rows}

    def counts_by_state(self, row: RunRow) -> dict[str, int]:
        """State -> number of STFs of the run; states without STFs are left out."""
        return count_stfs_by_state(self._db, namespace=row.namespace, run=row.run)

    def recovered(self, row: RunRow) -> int:
        """The number of recovered STFs of the run."""
        where = f"{_OF_RUN} and origin = ?"
        return self._db.table("stf").count_where(where, [row.namespace, row.run, Origin.RECOVERED])

    def sequences(self, row: RunRow) -> set[int]:
        """The sequence numbers of the run's STFs, stored or with other daemons."""
        where = f"{_OF_RUN} and sequence is not null"
        rows = self._db.table("stf").rows_where(where, [row.namespace, row.run], select="sequence")
        others = self._db.table("elsewhere").rows_where(_OF_RUN, [row.namespace, row.run], select="filename")
        there = {sequence_in(found["filename"], row.run_id) for found in others}
        return {found["sequence"] for found in rows} | {number for number in there if number is not None}

    def tf_counts(self, row: RunRow) -> TfCounts:
        """The number of TF files of the run's STFs, by progress."""
        return TfCounts(**next(iter(self._db.query(_TF_COUNTS, [row.namespace, row.run]))))

    def window(self, row: RunRow) -> tuple[str, str]:
        """From the birth of the run's first STF to its end or last message."""
        query = "select min(born_at), max(received_at) from stf where namespace = ? and run = ?"
        born, received = self._db.execute(query, [row.namespace, row.run]).fetchone()
        return min(born or row.last_message_at, row.last_message_at), max(
            row.ended_at or row.last_message_at, row.last_message_at, received or ""
        )

    def latencies(self, row: RunRow) -> list[Latency]:
        """The durations of each transition in the run: median, 95th percentile (nearest rank) and maximum."""
        seconds: defaultdict[tuple[str | None, str], array[float]] = defaultdict(lambda: array("d"))
        last_stf, last_at = None, None
        for stf, source, dest, at, born_at in self._db.execute(_TRANSITIONS, [row.namespace, row.run]):
            then = datetime.fromisoformat(at)
            began = last_at if last_at and stf == last_stf else datetime.fromisoformat(born_at)
            seconds[source, dest].append(max(0.0, (then - began).total_seconds()))  # the clock may have jumped
            last_stf, last_at = stf, then
        return [_latency(source, dest, sorted(values)) for (source, dest), values in seconds.items()]

    def _set(self, row: RunRow, change: str, values: Sequence[object]) -> None:
        self._db.execute(f"update run set {change} where {_OF_RUN}", [*values, row.namespace, row.run])  # noqa: S608


def _latency(source: str | None, dest: str, values: list[float]) -> Latency:
    p50, p95 = (values[(len(values) * percent + 99) // 100 - 1] for percent in (50, 95))
    return Latency(source=source, dest=dest, count=len(values), p50_s=p50, p95_s=p95, max_s=values[-1])


_OF_RUN = "namespace = ? and run = ?"
_RECORD_MESSAGE = """
insert into run (namespace, run, run_id, state, execution_id, last_message_at, poll_at, claimed)
values (:namespace, :run, :run_id, :state, :execution_id, :now, iif(:claims, :now, null), :claims)
on conflict (namespace, run) do update set
    last_message_at = excluded.last_message_at, execution_id = coalesce(run.execution_id, excluded.execution_id),
    poll_at = iif(claimed or other_namespace is not null, poll_at, excluded.poll_at),
    claimed = max(claimed, excluded.claimed and other_namespace is null)"""
_KNOWN_COUNTS = """
select namespace, run, sum(stfs) from (
    select namespace, run, stfs from stf_count
    union all select namespace, run, count(*) from elsewhere group by namespace, run
) group by namespace, run"""
_UNKNOWN = f"""
with listed (name) as (values {{}})
select name from listed
where not exists (select 1 from stf where filename = name and {_OF_RUN})
and not exists (select 1 from pruned where filename = name and {_OF_RUN})
and not exists (select 1 from elsewhere where filename = name and {_OF_RUN} and finished)"""  # noqa: S608
_RECORD_ELSEWHERE = """
insert into elsewhere values (?, ?, ?, ?, ?)
on conflict (namespace, run, filename) do update set agent = excluded.agent, finished = excluded.finished"""
_SET_STATE = """
update run set state = :dest, ended_at = coalesce(:ended_at, ended_at), ended_by = coalesce(:ended_by, ended_by)
where namespace = :namespace and run = :run and state = :source"""
_TF_COUNTS = """
select count(*) as drawn, count(registered_at) as registered, count(announced_at) as announced,
       coalesce(sum(announced_at is null and stf.preexisting is not null
                    and instr(stf.preexisting, '"' || tf.filename || '"') > 0), 0) as preexisting
from stf join tf on tf.stf = stf.id where stf.namespace = ? and stf.run = ?"""
_TRANSITIONS = """
select stf.id, history.source, history.dest, history.at, stf.born_at
from stf join history on history.stf = stf.id where stf.namespace = ? and stf.run = ?
order by history.stf, history.id"""

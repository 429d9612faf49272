"""What stands in the outbox, as frozen types: rows and how they are read, facts, and what is due."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp

DAEMON_DOWNTIME = "daemon"
"""In place of a link: the outages of this name are times at which no daemon listened."""


SAMPLING_VERSION = 1
"""Version of the algorithm; it seeds the draw, so that a change of one never mixes samples of two."""


@dataclass(frozen=True, slots=True)
class TfRange:
    """One contiguous block of TFs of an STF; TFs are numbered from 0 and `last` is inclusive."""

    sequence: int
    filename: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """Number of TFs in the block."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePlan:
    """All that a sample depends on; kept with the STF so that anybody can draw it again."""

    seed: str
    tf_count: int
    """TFs in the STF."""
    tf_files: int
    """Blocks asked for."""
    size_fraction: float
    """Mean size of a block as a fraction of its partition, in (0, 1]."""
    sequence_start: int
    version: int = SAMPLING_VERSION


class Origin(StrEnum):
    """How we heard of an STF."""

    MESSAGE = "message"
    """Its `stf_ready` said so."""
    POLLED = "polled"
    """An `stf_ready` without filename made us look at the run in the monitor."""
    RECOVERED = "recovered"
    """Its message was missed; the ledger found it in the monitor."""
    FILE = "file"
    """Its file was found in a watched folder: nobody else registers it."""


class ReceiveOutcome(StrEnum):
    """What `receive` found."""

    FRESH = "fresh"
    KNOWN = "known"
    CONFLICT = "conflict"
    """The same name came with another content; nothing was overwritten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStf:
    """An STF as it is taken in; identity is (namespace, run, filename)."""

    namespace: str
    run_id: str | int
    """As it came; its text is the identity."""
    filename: str
    sequence: int | None = None
    size_bytes: int | None = None
    checksum: str | None = None
    tf_count: int | None = None
    execution_id: str | None = None
    body: str = "{}"
    """The whole message (or the monitor's row) as JSON text."""
    origin: Origin = Origin.MESSAGE
    born_at: datetime | None = None
    """When the STF was known to exist, if that was before now."""
    note: str | None = None
    """What its first history row says; else its origin."""
    preexisting: tuple[str, ...] = ()
    """Names of its TF files that stood in the monitor before we had done anything for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tf:
    """One TF file of a sample; `last` is inclusive."""

    sequence: int
    filename: str
    first: int | None
    last: int | None
    count: int | None
    size_bytes: int | None
    monitor_id: str | None = None
    """The monitor's `tf_file_id`, once it is registered."""
    registered_at: str | None = None
    announced_at: str | None = None
    adopted: str | None = None
    """Where another writer was first: in what its row differed from ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stf:
    """One STF as it stands on disk, with its TF files."""

    id: int
    namespace: str
    run: str
    run_id: str | int
    filename: str
    sequence: int | None
    size_bytes: int | None
    checksum: str | None
    tf_count: int | None
    execution_id: str | None
    body: str
    origin: Origin
    included: bool
    """A person wants it processed although it was not selected."""
    state: str
    life: int
    since: str
    """When it came into its state."""
    received_at: str
    born_at: str
    due_at: str | None
    """When its next step may be taken; None means that it rests."""
    attempts: int
    spent_s: float
    """Seconds of its budget that it used up in this state by its own fault."""
    last_error: str | None
    remark: str | None
    plan: SamplePlan | None
    preexisting: tuple[str, ...] = ()
    """Names of its TF files that stood in the monitor before we had done anything for it."""
    tfs: tuple[Tf, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The sample was drawn."""

    plan: SamplePlan
    ranges: tuple[TfRange, ...]
    sizes: tuple[int | None, ...]
    """Bytes of each block, in the order of *ranges*; None where the STF's size is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One TF file stands in the monitor; what stands there is what we keep."""

    tf: Tf


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """One TF file was announced and the other side confirmed it."""

    sequence: int


StepResult = Sampled | Registered | Announced


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One transition of one STF."""

    life: int
    trigger: str | None
    """None: the row by which it was received."""
    source: str | None
    dest: str
    at: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run as we know it."""

    namespace: str
    run: str
    run_id: str | int
    state: str
    execution_id: str | None
    expected: int | None
    """How many STFs there were."""
    expected_by: str | None
    """The authority on *expected*: `end_run` (its `total_stf_files`) or `monitor` (what it names, settled)."""
    last_message_at: str
    ended_at: str | None
    ended_by: str | None
    """How we know that it has ended."""
    nameless: bool
    """It was announced without filenames: the monitor alone names its STFs."""
    last_sequence: int | None
    """The highest number of an STF that was heard of."""
    poll_at: str | None
    """When the monitor is to be asked for this run's STFs; None: not at all."""
    polls: int
    reconcile_error: str | None
    monitor_count: int | None
    """How many STFs the monitor named at the last look."""
    absent: tuple[str, ...]
    """Of those the ones that we did not know, a thousand at most."""
    summary_at: str | None
    """When its summary was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A window in which a link was down (or held: it answers, but refuses us)."""

    link: str
    began_at: str
    ended_at: str | None
    reason: str
    blocked: bool
    next_probe_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueQuery:
    """Which of the due STFs are wanted."""

    now: datetime
    far: datetime
    """A due time later than this is no backoff but a clock that jumped: it counts as now."""
    retrying: bool
    """Those that failed before, or those that did not: these are due at any time, whatever the clock says."""
    newest: bool
    limit: int
    busy: tuple[int, ...] = ()
    """Ids that are being worked on already."""
    fresh_since: datetime | None = None
    """Only STFs that came by message and were born after this; None: all."""

    @property
    def sql(self) -> str:
        """The query for one state; `explain query plan` shows every part of it on the index `stf_due`."""
        order = "desc" if self.newest else "asc"
        where = f"state = ? and (attempts > 0) = {int(self.retrying)} and id not in ({', '.join('?' * len(self.busy))})"
        where += " and origin <> ? and born_at >= ?" if self.fresh_since else ""
        part = f"select due_at, id from stf where {where} and due_at"  # noqa: S608 (only placeholders are put in)
        tail = f"order by due_at {order}, id {order} limit ?"
        if not self.retrying:
            return f"{part} is not null {tail}"
        return f"select * from ({part} <= ? {tail}) union all select * from ({part} > ? {tail})"  # noqa: S608 (the same)

    def arguments(self, state: str) -> list[Any]:
        """The parameters of `sql` for *state*."""
        where: list[Any] = [state, *self.busy]
        if self.fresh_since:
            where += [Origin.RECOVERED, format_timestamp(self.fresh_since)]
        if not self.retrying:
            return [*where, self.limit]
        return [*where, format_timestamp(self.now), self.limit, *where, format_timestamp(self.far), self.limit]


STF_COLUMNS = """
stf.id, stf.namespace, stf.run, stf.run_id, filename, sequence, size_bytes, checksum, tf_count,
coalesce(stf.execution_id, run.execution_id) as execution_id, body, origin, included, stf.state, life, since,
received_at, born_at, due_at, attempts, spent_s, last_error, remark, plan, preexisting
from stf left join run on run.namespace = stf.namespace and run.run = stf.run"""
"""The columns of `read_stf`, in order; the execution is the message's, else that of the run's messages."""


def where_equal(given: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """The `where` for those columns that are given a value, empty if none is; and the values."""
    wanted = {column: value for column, value in given.items() if value is not None}
    return f"where {' and '.join(f'{column} = ?' for column in wanted)}" if wanted else "", list(wanted.values())


def load_stfs(db: Database, tail: str, values: Sequence[Any]) -> list[Stf]:
    """The STFs that *tail* (where, order, limit) picks, each with its TF files."""
    rows = db.execute(f"select {STF_COLUMNS} {tail}", values).fetchall()
    return [read_stf(row, load_tfs(db, row[0])) for row in rows]


def load_tfs(db: Database, stf_id: int) -> tuple[Tf, ...]:
    """The TF files of an STF, in order."""
    rows = db.execute("select * from tf where stf = ? order by sequence", [stf_id])
    return tuple(read_tf(row) for row in rows.fetchall())


def read_stf(row: tuple[Any, ...], tfs: tuple[Tf, ...]) -> Stf:
    """The `Stf` in a row of `STF_COLUMNS`."""
    return Stf(
        id=row[0], namespace=row[1], run=row[2], run_id=json.loads(row[3]), filename=row[4], sequence=row[5],
        size_bytes=row[6], checksum=row[7], tf_count=row[8], execution_id=row[9], body=row[10], origin=Origin(row[11]),
        included=bool(row[12]), state=row[13], life=row[14], since=row[15], received_at=row[16], born_at=row[17],
        due_at=row[18], attempts=row[19], spent_s=row[20], last_error=row[21], remark=row[22],
        plan=SamplePlan(**json.loads(row[23])) if row[23] else None,
        preexisting=tuple(json.loads(row[24] or "[]")), tfs=tfs,
    )  # fmt: skip


def read_tf(row: tuple[Any, ...]) -> Tf:
    """The `Tf` in a row of the table `tf`."""
    return Tf(
        sequence=row[1], filename=row[2], first=row[3], last=row[4], count=row[5], size_bytes=row[6],
        monitor_id=row[7], registered_at=row[8], announced_at=row[9], adopted=row[10],
    )  # fmt: skip


RUN_COLUMNS = (
    "namespace, run, run_id, state, execution_id, expected, expected_by, last_message_at, ended_at, ended_by, nameless,"
    " last_sequence, poll_at, polls, reconcile_error, monitor_count, absent, summary_at"
)
"""The columns of `read_run`, in order."""


def read_run(row: tuple[Any, ...]) -> RunRow:
    """The `RunRow` in a row of `RUN_COLUMNS`."""
    return RunRow(
        namespace=row[0], run=row[1], run_id=json.loads(row[2]), state=row[3], execution_id=row[4], expected=row[5],
        expected_by=row[6], last_message_at=row[7], ended_at=row[8], ended_by=row[9], nameless=bool(row[10]),
        last_sequence=row[11], poll_at=row[12], polls=row[13], reconcile_error=row[14], monitor_count=row[15],
        absent=tuple(json.loads(row[16])), summary_at=row[17],
    )  # fmt: skip

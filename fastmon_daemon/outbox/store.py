"""Class Outbox: stores STFs and moves them: receive, next_due, save_progress, move, postpone; class SeenFiles.

Every transaction begins with `BEGIN IMMEDIATE` and holds no network call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.base.errors import StaleStfError
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.messages import run_identity
from fastmon_daemon.outbox.models import (
    MAX_REJECTED_BYTES,
    Announced,
    NewStf,
    ReceiveOutcome,
    Registered,
    Sampled,
    StepResult,
    Stf,
    Transition,
)
from fastmon_daemon.outbox.queries import DueQuery, placeholders
from fastmon_daemon.outbox.reader import OutboxReader
from fastmon_daemon.outbox.sqlite_errors import storage_errors

MAX_LOG_BYTES = 8 * 1024**2
"""Size to which the write-ahead log is cut when no reader needs its content any more; usually it is half of that."""

Committed = Transition | Registered | Announced
"""What a transaction may store of an STF."""


class Outbox(OutboxReader):
    """One connection for writing; it belongs to one thread."""

    def __init__(self, db: Database, committed: Callable[[Committed], object] = lambda _: None) -> None:
        """*committed* gets each fact once its transaction is on disk."""
        super().__init__(db)
        self._committed = committed
        self._facts: list[Committed] = []
        """Those of the open transaction."""
        self.files = SeenFiles(db)

    def truncate_log(self) -> None:
        """Move an oversized write-ahead log into the database and empty it; a reader that needs it is not waited for.

        SQLite itself does this only after further writes. Raises: StorageUnavailable, StorageError.
        """
        try:
            size = self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except OSError:
            return
        if size > MAX_LOG_BYTES:
            with storage_errors(self.path):
                timeout = self._db.execute("pragma busy_timeout").fetchone()[0]
                self._db.execute("pragma busy_timeout = 0")
                try:
                    self._db.execute("pragma wal_checkpoint(truncate)").fetchone()
                finally:
                    self._db.execute(f"pragma busy_timeout = {timeout}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Store all that the block writes, or nothing; it is on disk when the block ends (`synchronous=FULL`).

        Raises: StorageUnavailable, StorageError.
        """
        with storage_errors(self.path):
            self._db.execute("begin immediate")
            try:
                yield
                with failpoints_around("commit"):
                    self._db.execute("commit")
            except BaseException:
                self._facts.clear()
                if self.in_transaction:
                    self._db.execute("rollback")
                raise
        facts, self._facts = self._facts, []
        for fact in facts:
            self._committed(fact)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block writes, and no more of the transaction, if it raises."""
        before = len(self._facts)
        self._db.execute("savepoint part")
        try:
            yield
        except BaseException:
            del self._facts[before:]
            if self.in_transaction:
                self._db.execute("rollback to part")
                self._db.execute("release part")
            raise
        self._db.execute("release part")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open: a full disk ends it."""
        return self._db.conn.in_transaction

    def receive(self, new: NewStf, state: str, now: datetime) -> ReceiveOutcome:
        """Store an STF in *state* with its first history row; a known one changes nothing."""
        arguments = {
            **_fields_of(new), "run": run_identity(new.run_id), "run_id": json.dumps(new.run_id), "state": state,
            "now": format_timestamp(now), "born_at": format_timestamp(min(new.born_at or now, now)),
            "preexisting": json.dumps(new.preexisting) if new.preexisting else None,
        }  # fmt: skip
        received = self._db.execute(_RECEIVE, arguments)
        if not received.rowcount:
            return self._compare(arguments)
        self._db.execute(_RECEIVED_HISTORY, {**arguments, "id": received.lastrowid})
        seconds = _seconds(arguments["born_at"], now)
        self._facts.append(Transition(source=None, dest=state, seconds=seconds, origin=new.origin))
        return ReceiveOutcome.FRESH

    def _compare(self, arguments: dict[str, Any]) -> ReceiveOutcome:
        known = self._db.execute(_CONTENT, arguments).fetchone()
        if known is None:
            return ReceiveOutcome.KNOWN  # its run was pruned, or another daemon has finished it
        received = (arguments["size_bytes"], arguments["checksum"], arguments["tf_count"])
        differs = any(a is not None and b is not None and a != b for a, b in zip(known, received, strict=True))
        return ReceiveOutcome.CONFLICT if differs else ReceiveOutcome.KNOWN

    def note_last_received(self, note: str) -> None:
        """Add *note* to the first history row of the STF that this transaction received last."""
        last = "select max(id) from history where trigger is null"
        self._db.execute(f"update history set note = note || ', ' || ? where id = ({last})", [note])  # noqa: S608

    def reject(self, body: str | bytes, reason: str, now: datetime, limit: int) -> None:
        """Store a rejected message with its reason, whole up to 64 KiB; only the latest *limit* rows are kept."""
        data = body.encode(errors="replace") if isinstance(body, str) else body
        text = data[:MAX_REJECTED_BYTES].decode(errors="backslashreplace").replace("\0", "\\x00")
        self._db.execute(_REJECT, [format_timestamp(now), reason, len(data), text, len(data) <= MAX_REJECTED_BYTES])
        dropped = self._db.execute(_REJECTED_CAP, [limit]).rowcount
        if dropped > 0:
            self.count("rejected_dropped", dropped)

    def drop_rejected(self, number: int) -> None:
        """Delete a rejected message, because it was replayed."""
        self._db.table("rejected").delete_where("id = ?", [number])

    def count(self, what: str, by: int = 1) -> None:
        """Add *by* to the stored counter *what* (see `counters`)."""
        self._db.execute(_COUNT, [f"count:{what}", by])

    def remember(self, key: str, value: str) -> None:
        """Store *value* under *key*, replacing the previous one."""
        # Not sqlite-utils' `upsert`: it tests the database by creating a table; on a full disk it then loses the row.
        query = "insert into meta values (?, ?) on conflict (key) do update set value = excluded.value"
        self._db.execute(query, [key, value])

    def next_due(self, states: Sequence[str], due: DueQuery) -> tuple[str, int] | None:
        """Due time and id of the first STF in *states* that *due* selects, by age."""
        found: list[tuple[str, int]] = []
        for state in states:
            for query, values in due.in_state(state):
                rows = self._db.execute(query, values)
                found += islice((row for row in rows if row[1] not in due.busy), 1)
        return (max if due.newest else min)(found, default=None)

    def has_retrying(self, states: Sequence[str]) -> bool:
        """Whether an unfinished STF in *states* has failed before."""
        where = f"state in ({placeholders(states)}) and (attempts > 0) = 1 and due_at is not null"
        return self._db.execute(f"select 1 from stf where {where} limit 1", states).fetchone() is not None  # noqa: S608

    def save_progress(self, stf_id: int, results: Sequence[StepResult], now: datetime) -> None:
        """Store results of a step; what is already stored is not changed."""
        at = format_timestamp(now)
        for result in results:
            if isinstance(result, Sampled):
                self._save_sample(stf_id, result)
            elif isinstance(result, Registered) and result.sample is not None:
                self._replace_sample(stf_id, result.sample)
        registered = [each for each in results if isinstance(each, Registered)]
        tfs = [each.tf for each in registered]
        self._update_tfs(_REGISTERED, [
            (tf.monitor_id, at, tf.first, tf.last, tf.count, tf.size_bytes, tf.adopted, stf_id, tf.sequence)
            for tf in tfs
        ], registered)  # fmt: skip
        for tf in tfs:
            if tf.adopted:
                remark = f"{tf.filename} was already registered: {tf.adopted}"
                self._db.execute(_REMARK, {"stf": stf_id, "remark": remark})
        announced = [each for each in results if isinstance(each, Announced)]
        self._update_tfs(_ANNOUNCED, [(at, stf_id, each.sequence) for each in announced], announced)

    def _update_tfs(self, query: str, rows: list[tuple[Any, ...]], results: Sequence[Registered | Announced]) -> None:
        """Run *query* for each of *rows*, one for each of *results*."""
        if rows:
            changed = self._db.conn.executemany(query, rows).rowcount
            self._facts += results[:changed]  # they are counted by their kind: which ones does not matter

    def _save_sample(self, stf_id: int, result: Sampled) -> None:
        plan = json.dumps(asdict(result.plan))
        if not self._db.execute("update stf set plan = ? where id = ? and plan is null", [plan, stf_id]).rowcount:
            return
        self._insert_tfs(stf_id, result)
        self.stages.owe(stf_id)

    def _replace_sample(self, stf_id: int, result: Sampled) -> None:
        """Store a sample that was drawn again, unless a TF file was registered already."""
        arguments = {"id": stf_id, "plan": json.dumps(asdict(result.plan)),
                     "tf_count": result.tf_count, "size_bytes": result.size_bytes}  # fmt: skip
        if self._db.execute(_REPLACE_SAMPLE, arguments).rowcount:
            self._db.execute("delete from tf where stf = ?", [stf_id])
            self._insert_tfs(stf_id, result)

    def _insert_tfs(self, stf_id: int, result: Sampled) -> None:
        self._db.conn.executemany(
            "insert into tf (stf, sequence, filename, first, last, count, size_bytes) values (?, ?, ?, ?, ?, ?, ?)",
            [(stf_id, tf.sequence, tf.filename, tf.first, tf.last, tf.count, tf.size_bytes) for tf in result.tfs],
        )

    def move(
        self, stf: Stf, trigger: str, dest: str, now: datetime, *, finalized: bool, note: str | None = None
    ) -> None:
        """Move an STF to *dest*, with a history row; *finalized*: no step leaves *dest*.

        Raises: StaleStfError if the STF left the state in which it was read.
        """
        self._move(_MOVE, stf, trigger, dest, now, life=stf.life, note=note, finalized=finalized)
        self._note_transition(stf, dest, now, finalized=finalized)

    def reopen(self, stf: Stf, trigger: str, dest: str, now: datetime, *, note: str, included: bool = False) -> None:
        """Begin the next life of a finalized STF, by an action of an operator. Raises: StaleStfError, as `move`."""
        included = included or stf.included
        self._move(_REOPEN, stf, trigger, dest, now, life=stf.life + 1, note=note, included=included)
        self._note_transition(stf, dest, now, finalized=False)

    def _move(self, update: str, stf: Stf, trigger: str, dest: str, now: datetime, **fields: object) -> None:
        arguments = {"id": stf.id, "source": stf.state, "dest": dest, "trigger": trigger, "now": format_timestamp(now)}
        arguments |= fields
        if not self._db.execute(update, arguments).rowcount:
            raise StaleStfError(f"{stf.filename}: no longer {stf.state}")
        self._db.execute(_HISTORY, arguments)

    def _note_transition(self, stf: Stf, dest: str, now: datetime, *, finalized: bool) -> None:
        latency_s = _seconds(stf.received_at, now) if finalized else None
        seconds = _seconds(stf.since, now)
        self._facts.append(Transition(source=stf.state, dest=dest, seconds=seconds, latency_s=latency_s))

    def postpone(self, stf: Stf, delay: timedelta, error: str, spent_s: float, now: datetime) -> None:
        """Retry an STF after *delay*; this counts one attempt and *spent_s* seconds of its retry budget."""
        self._db.execute(
            "update stf set attempts = attempts + 1, due_at = ?, last_error = ?, spent_s = spent_s + ?"
            " where id = ? and state = ?",
            [format_timestamp(now + delay), error[:1000], spent_s, stf.id, stf.state],
        )

    def delete_run(self, run: str, namespace: str, limit: int) -> None:
        """Delete the row of a run, its pruned names, and up to *limit* of its STFs."""
        for table in ("pruned", "pruned_run", "elsewhere", "run"):
            self._db.table(table).delete_where("run = ? and namespace = ?", [run, namespace])
        ids = "select id from stf where run = ? and namespace = ? limit ?"
        self._db.table("stf").delete_where(f"id in ({ids})", [run, namespace, limit])

    def namespaces_of(self, run: str) -> list[str]:
        """The namespaces that have *run*."""
        query = "select namespace from stf where run = :run union select namespace from run where run = :run order by 1"
        return [row["namespace"] for row in self._db.query(query, {"run": run})]


def _fields_of(row: NewStf) -> dict[str, Any]:
    """The fields of *row* by name. (`asdict` would copy their values.)"""
    return {each.name: getattr(row, each.name) for each in fields(row)}


def _seconds(since: str, now: datetime) -> float:
    """Seconds since a stored time; a clock that is set back makes no duration negative."""
    return max(0.0, (now - parse_timestamp(since)).total_seconds())


class SeenFiles:
    """The table `file_seen`; its writing methods are called inside a transaction of the `Outbox`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, fingerprint: str, filename: str) -> None:
        """Note that the file with this fingerprint was ingested under *filename*."""
        self._db.execute("insert into file_seen values (?, ?) on conflict do nothing", [fingerprint, filename])

    def remove(self, fingerprints: Sequence[str]) -> None:
        """Delete these fingerprints, because their files no longer exist."""
        self._db.table("file_seen").delete_where(f"fingerprint in ({placeholders(fingerprints)})", fingerprints)

    def all(self) -> dict[str, str]:
        """Fingerprint -> the name under which the file was ingested."""
        return dict(self._db.execute("select fingerprint, filename from file_seen").fetchall())


_RECEIVE = """
insert into stf (namespace, run, run_id, filename, sequence, size_bytes, checksum, tf_count, execution_id, body, origin,
                 state, since, received_at, born_at, due_at, preexisting)
select :namespace, :run, :run_id, :filename, :sequence, :size_bytes, :checksum, :tf_count, :execution_id, :body,
       :origin, :state, :now, :now, :born_at, :born_at, :preexisting
where not exists (select 1 from pruned where namespace = :namespace and run = :run and filename = :filename)
  and not exists (select 1 from elsewhere
                  where namespace = :namespace and run = :run and filename = :filename and finished)
on conflict (namespace, run, filename) do nothing"""
_RECEIVED_HISTORY = """
insert into history (stf, life, dest, at, note, reported_at)
values (:id, 1, :state, :now, coalesce(:note, :origin), '')"""
_CONTENT = """
select size_bytes, checksum, tf_count from stf where namespace = :namespace and run = :run and filename = :filename"""
# An STF without failures is due since its birth, in every state: so the order of due times is the order of age.
_MOVE = """
update stf set state = :dest, since = :now, due_at = iif(:finalized, null, born_at), attempts = 0, spent_s = 0,
               last_error = iif(:finalized, :note, null)
where id = :id and state = :source"""
_REOPEN = """
update stf set state = :dest, since = :now, due_at = born_at, attempts = 0, spent_s = 0, last_error = null,
               life = :life, included = :included
where id = :id and state = :source and due_at is null"""
_HISTORY = """
insert into history (stf, life, trigger, source, dest, at, note, reported_at)
select id, :life, :trigger, :source, :dest, :now, coalesce(:note, remark),
       iif(plan is null and stage_id is null, '', null)
from stf where id = :id"""
_REGISTERED = """
update tf set monitor_id = ?, registered_at = ?, first = ?, last = ?, count = ?, size_bytes = ?, adopted = ?
where stf = ? and sequence = ? and registered_at is null"""
_REMARK = """
update stf set remark = iif(remark is null, :remark, remark || '; ' || :remark)
where id = :stf and (remark is null or instr(remark, :remark) = 0)"""
_REPLACE_SAMPLE = """
update stf set plan = :plan, tf_count = coalesce(tf_count, :tf_count), size_bytes = coalesce(size_bytes, :size_bytes)
where id = :id and not exists (select 1 from tf where stf = :id and registered_at is not null)"""
_ANNOUNCED = "update tf set announced_at = ? where stf = ? and sequence = ? and announced_at is null"
_REJECT = "insert into rejected (at, reason, bytes, body, is_whole) values (?, ?, ?, ?, ?)"
_REJECTED_CAP = "delete from rejected where id in (select id from rejected order by id desc limit -1 offset ?)"
_COUNT = """
insert into meta values (?, ?) on conflict (key) do update set value = cast(value as integer) + excluded.value"""

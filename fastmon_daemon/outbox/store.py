"""The outbox as its writers see it: receive, next_due, keep, move, postpone. One `Outbox` belongs to one thread.

Every transaction begins with its write (`BEGIN IMMEDIATE`), holds no network call, and is the only writer of its facts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import StaleStfError
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.outbox.models import (
    Announced,
    DueQuery,
    NewStf,
    ReceiveOutcome,
    Registered,
    Sampled,
    StepResult,
    Stf,
    load_stfs,
    where_equal,
)
from fastmon_daemon.outbox.outages import Outages
from fastmon_daemon.outbox.reader import OutboxReader
from fastmon_daemon.outbox.retention import Retention
from fastmon_daemon.outbox.runs import Runs
from fastmon_daemon.outbox.sqlite_errors import storage_errors
from fastmon_daemon.outbox.stage_reports import StageReportStore

MAX_REJECTED_BYTES = 65_536
"""Bytes of a refused body that are kept; the rest is cut, and said so."""


class Outbox:
    """One connection to the database, for writing: STFs and what belongs to them; each other table is an attribute."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.runs = Runs(db)
        self.files = SeenFiles(db)
        self.stages = StageReportStore(db)
        self.outages = Outages(db)
        self.retention = Retention(db)
        self.reports = OutboxReader(db)
        """The reading half."""
        self.by_run = self.reports.by_run
        self.path = Path(db.execute("pragma database_list").fetchone()[2])
        """The database file."""

    def close(self) -> None:
        """Give the connection back."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that the block writes, or nothing of it; on disk when the block has ended (`synchronous=FULL`).

        Raises `StorageUnavailable` where it could not be written just now.
        """
        with storage_errors(self.path):
            self._db.execute("begin immediate")
            try:
                yield
                with failpoints_around("commit"):
                    self._db.execute("commit")
            except BaseException:
                if self._db.conn.in_transaction:  # a full disk has rolled back already
                    self._db.execute("rollback")
                raise

    def receive(self, new: NewStf, state: str, now: datetime) -> ReceiveOutcome:
        """Take an STF in, in *state*, with its first history row; a repeated one changes nothing."""
        born = min(new.born_at or now, now)
        arguments = {
            "namespace": new.namespace, "run": str(new.run_id), "run_id": json.dumps(new.run_id),
            "filename": new.filename, "sequence": new.sequence, "size_bytes": new.size_bytes,
            "checksum": new.checksum, "tf_count": new.tf_count, "execution_id": new.execution_id, "body": new.body,
            "origin": new.origin, "state": state, "now": format_timestamp(now),
            "born_at": format_timestamp(born), "note": new.note,
            "preexisting": json.dumps(new.preexisting) if new.preexisting else None,
        }  # fmt: skip
        fresh = self._db.execute(_RECEIVE, arguments).rowcount
        if not fresh:
            return self._compare(arguments)
        self._db.execute(_REMEMBER_RECEIVED, arguments)
        return ReceiveOutcome.FRESH

    def _compare(self, arguments: dict[str, Any]) -> ReceiveOutcome:
        known = self._db.execute(_CONTENT, arguments).fetchone()
        if known is None:
            return ReceiveOutcome.KNOWN  # its run was pruned
        told = (arguments["size_bytes"], arguments["checksum"], arguments["tf_count"])
        differs = any(a is not None and b is not None and a != b for a, b in zip(known, told, strict=True))
        return ReceiveOutcome.CONFLICT if differs else ReceiveOutcome.KNOWN

    def note_last_received(self, note: str) -> None:
        """Add a note to the history row of the STF that was received last, in the same transaction."""
        self._db.execute(
            "update history set note = note || ', ' || ?"
            " where id = (select max(id) from history where trigger is null)",
            [note],
        )

    def reject(self, body: str | bytes, reason: str, now: datetime, most: int) -> None:
        """Keep a message that cannot be taken, whole up to 64 KiB, with its reason; of *most* rows the oldest go."""
        data = body.encode(errors="replace") if isinstance(body, str) else body
        text = data[:MAX_REJECTED_BYTES].decode(errors="backslashreplace").replace("\0", "\\x00")
        if len(data) > MAX_REJECTED_BYTES:
            reason = f"{reason} (kept: the first {MAX_REJECTED_BYTES} of {len(data)} bytes)"
        self._db.execute(_REJECT, [format_timestamp(now), reason, len(data), text])
        dropped = self._db.execute(_REJECTED_CAP, [most]).rowcount
        if dropped > 0:
            self.count("rejected_dropped", dropped)

    def rejected(self, ids: Collection[int]) -> dict[int, tuple[str, bool]]:
        """Those of the rejected messages that are still kept, by number: the body, and whether it was kept whole."""
        query = f"select id, body, bytes from rejected where id in ({', '.join('?' * len(ids))}) order by id"  # noqa: S608
        rows = self._db.execute(query, list(ids)).fetchall()
        return {number: (body, size <= MAX_REJECTED_BYTES) for number, body, size in rows}

    def drop_rejected(self, number: int) -> None:
        """A rejected message was taken in after all."""
        self._db.execute("delete from rejected where id = ?", [number])

    def count(self, what: str, by: int = 1) -> None:
        """Add to a counter that outlives the process (see `OutboxReader.counters`)."""
        self._db.execute(_COUNT, [f"count:{what}", by])

    def remember(self, key: str, value: str) -> None:
        """Keep a value under *key*, over what stood there."""
        self._db.execute("insert into meta values (?, ?) on conflict (key) do update set value = excluded.value",
                         [key, value])  # fmt: skip

    def recall(self, key: str) -> str | None:
        """What `remember` kept."""
        return self.reports.recall(key)

    def get(self, stf_id: int) -> Stf:
        """The STF as it stands on disk. Raises `KeyError` for an id that is not there."""
        found = load_stfs(self._db, "where stf.id = ?", [stf_id])
        if not found:
            raise KeyError(stf_id)
        return found[0]

    def find(self, *, filename: str | None = None, run: str | None = None, namespace: str | None = None) -> list[Stf]:
        """The STFs with all of the properties that are given, oldest first."""
        where, values = where_equal({"filename": filename, "stf.run": run, "stf.namespace": namespace})
        return load_stfs(self._db, f"{where} order by stf.id", values)

    def oldest_in(self, state: str, until: str, most: int, run: str | None, namespace: str | None) -> list[Stf]:
        """Up to *most* STFs that came into *state* until then, the longest there first."""
        tail = (
            "where stf.state = ? and since <= ? and stf.run = coalesce(?, stf.run)"
            " and stf.namespace = coalesce(?, stf.namespace) order by since, stf.id limit ?"
        )
        return load_stfs(self._db, tail, [state, until, run, namespace, most])

    def next_due(self, states: Sequence[str], due: DueQuery) -> list[Stf]:
        """STFs in *states* whose time has come, by the age of the STF, newest or oldest first as *due* says."""
        found: list[tuple[str, int]] = []
        for state in states:
            found += self._db.execute(due.sql, due.arguments(state)).fetchall()
        found.sort(reverse=due.newest)
        return [self.get(stf_id) for _, stf_id in found[: due.limit]]

    def unfinished(self, run: str | None = None, namespace: str | None = None) -> int:
        """How many STFs (of a run, of a namespace) are not resting."""
        query = (
            "select count(*) from stf where due_at is not null"
            " and run = coalesce(?, run) and namespace = coalesce(?, namespace)"
        )
        return int(self._db.execute(query, [run, namespace]).fetchone()[0])

    def save_progress(self, stf_id: int, result: StepResult, now: datetime) -> None:
        """Write one fact of an STF; a fact that stands already is left as it is."""
        match result:
            case Sampled():
                self._keep_sample(stf_id, result)
            case Registered(tf=tf):
                self._db.execute(_REGISTERED, {**asdict(tf), "stf": stf_id, "now": format_timestamp(now)})
                if tf.adopted:
                    remark = f"{tf.filename} was there: {tf.adopted}"
                    self._db.execute(_REMARK, {"stf": stf_id, "remark": remark})
            case Announced(sequence=sequence):
                self._db.execute(_ANNOUNCED, [format_timestamp(now), stf_id, sequence])

    def _keep_sample(self, stf_id: int, result: Sampled) -> None:
        plan = json.dumps(asdict(result.plan))
        if not self._db.execute("update stf set plan = ? where id = ? and plan is null", [plan, stf_id]).rowcount:
            return  # a sample once stored is kept
        for block, size in zip(result.ranges, result.sizes, strict=True):
            self._db.execute(
                "insert into tf (stf, sequence, filename, first, last, count, size_bytes) values (?, ?, ?, ?, ?, ?, ?)",
                [stf_id, block.sequence, block.filename, block.first, block.last, block.count, size],
            )

    def move(self, stf: Stf, trigger: str, dest: str, now: datetime, *, rests: bool, note: str | None = None) -> None:
        """Move an STF to *dest* with its history row, if it is still in the state in which it was read.

        Raises `StaleStfError` if somebody else moved it meanwhile; nothing is overwritten.
        """
        arguments = {"id": stf.id, "source": stf.state, "dest": dest, "trigger": trigger, "now": format_timestamp(now),
                     "rests": rests, "life": stf.life, "note": note}  # fmt: skip
        if not self._db.execute(_MOVE, arguments).rowcount:
            raise StaleStfError(f"{stf.filename} is no longer {stf.state}")
        self._db.execute(_REMEMBER, arguments)

    def reopen(self, stf: Stf, trigger: str, dest: str, now: datetime, *, note: str, included: bool = False) -> None:
        """A person's act that begins the next life of a resting STF. Raises `StaleStfError` as `move` does."""
        arguments = {"id": stf.id, "source": stf.state, "dest": dest, "trigger": trigger, "now": format_timestamp(now),
                     "life": stf.life + 1, "note": note, "included": included or stf.included}  # fmt: skip
        if not self._db.execute(_REOPEN, arguments).rowcount:
            raise StaleStfError(f"{stf.filename} is no longer {stf.state}")
        self._db.execute(_REMEMBER, arguments)

    def postpone(self, stf: Stf, delay: timedelta, error: str, spent_s: float, now: datetime) -> None:
        """Try an STF again after *delay*; it counts one attempt and *spent_s* seconds of its budget."""
        self._db.execute(
            "update stf set attempts = attempts + 1, due_at = ?, last_error = ?, spent_s = spent_s + ?"
            " where id = ? and state = ?",
            [format_timestamp(now + delay), error[:1000], spent_s, stf.id, stf.state],
        )

    def delete_stfs(self, run: str, namespace: str, most: int) -> int:
        """Drop up to *most* STFs of a run; how many it were."""
        those = "select id from stf where run = ? and namespace = ? limit ?"
        return self._db.execute(f"delete from stf where id in ({those})", [run, namespace, most]).rowcount  # noqa: S608

    def delete_run(self, run: str, namespace: str) -> None:
        """Drop all else that is known of a run."""
        for table in ("pruned", "pruned_run", "run"):
            self._db.execute(f"delete from {table} where run = ? and namespace = ?", [run, namespace])  # noqa: S608

    def namespaces_of(self, run: str) -> list[str]:
        """The namespaces in which a run of that number is known."""
        query = "select namespace from stf where run = :run union select namespace from run where run = :run order by 1"
        return [namespace for (namespace,) in self._db.execute(query, {"run": run})]


class SeenFiles:
    """The table `file_seen`; used inside the transactions of the `Outbox` that owns it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def remember(self, fingerprint: str, filename: str) -> None:
        """The file with this fingerprint was taken under this name."""
        self._db.execute("insert into file_seen values (?, ?) on conflict do nothing", [fingerprint, filename])

    def forget(self, fingerprints: Sequence[str]) -> None:
        """These files are gone for good."""
        marks = ", ".join("?" * len(fingerprints))
        self._db.execute(f"delete from file_seen where fingerprint in ({marks})", list(fingerprints))  # noqa: S608

    def taken(self) -> dict[str, str]:
        """Fingerprint -> the name under which the file was taken."""
        return dict(self._db.execute("select fingerprint, filename from file_seen").fetchall())


_RECEIVE = """
insert into stf (namespace, run, run_id, filename, sequence, size_bytes, checksum, tf_count, execution_id, body, origin,
                 state, since, received_at, born_at, due_at, preexisting)
select :namespace, :run, :run_id, :filename, :sequence, :size_bytes, :checksum, :tf_count, :execution_id, :body,
       :origin, :state, :now, :now, :born_at, :born_at, :preexisting
where not exists (select 1 from pruned where namespace = :namespace and run = :run and filename = :filename)
on conflict (namespace, run, filename) do nothing"""
_REMEMBER_RECEIVED = """
insert into history (stf, life, dest, at, note)
select id, 1, :state, :now, coalesce(:note, :origin)
from stf where namespace = :namespace and run = :run and filename = :filename"""
_CONTENT = """
select size_bytes, checksum, tf_count from stf where namespace = :namespace and run = :run and filename = :filename"""
# A healthy STF is due as of its birth, in every state: so the order of due times is the order of age.
_MOVE = """
update stf set state = :dest, since = :now, due_at = iif(:rests, null, born_at), attempts = 0, spent_s = 0,
               last_error = iif(:rests, :note, null)
where id = :id and state = :source"""
_REOPEN = """
update stf set state = :dest, since = :now, due_at = born_at, attempts = 0, spent_s = 0, last_error = null,
               life = :life, included = :included
where id = :id and state = :source and due_at is null"""
_REMEMBER = """
insert into history (stf, life, trigger, source, dest, at, note)
select id, :life, :trigger, :source, :dest, :now, coalesce(:note, remark) from stf where id = :id"""
_REGISTERED = """
update tf set monitor_id = :monitor_id, registered_at = :now, first = :first, last = :last, count = :count,
              size_bytes = :size_bytes, adopted = :adopted
where stf = :stf and sequence = :sequence and registered_at is null"""
_REMARK = """
update stf set remark = iif(remark is null, :remark, remark || '; ' || :remark)
where id = :stf and (remark is null or instr(remark, :remark) = 0)"""
_ANNOUNCED = "update tf set announced_at = ? where stf = ? and sequence = ? and announced_at is null"
_REJECT = "insert into rejected (at, reason, bytes, body) values (?, ?, ?, ?)"
_REJECTED_CAP = "delete from rejected where id in (select id from rejected order by id desc limit -1 offset ?)"
_COUNT = """
insert into meta values (?, ?) on conflict (key) do update set value = cast(value as integer) + excluded.value"""

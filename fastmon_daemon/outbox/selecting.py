"""How STFs are picked and read: the query for what is due, and the way from a row to an `Stf`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastmon_daemon.clock import stamp
from fastmon_daemon.outbox.rows import Origin, Stf, Tf
from fastmon_daemon.sampling import SamplePlan

STF_COLUMNS = """
stf.id, stf.namespace, stf.run, stf.run_id, filename, sequence, size_bytes, checksum, tf_count,
coalesce(stf.execution_id, run.execution_id) as execution_id, body, origin, admitted, stf.state, life, since,
received_at, born_at, due_at, attempts, spent_s, last_error, remark, plan, stood
from stf left join run on run.namespace = stf.namespace and run.run = stf.run"""
"""The columns of `read_stf`, in order; the execution is the message's, else that of the run's messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Which of the due STFs are wanted."""

    now: datetime
    far: datetime
    """A due time later than this is no backoff but a clock that jumped: it counts as now."""
    sick: bool
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
        where = f"state = ? and (attempts > 0) = {int(self.sick)} and id not in ({', '.join('?' * len(self.busy))})"
        where += " and origin <> ? and born_at >= ?" if self.fresh_since else ""
        part = f"select due_at, id from stf where {where} and due_at"  # noqa: S608 (only placeholders are put in)
        tail = f"order by due_at {order}, id {order} limit ?"
        if not self.sick:
            return f"{part} is not null {tail}"
        return f"select * from ({part} <= ? {tail}) union all select * from ({part} > ? {tail})"  # noqa: S608 (the same)

    def arguments(self, state: str) -> list[Any]:
        """The parameters of `sql` for *state*."""
        where: list[Any] = [state, *self.busy]
        if self.fresh_since:
            where += [Origin.RECOVERED, stamp(self.fresh_since)]
        if not self.sick:
            return [*where, self.limit]
        return [*where, stamp(self.now), self.limit, *where, stamp(self.far), self.limit]


def read_stf(row: tuple[Any, ...], tfs: tuple[Tf, ...]) -> Stf:
    """The `Stf` in a row of `STF_COLUMNS`."""
    return Stf(
        id=row[0], namespace=row[1], run=row[2], run_id=json.loads(row[3]), filename=row[4], sequence=row[5],
        size_bytes=row[6], checksum=row[7], tf_count=row[8], execution_id=row[9], body=row[10], origin=Origin(row[11]),
        admitted=bool(row[12]), state=row[13], life=row[14], since=row[15], received_at=row[16], born_at=row[17],
        due_at=row[18], attempts=row[19], spent_s=row[20], last_error=row[21], remark=row[22],
        plan=SamplePlan(**json.loads(row[23])) if row[23] else None,
        stood=tuple(json.loads(row[24] or "[]")), tfs=tfs,
    )  # fmt: skip


def read_tf(row: tuple[Any, ...]) -> Tf:
    """The `Tf` in a row of the table `tf`."""
    return Tf(
        sequence=row[1], filename=row[2], first=row[3], last=row[4], count=row[5], size_bytes=row[6],
        monitor_id=row[7], registered_at=row[8], announced_at=row[9], adopted=row[10],
    )  # fmt: skip

"""What the monitor is still to be told of the STFs: each history row that was not reported yet is the debt.

It must not know what a report looks like, nor the names of states.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import STF_COLUMNS, HistoryRow, Stf, load_tfs, read_stf

UNREPORTABLE = "stages_unreportable"
"""The counter of the STFs that no stage can be reported of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageKeys:
    """What the monitor answered when workflow and stage of an STF were made."""

    workflow_id: str | None
    stage_id: str | None
    unreportable: str | None
    """Why no stage can ever be reported of this STF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingReport:
    """One STF of which something is still to be told."""

    stf: Stf
    keys: StageKeys
    history: tuple[HistoryRow, ...]
    """All of it, in order."""
    last: int
    """Number of its last row: whoever reports this debt settles all up to it."""


class PendingReports:
    """Reads the debts; every read is short."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def pending(self, after: int, limit: int) -> tuple[list[int], int]:
        """STFs with debts among the next *limit* rows after row *after*, oldest debt first; and the row they end at."""
        query = "select id, stf from history where reported_at is null and id > ? order by id limit ?"
        rows = self._db.execute(query, [after, limit]).fetchall()
        return list(dict.fromkeys(stf for _, stf in rows)), rows[-1][0] if rows else after

    def report(self, stf_id: int) -> PendingReport | None:
        """What is owed of an STF; None where nothing is, or the STF was pruned between two of these reads."""
        rows = self._db.execute(_HISTORY, [stf_id]).fetchall()
        if all(row[7] is not None for row in rows):
            return None
        keys = self.keys(stf_id)
        tfs = load_tfs(self._db, stf_id)
        # The last read: where the STF is still there, it was for all of them.
        stf = self._db.execute(f"select {STF_COLUMNS} where stf.id = ?", [stf_id]).fetchone()
        if stf is None:
            return None
        return PendingReport(
            stf=read_stf(stf, tfs),
            keys=keys,
            history=tuple(
                HistoryRow(life=row[1], trigger=row[2], source=row[3], dest=row[4], at=row[5], note=row[6])
                for row in rows
            ),
            last=rows[-1][0],
        )

    def keys(self, stf_id: int) -> StageKeys:
        """What is known of the STF's stage; nothing, where the STF was pruned."""
        query = "select workflow_id, stage_id, unreportable from stf where id = ?"
        known = self._db.execute(query, [stf_id]).fetchone()
        workflow_id, stage_id, unreportable = known or (None, None, None)
        return StageKeys(workflow_id=workflow_id, stage_id=stage_id, unreportable=unreportable)

    def count_pending(self) -> int:
        """How many transitions are still to be told."""
        return int(self._db.execute("select count(*) from history where reported_at is null").fetchone()[0])


class StageReportStore:
    """Writes what was told; used inside the transactions of the `Outbox` that owns it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def set_workflow(self, stf_id: int, workflow_id: str) -> None:
        """The monitor made, or named, the workflow of an STF."""
        self._db.execute("update stf set workflow_id = ? where id = ?", [workflow_id, stf_id])

    def set_stage(self, stf_id: int, stage_id: str) -> None:
        """The monitor made the stage of an STF."""
        self._db.execute("update stf set stage_id = ? where id = ?", [stage_id, stf_id])

    def mark_reported(self, stf_id: int, last: int, now: datetime) -> None:
        """All transitions of an STF up to row *last* were told, or need not be."""
        self._db.execute(
            "update history set reported_at = ? where stf = ? and id <= ? and reported_at is null",
            [format_timestamp(now), stf_id, last],
        )

    def give_up(self, stf_id: int, why: str) -> bool:
        """No stage can be reported of an STF; False if that was known."""
        query = "update stf set unreportable = ? where id = ? and unreportable is null"
        return bool(self._db.execute(query, [why[:500], stf_id]).rowcount)

    def discard_pending(self, now: datetime) -> None:
        """What is at rest need not be told any more."""
        self._db.execute(_FORGIVE, [format_timestamp(now)])


_HISTORY = "select id, life, trigger, source, dest, at, note, reported_at from history where stf = ? order by id"
_FORGIVE = """
update history set reported_at = ?
where reported_at is null and stf in (select id from stf where due_at is null)"""

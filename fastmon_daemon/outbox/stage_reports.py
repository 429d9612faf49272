"""Which transitions of the STFs were not reported to the monitor yet: a history row without `reported_at` is pending.

Knows neither the form of a report nor the names of states.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import HistoryRow, PendingReport, StageKeys
from fastmon_daemon.outbox.queries import STF_COLUMNS, columns_of, fetch, load_tfs, read_stf

UNREPORTABLE = "stages_unreportable"
"""The counter of STFs for which no stage can be reported."""
SINGLE_UPDATES = "stage_updates_single"
"""The counter of updates that told one transition."""
COALESCED_UPDATES = "stage_updates_coalesced"
"""The counter of updates that told several transitions of an STF."""


class PendingReports:
    """Reads pending reports; every read is short."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def pending(self, after: int, limit: int) -> tuple[list[int], int]:
        """The STF id of each of the next *limit* pending history rows after row *after*, oldest first; the last row."""
        query = "select id, stf from history where reported_at is null and id > ? order by id limit ?"
        rows = self._db.execute(query, [after, limit]).fetchall()
        return [stf for _, stf in rows], rows[-1][0] if rows else after

    def report(self, stf_id: int) -> PendingReport | None:
        """The pending report of an STF; None if nothing is pending, or the STF was pruned meanwhile."""
        query = f"select id, reported_at, {columns_of(HistoryRow)} from history where stf = ? order by id"  # noqa: S608
        rows = fetch(self._db, query, [stf_id])
        pending = tuple(row["id"] for row in rows if row["reported_at"] is None)
        if not pending:
            return None
        keys, tfs = self.keys(stf_id), load_tfs(self._db, stf_id)
        # Read last: if the STF still exists, the reads above are complete.
        stf = fetch(self._db, f"select {STF_COLUMNS} where stf.id = ?", [stf_id])
        if not stf:
            return None
        history = tuple(HistoryRow(**{each.name: row[each.name] for each in fields(HistoryRow)}) for row in rows)
        return PendingReport(stf=read_stf(stf[0], tfs), keys=keys, history=history, pending=pending)

    def keys(self, stf_id: int) -> StageKeys:
        """The monitor's ids of an STF; all None if the STF was pruned."""
        rows = fetch(self._db, f"select {columns_of(StageKeys)} from stf where id = ?", [stf_id])  # noqa: S608
        return StageKeys(**rows[0]) if rows else StageKeys(workflow_id=None, stage_id=None, unreportable=None)

    def count_pending(self) -> int:
        """The number of pending transitions."""
        return int(self._db.execute("select count(*) from history where reported_at is null").fetchone()[0])


class StageReportStore:
    """Stores what was reported; called inside a transaction of the `Outbox`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def set_workflow(self, stf_id: int, workflow_id: str | None) -> None:
        """Store the monitor's id of an STF's workflow; None: it has none any more."""
        self._db.execute("update stf set workflow_id = ? where id = ?", [workflow_id, stf_id])

    def set_stage(self, stf_id: int, stage_id: str | None) -> None:
        """Store the monitor's id of an STF's stage; None: it has none any more."""
        self._db.execute("update stf set stage_id = ? where id = ?", [stage_id, stf_id])

    def mark_reported(self, stf_id: int, last: int, now: datetime) -> None:
        """The transitions of an STF up to history row *last* are not pending any more."""
        self._db.execute(
            "update history set reported_at = ? where stf = ? and id <= ? and reported_at is null",
            [format_timestamp(now), stf_id, last],
        )

    def give_up(self, stf_id: int, why: str) -> bool:
        """No stage can be reported for an STF; False if that was known."""
        query = "update stf set unreportable = ? where id = ? and unreportable is null"
        return bool(self._db.execute(query, [why[:500], stf_id]).rowcount)

    def discard_pending(self, now: datetime) -> None:
        """Discard the pending reports of finalized STFs."""
        self._db.execute(
            "update history set reported_at = ?"
            " where reported_at is null and stf in (select id from stf where due_at is null)",
            [format_timestamp(now)],
        )

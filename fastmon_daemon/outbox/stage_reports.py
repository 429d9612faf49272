"""Which transitions of the STFs were not reported to the monitor yet: a history row without `reported_at` is pending.

Those of an STF become pending when it gets its sample, or fails before, and then each that follows while the monitor
has its stage: until then `reported_at` is empty, so that a long backlog is not read again and again, and skipped STFs
are never pending.

Knows neither the form of a report nor the names of states.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import HistoryRow, PendingReport, StageKeys, Stf
from fastmon_daemon.outbox.queries import load, load_tfs

UNREPORTABLE = "stages_unreportable"
"""The counter of STFs for which no stage can be reported."""
SINGLE_UPDATES = "stage_updates_single"
"""The counter of updates that told one transition."""
COALESCED_UPDATES = "stage_updates_coalesced"
"""The counter of updates that told several transitions of an STF."""


class StageReports:
    """What is pending and what was reported; the writing methods are called inside a transaction of the `Outbox`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def pending(self, after: int, limit: int) -> tuple[list[int], int]:
        """The STF id of each of the next *limit* pending history rows after row *after*, oldest first; the last row."""
        pending = "reported_at is null and id > ?"
        rows = list(self._db.table("history").rows_where(pending, [after], "id", "id, stf", limit))
        return [row["stf"] for row in rows], rows[-1]["id"] if rows else after

    def report(self, stf_id: int) -> PendingReport | None:
        """The pending report of an STF; None if nothing is pending, or the STF was pruned meanwhile."""
        unreported = "stf = ? and reported_at is null"
        rows = self._db.table("history").rows_where(unreported, [stf_id], "id", "id")
        pending = tuple(row["id"] for row in rows)
        if not pending:
            return None
        history = load(self._db, HistoryRow, "where stf = ? and id <= ? order by id", [stf_id, pending[-1]])
        keys, tfs = self.keys(stf_id), load_tfs(self._db, stf_id)
        # Read last: if the STF still exists, the reads above are complete.
        for stf in load(self._db, Stf, "where id = ?", [stf_id]):
            return PendingReport(stf=replace(stf, tfs=tfs), keys=keys, history=tuple(history), pending=pending)
        return None

    def keys(self, stf_id: int) -> StageKeys:
        """The monitor's ids of an STF; all None if the STF was pruned."""
        found = load(self._db, StageKeys, "where id = ?", [stf_id])
        return found[0] if found else StageKeys(workflow_id=None, stage_id=None, unreportable=None)

    def count_pending(self) -> int:
        """The number of pending transitions."""
        return self._db.table("history").count_where("reported_at is null")

    def owe(self, stf_id: int) -> None:
        """From now on the transitions of the STF's present life are pending."""
        self._db.execute(_OWE, [stf_id, stf_id])

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


_OWE = """
update history set reported_at = null
where stf = ? and reported_at = '' and life = (select life from stf where id = ?)"""

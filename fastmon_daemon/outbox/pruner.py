"""Class Pruner: removes complete runs some days after their end, a few STFs at a time, while the engine is idle.

The rule for what is removed is here and uses the statecharts; the SQL is in `retention`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from loguru import logger

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.outbox.models import RunRow
from fastmon_daemon.outbox.store import Outbox
from fastmon_daemon.statechart import StateMachine

BATCH_SIZE = 10
"""STFs removed in one transaction, which takes a few milliseconds."""
CHECK_INTERVAL = timedelta(minutes=1)
"""Between two checks for a run that has become old."""


class Pruner:
    """Prunes the runs that ended more than *keep_days* days ago; 0 keeps all."""

    def __init__(self, keep_days: float, stf_chart: StateMachine, run_chart: StateMachine) -> None:
        self.keep_for(keep_days)
        self._complete = run_chart.leads_to("complete_run")
        # Unfinished work is never pruned, nor STFs that an operator can still retry.
        self._kept = [s for s in stf_chart.states if not stf_chart.is_finalized(s) or stf_chart.may(s, "retry")]
        self._run: tuple[str, str] | None = None
        """(namespace, run) of the run that is being pruned; the rule is checked before each batch."""
        self._checked_at: datetime | None = None

    def keep_for(self, days: float) -> None:
        """Keep runs for *days* days from now on; 0 keeps all."""
        self._keep = timedelta(days=days)

    def prune(self, outbox: Outbox, now: datetime) -> None:
        """Prune one batch; the engine calls this in a tick without other work."""
        if not self._keep or not self._find(outbox, now):
            return
        assert self._run is not None
        with outbox.transaction():
            is_old = self._may_be_pruned(outbox, outbox.runs.get(*self._run), now)
            removed = outbox.retention.prune(*self._run, now, BATCH_SIZE) if is_old else 0
        if removed < BATCH_SIZE:
            if is_old:
                logger.info("run {}: pruned (names and counts are kept)", self._run[1])
            self._run = self._checked_at = None

    def _find(self, outbox: Outbox, now: datetime) -> bool:
        if self._run is None and (self._checked_at is None or abs(now - self._checked_at) >= CHECK_INTERVAL):
            rows = outbox.runs.unpruned(self._complete)
            self._run = next(((row.namespace, row.run) for row in rows if self._may_be_pruned(outbox, row, now)), None)
            self._checked_at = now
        return self._run is not None

    def _may_be_pruned(self, outbox: Outbox, row: RunRow | None, now: datetime) -> bool:
        """The rule: the run is over and old, and none of its STFs must be kept; else the whole run is kept.

        Nobody completes a run that is not claimed: it is over with its last message.
        """
        return (
            row is not None
            and (row.state in self._complete or not row.claimed)
            and parse_timestamp(row.ended_at or row.last_message_at) <= now - self._keep
            and not outbox.count_stfs(self._kept, run=row.run, namespace=row.namespace)
        )

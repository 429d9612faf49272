"""Retention: complete runs leave the database some days after their end, a few STFs at a time, when nothing is due.

The rule of what may go stands here, and asks the charts. It must not know SQL, nor who calls it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from loguru import logger

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.outbox.store import Outbox
from fastmon_daemon.statechart import StateMachine

BATCH_SIZE = 10
"""STFs dropped in one transaction: a few milliseconds."""
CHECK_INTERVAL = timedelta(minutes=1)
"""So often it is asked whether a run has become old."""


class Pruner:
    """Prunes the runs that ended more than *keep_days* ago; 0 keeps them for ever."""

    def __init__(self, keep_days: float, stf_chart: StateMachine, run_chart: StateMachine) -> None:
        self._keep = timedelta(days=keep_days)
        self._complete = run_chart.leads_to("complete_run")
        # What is owed is never dropped, nor what a person may still want to be done again.
        self._kept = [s for s in stf_chart.states if not stf_chart.is_finalized(s) or stf_chart.may(s, "retry")]
        self._run: tuple[str, str] | None = None
        """Namespace and name of the run that is being pruned: what may have become of it is asked before each step."""
        self._looked_at: datetime | None = None

    def prune(self, outbox: Outbox, now: datetime) -> None:
        """One small step, in a turn of the engine in which nothing else is to be done."""
        if not self._keep or not self._find(outbox, now):
            return
        assert self._run is not None
        with outbox.transaction():
            goes = self._may_go(outbox, *self._run, now)
            dropped = outbox.retention.prune(*self._run, now, BATCH_SIZE) if goes else 0
        if dropped < BATCH_SIZE:
            if goes:
                logger.info("run {}: pruned, its names and counts are kept", self._run[1])
            self._run = self._looked_at = None

    def _find(self, outbox: Outbox, now: datetime) -> bool:
        if self._run is None and (self._looked_at is None or abs(now - self._looked_at) >= CHECK_INTERVAL):
            runs = outbox.retention.unpruned(self._complete)
            self._run = next((run for run in runs if self._may_go(outbox, *run, now)), None)
            self._looked_at = now
        return self._run is not None

    def _may_go(self, outbox: Outbox, namespace: str, run: str, now: datetime) -> bool:
        """The rule: the run is complete and old, and none of its STFs must stay; else it stays as a whole."""
        row = outbox.runs.get(namespace, run)
        if (
            row is None
            or row.state not in self._complete
            or parse_timestamp(row.ended_at or row.last_message_at) > now - self._keep
        ):
            return False
        return not outbox.retention.has_any(namespace, run, self._kept)

"""Retention: complete runs leave the database some days after their end, a few STFs at a time, when nothing is due.

It asks the charts what may go. It must not know SQL, nor who calls it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from loguru import logger

from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.outbox import Old, Outbox

AT_ONCE = 10
"""STFs dropped in one transaction: a few milliseconds."""
LOOK_EVERY = timedelta(minutes=1)
"""So often it is asked whether a run has become old."""


class Keeper:
    """Prunes the runs that ended more than *keep_days* ago; 0 keeps them for ever."""

    def __init__(self, keep_days: float, stf_chart: Chart, run_chart: Chart) -> None:
        self._keep = timedelta(days=keep_days)
        self._complete = run_chart.leads_to("complete_run")
        # What is owed is never dropped, nor what a person may still want to be done again.
        self._kept = [s for s in stf_chart.states if not stf_chart.is_resting(s) or stf_chart.may(s, "retry")]
        self._run: tuple[str, str] | None = None
        self._looked_at: datetime | None = None

    def spare(self, outbox: Outbox, now: datetime) -> None:
        """One small step, in a turn of the engine in which nothing else is to be done."""
        if not self._keep or not self._find(outbox, now):
            return
        assert self._run is not None
        namespace, run = self._run
        with outbox.transaction():
            dropped = outbox.retention.prune(namespace, run, self._kept, now, AT_ONCE)
        if dropped < AT_ONCE:
            logger.info("run {}: pruned, its names and counts are kept", run)
            self._run = self._looked_at = None

    def _find(self, outbox: Outbox, now: datetime) -> bool:
        if self._run is None and (self._looked_at is None or abs(now - self._looked_at) >= LOOK_EVERY):
            old = Old(complete=self._complete, kept=self._kept, ended_before=now - self._keep)
            self._run = outbox.retention.next_run(old)
            self._looked_at = now
        return self._run is not None

"""What a look means: what the monitor names against what we know, who says how many, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.messages import sequence_in
from fastmon_daemon.monitor import StfFile
from fastmon_daemon.outbox import Origin, Outbox, RunRow
from fastmon_daemon.reconciler.backfill import BackfillQueue
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.finishing import end_reason
from fastmon_daemon.reconciler.verdict import judge
from fastmon_daemon.runs.poll_state import RunListing, RunPollState
from fastmon_daemon.runs.run_events import END_RUN, MONITOR, apply_transition
from fastmon_daemon.runs.tracked_runs import MissedStf, TrackedRun, TrackedRuns

_QUIET_SHARE = 10
"""An open run is looked at after a tenth of the time for which nothing was heard of it, if that is longer."""


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What a look by hand found."""

    run: str
    named: int
    """STFs that the monitor names."""
    known: int
    """STFs that were taken in before."""
    taken_in: list[str]
    """Names of those that were missed: they are taken in, or under way."""


class RunComparator:
    """Works inside the engine's transactions."""

    def __init__(self, means: ReconcilerConfig, runs: TrackedRuns, recovery: BackfillQueue) -> None:
        self._means = means
        self._runs = runs
        self._recovery = recovery

    def compare(self, outbox: Outbox, asked: RunRow, look: RunListing, run: TrackedRun, now: datetime) -> None:
        """Have the missed ones taken in, note what the monitor says of the run, decide when to look again."""
        watch, row = run.poll_state, outbox.runs.get(asked.namespace, asked.run)
        assert row is not None  # only a purge takes it away, and nobody compares for a run that was purged
        monotonic = self._means.clock.monotonic()
        watch.message_received(
            row.last_message_at, (now - parse_timestamp(row.last_message_at)).total_seconds(), monotonic
        )
        watch.record_poll(look, self._means.intervals, monotonic)
        since = format_timestamp(now - timedelta(seconds=watch.since_s))
        if any(outage.link == "broker" for outage in outbox.by_run.outages.between(since, format_timestamp(now))):
            watch.reset_listening()
        known = outbox.runs.known_names(row)
        unknown = [stf for stf in look.stfs if stf.stf_filename not in known]
        strange = run.not_under_way(unknown)
        row = self._end(outbox, row, look.ended_at, 0.0 if strange or not look.stfs else watch.listened_s, now)
        missed = watch.compare(strange, self._grace_s(row), monotonic, partial(self._is_coming, row, watch))
        self._recovery.add(
            run, [MissedStf(row, stf, Origin.POLLED if row.nameless else Origin.RECOVERED) for stf in missed]
        )
        row = self._expect(outbox, row, len(look.stfs), watch)
        all_here = not unknown and row.expected is not None and len(known) >= row.expected
        pause_s = self._pause_s(outbox, row, watch, now, all_here=all_here)
        if len(missed) < len(strange):
            pause_s = watch.until_missed(self._grace_s(row), monotonic, pause_s)
        at = None if pause_s is None else now + timedelta(seconds=pause_s)
        outbox.runs.record_poll(row, at, len(look.stfs), [stf.stf_filename for stf in unknown])

    def compare_now(
        self, outbox: Outbox, key: tuple[str, str], named: list[StfFile], by: str, now: datetime
    ) -> ReconcileResult:
        """A person looked at a run, heard of or not: what is missing counts as missed at once.

        Raises StorageUnavailable where there is no room for it.
        """
        self._means.refuse_if_short()
        namespace, run = key
        row = outbox.runs.get(namespace, run)
        if row is None and named:
            outbox.runs.record_message(namespace, run, self._means.run_chart.initial, now, None)
            row = outbox.runs.get(namespace, run)
        if row is None:
            return ReconcileResult(run, 0, 0, [])
        known, tracked = outbox.runs.known_names(row), self._runs.get(namespace, run)
        unknown = [stf for stf in named if stf.stf_filename not in known]
        strange = tracked.not_under_way(unknown)
        self._recovery.add(tracked, [MissedStf(row, stf, Origin.RECOVERED, by) for stf in strange])
        outbox.runs.record_poll(row, now, len(named), [stf.stf_filename for stf in unknown])
        return ReconcileResult(run, len(named), len(known), [stf.stf_filename for stf in strange])

    def _is_open(self, row: RunRow) -> bool:
        return self._means.run_chart.may(row.state, END_RUN)

    def _grace_s(self, row: RunRow) -> float:
        if row.nameless:
            return 0.0  # no message names its STFs
        paces = self._means.intervals
        return paces.missing_after_s if self._is_open(row) else paces.missing_after_end_s

    def _is_coming(self, row: RunRow, watch: RunPollState, stf: StfFile) -> bool:
        """Whether messages of an open run are coming in and have not reached this STF: the broker's backlog drains."""
        sequence = sequence_in(stf.stf_filename)
        if row.nameless or sequence is None or not self._is_open(row):
            return False
        return sequence > (row.last_sequence or 0) and watch.quiet_s < self._means.intervals.missing_after_s

    def _end(self, outbox: Outbox, row: RunRow, ended_at: str | None, settled_s: float, now: datetime) -> RunRow:
        """Take the DAQ's arrow in its stead, where the run is over and we have not heard so.

        *settled_s*: so long nothing was heard of it while everything that the monitor names is here.
        """
        if not (self._means.polls_all_runs and self._is_open(row)):
            return row
        why = end_reason(self._means, row, ended_at, settled_s)
        return apply_transition(outbox, self._means.run_chart, row, END_RUN, now, why) if why else row

    def _expect(self, outbox: Outbox, row: RunRow, named: int, watch: RunPollState) -> RunRow:
        """Where `end_run` did not say how many STFs there were, the monitor's count does, once it stands."""
        if row.expected_by == END_RUN or self._is_open(row) or not watch.settled(named, self._means.intervals):
            return row
        if row.expected != named:
            logger.info("run {}: {} STFs, says the monitor", row.run, named)
            outbox.runs.expect(row, named, MONITOR)
        return outbox.runs.get(row.namespace, row.run) or row

    def _pause_s(
        self, outbox: Outbox, row: RunRow, watch: RunPollState, now: datetime, *, all_here: bool
    ) -> float | None:
        """Seconds to the next look, if none were merely late; None: no more."""
        paces = self._means.intervals
        if self._is_open(row):
            usual_s = paces.unnamed_run_s if row.nameless else paces.open_run_s
            return min(max(usual_s, watch.quiet_s / _QUIET_SHARE), paces.max_pause_s)
        if all_here:
            return None
        if watch.gives_up(paces, row.expected):
            self._say_missing(outbox, row, now)
            return None
        return paces.unnamed_run_s if row.nameless else paces.ended_run_s

    def _say_missing(self, outbox: Outbox, row: RunRow, now: datetime) -> None:
        verdict = judge(outbox.by_run, row, self._means.charts, now)
        numbers = verdict.missing_sequences or "numbers unknown"
        logger.error(
            "run {}: missing and no more looked for: {} STFs ({}); {}", row.run, verdict.missing, numbers, verdict.line
        )

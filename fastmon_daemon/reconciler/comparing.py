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
    monitor_count: int
    """STFs that the monitor names."""
    known: int
    """STFs that were taken in before."""
    taken_in: list[str]
    """Names of those that were missed: they are taken in, or under way."""


class RunComparator:
    """Works inside the engine's transactions."""

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns, backfill: BackfillQueue) -> None:
        self._config = config
        self._runs = runs
        self._backfill = backfill

    def compare(self, outbox: Outbox, asked: RunRow, listing: RunListing, run: TrackedRun, now: datetime) -> None:
        """Have the missed ones taken in, note what the monitor says of the run, decide when to look again."""
        poll_state, row = run.poll_state, outbox.runs.get(asked.namespace, asked.run)
        assert row is not None  # only a purge takes it away, and nobody compares for a run that was purged
        monotonic = self._config.clock.monotonic()
        poll_state.message_received(
            row.last_message_at, (now - parse_timestamp(row.last_message_at)).total_seconds(), monotonic
        )
        poll_state.record_poll(listing, self._config.intervals, monotonic)
        since = format_timestamp(now - timedelta(seconds=poll_state.since_s))
        if any(outage.link == "broker" for outage in outbox.outages.between(since, format_timestamp(now))):
            poll_state.reset_listening()
        known = outbox.runs.known_names(row)
        unknown = [stf for stf in listing.stfs if stf.stf_filename not in known]
        strange = run.without_backfill(unknown)
        row = self._end(
            outbox, row, listing.ended_at, 0.0 if strange or not listing.stfs else poll_state.listened_s, now
        )
        missed = poll_state.find_missed(
            strange, self._grace_s(row), monotonic, partial(self._is_coming, row, poll_state)
        )
        self._backfill.add(
            run, [MissedStf(row, stf, Origin.POLLED if row.nameless else Origin.RECOVERED) for stf in missed]
        )
        row = self._expect(outbox, row, len(listing.stfs), poll_state)
        all_here = not unknown and row.expected is not None and len(known) >= row.expected
        pause_s = self._pause_s(outbox, row, poll_state, now, all_here=all_here)
        if len(missed) < len(strange):
            pause_s = poll_state.until_missed(self._grace_s(row), monotonic, pause_s)
        at = None if pause_s is None else now + timedelta(seconds=pause_s)
        outbox.runs.record_poll(row, at, len(listing.stfs), [stf.stf_filename for stf in unknown])

    def compare_now(
        self, outbox: Outbox, key: tuple[str, str], named: list[StfFile], by: str, now: datetime
    ) -> ReconcileResult:
        """A person looked at a run, heard of or not: what is missing counts as missed at once.

        Raises StorageUnavailable where there is no room for it.
        """
        self._config.refuse_if_short()
        namespace, run = key
        row = outbox.runs.get(namespace, run)
        if row is None and named:
            outbox.runs.record_message(namespace, run, self._config.run_chart.initial, now, None)
            row = outbox.runs.get(namespace, run)
        if row is None:
            return ReconcileResult(run, 0, 0, [])
        known, tracked = outbox.runs.known_names(row), self._runs.get(namespace, run)
        unknown = [stf for stf in named if stf.stf_filename not in known]
        strange = tracked.without_backfill(unknown)
        self._backfill.add(tracked, [MissedStf(row, stf, Origin.RECOVERED, by) for stf in strange])
        outbox.runs.record_poll(row, now, len(named), [stf.stf_filename for stf in unknown])
        return ReconcileResult(run, len(named), len(known), [stf.stf_filename for stf in strange])

    def _is_open(self, row: RunRow) -> bool:
        return self._config.run_chart.may(row.state, END_RUN)

    def _grace_s(self, row: RunRow) -> float:
        if row.nameless:
            return 0.0  # no message names its STFs
        intervals = self._config.intervals
        return intervals.missing_after_s if self._is_open(row) else intervals.missing_after_end_s

    def _is_coming(self, row: RunRow, poll_state: RunPollState, stf: StfFile) -> bool:
        """Whether messages of an open run are coming in and have not reached this STF: the broker's backlog drains."""
        sequence = sequence_in(stf.stf_filename)
        if row.nameless or sequence is None or not self._is_open(row):
            return False
        return sequence > (row.last_sequence or 0) and poll_state.idle_s < self._config.intervals.missing_after_s

    def _end(self, outbox: Outbox, row: RunRow, ended_at: str | None, settled_s: float, now: datetime) -> RunRow:
        """Take the DAQ's arrow in its stead, where the run is over and we have not heard so.

        *settled_s*: so long nothing was heard of it while everything that the monitor names is here.
        """
        if not (self._config.polls_all_runs and self._is_open(row)):
            return row
        why = end_reason(self._config, row, ended_at, settled_s)
        return apply_transition(outbox, self._config.run_chart, row, END_RUN, now, why) if why else row

    def _expect(self, outbox: Outbox, row: RunRow, named: int, poll_state: RunPollState) -> RunRow:
        """Where `end_run` did not say how many STFs there were, the monitor's count does, once it stands."""
        if (
            row.expected_by == END_RUN
            or self._is_open(row)
            or not poll_state.count_is_stable(named, self._config.intervals)
        ):
            return row
        if row.expected != named:
            logger.info("run {}: {} STFs, says the monitor", row.run, named)
            outbox.runs.expect(row, named, MONITOR)
        return outbox.runs.get(row.namespace, row.run) or row

    def _pause_s(
        self, outbox: Outbox, row: RunRow, poll_state: RunPollState, now: datetime, *, all_here: bool
    ) -> float | None:
        """Seconds to the next look, if none were merely late; None: no more."""
        intervals = self._config.intervals
        if self._is_open(row):
            usual_s = intervals.unnamed_run_s if row.nameless else intervals.open_run_s
            return min(max(usual_s, poll_state.idle_s / _QUIET_SHARE), intervals.max_pause_s)
        if all_here:
            return None
        if poll_state.gives_up(intervals, row.expected):
            self._say_missing(outbox, row, now)
            return None
        return intervals.unnamed_run_s if row.nameless else intervals.ended_run_s

    def _say_missing(self, outbox: Outbox, row: RunRow, now: datetime) -> None:
        verdict = judge(outbox.reports.by_run, row, self._config.charts, now)
        numbers = verdict.missing_sequences or "numbers unknown"
        logger.error(
            "run {}: missing and no more looked for: {} STFs ({}); {}", row.run, verdict.missing, numbers, verdict.line
        )

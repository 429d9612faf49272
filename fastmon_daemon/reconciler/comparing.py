"""Compares the monitor's list of a run with ours: which STFs are missed, how many are expected, when to poll again."""

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

_IDLE_SHARE = 10
"""An open run that is idle for long is polled after a tenth of its idle time."""


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """The result of an operator's `reconcile`."""

    run: str
    monitor_count: int
    """STFs that the monitor lists."""
    known: int
    """STFs that we knew before."""
    recovered: list[str]
    """File names of the missed STFs; they are now stored or queued."""


class RunComparator:
    """Works inside the engine's transactions."""

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns, backfill: BackfillQueue) -> None:
        self._config = config
        self._runs = runs
        self._backfill = backfill

    def compare(self, outbox: Outbox, polled: RunRow, listing: RunListing, run: TrackedRun, now: datetime) -> None:
        """Queue missed STFs, store what the monitor says about the run, and schedule the next poll."""
        poll_state, row = run.poll_state, outbox.runs.get(polled.namespace, polled.run)
        assert row is not None  # only a purge deletes the row, and polls of purged runs are dropped
        if not row.claimed:
            return  # it was released while it was polled
        monotonic = self._config.clock.monotonic()
        self._record_poll(outbox, row, listing, poll_state, now)
        self._note_finished_claims(outbox, row, run)
        # Messages may have arrived since the list was compared.
        absent = outbox.runs.unknown_names(row.namespace, row.run, listing.absent)
        held, settled = self._by_claim(absent, listing.new, run)
        unqueued_names = absent - run.recovering - run.claims.keys()
        unqueued = [stf for stf in listing.new if stf.stf_filename in unqueued_names]
        idle_s = 0.0 if unqueued_names or not listing.count else poll_state.listened_s
        row = self._end(outbox, row, listing.ended_at, idle_s, now)
        missed = poll_state.find_missed(
            unqueued, self._grace_s(row), monotonic, partial(self._is_coming, row, poll_state)
        )
        origin = Origin.POLLED if row.nameless else Origin.RECOVERED
        self._backfill.add(outbox, run, [MissedStf(row, stf, origin) for stf in (*missed, *settled)])
        row = self._expect(outbox, row, listing.count, poll_state)
        self._log_unlisted(row, listing)
        all_here = (
            not (absent or listing.unlisted)
            and row.expected is not None
            and outbox.runs.stored_count(row) >= row.expected
            and listing.count >= self._listable_count(outbox, row)
        )
        pause_s = self._pause_s(outbox, row, run, now, all_here=all_here)
        if len(missed) < len(unqueued):
            pause_s = poll_state.until_missed(self._grace_s(row), monotonic, pause_s)
        at = None if pause_s is None else now + timedelta(seconds=pause_s)
        outbox.runs.record_poll(row, at, listing.count, absent - held, listing.unlisted)

    def _note_finished_claims(self, outbox: Outbox, row: RunRow, run: TrackedRun) -> None:
        """Note what other daemons have finished, as far as their heart-beats show it."""
        peers = self._config.peers.latest
        for name, claim in list(run.claims.items()):
            if claim.is_whole and (claim.agent or peers.sharing) and peers.is_done(claim):
                outbox.runs.record_elsewhere(row, name, claim.agent, finished=True)
                del run.claims[name]

    def _by_claim(self, absent: set[str], listed: list[StfFile], run: TrackedRun) -> tuple[set[str], list[StfFile]]:
        """The names of those that other daemons have, and those whose claim does not hold any more: look them up."""
        peers, recovering = self._config.peers.latest, run.recovering
        run.claims = {name: claim for name, claim in run.claims.items() if name in absent}
        held = {name for name, claim in run.claims.items() if claim.names_stf and peers.holds(claim)}
        free = {name for name, claim in run.claims.items() if not peers.holds(claim)} - recovering
        return held, [stf for stf in listed if stf.stf_filename in free]

    def compare_now(
        self, outbox: Outbox, key: tuple[str, str], listing: RunListing, by: str, now: datetime
    ) -> ReconcileResult:
        """Queue all absent STFs of a run at once, for the operator *by*, who claims it; it may be unknown to us.

        Raises: StorageUnavailable if disk space is short.
        """
        self._config.refuse_if_short()
        namespace, run = key
        row = outbox.runs.get(namespace, run)
        if row is None and listing.count:
            outbox.runs.record_message(namespace, run, self._config.run_chart.initial, now, None)
            row = outbox.runs.get(namespace, run)
        if row is None:
            return ReconcileResult(run, 0, 0, [])
        if listing.count and not row.claimed:
            outbox.runs.claim(row, now)
            logger.info("run {}: claimed by {}", run, by)
        known, tracked = outbox.runs.stored_count(row), self._runs.get(namespace, run)
        absent = outbox.runs.unknown_names(namespace, row.run, listing.absent)
        unqueued_names = absent - tracked.recovering
        unqueued = [stf for stf in listing.new if stf.stf_filename in unqueued_names]
        if more := len(unqueued_names) - len(unqueued):
            logger.warning("run {}: {} further STFs are left to the next poll, or the next `reconcile`", run, more)
        self._backfill.add(outbox, tracked, [MissedStf(row, stf, Origin.RECOVERED, by) for stf in unqueued])
        outbox.runs.record_poll(row, now, listing.count, absent, listing.unlisted.intersection(row.unlisted))
        return ReconcileResult(run, listing.count, known, [stf.stf_filename for stf in unqueued])

    def _record_poll(
        self, outbox: Outbox, row: RunRow, listing: RunListing, poll_state: RunPollState, now: datetime
    ) -> None:
        monotonic = self._config.clock.monotonic()
        age_s = (now - parse_timestamp(row.last_message_at)).total_seconds()
        poll_state.message_received(row.last_message_at, age_s, monotonic)
        poll_state.record_poll(listing, self._config.intervals, monotonic)
        since = format_timestamp(now - timedelta(seconds=poll_state.since_s))
        if any(outage.link == "broker" for outage in outbox.outages.between(since, format_timestamp(now))):
            poll_state.reset_listening()

    @staticmethod
    def _log_unlisted(row: RunRow, listing: RunListing) -> None:
        """STFs with registered TF files that the monitor does not list in their run stand in another run."""
        if more := sorted(listing.unlisted - set(row.unlisted)):
            logger.error(
                "run {}: {} STFs with TF files are not listed by the monitor: {} ...", row.run, len(more), more[0]
            )

    def _listable_count(self, outbox: Outbox, row: RunRow) -> int:
        counts = outbox.runs.counts_by_state(row)
        return sum(counts.get(state, 0) for state in self._config.listable_states)

    def _is_open(self, row: RunRow) -> bool:
        return self._config.run_chart.may(row.state, END_RUN)

    def _grace_s(self, row: RunRow) -> float:
        """How long an STF may be absent before it counts as missed."""
        if row.nameless:
            return 0.0  # no message will name its STFs
        intervals = self._config.intervals
        return intervals.missing_after_s if self._is_open(row) else intervals.missing_after_end_s

    def _is_coming(self, row: RunRow, poll_state: RunPollState, stf: StfFile) -> bool:
        """Whether the broker's backlog of an open run is still arriving and has not reached this STF."""
        sequence = sequence_in(stf.stf_filename, row.run_id)
        if row.nameless or sequence is None or not self._is_open(row):
            return False
        return sequence > (row.last_sequence or 0) and poll_state.idle_s < self._config.intervals.missing_after_s

    def _end(self, outbox: Outbox, row: RunRow, ended_at: str | None, idle_s: float, now: datetime) -> RunRow:
        """Apply `end_run` if the run is over and we missed the message; see `end_reason`."""
        if not (self._config.polls_all_runs and self._is_open(row)):
            return row
        why = end_reason(self._config, row, ended_at, idle_s)
        return apply_transition(outbox, self._config.run_chart, row, END_RUN, now, why) if why else row

    def _expect(self, outbox: Outbox, row: RunRow, count: int, poll_state: RunPollState) -> RunRow:
        """Expect as many STFs as the monitor lists, once its count is stable, if `end_run` gave no total."""
        if (
            row.expected_by == END_RUN
            or self._is_open(row)
            or not poll_state.count_is_stable(count, self._config.intervals)
        ):
            return row
        if row.expected != count:
            logger.info("run {}: {} STFs expected (count of the monitor)", row.run, count)
            outbox.runs.expect(row, count, MONITOR)
        return outbox.runs.get(row.namespace, row.run) or row

    def _pause_s(self, outbox: Outbox, row: RunRow, run: TrackedRun, now: datetime, *, all_here: bool) -> float | None:
        """Seconds until the next poll, unless absent STFs need one sooner; None: no further poll."""
        intervals, poll_state = self._config.intervals, run.poll_state
        if self._is_open(row):
            usual_s = intervals.unnamed_run_s if row.nameless else intervals.open_run_s
            return min(max(usual_s, poll_state.idle_s / _IDLE_SHARE), intervals.max_pause_s)
        if all_here:
            return None
        if not run.claims and poll_state.gives_up(intervals, row.expected):
            self._log_given_up(outbox, row, now)
            return None
        return intervals.unnamed_run_s if row.nameless else intervals.ended_run_s

    def _log_given_up(self, outbox: Outbox, row: RunRow, now: datetime) -> None:
        verdict, bound = judge(outbox.runs, row, self._config.charts, now), logger.bind(run=row.run)
        if not verdict.missing:
            bound.error("run {}: polls stopped: {}: {}", row.run, ", ".join(verdict.incomplete_reasons), verdict.line)
            return
        numbers = verdict.missing_sequences or "numbers unknown"
        bound.error("run {}: {} STFs missing, polls stopped ({}): {}", row.run, verdict.missing, numbers, verdict.line)

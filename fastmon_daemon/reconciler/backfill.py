"""The STFs that the monitor named and we never heard of, on their way into the outbox.

Before anything is done for one that was missed, the monitor is asked whether its TF files stand there already: then
they were announced (by us, before our rows were pruned or lost, or by another), and must not be announced again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from loguru import logger

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.rate_limit import TokenBucket
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.messages import sequence_in
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import NewStf, Origin, Outbox, ReceiveOutcome
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.downtime import explain_missed
from fastmon_daemon.runs.run_events import apply_transition
from fastmon_daemon.runs.tracked_runs import MissedStf, TrackedRun, TrackedRuns

BATCH = 500
"""STFs that are taken in in one transaction."""
MAX_LOOKUPS = 3
"""StfQueries that may fail for one STF; then it is taken in all the same: announced again is better than lost."""


class BackfillQueue:
    """Works on the queues of each run: what is lost with them is named again by the next look."""

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns) -> None:
        self._config = config
        self._runs = runs
        self._pace = TokenBucket(config.intervals.lookups_per_s, config.clock.monotonic)

    def add(self, run: TrackedRun, missed: list[MissedStf]) -> None:
        """Take these in, soon."""
        for each in missed:
            (run.lookups_waiting if self._needs_lookup(each) else run.to_store)[each.name] = each

    def drop(self) -> None:
        """Take none of these in; a later look names them again, where they are still missing."""
        for run in self._runs.all():
            run.to_store.clear()
            run.lookups_waiting.clear()

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return any(run.is_recovering for run in self._runs.all())

    def tasks(self, outbox: Outbox, now: datetime) -> Iterator[BackgroundTask]:
        """Take in what needs no lookup; look up a few of the others."""
        if storing := next((run for run in self._runs.all() if run.to_store), None):
            names = list(islice(storing.to_store, BATCH))
            with outbox.transaction():
                for name in names:
                    self._take_in(outbox, storing.to_store[name], (), now)
            for name in names:
                del storing.to_store[name]
            self._config.wake()  # there may be more, and the new ones are due
        while run := self._next_to_look_up():
            self._pace.take(1)
            name = next(iter(run.lookups_waiting))
            run.lookups_in_flight[name] = run.lookups_waiting.pop(name)
            yield self._lookup(run, run.lookups_in_flight[name])

    def _next_to_look_up(self) -> TrackedRun | None:
        """The first run of which an STF may be looked up now."""
        runs = self._runs.all()
        waiting = next((run for run in runs if run.lookups_waiting), None)
        free = sum(len(run.lookups_in_flight) for run in runs) < self._config.intervals.max_lookups
        return waiting if free and self._config.allows_calls("monitor") and self._pace.is_ready else None

    def _needs_lookup(self, missed: MissedStf) -> bool:
        return missed.origin is Origin.RECOVERED and self._config.is_selected(sequence_in(missed.name), missed.name)

    def _lookup(self, run: TrackedRun, missed: MissedStf) -> BackgroundTask:
        name = missed.name

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            if run.purged:
                return
            run.lookups_in_flight.pop(name, None)  # a transaction that a full disk undid is run once more
            if isinstance(answer, Exception):
                run.lookup_failures[name] += 1  # also by a link that is down: the probe said before that it is up
                if run.lookup_failures[name] < MAX_LOOKUPS:
                    run.lookups_waiting[name] = missed  # at the end of the queue
                    return
                logger.warning("{}: its TF files could not be asked for: {}", name, answer)
                answer = []
            del run.lookup_failures[name]
            tfs: list[TfFile] = answer
            self._take_in(outbox, missed, tuple(tf.tf_filename for tf in tfs), now)

        return BackgroundTask("monitor", lambda: self._config.monitor.tf_files(name), done)

    def _take_in(self, outbox: Outbox, missed: MissedStf, stood: tuple[str, ...], now: datetime) -> None:
        row, stf = missed.row, missed.stf
        born = parse_timestamp(stf.created_at)
        sequence = sequence_in(stf.stf_filename)
        note = explain_missed(born, outbox) if missed.origin is Origin.RECOVERED else None
        new = NewStf(
            namespace=row.namespace,
            run_id=row.run_id,
            filename=stf.stf_filename,
            sequence=sequence,
            size_bytes=stf.file_size_bytes,
            checksum=stf.checksum,
            tf_count=stf.tf_count,
            body=stf.body,
            origin=missed.origin,
            born_at=born,
            note=f"{note}, looked for by {missed.by}" if note and missed.by else note,
            preexisting=stood,
        )
        outcome = outbox.receive(new, self._config.charts[0].initial, now)
        current = outbox.runs.get(row.namespace, row.run) or row
        outbox.runs.not_absent(current, missed.name)
        if outcome is not ReceiveOutcome.FRESH:
            return  # its message came meanwhile
        outbox.count(f"stf_{missed.origin}")
        logger.info("{}: {}, run {}", stf.stf_filename, note or "named by the monitor", row.run)
        outbox.runs.record_message(row.namespace, row.run_id, self._config.run_chart.initial, now, None)
        apply_transition(outbox, self._config.run_chart, current, "hear_stf", now)
        if sequence is not None:
            outbox.runs.record_sequence(row, sequence)

"""Stores missed STFs: those that the monitor lists and of which we received no message.

Before a missed STF is stored, the monitor is asked whether its TF files exist already. If another daemon has it, or has
finished it, that is noted, and nothing is stored. Other files that exist were announced before (by us, before our rows
were pruned or lost, or by an older agent) and must not be announced again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.base.rate_limit import TokenBucket
from fastmon_daemon.engine import BackgroundTask
from fastmon_daemon.messages import STF_SEEN, sequence_in
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import NewStf, Origin, Outbox, ReceiveOutcome
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.downtime import explain_missed
from fastmon_daemon.runs.peers import Ownership, Peers
from fastmon_daemon.runs.run_events import NOT_CLAIMED, apply_transition
from fastmon_daemon.runs.tracked_runs import MissedStf, TrackedRun, TrackedRuns

BATCH = 500
"""STFs that are stored in one transaction."""
MAX_LOOKUPS = 3
"""After this many failed lookups an STF is stored anyway: better announced twice than lost."""
TAKEN_OVER_WITHIN = timedelta(minutes=2)
"""The daemon that recovers has noticed within this time what another one left behind."""


class BackfillQueue:
    """Works on the queues of all runs. They are only in memory: the next poll finds again what is lost."""

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns) -> None:
        self._config = config
        self._runs = runs
        self._lookups = TokenBucket(config.intervals.lookups_per_s, config.clock.monotonic)

    def add(self, outbox: Outbox, run: TrackedRun, missed: list[MissedStf]) -> None:
        """Queue missed STFs of *run*; one of them at least is looked up, until that was done once in the run.

        Of the daemons that share a queue, any may have received an STF that is not selected: there is nothing to do.
        """
        if self._config.peers.latest.sharing or not self._config.recovers():
            nobodys = [each for each in missed if not (self._is_selected(each) or self._is_wanted(each))]
            for each in nobodys:
                outbox.runs.record_elsewhere(each.row, each.name, "", finished=True)
            missed = [each for each in missed if each not in nobodys]
        by_name = {each.name: each for each in missed}
        looked_up = {name for name, each in by_name.items() if self._needs_lookup(each)}
        if by_name and not looked_up and not run.namespace_checked:
            looked_up = {max(by_name, key=lambda name: self._is_selected(by_name[name]))}
        for name, each in by_name.items():
            (run.lookups_waiting if name in looked_up else run.to_store)[name] = each

    def drop(self) -> None:
        """Empty the queues."""
        for run in self._runs.all():
            run.to_store.clear()
            run.lookups_waiting.clear()

    @property
    def busy(self) -> bool:
        """Whether any STF is queued or looked up."""
        return any(run.is_recovering for run in self._runs.all())

    def tasks(self, outbox: Outbox, now: datetime) -> Iterator[BackgroundTask]:
        """Store a batch of STFs that need no lookup; yield lookups for some of the others."""
        if run := next((run for run in self._runs.all() if run.to_store and run.may_store), None):
            names = list(islice(run.to_store, BATCH))
            with outbox.transaction():
                for name in names:
                    self._store(outbox, run.to_store[name], (), now)
            for name in names:
                del run.to_store[name]
            self._config.wake()  # the new STFs are due, and there may be more to store
        while run := self._next_run():
            self._lookups.take(1)
            name = next(iter(run.lookups_waiting))
            run.lookups_in_flight[name] = run.lookups_waiting.pop(name)
            yield self._lookup(run, run.lookups_in_flight[name])

    def _next_run(self) -> TrackedRun | None:
        """The first run with an STF to look up, if a lookup may start now."""
        runs = self._runs.all()
        waiting = next((run for run in runs if run.lookups_waiting), None)
        has_room = sum(len(run.lookups_in_flight) for run in runs) < self._config.intervals.max_lookups
        return waiting if has_room and self._config.allows_calls("monitor") and self._lookups.is_ready else None

    def _needs_lookup(self, missed: MissedStf) -> bool:
        return missed.origin is Origin.RECOVERED and self._is_selected(missed)

    @staticmethod
    def _is_wanted(missed: MissedStf) -> bool:
        """Whether a message or an operator named its run, for us to process all of it."""
        return missed.origin is not Origin.RECOVERED or bool(missed.by)

    def _is_selected(self, missed: MissedStf) -> bool:
        return self._config.is_selected(missed.row, sequence_in(missed.name, missed.row.run_id), missed.name)

    def _lookup(self, run: TrackedRun, missed: MissedStf) -> BackgroundTask:
        name = missed.name

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            if run.purged:
                return
            run.lookups_in_flight.pop(name, None)  # gone already if a transaction failed and `done` runs again
            if isinstance(answer, Exception):
                run.lookup_failures[name] += 1  # LinkDown counts too: the link was up when the lookup started
                if run.lookup_failures[name] < MAX_LOOKUPS:
                    run.lookups_waiting[name] = missed  # at the end of the queue
                    return
                logger.warning("{}: lookup of its TF files failed {} times: {}", name, MAX_LOOKUPS, answer)
                answer = [], self._config.peers.latest
            del run.lookup_failures[name]
            tfs, peers = answer
            if self._is_foreign(outbox, missed, tfs):
                run.to_store.clear()
                run.lookups_waiting.clear()
                return
            run.namespace_checked = True
            self._decide(outbox, run, missed, tfs, peers, now)

        return BackgroundTask("monitor", lambda: self._look_up(name), done)

    def _look_up(self, name: str) -> tuple[list[TfFile], Peers]:
        tfs = self._config.monitor.tf_files(name)
        return tfs, self._config.peers.naming(tfs)

    def _decide(
        self, outbox: Outbox, run: TrackedRun, missed: MissedStf, tfs: list[TfFile], peers: Peers, now: datetime
    ) -> None:
        """Store an STF that is ours to process; note whose it is otherwise."""
        config, name = self._config, missed.name
        whose, claim = peers.judge(tfs, config.agent_name, run.claims.pop(name, None), now)
        if whose in (Ownership.OURS, Ownership.ABANDONED) and (config.recovers() or self._is_wanted(missed)):
            gone = claim.agent if claim and whose is Ownership.ABANDONED else ""
            preexisting = () if gone else tuple(tf.tf_filename for tf in tfs)
            self._store(outbox, missed, preexisting, now, gone)
            return
        if (
            whose is Ownership.ABANDONED and claim and peers.sharing
        ):  # the daemon that recovers has time to see that, and to finish it
            claim = replace(claim, agent="", settled_at=format_timestamp(now + TAKEN_OVER_WITHIN))
            whose = Ownership.WORKING
        if claim and whose is Ownership.WORKING:
            run.claims[name] = claim
        if claim and claim.names_stf and whose in (Ownership.WORKING, Ownership.FINISHED):
            outbox.runs.record_elsewhere(missed.row, name, claim.agent, finished=whose is Ownership.FINISHED)
            current = outbox.runs.get(missed.row.namespace, missed.row.run) or missed.row
            outbox.runs.remove_absent(current, name)

    def _is_foreign(self, outbox: Outbox, missed: MissedStf, tfs: list[TfFile]) -> bool:
        """Whether TF files of another namespace show that the run is not ours; it is released then."""
        named = {str(tf.metadata.get("namespace") or "") for tf in tfs if isinstance(tf.metadata, Mapping)}
        others = named - {"", missed.row.namespace}
        if not others or missed.by:  # an operator may claim such a run
            return False
        other = ", ".join(sorted(others))
        is_released = outbox.runs.release(missed.row, other)
        if is_released:
            what = f"TF files of namespace {other} stand at {missed.name}"
            logger.warning("run {}: given up ({}): {}", missed.row.run, what, NOT_CLAIMED)
        return is_released

    def _store(
        self, outbox: Outbox, missed: MissedStf, preexisting: tuple[str, ...], now: datetime, gone: str = ""
    ) -> None:
        """Store *missed*; *gone* is the daemon that began it, if it is gone for good."""
        row, stf = missed.row, missed.stf
        current = outbox.runs.get(row.namespace, row.run) or row
        if not current.claimed:
            return  # it was released meanwhile
        born = parse_timestamp(stf.created_at) if stf.created_at else now
        sequence = sequence_in(stf.stf_filename, row.run_id)
        note = explain_missed(born, outbox) if missed.origin is Origin.RECOVERED else None
        note = f"recovered: {gone}, which had begun it, is gone" if gone else note
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
            note=f"{note}, reconciled by {missed.by}" if note and missed.by else note,
            preexisting=preexisting,
        )
        outcome = outbox.receive(new, self._config.charts[0].initial, now)
        outbox.runs.remove_absent(current, missed.name)
        if outcome is not ReceiveOutcome.FRESH:
            return  # its message has arrived meanwhile
        outbox.count(f"stf_{missed.origin}")
        if stf.unreadable:
            logger.warning("{}: the monitor's row was read without {}", missed.name, ", ".join(stf.unreadable))
        logger.bind(stf=stf.stf_filename, run=row.run).info(
            "{}: {} (run {})", stf.stf_filename, note or "listed by the monitor", row.run
        )
        outbox.runs.record_message(row.namespace, row.run_id, self._config.run_chart.initial, now, None)
        apply_transition(outbox, self._config.run_chart, current, STF_SEEN, now)
        if sequence is not None:
            outbox.runs.record_sequence(row, sequence)

"""Stores the events of a run and applies its transitions, inside the caller's transaction.

Called on the broker's thread and on the engine's. Does not use the monitor.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.messages import RunEvent
from fastmon_daemon.outbox import Outbox, RunRow
from fastmon_daemon.statechart import StateMachine

END_RUN = "end_run"
MONITOR = "monitor"
"""The two authorities on how many STFs a run had."""
EXPECT_MORE = "expect_more"
NOT_CLAIMED = "only the STFs that messages name are processed; if the run is ours: fastmon-daemon reconcile --run N"
GAP_POLL_AFTER = timedelta(seconds=5)
"""A gap in the sequence is polled after this time, because messages may only have overtaken each other."""


def record_run_event(outbox: Outbox, chart: StateMachine, event: RunEvent, namespace: str, now: datetime) -> RunRow:
    """Store *event* and return the run; a repeated event changes no state.

    A run is ours once an event bears our namespace. Of any other, we expect only the STFs that messages name.
    """
    before = outbox.runs.get(namespace, event.run)
    outbox.runs.record_message(
        namespace, event.run_id, chart.initial, now, event.execution_id, claims=event.has_namespace
    )
    if before is not None and before.claimed:  # nothing else of it has changed
        at, execution_id = format_timestamp(now), before.execution_id or event.execution_id
        row: RunRow | None = replace(before, last_message_at=at, execution_id=execution_id)
    else:
        row = outbox.runs.get(namespace, event.run)
    assert row is not None  # stored above
    if before is None and not row.claimed:
        logger.warning("run {}: not claimed (its message has no namespace): {}", row.run, NOT_CLAIMED)
    elif before is not None and row.claimed and not before.claimed:
        logger.info("run {}: claimed (a message has our namespace)", row.run)
    if row.claimed and event.kind == END_RUN and event.total_stf_files is not None:
        row = _record_total(outbox, chart, row, event.total_stf_files, now)
    return apply_transition(outbox, chart, row, event.kind, now) if chart.may(row.state, event.kind) else row


def _record_total(outbox: Outbox, chart: StateMachine, row: RunRow, total: int, now: datetime) -> RunRow:
    """Store the number of STFs in `end_run`; if several differ, the highest is used."""
    before = row.expected or 0
    if row.expected_by == END_RUN and total <= before:
        if total < before:
            logger.warning("run {}: repeated end_run reports {} STFs: ignored (before: {})", row.run, total, before)
        return row
    if row.expected_by == END_RUN:
        logger.warning("run {}: repeated end_run reports {} STFs: used (before: {})", row.run, total, before)
    outbox.runs.expect(row, total, END_RUN)
    outbox.runs.poll_by(row, now)
    return apply_transition(outbox, chart, row, EXPECT_MORE, now) if total > before else row


def apply_transition(
    outbox: Outbox, chart: StateMachine, row: RunRow, trigger: str, now: datetime, why: str = ""
) -> RunRow:
    """Move a run by *trigger*, if its state allows it, and return it; *why* explains an end without `end_run`."""
    if chart.may(row.state, trigger):
        dest = chart.after(row.state, trigger)
        ends = trigger == END_RUN
        outbox.runs.set_state(row, dest, ended_at=now if ends else None, ended_by=(why or END_RUN) if ends else None)
        if dest != row.state:
            bound = logger.bind(run=row.run, source=row.state, dest=dest)
            bound.info("run {}: {} -> {}{}", row.run, row.state, dest, f" ({why})" if why else "")
        if ends:
            outbox.runs.poll_by(row, now)  # for the last STFs
    return outbox.runs.get(row.namespace, row.run) or row


def record_sequence(outbox: Outbox, row: RunRow, sequence: int | None, now: datetime) -> None:
    """Store the sequence number of a new STF; a gap before it schedules a poll."""
    if sequence is None:
        return
    if sequence > (row.last_sequence or 0) + 1:
        outbox.runs.poll_by(row, now + GAP_POLL_AFTER)
    outbox.runs.record_sequence(row, sequence)

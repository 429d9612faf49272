"""The ledger of the runs: what was heard of each, and the looks at the monitor that name STFs we never heard of.

It must not know STOMP. Its errands run in the engine's pool; their answers come back in the engine's thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.clock import moment
from fastmon_daemon.errands import Errand
from fastmon_daemon.errors import LinkDown
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.messages import RunNews, run_number, sequence_in
from fastmon_daemon.monitor import Monitor, StfFile
from fastmon_daemon.outbox import Arrival, NewStf, Origin, Outbox, RunRow

LOOK_EVERY = timedelta(seconds=3)
"""Between two looks at a run that is open."""
QUIET_AFTER = timedelta(minutes=10)
"""A run of which nothing was heard for so long is looked at once a minute."""
GIVE_UP_AFTER = timedelta(minutes=15)
"""So long after its end, a run is still looked at for STFs that it announced and the monitor does not name."""


def hear_run(outbox: Outbox, chart: Chart, news: RunNews, namespace: str, now: datetime) -> RunRow:
    """Note what was heard of a run, inside the caller's transaction; news that say nothing new change no state."""
    outbox.runs.hear(namespace, news.run_id, chart.initial, now, news.execution_id)
    row = outbox.runs.get(namespace, news.run)
    assert row is not None  # it was written two lines above
    if not chart.may(row.state, news.kind):
        return row
    dest = chart.after(row.state, news.kind)
    ended_at = now if news.kind == "end_run" else None
    outbox.runs.enter(row, dest, expected=news.total_stf_files, ended_at=ended_at)
    if dest != row.state:
        logger.info("run {}: {} -> {}", row.run, row.state, dest)
    if ended_at and row.look_at:
        outbox.runs.look(row, now)  # the last STFs are named at once
    return outbox.runs.get(namespace, news.run) or row


def look_soon(outbox: Outbox, row: RunRow, now: datetime) -> None:
    """An `stf_ready` without a filename: ask the monitor for the run's STFs, now and until the run ends."""
    outbox.runs.look(row, now)


class Ledger:
    """Looks at the monitor for the STFs of the runs that were announced without filenames."""

    def __init__(self, monitor: Monitor, stf_chart: Chart, run_chart: Chart) -> None:
        self._monitor = monitor
        self._stf_chart = stf_chart
        self._run_chart = run_chart
        self._looking: set[tuple[str, str]] = set()

    def errands(self, outbox: Outbox, now: datetime) -> Iterable[Errand]:
        """The looks that are due."""
        for row in outbox.runs.to_look_at(now):
            key = (row.namespace, row.run)
            number = run_number(row.run_id)
            if key in self._looking:
                continue
            if number is None:
                with outbox.transaction():
                    outbox.runs.look(row, None, error="its run_id is no number: the monitor cannot be asked")
                continue
            self._looking.add(key)
            yield self._look(row, number)

    def _look(self, row: RunRow, number: int) -> Errand:
        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            self._looking.discard((row.namespace, row.run))
            if isinstance(answer, LinkDown):
                outbox.runs.look(row, now + LOOK_EVERY)
            elif isinstance(answer, Exception):
                outbox.runs.look(row, now + LOOK_EVERY, error=str(answer))
            else:
                self._compare(outbox, row, answer, now)

        return Errand("monitor", lambda: self._monitor.stf_files(number), done)

    def _compare(self, outbox: Outbox, row: RunRow, named: list[StfFile], now: datetime) -> None:
        """Take in what the monitor names and we do not know; then decide when to look again."""
        known = outbox.runs.known_names(row)
        fresh = [self._take_in(outbox, row, stf, now) for stf in named if stf.stf_filename not in known]
        if fresh:
            logger.info("run {}: the monitor named {} new STFs", row.run, len(fresh))
        current = outbox.runs.get(row.namespace, row.run) or row
        outbox.runs.look(current, self._next_look(current, len(known) + len(fresh), now), looked=True)

    def _take_in(self, outbox: Outbox, row: RunRow, stf: StfFile, now: datetime) -> Arrival:
        new = NewStf(
            namespace=row.namespace,
            run_id=row.run_id,
            filename=stf.stf_filename,
            sequence=sequence_in(stf.stf_filename),
            size_bytes=stf.file_size_bytes,
            checksum=stf.checksum,
            tf_count=stf.tf_count,
            body=stf.body,
            origin=Origin.LOOK,
            born_at=moment(stf.created_at),
        )
        return outbox.receive(new, self._stf_chart.initial, now)

    def _next_look(self, row: RunRow, known: int, now: datetime) -> datetime | None:
        if self._run_chart.may(row.state, "end_run"):  # it is open
            quiet = now - moment(row.heard_at) > QUIET_AFTER
            return now + (timedelta(minutes=1) if quiet else LOOK_EVERY)
        ended = moment(row.ended_at) if row.ended_at else now
        complete = row.expected is not None and known >= row.expected
        settled = row.expected is None and now - ended > 2 * LOOK_EVERY
        return None if complete or settled or now - ended > GIVE_UP_AFTER else now + LOOK_EVERY

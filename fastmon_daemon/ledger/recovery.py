"""The STFs that the monitor named and we never heard of, on their way into the outbox.

Before anything is done for one that was missed, the monitor is asked whether its TF files stand there already: then
they were announced (by us, before our rows were pruned or lost, or by another), and must not be announced again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from loguru import logger

from fastmon_daemon.clock import moment
from fastmon_daemon.errands import Errand
from fastmon_daemon.gates import Pace
from fastmon_daemon.ledger.absence import why_missed
from fastmon_daemon.ledger.hearing import take_arrow
from fastmon_daemon.ledger.means import Means
from fastmon_daemon.messages import sequence_in
from fastmon_daemon.monitor import StfFile, TfFile
from fastmon_daemon.outbox import Arrival, NewStf, Origin, Outbox, RunRow

BATCH = 500
"""STFs that are taken in in one transaction."""
MOST_LOOKUPS = 3
"""Lookups that may fail for one STF; then it is taken in all the same: announced again is better than lost."""

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Missed:
    """One STF that was named and is not known."""

    row: RunRow
    stf: StfFile
    origin: Origin
    by: str = ""
    """The person who looked by hand."""

    @property
    def key(self) -> Key:
        """Its identity."""
        return self.row.namespace, self.row.run, self.stf.stf_filename


class Recovery:
    """A queue in memory: what is lost with it is named again by the next look."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._plain: dict[Key, Missed] = {}
        """Those that need no lookup."""
        self._waiting: dict[Key, Missed] = {}
        self._asking: dict[Key, Missed] = {}
        self._failures: Counter[Key] = Counter()
        self._pace = Pace(means.paces.lookups_per_s, means.clock.monotonic)

    def add(self, missed: list[Missed]) -> None:
        """Take these in, soon."""
        for each in missed:
            (self._waiting if self._needs_lookup(each) else self._plain)[each.key] = each

    def drop(self) -> None:
        """Take none of these in; a later look names them again, where they are still missing."""
        self._plain.clear()
        self._waiting.clear()

    def names(self, row: RunRow) -> set[str]:
        """The STFs of the run that are under way."""
        under_way = (*self._plain, *self._waiting, *self._asking)
        return {key[2] for key in under_way if key[:2] == (row.namespace, row.run)}

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._plain or self._waiting or self._asking)

    @property
    def ready(self) -> bool:
        """Whether a lookup may go now."""
        free = len(self._asking) < self._means.paces.lookups_at_once
        return bool(self._waiting) and free and self._means.is_open("monitor") and self._pace.ready

    def errands(self, outbox: Outbox, now: datetime) -> Iterator[Errand]:
        """Take in what needs no lookup; look up a few of the others."""
        if self._plain:
            with outbox.transaction():
                for key in list(islice(self._plain, BATCH)):
                    self._take_in(outbox, self._plain[key], (), now)
            for key in list(islice(self._plain, BATCH)):
                del self._plain[key]
            self._means.wake()  # there may be more, and the new ones are due
        while self.ready:
            self._pace.take(1)
            key = next(iter(self._waiting))
            self._asking[key] = self._waiting.pop(key)
            yield self._lookup(self._asking[key])

    def _needs_lookup(self, missed: Missed) -> bool:
        name = missed.stf.stf_filename
        return missed.origin is Origin.RECOVERED and self._means.selected(sequence_in(name), name)

    def _lookup(self, missed: Missed) -> Errand:
        name = missed.stf.stf_filename

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            self._asking.pop(missed.key, None)  # a transaction that a full disk undid is run once more
            if isinstance(answer, Exception):
                self._failures[missed.key] += 1  # also by a link that is down: the probe said before that it is up
                if self._failures[missed.key] < MOST_LOOKUPS:
                    self._waiting[missed.key] = missed  # at the end of the queue
                    return
                logger.warning("{}: its TF files could not be asked for: {}", name, answer)
                answer = []
            del self._failures[missed.key]
            tfs: list[TfFile] = answer
            self._take_in(outbox, missed, tuple(tf.tf_filename for tf in tfs), now)

        return Errand("monitor", lambda: self._means.monitor.tf_files(name), done)

    def _take_in(self, outbox: Outbox, missed: Missed, stood: tuple[str, ...], now: datetime) -> None:
        row, stf = missed.row, missed.stf
        born = moment(stf.created_at)
        sequence = sequence_in(stf.stf_filename)
        note = why_missed(born, outbox) if missed.origin is Origin.RECOVERED else None
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
            stood=stood,
        )
        if outbox.receive(new, self._means.charts[0].initial, now) is not Arrival.FRESH:
            return  # its message came meanwhile
        outbox.count(f"stf_{missed.origin}")
        logger.info("{}: {}, run {}", stf.stf_filename, note or "named by the monitor", row.run)
        outbox.runs.hear(row.namespace, row.run_id, self._means.run_chart.initial, now, None)
        current = outbox.runs.get(row.namespace, row.run) or row
        take_arrow(outbox, self._means.run_chart, current, "hear_stf", now)
        if sequence is not None:
            outbox.runs.reached(row, sequence)

"""The verdict of a run: what was expected, what came, what became of it, and what is missing.

It reads only, alive or dead. It must not know how a verdict is shown or sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox import Latency, Outage, RunReader, RunRow, TfCounts
from fastmon_daemon.statechart import StateMachine

_MOST_RANGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What can be said of a run now."""

    namespace: str
    run: str
    state: str
    complete: bool
    """Every expected STF is known and at rest, and none failed."""
    incomplete_reasons: tuple[str, ...]
    """What is wanting for that, in words."""
    expected: int | None
    expected_by: str | None
    """`end_run` or `monitor`."""
    monitor_count: int | None
    """How many the monitor named when it was asked last."""
    received: int
    """By message, or because a message without filename made us look."""
    recovered: int
    """Their messages were missed; the monitor named them."""
    skipped: int
    completed: int
    failed: int
    discarded: int
    unfinished: int
    missing: int
    missing_sequences: str
    """Their numbers as ranges (`3-7, 12`), as far as they can be told."""
    missing_names: tuple[str, ...]
    """Those that the monitor named and that are not taken in yet."""
    tf_files: TfCounts
    latencies: tuple[Latency, ...]
    outages: tuple[Outage, ...]
    """Those that overlap the run; of the link `daemon`: when no daemon listened."""
    last_message_at: str
    ended_at: str | None
    ended_by: str | None
    reconcile_error: str | None
    """Why the monitor could not be asked."""

    def as_json(self) -> str:
        """All of it as one JSON object."""
        return json.dumps(asdict(self))

    @property
    def line(self) -> str:
        """The counts on one line."""
        by = f" ({self.expected_by})" if self.expected_by else ""
        expected = "unknown" if self.expected is None else f"{self.expected}{by}"
        names = ("received", "recovered", "skipped", "completed", "failed", "discarded", "unfinished", "missing")
        counts = ", ".join(f"{name} {getattr(self, name)}" for name in names)
        tfs = self.tf_files
        return f"expected {expected}, {counts}; TF files {tfs.registered} registered, {tfs.announced} announced"


def judge(reports: RunReader, row: RunRow, charts: tuple[StateMachine, StateMachine], now: datetime) -> Verdict:
    """The verdict of the run in *row*; *charts* are those of the STF and of the run.

    Of a run whose STFs were pruned it is the verdict that was kept when the run became complete.
    """
    counts = reports.counts_by_state(row)
    return _kept(reports, row, counts) or _judged(reports, row, charts, counts, now)


def incomplete_reasons(
    reports: RunReader, row: RunRow, charts: tuple[StateMachine, StateMachine], counts: dict[str, int]
) -> tuple[str, ...]:
    """Why the run in *row* is not complete, in words; none: it is. The rule of `judge`, without its numbers.

    *counts* are the run's STFs by state (`RunReader.counts_by_state`).
    """
    if kept := _kept(reports, row, counts):
        return kept.incomplete_reasons
    return tuple(_incomplete_reasons(row, charts, counts, _how_many_missing(row, counts)))


def _kept(reports: RunReader, row: RunRow, counts: dict[str, int]) -> Verdict | None:
    """The verdict that was kept, where it says more than the STFs that are still there."""
    pruned = reports.pruned(row)
    kept = reports.saved_verdict(row) if pruned or not counts else None
    return _with_more(_read(kept), row, pruned + sum(counts.values())) if kept else None


def _with_more(kept: Verdict, row: RunRow, known: int) -> Verdict:
    """A kept verdict; where more STFs are expected by now than then, it does not hold, and says so."""
    if row.expected is None or row.expected <= (kept.expected or 0):
        return kept
    return replace(
        kept,
        state=row.state,
        complete=False,
        incomplete_reasons=(f"it was complete with {kept.expected or 0} STFs, and {row.expected} are expected since",),
        expected=row.expected,
        expected_by=row.expected_by,
        missing=max(0, row.expected - known),
    )


def _judged(
    reports: RunReader, row: RunRow, charts: tuple[StateMachine, StateMachine], counts: dict[str, int], now: datetime
) -> Verdict:
    chart, run_chart = charts
    of = {trigger: _after(trigger, chart, counts) for trigger in ("skip", "close_stf", "fail", "discard")}
    missing, ranges = _missing(row, counts, reports.sequences(row))
    recovered = reports.recovered(row)
    why_not = tuple(_incomplete_reasons(row, charts, counts, missing))
    began, ended = reports.window(row)
    order = {(transition.source, transition.dest): place for place, transition in enumerate(chart.transitions)}
    return Verdict(
        namespace=row.namespace,
        run=row.run,
        state=row.state,
        complete=not why_not,
        incomplete_reasons=why_not,
        expected=row.expected,
        expected_by=row.expected_by,
        monitor_count=row.monitor_count,
        received=sum(counts.values()) - recovered,
        recovered=recovered,
        skipped=of["skip"],
        completed=of["close_stf"],
        failed=of["fail"],
        discarded=of["discard"],
        unfinished=_unfinished(chart, counts),
        missing=missing,
        missing_sequences=ranges,
        missing_names=row.absent,
        tf_files=reports.tf_counts(row),
        latencies=tuple(sorted(reports.latencies(row), key=lambda each: order.get((each.source or "", each.dest), -1))),
        outages=tuple(
            reports.outages.between(began, format_timestamp(now) if run_chart.may(row.state, "end_run") else ended)
        ),
        last_message_at=row.last_message_at,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
        reconcile_error=row.reconcile_error,
    )


def _incomplete_reasons(
    row: RunRow, charts: tuple[StateMachine, StateMachine], counts: dict[str, int], missing: int
) -> Iterator[str]:
    """The one rule: a run without any of these is complete."""
    chart, run_chart = charts
    if run_chart.may(row.state, "end_run"):
        yield "it has not ended"
    elif row.expected is None:
        yield "it is not known how many STFs there were"
    if missing:
        yield f"missing: {missing}"
    if row.absent:
        yield f"listed by the monitor, not received yet: {len(row.absent)}"
    if failed := _after("fail", chart, counts):
        yield f"failed: {failed}"
    if unfinished := _unfinished(chart, counts):
        yield f"unfinished: {unfinished}"


def _after(trigger: str, chart: StateMachine, counts: dict[str, int]) -> int:
    return sum(counts.get(state, 0) for state in chart.leads_to(trigger))


def _unfinished(chart: StateMachine, counts: dict[str, int]) -> int:
    return sum(count for state, count in counts.items() if not chart.is_finalized(state))


def _how_many_missing(row: RunRow, counts: dict[str, int]) -> int:
    return max(0, (row.expected or 0) - sum(counts.values()))


def _missing(row: RunRow, counts: dict[str, int], sequences: set[int]) -> tuple[int, str]:
    """How many are missing, and which numbers, from 1 (or 0, where that was seen) to the last one."""
    first = 0 if 0 in sequences else 1
    last = max([*sequences, row.last_sequence or 0])
    if row.expected is None:
        gaps = list(_gaps(sequences, first, last))
        return _length(gaps), format_ranges(gaps)
    missing = _how_many_missing(row, counts)
    gaps = list(_gaps(sequences, first, first + row.expected - 1)) if missing else []
    if _length(gaps) != missing:  # their numbers do not begin at 1: only what lies between is certain
        gaps = list(_gaps(sequences, min(sequences, default=1), last)) if missing else []
    return missing, format_ranges(gaps)


def _gaps(sequences: Iterable[int], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The ranges from *first* to *last*, both included, that *sequences* leave out."""
    due = first
    for number in sorted(sequences):
        if number > last:
            break
        if number > due:
            yield due, number - 1
        due = max(due, number + 1)
    if due <= last:
        yield due, last


def _length(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(end - begin + 1 for begin, end in ranges)


def format_ranges(ranges: list[tuple[int, int]]) -> str:
    """Ranges as people write them: `3-7, 12`."""
    words = [str(begin) if begin == end else f"{begin}-{end}" for begin, end in islice(ranges, _MOST_RANGES)]
    more = len(ranges) - len(words)
    return ", ".join([*words, f"and {more} ranges more"] if more else words)


def _read(text: str) -> Verdict:
    raw: dict[str, Any] = json.loads(text)
    return Verdict(**{
        **raw,
        "incomplete_reasons": tuple(raw["incomplete_reasons"]),
        "missing_names": tuple(raw["missing_names"]),
        "tf_files": TfCounts(**raw["tf_files"]),
        "latencies": tuple(Latency(**each) for each in raw["latencies"]),
        "outages": tuple(Outage(**each) for each in raw["outages"]),
    })  # fmt: skip

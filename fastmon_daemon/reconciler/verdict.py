"""The verdict of a run: STFs expected, received, completed, failed and missing.

Read-only, whether or not the daemon is running. This module does not know how a verdict is shown or sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox import Latency, Outage, RunRow, Runs, TfCounts
from fastmon_daemon.statechart import StateMachine

_MAX_RANGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The state of a run and the counts of its STFs, now or when it was saved."""

    namespace: str
    """Namespace of the run."""
    run: str
    """The run, as text without leading zeros."""
    state: str
    """State of the run."""
    complete: bool
    """The run has ended, and every expected STF is known, finalized and not failed."""
    incomplete_reasons: tuple[str, ...]
    """Why it is not complete, in words."""
    expected: int | None
    """STFs of the run; null: the total is unknown."""
    expected_by: str | None
    """Who told the total: `end_run` or `monitor`."""
    monitor_count: int | None
    """STFs that the monitor listed in the last poll."""
    received: int
    """STFs that came by message, or by the poll that a message without file name requested."""
    recovered: int
    """STFs that came by backfill: their messages were missed."""
    elsewhere: int = 0
    """STFs that other daemons have finished, which share the work with this one."""
    elsewhere_unfinished: int = 0
    """STFs that other daemons have not finished yet."""
    skipped: int
    """STFs that were not selected."""
    completed: int
    """STFs with all TF files registered and announced."""
    failed: int
    """STFs that need an operator."""
    discarded: int
    """STFs that an operator gave up."""
    unfinished: int
    """STFs with work left."""
    missing: int
    """Expected STFs that did not come."""
    missing_sequences: str
    """Sequence numbers as ranges (`3-7, 12`), as far as they are known."""
    missing_names: tuple[str, ...]
    """File names that the monitor lists and that are not stored yet."""
    tf_files: TfCounts
    """The TF files of the run."""
    latencies: tuple[Latency, ...]
    """How long each transition of the STFs took."""
    outages: tuple[Outage, ...]
    """Outages that overlap the run; those of the link `daemon` are downtimes of the daemon."""
    last_message_at: str
    """When the last message of the run came."""
    ended_at: str | None
    """When the run ended; null: it has not."""
    ended_by: str | None
    """How fastmon learned of the end."""
    reconcile_error: str | None
    """Why the last poll failed."""

    def as_json(self) -> str:
        """The verdict as one JSON object."""
        return json.dumps(asdict(self))

    def counts(self) -> dict[str, int]:
        """The counts of STFs by name; those of other daemons only if there are any."""
        names = ("received", "recovered", "skipped", "completed", "failed", "discarded", "unfinished", "missing")
        counts = {name: getattr(self, name) for name in names}
        others = {"elsewhere": self.elsewhere, "elsewhere unfinished": self.elsewhere_unfinished}
        return counts | {name: count for name, count in others.items() if count}

    @property
    def line(self) -> str:
        """The counts in one line."""
        by = f" ({self.expected_by})" if self.expected_by else ""
        expected = "unknown" if self.expected is None else f"{self.expected}{by}"
        counts = ", ".join(f"{name} {count}" for name, count in self.counts().items())
        tfs = self.tf_files
        return f"expected {expected}, {counts}; TF files {tfs.registered} registered, {tfs.announced} announced"


def judge(reports: Runs, row: RunRow, charts: tuple[StateMachine, StateMachine], now: datetime) -> Verdict:
    """The verdict of the run in *row*; *charts* are those of the STF and of the run.

    If STFs of the run were pruned, it is the verdict that was saved when the run became complete.
    """
    counts = reports.counts_by_state(row)
    if saved := _saved(reports, row, counts):
        return saved
    chart, run_chart = charts
    others = reports.elsewhere(row)
    after = {trigger: _after(trigger, chart, counts) for trigger in ("skip", "close_stf", "fail", "discard")}
    missing, ranges = _missing(row, sum(counts.values()) + others.total, reports.sequences(row))
    recovered = reports.recovered(row)
    reasons = tuple(_incomplete_reasons(row, charts, counts, missing, others.unfinished))
    began, ended = reports.window(row)
    if run_chart.may(row.state, "end_run"):
        ended = format_timestamp(now)
    order = {(each.source, each.dest): place for place, each in enumerate(chart.transitions)}
    return Verdict(
        namespace=row.namespace,
        run=row.run,
        state=row.state,
        complete=not reasons,
        incomplete_reasons=reasons,
        expected=row.expected,
        expected_by=row.expected_by,
        monitor_count=row.monitor_count,
        received=sum(counts.values()) - recovered,
        recovered=recovered,
        elsewhere=others.finished,
        elsewhere_unfinished=others.unfinished,
        skipped=after["skip"],
        completed=after["close_stf"],
        failed=after["fail"],
        discarded=after["discard"],
        unfinished=_unfinished(chart, counts),
        missing=missing,
        missing_sequences=ranges,
        missing_names=row.absent,
        tf_files=reports.tf_counts(row),
        latencies=tuple(sorted(reports.latencies(row), key=lambda each: order.get((each.source or "", each.dest), -1))),
        outages=tuple(reports.outages.between(began, ended)),
        last_message_at=row.last_message_at,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
        reconcile_error=row.reconcile_error,
    )


def incomplete_reasons(
    reports: Runs, row: RunRow, charts: tuple[StateMachine, StateMachine], counts: dict[str, int]
) -> tuple[str, ...]:
    """Why the run in *row* is not complete; empty if it is. The rule of `judge`, at less cost.

    *counts* are the run's STFs by state (`Runs.counts_by_state`).
    """
    if saved := _saved(reports, row, counts):
        return saved.incomplete_reasons
    others = reports.elsewhere(row)
    missing = _missing_count(row, sum(counts.values()) + others.total)
    return tuple(_incomplete_reasons(row, charts, counts, missing, others.unfinished))


def _saved(reports: Runs, row: RunRow, counts: dict[str, int]) -> Verdict | None:
    """The saved verdict if STFs were pruned; not complete any more if more STFs are expected since."""
    pruned = reports.pruned(row)
    text = reports.saved_verdict(row) if pruned or not counts else None
    if text is None:
        return None
    saved = _parse(text)
    if row.expected is None or row.expected <= (saved.expected or 0):
        return saved
    return replace(
        saved,
        state=row.state,
        complete=False,
        incomplete_reasons=(f"complete with {saved.expected or 0} STFs before, now {row.expected} expected",),
        expected=row.expected,
        expected_by=row.expected_by,
        missing=_missing_count(row, reports.known_count(row)),
    )


def _incomplete_reasons(
    row: RunRow, charts: tuple[StateMachine, StateMachine], counts: dict[str, int], missing: int, elsewhere: int
) -> Iterator[str]:
    """The only rule: a run without any of these is complete."""
    chart, run_chart = charts
    if not row.claimed:
        why = f"TF files of namespace {row.other_namespace}" if row.other_namespace else "no message with our namespace"
        yield f"not claimed ({why}): only its announced STFs are known"
    elif run_chart.may(row.state, "end_run"):
        yield "not ended"
    elif row.expected is None:
        yield "total unknown"
    yield from _counted({
        "missing": missing,
        "not finished by other daemons": elsewhere,
        "listed by the monitor, not received yet": len(row.absent),
    })  # fmt: skip
    completed, ended = _after("close_stf", chart, counts), not run_chart.may(row.state, "end_run")
    if row.unlisted:
        yield f"with TF files, but not listed by the monitor in this run: {len(row.unlisted)} ({row.unlisted[0]} ...)"
    elif row.monitor_count is not None and row.monitor_count < completed and ended and row.poll_at:
        yield f"completed: {completed}, listed by the monitor: {row.monitor_count}"  # until the poll that is due
    yield from _counted({"failed": _after("fail", chart, counts), "unfinished": _unfinished(chart, counts)})


def _counted(counts: dict[str, int]) -> Iterator[str]:
    return (f"{what}: {count}" for what, count in counts.items() if count)


def _after(trigger: str, chart: StateMachine, counts: dict[str, int]) -> int:
    return sum(counts.get(state, 0) for state in chart.leads_to(trigger))


def _unfinished(chart: StateMachine, counts: dict[str, int]) -> int:
    return sum(count for state, count in counts.items() if not chart.is_finalized(state))


def _missing_count(row: RunRow, known: int) -> int:
    return max(0, (row.expected or 0) - known)


def _missing(row: RunRow, known: int, sequences: set[int]) -> tuple[int, str]:
    """How many STFs are missing, and their sequence numbers; a run counts from 1, or from 0 if we saw that."""
    if not row.claimed:
        return 0, ""
    first = 0 if 0 in sequences else 1
    last = max([*sequences, row.last_sequence or 0])
    if row.expected is None:
        gaps = list(_gaps(sequences, first, last))
        return _length(gaps), format_ranges(gaps)
    missing = _missing_count(row, known)
    gaps = list(_gaps(sequences, first, first + row.expected - 1)) if missing else []
    if _length(gaps) != missing:  # the run does not count from 1: only gaps between known numbers are certain
        gaps = list(_gaps(sequences, min(sequences, default=1), last)) if missing else []
    return missing, format_ranges(gaps)


def _gaps(sequences: Iterable[int], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The ranges of numbers from *first* to *last*, inclusive, that are not in *sequences*."""
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
    """Ranges as text: `3-7, 12`."""
    words = [str(begin) if begin == end else f"{begin}-{end}" for begin, end in islice(ranges, _MAX_RANGES)]
    more = len(ranges) - len(words)
    return ", ".join([*words, f"and {more} more ranges"] if more else words)


def _parse(text: str) -> Verdict:
    raw: dict[str, Any] = json.loads(text)
    return Verdict(**{
        **raw,
        "incomplete_reasons": tuple(raw["incomplete_reasons"]),
        "missing_names": tuple(raw["missing_names"]),
        "tf_files": TfCounts(**raw["tf_files"]),
        "latencies": tuple(Latency(**each) for each in raw["latencies"]),
        "outages": tuple(Outage(**each) for each in raw["outages"]),
    })  # fmt: skip

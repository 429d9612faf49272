"""The metrics: numbers from the database, as `inspect` counts them, and from this process.

Rendered in Prometheus' text format 0.0.4. Labels are names of states, links, runs and counters, never secrets.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from fastmon_daemon import __version__
from fastmon_daemon.base.clock import Clock, parse_timestamp
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector, View
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.monitor import ResponseCounter
from fastmon_daemon.outbox import (
    COALESCED_UPDATES,
    DAEMON_DOWNTIME,
    SINGLE_UPDATES,
    UNREPORTABLE,
    Origin,
    OutboxReader,
    ReceiveOutcome,
    free_bytes,
    open_for_reading,
    storage_errors,
)
from fastmon_daemon.presence.assessment import KINDS, Assessment, Assessor

Labels = tuple[tuple[str, str], ...]
"""Pairs of label name and value."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MAX_RUNS = 5
_COUNTED = (
    *(f"stf_ready_{outcome}" for outcome in ReceiveOutcome),
    *(f"stf_{origin}" for origin in (Origin.POLLED, Origin.RECOVERED)),
    *("ignored_type", "ignored_namespace", "ignored_echo", "rejected_dropped", "runs_unknown"),
    *(SINGLE_UPDATES, COALESCED_UPDATES, UNREPORTABLE),
)
_ANSWERS = ("200", "201", "400", "401", "403", "404", "429", "500", "502", "503")
"""Series that exist from the start: one that appears with its first event has no rate for it."""
_RUN_METRICS = {
    "fastmon_run": "1 for the current state of a run.",
    "fastmon_run_expected": "STFs of a run, if the total is known.",
    "fastmon_run_missing": "Expected STFs not received.",
    "fastmon_run_recovered": "STFs of a run recovered by backfill.",
    "fastmon_run_stfs": "STFs of a run by state.",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; *kind* is gauge or counter, *samples* has a value for each set of labels."""

    name: str
    kind: str
    help: str
    samples: Mapping[Labels, float]


def gauge(name: str, help_: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return Metric(name, "gauge", help_, {(): value})


def by_label(name: str, kind: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a metric with one label; *values* maps its value to the number."""
    return Metric(name, kind, help_, {((label, each),): value for each, value in values.items()})


def render_exposition(metrics: Iterable[Metric]) -> str:
    """Return the metrics as text."""
    return "".join(f"{line}\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    help_ = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {metric.name} {help_}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for labels, value in metric.samples.items():
        inner = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels)
        yield f"{metric.name}{{{inner}}} {value!r}" if inner else f"{metric.name} {value!r}"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Counters:
    """The highest value of each counter that was told: one never falls, though a clock is set back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[tuple[str, Labels], float] = {}

    def never_falling(self, metric: Metric) -> Metric:
        """*metric*, with no value of a counter below what was told before."""
        if metric.kind != "counter":
            return metric
        with self._lock:
            for labels, value in metric.samples.items():
                key = metric.name, labels
                self._told[key] = max(value, self._told.get(key, value))
            return replace(metric, samples={labels: self._told[metric.name, labels] for labels in metric.samples})


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsCollector:
    """Collects the metrics; `render` may be called by any thread."""

    namespace: str
    database: Path
    assessor: Assessor
    liveness: Liveness
    response_counter: ResponseCounter
    buffered: Callable[[], int]
    """Returns the number of messages that are received but neither stored nor acknowledged."""
    clock: Clock
    _counters: _Counters = field(default_factory=_Counters)

    def render(self) -> str:
        """Return the verdict on the daemon as a comment, and the current metrics. Raises: StorageError; OSError."""
        with storage_errors(self.database):
            found = self.assessor.assess()
            metrics = [_problems(found), *self._process_metrics(), *self._database_metrics()]
        return f"# {found.line}\n{render_exposition(map(self._counters.never_falling, metrics))}"

    def _process_metrics(self) -> Iterator[Metric]:
        who = (("namespace", self.namespace), ("version", __version__))
        yield Metric("fastmon_info", "gauge", "Namespace and version of the daemon.", {who: 1})
        ticks = self.liveness.ticks
        yield Metric("fastmon_engine_turns_total", "counter", "Completed ticks of the engine.", {(): ticks})
        yield gauge("fastmon_engine_turn_age_seconds", "Seconds since the engine's last tick.", self.liveness.age_s)
        log = self.database.with_name(f"{self.database.name}-wal")
        size = sum(path.stat().st_size for path in (self.database, log) if path.exists())
        counts = dict.fromkeys(product(("GET", "POST"), _ANSWERS), 0) | self.response_counter.counts()
        answers: dict[Labels, float] = {
            (("method", method), ("status", status)): count for (method, status), count in counts.items()
        }
        help_ = "Answers of the monitor, without those to heart-beats, stages and logs."
        yield Metric("fastmon_monitor_answers_total", "counter", help_, answers)
        yield gauge("fastmon_messages_buffered", "Messages received but not stored yet.", self.buffered())
        yield gauge("fastmon_database_bytes", "Size of the database and its write-ahead log.", size)
        free = free_bytes(self.database.parent) or 0
        yield gauge("fastmon_disk_free_bytes", "Free disk space for the database.", free)

    def _database_metrics(self) -> Iterator[Metric]:
        now = self.clock.now()
        rule = self.assessor.rule
        chart = rule.stuck.chart
        context = InspectionContext(rule=rule, now=now, daemon=os.getpid())
        with closing(open_for_reading(self.database)) as reports:
            seen = Inspector(reports, context).overview(limit=0)
            runs = _runs(reports, seen["runs"])
            oldest = reports.oldest_unfinished()
            downtime = reports.outages.seconds(now)
        unfinished = sum(count for state, count in seen["states"].items() if not chart.is_finalized(state))
        yield by_label("fastmon_stfs", "gauge", "STFs by state.", "state", seen["states"])
        yield gauge("fastmon_stfs_unfinished", "STFs that are not finalized.", unfinished)
        yield gauge("fastmon_stfs_stuck", "STFs that are stuck, as inspect counts them.", seen["stuck_count"])
        age = max(0.0, (now - parse_timestamp(oldest.born_at)).total_seconds()) if oldest else 0.0
        yield gauge("fastmon_oldest_unfinished_seconds", "Age of the oldest unfinished STF, seconds.", age)
        yield _links(seen["links"])
        downtime = {**dict.fromkeys([*seen["links"], DAEMON_DOWNTIME], 0.0), **downtime}
        yield by_label("fastmon_outage_seconds_total", "counter", "Connection downtime, seconds.", "link", downtime)
        yield gauge("fastmon_messages_rejected", "Rejected messages in the database.", seen["rejected_count"])
        stages = seen["stages"]
        updates = {"single": stages["single_updates"], "coalesced": stages["coalesced_updates"]}
        help_ = "Updates of workflow stages sent: one transition each, or several of an STF."
        yield by_label("fastmon_stage_updates_total", "counter", help_, "kind", updates)
        yield gauge("fastmon_stage_transitions_pending", "Transitions not reported yet.", stages["pending"])
        counted = {**dict.fromkeys(_COUNTED, 0), **seen["counters"]}
        yield by_label("fastmon_counted_total", "counter", "Events that the daemon counts.", "what", counted)
        yield from runs


def _problems(found: Assessment) -> Metric:
    counts = Counter(problem.kind for problem in found.problems)
    numbers = {kind: float(counts[kind]) for kind in KINDS}
    return by_label("fastmon_problems", "gauge", "Problems in the verdict, by kind; all 0: all well.", "kind", numbers)


def _runs(reports: OutboxReader, views: list[View]) -> list[Metric]:
    """Return the metrics of the latest runs. A full verdict reads every transition of a run: too slow for a scrape."""
    numbers: dict[str, dict[Labels, float]] = {name: {} for name in _RUN_METRICS}
    latest = {(view["namespace"], view["run"]): view for view in views[:_MAX_RUNS]}
    for row in reports.runs.latest(_MAX_RUNS):
        view = latest.get((row.namespace, row.run))
        if view is None:  # it came between the two reads
            continue
        run = (("namespace", row.namespace), ("run", row.run))
        numbers["fastmon_run"][(*run, ("state", row.state))] = 1
        numbers["fastmon_run_missing"][run] = view["missing"]
        numbers["fastmon_run_recovered"][run] = reports.runs.recovered(row)
        if row.expected is not None:
            numbers["fastmon_run_expected"][run] = row.expected
        for state, count in reports.runs.counts_by_state(row).items():
            numbers["fastmon_run_stfs"][(*run, ("state", state))] = count
    return [Metric(name, "gauge", help_, numbers[name]) for name, help_ in _RUN_METRICS.items()]


def _links(links: View) -> Metric:
    states = ("up", "down", "blocked")
    samples: dict[Labels, float] = {
        (("link", name), ("state", state)): float(link["state"] == state)
        for name, link in links.items()
        for state in states
    }
    return Metric("fastmon_link", "gauge", "1 for the current state of a link.", samples)

"""The page of `/metrics`: what the process has counted, and numbers from the database, as `inspect` counts them.

Label values are names of states, links and the like, never of runs or STFs: no family grows.
"""

from __future__ import annotations

import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from fastmon_daemon import __version__
from fastmon_daemon.base.clock import Clock, parse_timestamp
from fastmon_daemon.base.metrics import NEW, REGISTRY, declare_transitions
from fastmon_daemon.inspection.inspector import missing_stfs
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.outbox import (
    COALESCED_UPDATES,
    DAEMON_DOWNTIME,
    SINGLE_UPDATES,
    UNREPORTABLE,
    OutboxReader,
    free_bytes,
    open_for_reading,
    storage_errors,
)
from fastmon_daemon.presence.assessment import KINDS, Assessment, Assessor
from fastmon_daemon.presence.stuck import LinkStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def gauge(name: str, help_: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, help_, value=value)


def gauge_by(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with one label; *values* maps its value to the number."""
    family = GaugeMetricFamily(name, help_, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


class _Counters:
    """The highest value of each counter that was told: one never falls, though a clock is set back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], float] = {}

    def counter(self, name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
        """Return a counter with one label, or without (*label* is empty, *values* has one value)."""
        family = CounterMetricFamily(name, help_, labels=[label] if label else [])
        with self._lock:
            for each, value in values.items():
                key = name, each
                self._told[key] = max(value, self._told.get(key, value))
                family.add_metric([each] if label else [], self._told[key])
        return family


class _Page(Collector):
    """The families of one page."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsCollector:
    """Collects the metrics; `render` may be called by any thread."""

    namespace: str
    selection_fraction: Callable[[], float]
    database: Path
    assessor: Assessor
    liveness: Liveness
    buffered: Callable[[], int]
    """Messages that are received but neither stored nor acknowledged; may be called by any thread."""
    clock: Clock
    _counters: _Counters = field(default_factory=_Counters)
    _process: ProcessCollector = field(default_factory=lambda: ProcessCollector(registry=None))

    def __post_init__(self) -> None:
        chart = self.assessor.rule.stuck.chart
        moves = ((source, dest) for source, _, dest in chart.transitions)
        finalized = (state for state in chart.states if chart.is_finalized(state))
        declare_transitions([(NEW, chart.initial), *moves], finalized, self.assessor.rule.stuck.links)

    def render(self) -> bytes:
        """Return the verdict on the daemon as a comment, and the current metrics. Raises: StorageError; OSError."""
        with storage_errors(self.database), closing(open_for_reading(self.database)) as reports:
            found = self.assessor.assess(reports)
            families = [*self._process_families(found), *self._database_families(reports, found)]
        page = generate_latest(_Page([*families, *REGISTRY.collect(), *self._process.collect()]))
        return f"# {found.line}\n".encode() + page

    def _process_families(self, found: Assessment) -> Iterator[Metric]:
        labels = {"version": __version__, "namespace": self.namespace, "python": platform.python_version()}
        build = GaugeMetricFamily("fastmon_build_info", "1; what runs, as labels.", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build
        fraction = "Fraction of the STFs that get TF files (FASTMON_SELECTION_FRACTION)."
        yield gauge("fastmon_selection_fraction", fraction, self.selection_fraction())
        ticks = "Completed ticks of the engine's loop."
        yield self._counters.counter("fastmon_engine_ticks_total", ticks, "", {"": self.liveness.ticks})
        yield gauge("fastmon_engine_tick_age_seconds", "Time since the engine's last tick.", self.liveness.age_s)
        buffered = "Messages received but neither stored nor acknowledged."
        yield gauge("fastmon_messages_buffered", buffered, self.buffered())
        process = found.facts.process
        seen = float(len(process.reconcilers)) if process and process.reconcilers is not None else float("nan")
        reconcilers = "Daemons of our queue that process missed STFs, as this one sees it: should be 1. NaN: no queue."
        yield gauge("fastmon_reconcilers", reconcilers, seen)
        calls = process.calls if process else {}
        for name, key, help_ in (
            ("fastmon_calls_in_flight", "in_flight", "Calls of STFs in flight, by link."),
            ("fastmon_calls_limit", "limit", "How many calls of STFs may be in flight now, by link."),
        ):
            yield gauge_by(name, help_, "link", {link: each[key] for link, each in calls.items()})
        log = self.database.with_name(f"{self.database.name}-wal")
        yield gauge("fastmon_database_bytes", "Size of the database file.", self.database.stat().st_size)
        size = log.stat().st_size if log.exists() else 0
        yield gauge("fastmon_wal_bytes", "Size of the write-ahead log of the database.", size)
        free = free_bytes(self.database.parent)
        yield gauge("fastmon_disk_free_bytes", "Free space on the database's disk; NaN: unknown.", _or_nan(free))
        least = "Free space below which the intake stops (FASTMON_MIN_FREE_MB)."
        yield gauge("fastmon_disk_min_free_bytes", least, self.assessor.rule.min_free_mb * 1e6)

    def _database_families(self, reports: OutboxReader, found: Assessment) -> Iterator[Metric]:
        counts = Counter(problem.kind for problem in found.problems)
        help_ = "Problems in the verdict, by kind; all 0: all well."
        yield gauge_by("fastmon_problems", help_, "kind", {kind: counts[kind] for kind in KINDS})
        stopped = "1 while no STF is stored, because the disk is full or the database is not writable."
        is_stopped = any(problem.stops_intake for problem in found.problems)
        yield gauge("fastmon_intake_stopped", stopped, float(is_stopped))
        yield from self._stf_families(reports, found)
        yield from self._link_families(reports, found)
        yield from self._run_families(reports, found)
        yield gauge("fastmon_rejected_messages", "Rejected messages in the database.", reports.rejected_count())
        pending = "Transitions not reported to the monitor yet."
        yield gauge("fastmon_stage_reports_pending", pending, reports.stages.count_pending())
        stored = reports.counters()
        sent = {"single": stored.get(SINGLE_UPDATES, 0), "coalesced": stored.get(COALESCED_UPDATES, 0)}
        help_ = "Updates of workflow stages sent: one transition each, or several of an STF."
        yield self._counters.counter("fastmon_stage_updates_total", help_, "kind", sent)
        for name, counter, help_ in (
            ("fastmon_stages_unreportable_total", UNREPORTABLE, "STFs for which no workflow stage can be reported."),
            ("fastmon_unknown_runs_total", "runs_unknown", "Runs of the monitor of which no message arrived."),
            ("fastmon_rejected_messages_dropped_total", "rejected_dropped", "Rejected messages not kept: too many."),
        ):
            yield self._counters.counter(name, help_, "", {"": stored.get(counter, 0)})

    def _stf_families(self, reports: OutboxReader, found: Assessment) -> Iterator[Metric]:
        rule = self.assessor.rule.stuck
        counts = reports.counts_by_state()
        states = {state: counts.get(state, 0) for state in rule.chart.states}
        yield gauge_by("fastmon_stfs", "STFs in the database, by state.", "state", states)
        unfinished = sum(states[state] for state in rule.unfinished)
        yield gauge("fastmon_stfs_unfinished", "STFs for which work remains.", unfinished)
        stuck = {"failed": found.facts.failed, "overdue": found.facts.waiting}
        help_ = (
            "STFs that failed, or that are in their state for longer than FASTMON_STUCK_AFTER while their link is up."
        )
        yield gauge_by("fastmon_stfs_stuck", help_, "reason", stuck)
        ages = {state: self._age_s(reports.longest_in(state)) for state in (*rule.unfinished, *rule.failed)}
        help_ = "Time since the STF that is in the state for the longest entered it; 0: none is."
        yield gauge_by("fastmon_stf_oldest_age_seconds", help_, "state", ages)
        for event, at in (
            ("received", reports.last_received()),
            ("completed", reports.last_transition_to(rule.chart.success_state)),
        ):
            name = f"fastmon_stf_last_{event}_timestamp_seconds"
            help_ = f"When an STF was last {event}, of those in the database; 0: never."
            yield gauge(name, help_, parse_timestamp(at).timestamp() if at else 0.0)

    def _age_s(self, since: str | None) -> float:
        return max(0.0, (self.clock.now() - parse_timestamp(since)).total_seconds()) if since else 0.0

    def _link_families(self, reports: OutboxReader, found: Assessment) -> Iterator[Metric]:
        names = self.assessor.rule.stuck.needed_links
        links = {name: found.facts.links.get(name, LinkStatus(link=name)) for name in names}
        up = {name: float(link.state == "up") for name, link in links.items()}
        yield gauge_by("fastmon_link_up", "1 while the link works.", "link", up)
        blocked = {name: float(link.state == "blocked") for name, link in links.items()}
        help_ = "1 while the other side answers but rejects us: somebody must change a setting."
        yield gauge_by("fastmon_link_blocked", help_, "link", blocked)
        outages = reports.outages.seconds(self.clock.now())
        seconds = {name: outages.get(name, 0.0) for name in (*links, DAEMON_DOWNTIME)}
        help_ = "Time that a link was down or blocked, or that no daemon was running."
        yield self._counters.counter("fastmon_outage_seconds_total", help_, "link", seconds)

    def _run_families(self, reports: OutboxReader, found: Assessment) -> Iterator[Metric]:
        chart = self.assessor.rule.run_chart
        counts = reports.runs.counts()
        runs = {state: counts.get(state, 0) for state in chart.states}
        yield gauge_by("fastmon_runs", "Runs in the database, by state.", "state", runs)
        over = (*chart.leads_to("end_run"), *chart.leads_to("complete_run"))
        open_runs = reports.runs.in_states([state for state in chart.states if state not in over])
        ended = found.facts.incomplete_runs
        missing = {
            "open": sum(missing_stfs(run, reports.runs.known_count(run)) for run in open_runs),
            "ended": sum(run.missing for run in ended),
        }
        help_ = "Expected STFs that were not received: of runs that go on, and of runs that ended some time ago."
        yield gauge_by("fastmon_run_missing_stfs", help_, "phase", missing)
        help_ = "STFs of ended runs with TF files that the monitor does not list."
        yield gauge("fastmon_run_unlisted_stfs", help_, sum(run.unlisted for run in ended))
        yield gauge("fastmon_runs_incomplete", "Ended runs of which STFs are missing or unlisted.", len(ended))
        newest = next(iter(reports.runs.latest(1)), None)
        number = int(newest.run) if newest and newest.run.isascii() and newest.run.isdigit() else None
        yield gauge("fastmon_newest_run_number", "Number of the run of the latest message; NaN: none.", _or_nan(number))
        expected = newest.expected if newest else None
        help_ = "How many STFs the newest run has; NaN: not known yet."
        yield gauge("fastmon_newest_run_expected_stfs", help_, _or_nan(expected))
        counts = reports.runs.counts_by_state(newest) if newest else {}
        states = {state: counts.get(state, 0) for state in self.assessor.rule.stuck.chart.states}
        yield gauge_by("fastmon_newest_run_stfs", "STFs of the newest run, by state.", "state", states)


def _or_nan(value: int | None) -> float:
    return float("nan") if value is None else value

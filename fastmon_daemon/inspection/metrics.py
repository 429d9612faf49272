"""The numbers of `/metrics`: those of the database, as `inspect` counts them, and those of this process.

They are told as text that Prometheus reads (exposition format 0.0.4). This module must not know HTTP, nor any secret:
labels are names of states, links, runs and counters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fastmon_daemon import __version__
from fastmon_daemon.base.clock import Clock, parse_timestamp
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector, StfFilter, View
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.monitor import ResponseCounter
from fastmon_daemon.outbox import OutboxReader, open_for_reading, storage_errors
from fastmon_daemon.presence.stuck import StuckRule

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_RUNS_TOLD = 5
_OF_A_RUN = {
    "fastmon_run": "1 at the state that a run is in.",
    "fastmon_run_expected": "STFs that a run had, where that is known.",
    "fastmon_run_missing": "STFs that are wanting to what is expected of a run so far.",
    "fastmon_run_recovered": "STFs of a run whose messages were missed.",
    "fastmon_run_stfs": "STFs of a run by state.",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, kind (gauge, counter), meaning, and a number for each set of labels."""

    name: str
    kind: str
    meaning: str
    samples: Mapping[tuple[tuple[str, str], ...], float]


def single(name: str, kind: str, meaning: str, value: float) -> Metric:
    """A metric without labels."""
    return Metric(name, kind, meaning, {(): value})


def labelled(name: str, kind: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    """A metric with one label."""
    return Metric(name, kind, meaning, {((label, each),): value for each, value in values.items()})


def render_exposition(families: Iterable[Metric]) -> str:
    """The whole page."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Metric) -> Iterator[str]:
    meaning = family.meaning.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {family.name} {meaning}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, value in family.samples.items():
        inner = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels)
        yield f"{family.name}{{{inner}}} {value!r}" if inner else f"{family.name} {value!r}"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsCollector:
    """Where the numbers are read; `page` may be called by any thread."""

    namespace: str
    database: Path
    stuck: StuckRule
    liveness: Liveness
    answer_count: ResponseCounter
    buffered: Callable[[], int]
    """How many messages wait unacknowledged at the link to the broker."""
    clock: Clock

    def render(self) -> str:
        """All numbers of this moment, as text. Raises `StorageError` where the database cannot be read."""
        with storage_errors(self.database):
            return render_exposition([*self._of_the_process(), *self._of_the_database()])

    def _of_the_process(self) -> Iterator[Metric]:
        who = (("namespace", self.namespace), ("version", __version__))
        yield Metric("fastmon_info", "gauge", "Which daemon this is.", {who: 1})
        yield single("fastmon_engine_turns_total", "counter", "Completed turns of the engine.", self.liveness.turns)
        yield single(
            "fastmon_engine_turn_age_seconds", "gauge", "Since the engine's last turn ended.", self.liveness.age_s
        )
        log = self.database.with_name(f"{self.database.name}-wal")
        size = sum(path.stat().st_size for path in (self.database, log) if path.exists())
        answers: dict[tuple[tuple[str, str], ...], float] = {
            (("method", method), ("status", status)): count
            for (method, status), count in self.answer_count.counts().items()
        }
        yield Metric(
            "fastmon_monitor_answers_total",
            "counter",
            "Answers of the monitor to the main job, not to heart-beats, stages, logs.",
            answers,
        )
        yield single(
            "fastmon_messages_buffered", "gauge", "Unacknowledged messages, not stored so far.", self.buffered()
        )
        yield single("fastmon_database_bytes", "gauge", "Size of the database with its log.", size)
        disk = os.statvfs(self.database.parent)
        free = disk.f_bavail * disk.f_frsize
        yield single("fastmon_disk_free_bytes", "gauge", "Free space where the database is.", free)

    def _of_the_database(self) -> Iterator[Metric]:
        now = self.clock.now()
        chart = self.stuck.chart
        rules = InspectionContext(stuck=self.stuck, now=now, daemon=os.getpid())
        with closing(open_for_reading(self.database)) as reports:
            seen = Inspector(reports, rules).overview(StfFilter(limit=0))
            runs = _runs(reports, seen["runs"])
            oldest = reports.oldest_unfinished()
            away = reports.outages.seconds(now)
        unfinished = sum(count for state, count in seen["states"].items() if not chart.is_finalized(state))
        yield labelled("fastmon_stfs", "gauge", "STFs by state.", "state", seen["states"])
        yield single("fastmon_stfs_unfinished", "gauge", "STFs that work is owed for.", unfinished)
        yield single("fastmon_stfs_stuck", "gauge", "STFs that inspect calls stuck.", seen["stuck_count"])
        age = max(0.0, (now - parse_timestamp(oldest.born_at)).total_seconds()) if oldest else 0.0
        yield single("fastmon_oldest_unfinished_seconds", "gauge", "Age of the oldest unfinished STF.", age)
        yield _links(seen["links"])
        away = {**dict.fromkeys(seen["links"], 0.0), **away}
        yield labelled("fastmon_outage_seconds_total", "counter", "Time that a link was away.", "link", away)
        yield single("fastmon_messages_rejected", "gauge", "Rejected messages that are kept.", seen["rejected_count"])
        yield labelled("fastmon_counted_total", "counter", "What the daemon counts.", "what", seen["counters"])
        yield from runs


def _runs(reports: OutboxReader, views: list[View]) -> list[Metric]:
    """The runs that were heard of last. A whole verdict reads every step of a run: too much at each question."""
    numbers: dict[str, dict[tuple[tuple[str, str], ...], float]] = {name: {} for name in _OF_A_RUN}
    told = {(view["namespace"], view["run"]): view for view in views[:_RUNS_TOLD]}
    for row in reports.runs(_RUNS_TOLD):
        view = told.get((row.namespace, row.run))
        if view is None:  # it was heard of between the two readings
            continue
        run = (("namespace", row.namespace), ("run", row.run))
        numbers["fastmon_run"][(*run, ("state", row.state))] = 1
        numbers["fastmon_run_missing"][run] = view["missing"]
        numbers["fastmon_run_recovered"][run] = reports.by_run.recovered(row)
        if row.expected is not None:
            numbers["fastmon_run_expected"][run] = row.expected
        for state, count in reports.by_run.counts_by_state(row).items():
            numbers["fastmon_run_stfs"][(*run, ("state", state))] = count
    return [Metric(name, "gauge", meaning, numbers[name]) for name, meaning in _OF_A_RUN.items()]


def _links(links: View) -> Metric:
    states = ("up", "down", "blocked")
    samples: dict[tuple[tuple[str, str], ...], float] = {
        (("link", name), ("state", state)): float(link["state"] == state)
        for name, link in links.items()
        for state in states
    }
    return Metric("fastmon_link", "gauge", "1 at the state that the link is in.", samples)

"""What is wrong, since when, and what to do: one rule for `inspect`, /healthz, /metrics and heart-beats.

`take_snapshot` collects the facts, `assess` judges them and reads nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fastmon_daemon.base.clock import Clock, format_age, format_time, format_timestamp, parse_timestamp
from fastmon_daemon.base.links import links_for, remedy_if_down
from fastmon_daemon.base.text import count_of, escape_controls
from fastmon_daemon.outbox import OutboxReader, RunRow, open_for_reading, shortage
from fastmon_daemon.presence.stuck import LinkStatus, StuckRule, StuckStfs, latest_link_statuses
from fastmon_daemon.settings import accounts_for_runs
from fastmon_daemon.statechart import StateMachine, load_statechart

ALL_WELL = "all well"
KINDS = (
    "no daemon", "daemon silent", "engine stalled", "database not writable", "intake stopped", "link blocked",
    "link down", "worker failing", "shared queue", "stuck", "runs incomplete",
)  # fmt: skip
"""The kinds of problems, the most severe first."""
_ERRORS = frozenset({"engine stalled", "link blocked"})
_NOT_OF_THE_DATA = frozenset({"no daemon", "link blocked", "link down"})
_STOPPING_INTAKE = frozenset({"intake stopped", "database not writable"})
_PARTS = {
    "no daemon": "engine", "daemon silent": "engine", "engine stalled": "engine", "database not writable": "database",
    "intake stopped": "intake",
}  # fmt: skip
"""Kind of problem -> the part of the daemon that is not ready; links have their own names."""
_NAMED_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentRule:
    """The settings on which the assessment depends."""

    stuck: StuckRule
    run_chart: StateMachine
    min_free_mb: int
    reconciles: bool
    """Whether this daemon accounts for the STFs of each run."""


def assessment_rule(value: Callable[[str], Any]) -> AssessmentRule:
    """Return the rule; *value* returns the value of a field of `Settings`."""
    stuck = StuckRule(
        chart=load_statechart("stf"), links=links_for(value("notify")), stuck_after_s=value("stuck_after_s")
    )
    return AssessmentRule(
        stuck=stuck,
        run_chart=load_statechart("run"),
        min_free_mb=value("min_free_mb"),
        reconciles=accounts_for_runs(value("reconcile"), value("subscribe"), value("mode")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """What only the daemon's own process knows."""

    stalled_s: float | None = None
    """Seconds since the engine's last tick, if that is too long."""
    fault: str = ""
    """Why the engine cannot write the database."""
    intake_fault: str = ""
    """Why received messages are not stored."""
    worker_errors: Mapping[str, str] = field(default_factory=dict)
    """Failing worker -> its error."""
    calls: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Link -> calls of STFs `in_flight`, and their `limit` now."""
    shared_queue_fault: str = ""
    """What is wrong with the daemons that share our queue."""
    reconcilers: tuple[str, ...] | None = None
    """Those of them, or us, that process missed STFs; None without a shared queue."""
    silent: str = ""
    """Why the daemon did not answer, if it should have."""
    known_since: Mapping[str, str] = field(default_factory=dict)
    """Name of a problem -> when the daemon first saw it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncompleteRun:
    """A run that ended, and of which STFs are missing, here or at the monitor."""

    run: str
    ended_at: str
    missing: int
    """STFs that were not received."""
    unlisted: int
    """STFs with TF files that the monitor does not list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All facts at one moment."""

    now: datetime
    daemon_runs: bool
    last_sign_of_life: str | None
    """When a daemon last listened."""
    links: Mapping[str, LinkStatus]
    failed: int
    waiting: int
    """Unfinished STFs that are stuck."""
    stuck_since: str | None
    incomplete_runs: tuple[IncompleteRun, ...]
    shortage: str | None
    """Why no STF is stored, if the disk is full."""
    process: ProcessState | None
    """None: the daemon was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong."""

    kind: str
    """One of `KINDS`."""
    name: str
    """Its kind with the link, worker or run; the same as long as it lasts."""
    reason: str
    since: str | None
    remedy: str

    @property
    def is_error(self) -> bool:
        """Whether an operator must act at once."""
        return self.kind in _ERRORS

    @property
    def concerns_data(self) -> bool:
        """Whether STFs are concerned beyond a wait that ends by itself."""
        return self.kind not in _NOT_OF_THE_DATA

    @property
    def stops_intake(self) -> bool:
        """Whether no STF is stored because of it."""
        return self.kind in _STOPPING_INTAKE

    @property
    def part(self) -> str | None:
        """Which part of the daemon is not ready because of it: engine, database, intake or a link; None: none."""
        return self.name.rpartition(" ")[0] if self.kind.startswith("link ") else _PARTS.get(self.kind)

    def line(self, now: datetime) -> str:
        """The problem in one line: what, since when, what to do."""
        since = f" (since {format_time(self.since, now)}, {format_age(self.since, now)})" if self.since else ""
        return escape_controls(f"{self.name}: {self.reason}{since}: {self.remedy}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The verdict on the daemon at one moment."""

    facts: Snapshot
    problems: tuple[Problem, ...]
    """The most severe first."""
    daemon_was_asked: bool
    """Whether the daemon's process was asked, or only the database."""

    @property
    def at(self) -> datetime:
        """When the facts were collected."""
        return self.facts.now

    def readiness(self, links: Iterable[str]) -> dict[str, str]:
        """Return what is wrong with engine, database, intake and each of *links*; an empty text: it is ready."""
        found = dict.fromkeys(("engine", "database", "intake", *links), "")
        for problem in self.problems:
            if problem.part in found:
                found[problem.part] = problem.line(self.at)
        return found

    @property
    def line(self) -> str:
        """The verdict in one line: all well, or the most severe problem and the names of the others."""
        if not self.problems:
            return ALL_WELL if self.daemon_was_asked else f"{ALL_WELL} in the database; the daemon was not asked"
        first, *others = self.problems
        also = f"; also: {', '.join(escape_controls(each.name) for each in others)}" if others else ""
        return f"{first.line(self.at)}{also}"

    @property
    def concerns_data(self) -> bool:
        """Whether a problem concerns STFs beyond a wait that ends by itself."""
        return any(problem.concerns_data for problem in self.problems)


def assess(snapshot: Snapshot) -> Assessment:
    """Return what is wrong at the moment of *snapshot*."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    problems = sorted(_problems(snapshot), key=lambda problem: order[problem.kind])
    return Assessment(
        facts=snapshot,
        problems=tuple(problems),
        daemon_was_asked=snapshot.process is not None or not snapshot.daemon_runs,
    )


def _problems(snapshot: Snapshot) -> Iterator[Problem]:
    if not snapshot.daemon_runs:
        yield Problem(
            kind="no daemon", name="no daemon is running", reason="no STF is received or processed",
            since=snapshot.last_sign_of_life, remedy="start fastmon-daemon",
        )  # fmt: skip
    if snapshot.process is not None:
        yield from _process_problems(snapshot.process, snapshot.now, snapshot.shortage)
    if snapshot.shortage:
        name = "intake stopped"
        since = snapshot.process.known_since.get(name) if snapshot.process else None
        remedy = "free space on the database's disk"
        yield Problem(kind=name, name=name, reason=snapshot.shortage, since=since, remedy=remedy)
    for name, link in snapshot.links.items():
        yield from _link_problems(name, link)
    yield from _stuck_problems(snapshot)
    yield from _run_problems(snapshot.incomplete_runs)


def _process_problems(process: ProcessState, now: datetime, shortage: str | None) -> Iterator[Problem]:
    if process.silent:
        yield Problem(
            kind="daemon silent", name="daemon silent", reason=process.silent, since=None,
            remedy="see its log, then restart it",
        )  # fmt: skip
    if process.stalled_s is not None:
        began = format_timestamp(now - timedelta(seconds=process.stalled_s))
        yield Problem(
            kind="engine stalled", name="engine stalled", reason=f"no tick for {process.stalled_s:.1f} s", since=began,
            remedy="see the log, then restart the daemon",
        )  # fmt: skip
    since = process.known_since.get
    if process.intake_fault and not shortage:
        name, remedy = "intake stopped", "correct what it names; intake resumes by itself then"
        yield Problem(kind=name, name=name, reason=process.intake_fault, since=since(name), remedy=remedy)
    if process.fault:
        name = "database not writable"
        yield Problem(kind=name, name=name, reason=process.fault, since=since(name), remedy="work resumes by itself")
    if process.shared_queue_fault:
        name, remedy = "shared queue", 'see docs/scaling.md, "Several daemons on one queue"'
        yield Problem(kind=name, name=name, reason=process.shared_queue_fault, since=since(name), remedy=remedy)
    for worker, error in process.worker_errors.items():
        name = f"{worker} failing"
        yield Problem(kind="worker failing", name=name, reason=error, since=since(name), remedy="see the log")


def _link_problems(name: str, link: LinkStatus) -> Iterator[Problem]:
    reason = link.reason or "no reason recorded"
    if link.state == "blocked":
        remedy = "correct what it names; work resumes by itself"
        yield Problem(kind="link blocked", name=f"{name} blocked", reason=reason, since=link.since, remedy=remedy)
    elif link.state == "down":
        yield Problem(
            kind="link down", name=f"{name} down", reason=reason, since=link.since, remedy=remedy_if_down(name, reason)
        )


def _stuck_problems(snapshot: Snapshot) -> Iterator[Problem]:
    failed, waiting = snapshot.failed, snapshot.waiting
    if not failed + waiting:
        return
    counts = [f"{failed} failed"] * bool(failed) + [f"{waiting} unfinished"] * bool(waiting)
    what = f"{count_of(failed + waiting, 'STF')}, {' and '.join(counts)}"
    if failed:
        remedy = "list them with `fastmon-daemon inspect`, then retry or discard the failed ones"
    elif snapshot.daemon_runs:
        remedy = "list them with `fastmon-daemon inspect`"
    else:
        remedy = "start fastmon-daemon"
    yield Problem(kind="stuck", name="stuck", reason=what, since=snapshot.stuck_since, remedy=remedy)


def _run_problems(runs: tuple[IncompleteRun, ...]) -> Iterator[Problem]:
    if not runs:
        return
    first = min(runs, key=lambda each: each.ended_at)
    missing, unlisted = sum(each.missing for each in runs), sum(each.unlisted for each in runs)
    whats = [f"{count_of(missing, 'STF')} missing"] * bool(missing)
    whats += [f"{count_of(unlisted, 'STF')} not listed by the monitor"] * bool(unlisted)
    what = " and ".join(whats)
    if len(runs) == 1:
        name, reason = f"run {first.run} incomplete", f"{what} of a run that ended"
    else:
        named = ", ".join(each.run for each in runs[:_NAMED_RUNS])
        more = f" and {len(runs) - _NAMED_RUNS} more" if len(runs) > _NAMED_RUNS else ""
        name, reason = f"{len(runs)} runs incomplete", f"{what} of the runs {named}{more}"
    remedy = f"list them with `fastmon-daemon verdict {first.run}`"
    if missing:
        remedy += f", recover them with `reconcile --run {first.run}`"
    yield Problem(kind="runs incomplete", name=name, reason=reason, since=first.ended_at, remedy=remedy)


def take_snapshot(
    reports: OutboxReader, rule: AssessmentRule, now: datetime, *, daemon_runs: bool, process: ProcessState | None
) -> Snapshot:
    """Collect the facts; *process* None: the daemon was not asked. Raises: StorageError, StorageUnavailable."""
    links = latest_link_statuses(reports) if daemon_runs else {}
    stuck = StuckStfs(reports, rule.stuck, links, now, daemon_runs=daemon_runs)
    failed, waiting = stuck.count(states=rule.stuck.failed), stuck.count(states=rule.stuck.unfinished)
    return Snapshot(
        now=now,
        daemon_runs=daemon_runs,
        last_sign_of_life=None if daemon_runs else reports.recall("listened_at"),
        links=links,
        failed=failed,
        waiting=waiting,
        stuck_since=stuck.since() if failed + waiting else None,
        incomplete_runs=tuple(_incomplete_runs(reports, rule, now)) if rule.reconciles else (),
        shortage=shortage(reports.path, rule.min_free_mb),
        process=process,
    )


def _incomplete_runs(reports: OutboxReader, rule: AssessmentRule, now: datetime) -> Iterator[IncompleteRun]:
    """The claimed runs that ended at least as long ago as an STF may take, and of which STFs are missing somewhere."""
    before = now - timedelta(seconds=rule.stuck.stuck_after_s)
    runs = reports.runs.in_states(rule.run_chart.leads_to("end_run"))
    completed_too_early = reports.runs.with_unlisted(rule.run_chart.leads_to("complete_run"))
    for run in (*runs, *completed_too_early):
        ended_at = run.ended_at or run.last_message_at
        if not run.claimed or parse_timestamp(ended_at) > before:
            continue
        missing, unlisted = _missing(reports, run), len(run.unlisted)
        if missing or unlisted:
            yield IncompleteRun(run=run.run, ended_at=ended_at, missing=missing, unlisted=unlisted)


def _missing(reports: OutboxReader, run: RunRow) -> int:
    """How many STFs of a run are expected, or listed by the monitor, and were not received."""
    if not run.expected:  # do not count the STFs of a long run each second for nothing
        return len(run.absent)
    return max(0, run.expected - reports.runs.known_count(run), len(run.absent))


class Assessor:
    """Assesses the daemon inside its own process, and remembers since when each problem is known. Thread-safe."""

    def __init__(self, database: Path, rule: AssessmentRule, process: Callable[[], ProcessState], clock: Clock) -> None:
        """*process* returns the state of this process, without times."""
        self.rule = rule
        self.database = database
        self._process = process
        self._clock = clock
        self._known_since: Mapping[str, str] = {}

    def assess(self, reports: OutboxReader | None = None) -> Assessment:
        """Return the assessment now, read by *reports*, or on a connection of its own.

        Raises: StorageError, StorageUnavailable.
        """
        if reports is None:
            with closing(open_for_reading(self.database)) as own:
                return self.assess(own)
        now = self._clock.now()
        found = assess(take_snapshot(reports, self.rule, now, daemon_runs=True, process=self.process_state()))
        known, at = self._known_since, format_timestamp(now)
        self._known_since = {each.name: known.get(each.name, at) for each in found.problems}
        return found

    def process_state(self) -> ProcessState:
        """Return what only this process knows, with the times at which its problems were first seen."""
        return replace(self._process(), known_since=self._known_since)

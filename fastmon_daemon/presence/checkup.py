"""How we are: read from the database and the link to the broker, in short reads, by whoever tells it.

It must not know who is told, nor in which words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from fastmon_daemon.clock import Clock
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.outbox import ABSENCE, Reports, RunRow, open_for_reading


class Level(StrEnum):
    """How well we are, in the words of the monitor."""

    OK = "OK"
    WARNING = "WARNING"
    """A link is down, or something is stuck."""
    ERROR = "ERROR"
    """A link is held: a person must mend the configuration; or no files are found any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How we are now."""

    level: Level
    ills: tuple[str, ...]
    """What is not OK, in a word each."""
    why: str
    """The same in a sentence, with reasons that may change at every look."""
    busy: bool
    """Whether an STF is unfinished, or was completed since the last look."""
    connected: bool
    """Whether the link to the broker stands."""
    deaf: bool
    """Whether we need the broker and have no link to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many STFs stand in the database."""

    active: int
    completed: int
    failed: int
    last_completed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who is looked after."""

    database: Path
    chart: Chart
    links: Mapping[str, str]
    """Step -> the link that it needs."""
    stuck_after_s: float
    connected: Callable[[], bool] | None
    """Whether the link to the broker stands; None where no broker is needed."""
    clock: Clock
    watcher_failure: Callable[[], str | None] | None = None
    """Why the watcher of the folders finds nothing any more; None where no folder is watched."""


class Checkup:
    """One look after the other; it belongs to one thread, and opens its connection there."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self.clock = patient.clock
        self._opened: Reports | None = None
        self._completed_at: str | None = None
        chart = patient.chart
        self._working = tuple(state for state in chart.states if not chart.is_resting(state))
        self._for_a_person = tuple(state for state in chart.states if chart.may(state, "retry"))

    @property
    def reports(self) -> Reports:
        """The database, to read."""
        self._opened = self._opened or open_for_reading(self._patient.database)
        return self._opened

    def health(self) -> Health:
        """How we are: the gates that are shut, and what `inspect` calls stuck."""
        outages = [each for each in self.reports.outages.latest(open_only=True, limit=10) if each.link != ABSENCE]
        ills = {f"{outage.link} {'held' if outage.held else 'down'}": outage.reason for outage in outages}
        stuck = self._stuck({outage.link for outage in outages})
        if stuck:
            ills["stuck"] = f"{stuck} STFs, see fastmon-daemon inspect"
        failure = self._patient.watcher_failure and self._patient.watcher_failure()
        if failure:
            ills["watcher failing"] = failure
        ask = self._patient.connected
        connected = ask is not None and ask()
        held = any(outage.held for outage in outages)
        level = Level.ERROR if held or failure else Level.WARNING if ills else Level.OK
        return Health(
            level=level,
            ills=tuple(ills),
            why="; ".join(f"{ill}: {reason}" for ill, reason in ills.items()),
            busy=self._has_completed() or self.reports.any_unfinished(),
            connected=connected,
            deaf=ask is not None and not connected,
        )

    def _has_completed(self) -> bool:
        """Whether an STF was completed since the last look: most are, between two looks."""
        before, self._completed_at = self._completed_at, self.reports.last_into(self._patient.chart.goal) or ""
        return before is not None and self._completed_at > before

    def _stuck(self, down: Set[str]) -> int:
        chart, links = self._patient.chart, self._patient.links
        hurt = [state for state in self._working if links.get(chart.step_from(state) or "") not in down]
        now = self.clock.now()
        late = now - timedelta(seconds=self._patient.stuck_after_s)
        return self.reports.count_in_state_since(self._for_a_person, now) + self.reports.count_in_state_since(
            hurt, late
        )

    def tally(self) -> Tally:
        """How many STFs there are of each kind."""
        counts = self.reports.counts_by_state()
        goal = self._patient.chart.goal
        return Tally(
            active=sum(counts.get(state, 0) for state in self._working),
            completed=counts.get(goal, 0),
            failed=sum(counts.get(state, 0) for state in self._for_a_person),
            last_completed=self.reports.last_into(goal),
        )

    def run(self) -> RunRow | None:
        """The run that was heard of last."""
        return next(iter(self.reports.runs(limit=1)), None)

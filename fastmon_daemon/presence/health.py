"""How we are: read from the database and the link to the broker, in short reads, by whoever tells it.

It must not know who is told, nor in which words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.outbox import OutboxReader, RunRow, open_for_reading
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.presence.stuck import StuckRule, StuckStfs, latest_link_statuses


class HealthStatus(StrEnum):
    """How well we are, in the words of the monitor."""

    OK = "OK"
    WARNING = "WARNING"
    """A link is down, something is stuck, or a thread of ours fails."""
    ERROR = "ERROR"
    """A link is held: a person must mend the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How we are now."""

    level: HealthStatus
    problems: tuple[str, ...]
    """What is not OK, in a word each."""
    why: str
    """The same in a sentence, with reasons that may change at every look."""
    busy: bool
    """Whether an STF is unfinished, or was completed since the last look."""
    connected: bool
    """Whether the link to the broker stands."""
    disconnected: bool
    """Whether we need the broker and have no link to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StfCounts:
    """How many STFs stand in the database."""

    active: int
    completed: int
    failed: int
    last_completed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckConfig:
    """Who is looked after."""

    database: Path
    stuck: StuckRule
    errors: WorkerErrors
    connected: Callable[[], bool] | None
    """Whether the link to the broker stands; None where no broker is needed."""
    clock: Clock


class HealthChecker:
    """One look after the other; it belongs to one thread, and opens its connection there."""

    def __init__(self, config: HealthCheckConfig) -> None:
        self._config = config
        self.clock = config.clock
        self._opened: OutboxReader | None = None
        self._completed_at: str | None = None

    @property
    def reports(self) -> OutboxReader:
        """The database, to read."""
        self._opened = self._opened or open_for_reading(self._config.database)
        return self._opened

    def health(self) -> Health:
        """How we are: the links that are not up, what `inspect` calls stuck, and the threads that fail."""
        links = latest_link_statuses(self.reports)
        problems = {f"{name} {link.state}": link.reason or "" for name, link in links.items() if link.state != "up"}
        blocked = any(link.state == "blocked" for link in links.values())
        now = self.clock.now()
        stuck = StuckStfs(self.reports, self._config.stuck, links, now, daemon_runs=True).count()
        if stuck:
            problems["stuck"] = f"{stuck} STFs, see fastmon-daemon inspect"
        problems |= {
            f"{worker} failing": f"{error}, see the log" for worker, error in self._config.errors.now().items()
        }
        ask = self._config.connected
        connected = ask is not None and ask()
        return Health(
            level=HealthStatus.ERROR if blocked else HealthStatus.WARNING if problems else HealthStatus.OK,
            problems=tuple(problems),
            why="; ".join(f"{ill}: {reason}" for ill, reason in problems.items()),
            busy=self._has_completed() or self.reports.any_unfinished(),
            connected=connected,
            disconnected=ask is not None and not connected,
        )

    def _has_completed(self) -> bool:
        """Whether an STF was completed since the last look: most are, between two looks."""
        before, self._completed_at = (
            self._completed_at,
            self.reports.last_transition_to(self._config.stuck.chart.success_state) or "",
        )
        return before is not None and self._completed_at > before

    def counts(self) -> StfCounts:
        """How many STFs there are of each kind."""
        counts = self.reports.counts_by_state()
        rule = self._config.stuck
        goal = rule.chart.success_state
        return StfCounts(
            active=sum(counts.get(state, 0) for state in rule.unfinished),
            completed=counts.get(goal, 0),
            failed=sum(counts.get(state, 0) for state in rule.failed),
            last_completed=self.reports.last_transition_to(goal),
        )

    def run(self) -> RunRow | None:
        """The run that was heard of last."""
        return next(iter(self.reports.runs(limit=1)), None)

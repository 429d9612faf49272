"""The health of the daemon, read from the database, the broker connection and the workers' errors."""

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
    """The health in one word, as the monitor spells it."""

    OK = "OK"
    WARNING = "WARNING"
    """A link is down, an STF is stuck, or a worker fails."""
    ERROR = "ERROR"
    """A link is blocked: an operator must fix the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health at one moment."""

    status: HealthStatus
    problems: tuple[str, ...]
    """Short names of all problems."""
    why: str
    """The problems with their reasons; the reasons may differ at each check."""
    busy: bool
    """Whether an STF is unfinished, or was completed since the last check."""
    connected: bool
    """Whether the broker is connected."""
    disconnected: bool
    """Whether the broker is needed but not connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StfCounts:
    """Numbers of STFs in the database."""

    active: int
    completed: int
    failed: int
    last_completed: str | None


class HealthChecker:
    """Checks the health. It belongs to one thread, and opens its database connection there."""

    def __init__(
        self,
        *,
        database: Path,
        stuck: StuckRule,
        errors: WorkerErrors,
        connected: Callable[[], bool] | None,
        clock: Clock,
    ) -> None:
        """*connected* returns whether the broker is connected; None if no broker is needed."""
        self.clock = clock
        self._database = database
        self._rule = stuck
        self._errors = errors
        self._is_connected = connected
        self._opened: OutboxReader | None = None
        self._completed_at: str | None = None

    @property
    def reports(self) -> OutboxReader:
        """The database, opened read-only."""
        self._opened = self._opened or open_for_reading(self._database)
        return self._opened

    def health(self) -> Health:
        """Return the health: links that are not up, stuck STFs as `inspect` counts them, and failing workers."""
        links = latest_link_statuses(self.reports)
        problems = {f"{name} {link.state}": link.reason or "" for name, link in links.items() if link.state != "up"}
        blocked = any(link.state == "blocked" for link in links.values())
        stuck = StuckStfs(self.reports, self._rule, links, self.clock.now(), daemon_runs=True).count()
        if stuck:
            problems["stuck"] = f"{stuck} STFs, see fastmon-daemon inspect"
        problems |= {f"{worker} failing": f"{error}, see the log" for worker, error in self._errors.now().items()}
        connected = self._is_connected is not None and self._is_connected()
        return Health(
            status=HealthStatus.ERROR if blocked else HealthStatus.WARNING if problems else HealthStatus.OK,
            problems=tuple(problems),
            why="; ".join(f"{problem}: {reason}" for problem, reason in problems.items()),
            busy=self._has_completed() or self.reports.unfinished() > 0,
            connected=connected,
            disconnected=self._is_connected is not None and not connected,
        )

    def _has_completed(self) -> bool:
        """Whether an STF was completed since the last check: most STFs complete between two checks."""
        before = self._completed_at
        self._completed_at = self.reports.last_transition_to(self._rule.chart.success_state) or ""
        return before is not None and self._completed_at > before

    def counts(self) -> StfCounts:
        """Return the numbers of STFs."""
        counts = self.reports.counts_by_state()
        rule = self._rule
        return StfCounts(
            active=sum(counts.get(state, 0) for state in rule.unfinished),
            completed=counts.get(rule.chart.success_state, 0),
            failed=sum(counts.get(state, 0) for state in rule.failed),
            last_completed=self.reports.last_transition_to(rule.chart.success_state),
        )

    def run(self) -> RunRow | None:
        """Return the run with the latest message, if any."""
        return next(iter(self.reports.runs.latest(1)), None)

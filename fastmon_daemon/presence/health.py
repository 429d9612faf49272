"""The health of the daemon as heart-beats and status messages tell it: the assessment, and whether it is busy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.outbox import OutboxReader, RunRow, open_for_reading
from fastmon_daemon.presence.assessment import Assessor
from fastmon_daemon.statechart import StateMachine


class HealthStatus(StrEnum):
    """The health in one word, as the monitor spells it."""

    OK = "OK"
    WARNING = "WARNING"
    """Something is wrong: a link is down, an STF is stuck, a run is incomplete, a worker fails."""
    ERROR = "ERROR"
    """An operator must act at once: a link is blocked, or the engine has stalled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health at one moment."""

    status: HealthStatus
    problems: tuple[str, ...]
    """Short names of all problems."""
    why: str
    """The problems with their reasons; the reasons may differ at each check."""
    line: str
    """The verdict in one line, as `inspect` begins with it."""
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
        assessor: Assessor,
        connected: Callable[[], bool] | None,
        clock: Clock,
    ) -> None:
        """*connected* returns whether the broker is connected; None if no broker is needed."""
        self.clock = clock
        self._database = database
        self._rule = assessor.rule.stuck
        self._assessor = assessor
        self._is_connected = connected
        self._opened: OutboxReader | None = None
        self._completed_at: str | None = None

    @property
    def reports(self) -> OutboxReader:
        """The database, opened read-only."""
        self._opened = self._opened or open_for_reading(self._database)
        return self._opened

    @property
    def chart(self) -> StateMachine:
        """The statechart of the STFs."""
        return self._rule.chart

    def close(self) -> None:
        """Close the database connection; in the thread that used it."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def health(self) -> Health:
        """Return the health: the assessment, as `inspect` shows it, and whether there is work."""
        found = self._assessor.assess(self.reports)
        is_error = any(problem.is_error for problem in found.problems)
        connected = self._is_connected is not None and self._is_connected()
        return Health(
            status=HealthStatus.ERROR if is_error else HealthStatus.WARNING if found.problems else HealthStatus.OK,
            problems=tuple(problem.name for problem in found.problems),
            why="; ".join(f"{problem.name}: {problem.reason}" for problem in found.problems),
            line=found.line,
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

    def done_before(self) -> str:
        """Return the time before which no STF was received that is unfinished."""
        now = self.clock.now()
        return self.reports.done_before(now)

    def run(self) -> RunRow | None:
        """Return the run with the latest message, if any."""
        return next(iter(self.reports.runs.latest(1)), None)

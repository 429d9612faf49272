"""What the ledger works with, and how often it does what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.runs.poll_state import ReconcilerIntervals
from fastmon_daemon.statechart import StateMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRoute:
    """How the summaries of complete runs go out."""

    sender: str
    """Our agent name."""
    link: str
    announce: Callable[[str, str], None]
    """Sends a body with its event id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerConfig:
    """What the parts of the ledger work with in common; tests hand in their own."""

    monitor: MonitorClient
    charts: tuple[StateMachine, StateMachine]
    """Of the STF and of the run."""
    allows_calls: Callable[[str], bool] = lambda _link: True
    """Whether a link may be used now."""
    wake: Callable[[], None] = lambda: None
    """Has whoever asks for errands ask again at once."""
    is_selected: Callable[[int | None, str], bool] = lambda _sequence, _filename: True
    """Whether an STF of that number and name is sampled at all."""
    summary_route: SummaryRoute | None = None
    """None: nothing is announced."""
    polls_all_runs: bool = True
    """False: only runs that were announced without filenames are looked at (FASTMON_RECONCILE=off)."""
    refuse_if_short: Callable[[], None] = lambda: None
    """Raises StorageUnavailable where no more may be stored: messages then wait at the broker, and none is missed."""
    clock: Clock = field(default_factory=Clock)
    intervals: ReconcilerIntervals = field(default_factory=ReconcilerIntervals)

    @property
    def run_chart(self) -> StateMachine:
        """The chart of the run."""
        return self.charts[1]

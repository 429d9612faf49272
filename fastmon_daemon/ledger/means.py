"""What the ledger works with, and how often it does what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastmon_daemon.clock import Clock
from fastmon_daemon.lifecycle import StateMachine
from fastmon_daemon.monitor import MonitorClient


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerIntervals:
    """Times in seconds: those of the ledger's rules."""

    unnamed_run_s: float = 3.0
    """Between two looks at an open run that was announced without filenames."""
    open_run_s: float = 30.0
    """The same for any other open run."""
    ended_run_s: float = 10.0
    """The same for a run that has ended and whose STFs are not all known."""
    max_pause_s: float = 600.0
    """The longest pause: of a run of which nothing was heard for long, or whose list is long."""
    missing_after_s: float = 30.0
    """So long an STF that the monitor names may be unknown before it counts as missed: its message may be under way."""
    missing_after_end_s: float = 5.0
    """The same when the run has ended."""
    count_stable_s: float = 30.0
    """The monitor's count of a run that has ended must stand so long to be the authority."""
    idle_end_s: float = 600.0
    """A run of which nothing was heard for so long, and of which all that is named is known, has ended."""
    idle_end_paused_s: float = 43200.0
    """The same for a run that is paused, as far as we have heard."""
    give_up_s: float = 900.0
    """So long after its end a run is looked at for STFs that it announced and the monitor does not name."""
    heartbeat_s: float = 10.0
    """Between two signs of life, from which the next process knows since when nobody listened."""
    unknown_runs_s: float = 60.0
    """So long after somebody listens again the monitor's runs are listed, for those of which nothing was heard."""
    retry_s: float = 10.0
    """After a look that brought no answer, or a summary that did not go out."""
    lookups_per_s: float = 50.0
    max_lookups: int = 2
    """How many STFs that were missed are asked after, so that the engine is not starved."""


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
    """False: only runs that were announced without filenames are looked at (FASTMON_LEDGER=off)."""
    refuse_if_short: Callable[[], None] = lambda: None
    """Raises StorageUnavailable where no more may be stored: messages wait at the broker then, and none is missed yet."""
    clock: Clock = field(default_factory=Clock)
    intervals: ReconcilerIntervals = field(default_factory=ReconcilerIntervals)

    @property
    def run_chart(self) -> StateMachine:
        """The chart of the run."""
        return self.charts[1]

"""What the ledger works with, and how often it does what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastmon_daemon.clock import Clock
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.monitor import Monitor


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """Times in seconds: those of the ledger's rules."""

    nameless_s: float = 3.0
    """Between two looks at an open run that was announced without filenames."""
    open_s: float = 30.0
    """The same for any other open run."""
    ended_s: float = 10.0
    """The same for a run that has ended and whose STFs are not all known."""
    longest_s: float = 600.0
    """The longest pause: of a run of which nothing was heard for long, or whose list is long."""
    absent_s: float = 30.0
    """So long an STF that the monitor names may be unknown before it counts as missed: its message may be under way."""
    absent_ended_s: float = 5.0
    """The same when the run has ended."""
    settled_s: float = 30.0
    """The monitor's count of a run that has ended must stand so long to be the authority."""
    quiet_s: float = 600.0
    """A run of which nothing was heard for so long, and of which all that is named is known, has ended."""
    quiet_paused_s: float = 43200.0
    """The same for a run that is paused, as far as we have heard."""
    give_up_s: float = 900.0
    """So long after its end a run is looked at for STFs that it announced and the monitor does not name."""
    sign_s: float = 10.0
    """Between two signs of life, from which the next process knows since when nobody listened."""
    unheard_s: float = 60.0
    """So long after somebody listens again the monitor's runs are listed, for those of which nothing was heard."""
    retry_s: float = 10.0
    """After a look that brought no answer, or a summary that did not go out."""
    lookups_per_s: float = 50.0
    lookups_at_once: int = 2
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
class Means:
    """What the parts of the ledger work with in common; tests hand in their own."""

    monitor: Monitor
    charts: tuple[Chart, Chart]
    """Of the STF and of the run."""
    is_open: Callable[[str], bool] = lambda _link: True
    """Whether a link may be used now."""
    wake: Callable[[], None] = lambda: None
    """Has whoever asks for errands ask again at once."""
    selected: Callable[[int | None, str], bool] = lambda _sequence, _filename: True
    """Whether an STF of that number and name is sampled at all."""
    summary_route: SummaryRoute | None = None
    """None: nothing is announced."""
    keeps_all: bool = True
    """False: only runs that were announced without filenames are looked at (FASTMON_LEDGER=off)."""
    refuse_if_short: Callable[[], None] = lambda: None
    """Raises StorageFault where no more may be stored: messages wait at the broker then, and none is missed yet."""
    clock: Clock = field(default_factory=Clock)
    paces: Paces = field(default_factory=Paces)

    @property
    def run_chart(self) -> Chart:
        """The chart of the run."""
        return self.charts[1]

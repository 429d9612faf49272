"""The reconciler's configuration; its intervals are in `runs.poll_state`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.messages import Announce
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.outbox import RunRow
from fastmon_daemon.runs.peers import PeerDirectory
from fastmon_daemon.runs.poll_state import ReconcilerIntervals
from fastmon_daemon.statechart import StateMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerConfig:
    """What all parts of the reconciler use."""

    monitor: MonitorClient
    database: Path
    """Read beside the engine's thread, which alone writes to it."""
    charts: tuple[StateMachine, StateMachine]
    """Of the STF and of the run."""
    allows_calls: Callable[[str], bool] = lambda _link: True
    """Whether a link may be used now."""
    wake: Callable[[], None] = lambda: None
    """Makes the engine ask for background tasks again at once."""
    is_selected: Callable[[RunRow, int | None, str], bool] = lambda _run, _sequence, _filename: True
    """Whether the STF of a run with this sequence and file name is selected."""
    agent_name: str = ""
    """Our name, the sender of summaries of complete runs."""
    announce: Announce = lambda _body, _event_id: None
    announce_link: str | None = None
    """The link that *announce* needs; None: summaries are not published."""
    polls_all_runs: bool = True
    """False (FASTMON_RECONCILE=off, and no shared queue): only runs whose messages name no files are polled."""
    recovers: Callable[[], bool] = lambda: True
    """Whether we process missed STFs; else another daemon of the queue does, and we only account for them."""
    peers: PeerDirectory = field(default_factory=lambda: PeerDirectory(lambda: ([], None), "", ""))
    """The other daemons."""
    refuse_if_short: Callable[[], None] = lambda: None
    """Raises StorageUnavailable if disk space is short: messages then wait at the broker, and no STF is missed."""
    clock: Clock = field(default_factory=Clock)
    intervals: ReconcilerIntervals = field(default_factory=ReconcilerIntervals)

    @property
    def listable_states(self) -> list[str]:
        """The states of STFs that the monitor must list once their TF files are registered."""
        chart = self.charts[0]
        given_up = {state for trigger in ("skip", "fail", "discard") for state in chart.leads_to(trigger)}
        return [state for state in chart.states if state not in given_up]

    @property
    def run_chart(self) -> StateMachine:
        """The statechart of the run."""
        return self.charts[1]

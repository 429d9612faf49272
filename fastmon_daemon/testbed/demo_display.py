"""How the demo is shown: a live table on a terminal, otherwise lines, one every 2 s and two at each new phase."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_EVERY_S = 2.0
BAR_WIDTH = 40


@dataclass(frozen=True, kw_only=True)
class DemoState:
    """The numbers of the demo at one moment."""

    seconds: float
    phase: str
    """What happens now, as a short sentence."""
    stf_planned: int
    stf_generated: int
    states: Mapping[str, int]
    """State -> number of STFs, in the order of the statechart."""
    tf_registered: int
    tf_expected: int
    announcements: int
    stages: int
    heartbeats: int


@dataclass
class DemoDisplay:
    """Shows the state of the demo on *console*."""

    console: Console
    _live: Live | None = None
    _last: tuple[str, float] = field(default=("", 0.0))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """`show` works inside this context."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False) as live:
            self._live = live
            yield

    def show(self, state: DemoState) -> None:
        """Update the live table; without a terminal, print a new phase, and the numbers at a new phase or after 2 s."""
        if self._live:
            self._live.update(_table(state))
            return
        phase, at = self._last
        if state.phase != phase:
            self._print(state, f"-- {state.phase}")
        if state.phase != phase or state.seconds >= at + LINE_EVERY_S:
            self._last = (state.phase, state.seconds)
            self._print(state, _numbers(state))

    def _print(self, state: DemoState, text: str) -> None:
        self.console.print(Text(f"{state.seconds:6.1f} s  {text}"), soft_wrap=True, highlight=False)


def _numbers(state: DemoState) -> str:
    by_state = ", ".join(f"{number} {name}" for name, number in state.states.items() if number) or "none received yet"
    return (
        f"STFs sent {state.stf_generated}/{state.stf_planned}: {by_state};  "
        f"TF files registered {state.tf_registered}/{state.tf_expected};  announcements {state.announcements};  "
        f"stages {state.stages};  heart-beats {state.heartbeats}"
    )


def _table(state: DemoState) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("STFs sent by the DAQ", *_bar(state.stf_generated, state.stf_planned))
    for name, number in state.states.items():
        table.add_row(Text(f"  {name}", style="dim" if not number else ""), *_bar(number, state.stf_planned))
    table.add_row("TF files registered", *_bar(state.tf_registered, state.tf_expected))
    table.add_row("announcements", *_bar(state.announcements, state.tf_expected))
    table.add_row("workflow stages", *_bar(state.stages, state.stf_planned))
    table.add_row("heart-beats", "", Text(f"{state.heartbeats}", justify="right"))
    return Group(Text(f"{state.seconds:6.1f} s   {state.phase}", style="bold"), table)


def _bar(done: int, total: int) -> tuple[ProgressBar, Text]:
    return ProgressBar(total=total, completed=min(done, total), width=BAR_WIDTH), Text(f"{done}", justify="right")

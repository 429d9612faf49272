"""How the demo looks: a live picture on a terminal, else a line now and then.

It must not know where the numbers come from.
"""

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
    """What is to be seen at one moment."""

    seconds: float
    happening: str
    stf_planned: int
    stf_generated: int
    states: Mapping[str, int]
    """State -> STFs in it, in the order of the chart."""
    tf_registered: int
    tf_expected: int
    announcements: int
    stages: int
    heartbeats: int


@dataclass
class DemoDisplay:
    """Shows scenes on *console*."""

    console: Console
    _live: Live | None = None
    _last: tuple[str, float] = field(default=("", 0.0))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside it, `show` works."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False) as live:
            self._live = live
            yield

    def show(self, scene: DemoState) -> None:
        """Show *scene*: at once on a terminal, else as a line when something happens, or 2 s after the last one."""
        if self._live:
            self._live.update(drawn(scene))
            return
        happening, at = self._last
        if scene.happening != happening or scene.seconds >= at + LINE_EVERY_S:
            self._last = (scene.happening, scene.seconds)
            self.console.print(line(scene), soft_wrap=True, highlight=False)


def line(scene: DemoState) -> Text:
    """The scene in one line."""
    states = ", ".join(f"{number} {state}" for state, number in scene.states.items() if number) or "none yet"
    return Text(
        f"{scene.seconds:6.1f} s  STFs {scene.stf_generated}/{scene.stf_planned}: {states};  "
        f"TF files {scene.tf_registered}/{scene.tf_expected};  announcements {scene.announcements};  "
        f"stages {scene.stages};  heart-beats {scene.heartbeats}  "
        f"[{scene.happening}]"
    )


def drawn(scene: DemoState) -> RenderableType:
    """The scene as a picture."""
    table = Table.grid(padding=(0, 2))
    table.add_row("STFs from the DAQ", *_bar(scene.stf_generated, scene.stf_planned))
    for state, number in scene.states.items():
        table.add_row(Text(f"  {state}", style="dim" if not number else ""), *_bar(number, scene.stf_planned))
    table.add_row("TF files in the monitor", *_bar(scene.tf_registered, scene.tf_expected))
    table.add_row("announcements", *_bar(scene.announcements, scene.tf_expected))
    table.add_row("stages in the monitor", *_bar(scene.stages, scene.stf_planned))
    table.add_row("heart-beats", "", Text(f"{scene.heartbeats}", justify="right"))
    return Group(Text(f"{scene.seconds:6.1f} s   {scene.happening}", style="bold"), table)


def _bar(done: int, of: int) -> tuple[ProgressBar, Text]:
    return ProgressBar(total=of, completed=min(done, of), width=BAR_WIDTH), Text(f"{done}", justify="right")

"""Draws the view on the alternate screen of a terminal, and restores the terminal at the end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live

from fastmon_client.live.view import render

REDRAW_S = 0.5


class RunnableSession(Protocol):
    """A session: `run` runs in a thread until `stop`."""

    def run(self) -> None:
        """Run until the end."""

    def stop(self) -> None:
        """End `run`."""

    def snapshot(self) -> Mapping[str, Any]:
        """The current snapshot."""


def show_live(session: RunnableSession) -> None:
    """Run *session* and show it until its end; belongs to the main thread."""
    screen = LiveScreen(session.snapshot, Console())
    with ThreadPoolExecutor(1, "session") as pool:
        running = pool.submit(session.run)
        running.add_done_callback(lambda _running: screen.stop())
        try:
            screen.draw_until_stopped()
        finally:
            session.stop()
        running.result()


class LiveScreen:
    """Draws snapshots until `stop`; belongs to the main thread, which receives SIGWINCH."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]], console: Console) -> None:
        self._snapshot = snapshot
        self._console = console
        self._events: SimpleQueue[bool] = SimpleQueue()
        """True: stop; False: the window was resized. A queue, because a signal handler may use it but no lock."""

    def stop(self) -> None:
        """End `draw_until_stopped`; callable from any thread and from a signal handler."""
        self._events.put(True)

    def draw_until_stopped(self) -> None:
        """Draw twice a second; restore the screen and the cursor at the end."""
        with (
            self._resizing(),
            Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            as live,
        ):  # fmt: skip
            while True:
                width, height = self._console.size
                live.update(render(self._snapshot(), width, height), refresh=True)
                if self._is_stopped():
                    return

    def _is_stopped(self) -> bool:
        try:
            return self._events.get(timeout=REDRAW_S)
        except Empty:
            return False

    @contextmanager
    def _resizing(self) -> Iterator[None]:
        before = signal.signal(signal.SIGWINCH, lambda _number, _frame: self._events.put(False))
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)

"""Draws the view on a terminal a few times a second, and leaves it as it was found.

Owns the alternate screen, the size of the window and the pace. It must not know where snapshots come from.
"""

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

REDRAWN_EVERY_S = 0.5


class RunnableSession(Protocol):
    """What is shown: `run` reads in a thread of its own until `stop`."""

    def run(self) -> None:
        """Read until the end."""

    def stop(self) -> None:
        """End `run`."""

    def snapshot(self) -> Mapping[str, Any]:
        """What is known now."""


def show_live(watched: RunnableSession) -> None:
    """Run *watched* to its end, and show it meanwhile; belongs to the main thread."""
    screen = LiveScreen(watched.snapshot, Console())
    with ThreadPoolExecutor(1, "watched") as pool:
        reading = pool.submit(watched.run)
        reading.add_done_callback(lambda _reading: screen.stop())
        try:
            screen.draw_until_stopped()
        finally:
            watched.stop()
        reading.result()


class LiveScreen:
    """Shows snapshots until `stop`. `draw_until_stopped` belongs to the main thread, which a new window size wakes."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]], console: Console) -> None:
        self._snapshot = snapshot
        self._console = console
        self._news: SimpleQueue[bool] = SimpleQueue()
        """True: stop; False: the window has another size. Unlike a lock, a signal handler may touch it any time."""

    def stop(self) -> None:
        """End `draw_until_stopped`; callable from any thread and from a signal handler."""
        self._news.put(True)

    def draw_until_stopped(self) -> None:
        """Draw a few times a second, on the alternate screen; the cursor and what stood there come back at the end."""
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
            return self._news.get(timeout=REDRAWN_EVERY_S)
        except Empty:
            return False

    @contextmanager
    def _resizing(self) -> Iterator[None]:
        before = signal.signal(signal.SIGWINCH, lambda _number, _frame: self._news.put(False))
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)

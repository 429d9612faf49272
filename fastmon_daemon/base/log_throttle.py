"""Limits how many lines each place in the code logs in a minute; a sum stands for the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

WINDOW_S = 60.0
MAX_LINES = 300
"""Lines at INFO of one place in a window: more than the DAQ's full rate of STFs, far less than a backlog."""
MAX_PROBLEMS = 100
"""Lines at WARNING and above of one place in a window."""
_INFO, _WARNING = 20, 30
_SUPPRESSED, _SUM = "suppressed", "sum"

Place = tuple[str | None, int, str]
"""Module, line and level."""


@dataclass(slots=True)
class _Window:
    """What one place has logged since the window began."""

    began_at: datetime
    until: float
    """Monotonic seconds."""
    written: int = 0
    suppressed: int = 0
    text: str = ""
    """The last message that was suppressed."""
    varies: bool = False
    """Whether the messages differ."""

    def sum(self) -> str:
        since = f"since {self.began_at.astimezone(UTC):%H:%M:%S}Z"
        if self.varies:
            return f"{self.suppressed} more lines like this one {since}: {self.text}"
        return f"{self.text} ({self.written + self.suppressed} times {since})"


class LogThrottle:
    """Marks the records that are not written; thread-safe. At DEBUG all are: who wants these, wants all.

    The sum is logged when the window ends, with the level of the lines that it stands for.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        start_timer: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        """*start_timer* calls a function after some seconds; by default in a thread."""
        self._monotonic = monotonic
        self._start_timer = start_timer or _start_thread
        self._windows: dict[Place, _Window] = {}
        self._lock = threading.Lock()

    def mark(self, record: Record) -> None:
        """Mark *record*, if its place has logged enough (a patcher of loguru)."""
        level = record["level"]
        if level.no < _INFO or record["extra"].get(_SUM):
            return
        place = record["name"], record["line"], level.name
        with self._lock:
            now, window = self._monotonic(), self._windows.get(place)
            if window is None or (now >= window.until and not window.suppressed):
                window = self._windows[place] = _Window(record["time"], now + WINDOW_S, text=record["message"])
            window.varies |= record["message"] != window.text
            window.text = record["message"]
            if window.written < (MAX_LINES if level.no < _WARNING else MAX_PROBLEMS):
                window.written += 1
                return
            window.suppressed += 1
            is_first = window.suppressed == 1
        record["extra"][_SUPPRESSED] = True
        if is_first:
            self._start_timer(max(0.0, window.until - now), lambda: self._end(place))

    def end_all(self) -> None:
        """Log the sums of all windows that are open, because the process ends."""
        for place in list(self._windows):
            self._end(place)

    def _end(self, place: Place) -> None:
        with self._lock:
            window = self._windows.pop(place, None)
        if window is not None and window.suppressed:
            logger.bind(**{_SUM: True}).log(place[2], "{}", window.sum())


def is_written(record: Record) -> bool:
    """Whether a sink writes *record* (a filter of loguru)."""
    return not record["extra"].get(_SUPPRESSED)


def _start_thread(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()

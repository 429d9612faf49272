"""One line of log a subject and minute, with a count: whoever reaches the port decides how often something happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loguru import logger

INTERVAL_S = 60.0
_MAX_SUBJECTS = 100
_MAX_CHARS = 300


class LogThrottle:
    """Logs the first line of a subject at once, later ones as a count with the next line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._subjects: dict[str, tuple[float, int]] = {}
        """When its next line may follow, and how many were held back."""

    def record(self, subject: str, text: str) -> None:
        """Log *text* as a warning, unless *subject* had a line within `INTERVAL_S`."""
        now = self._clock()
        due, held = self._subjects.get(subject, (now, 0))
        if now < due:
            self._subjects[subject] = due, held + 1
            return
        if len(self._subjects) >= _MAX_SUBJECTS:
            self._subjects.clear()
        self._subjects[subject] = now + INTERVAL_S, 0
        logger.warning("{}{}", text[:_MAX_CHARS], f" ({held} more since the last line)" if held else "")


class _Handler(logging.Handler):
    """Passes warnings of libraries on, without their tracebacks."""

    def __init__(self, log: LogThrottle) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        exc = record.exc_info[1] if record.exc_info else None
        text = " ".join(record.getMessage().split("\n")[0].split())
        self._log.record(f"{record.name} {record.msg[:80]}", f"{text}: {exc!r}" if exc else text)


@contextmanager
def throttled_libraries() -> Iterator[None]:
    """Pass the warnings of all libraries (uvicorn, asyncio, stomp.py, urllib3) on to our log."""
    handler, root = _Handler(LogThrottle()), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)

"""The process: its settings and environment, and its signals: the first one drains, the second one exits at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """Settings, environment and database of the process."""

    settings: Settings
    values: Mapping[str, str]
    """The environment, completed by the `.env` files."""
    database: Path
    database_rule: str
    """Why this database was chosen, as text."""
    secrets: SecretRedactor
    """Redacts secrets in the logs; every secret that is read later is added."""
    wrote: threading.Event = field(default_factory=threading.Event)
    """Set when the monitor has accepted something from this process that bears its agent name (log lines aside)."""


class ShutdownRequest:
    """Whether a signal requested shutdown. The handler only sets a flag; the second signal raises KeyboardInterrupt."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.to_stop = ""
        """Name of the signal; empty: run on."""
        self._wake = wake

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.to_stop and signum == signal.SIGHUP:
            return  # a terminal that closes sends two, its shell's and the kernel's: that is no wish to hurry
        if self.to_stop:
            raise KeyboardInterrupt  # the database is consistent at any time
        self.to_stop = signal.Signals(signum).name  # no log line here: the logger may hold its lock
        self._wake()


@contextmanager
def signals(shutdown: ShutdownRequest) -> Iterator[None]:
    """Send signals to *shutdown* inside the block; restore the previous handlers after it.

    SIGHUP drains too: secrets are read again when they are refused, and other settings need a new process. A process
    that was started to ignore it (`nohup`) goes on ignoring it.
    """
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, shutdown.handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

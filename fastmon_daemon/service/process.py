"""The process: its settings and environment, and its signals: the first one drains, the second one exits at once."""

from __future__ import annotations

import os
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
    read_settings: Callable[[], Settings]
    """Reads the settings again. Raises: ConfigError."""
    set_log_level: Callable[[str], None]
    """Changes the level of the log."""
    wrote: threading.Event = field(default_factory=threading.Event)
    """Set when the monitor has accepted something from this process that bears its agent name (log lines aside)."""


class SignalRequests:
    """What signals requested. The handler only sets a flag; the second signal to stop raises KeyboardInterrupt."""

    def __init__(self, wake: Callable[[], None], *, hup_reloads: bool = False) -> None:
        """*hup_reloads*: SIGHUP requests a reload of the settings, else a shutdown."""
        self.to_stop = ""
        """Name of the signal; empty: run on."""
        self._to_reload = False
        self._hup_reloads = hup_reloads
        self._wake = wake

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if signum == signal.SIGHUP and self._hup_reloads:
            self._to_reload = True
            self._wake()
            return
        if self.to_stop and signum == signal.SIGHUP:
            return  # a terminal that closes sends two, its shell's and the kernel's: that is no wish to hurry
        if self.to_stop:
            raise KeyboardInterrupt  # the database is consistent at any time
        self.to_stop = signal.Signals(signum).name  # no log line here: the logger may hold its lock
        self._wake()

    def take_reload(self) -> bool:
        """Return whether a reload was requested since the last call."""
        requested, self._to_reload = self._to_reload, False
        return requested


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal, which sends SIGHUP when it closes."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@contextmanager
def signals(requests: SignalRequests) -> Iterator[None]:
    """Send signals to *requests* inside the block; restore the previous handlers after it.

    A process that was started to ignore SIGHUP (`nohup`) goes on ignoring it.
    """
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, requests.handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

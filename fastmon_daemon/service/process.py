"""The process: what it was started with, and the signals that end it: the first asks for a drain, the second means now.

It must not know what is drained.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """What the process was started with."""

    settings: Settings
    values: Mapping[str, str]
    """The environment with what the `.env` files add to it."""
    database: Path
    database_rule: str
    """The rule by which it was chosen, for people."""
    secrets: SecretRedactor
    """What is blotted out wherever we log; every secret that is read anew joins them."""


class ShutdownRequest:
    """Whether a signal asked us to stop. Handlers set flags only, and the second signal means now."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.to_stop = ""
        """The name of the signal that asked."""
        self._wake = wake

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """The handler of every signal that ends us."""
        if self.to_stop:
            raise KeyboardInterrupt  # the outbox is safe at every instant
        self.to_stop = signal.Signals(signum).name  # no log line here: the logger's lock may be held just now
        self._wake()


@contextmanager
def signals(shutdown: ShutdownRequest) -> Iterator[None]:
    """Signals go to *asked* inside the block; the handlers before it are put back."""
    before = {
        number: signal.signal(number, shutdown.handle) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

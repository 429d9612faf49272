"""Errands: calls that somebody else than an STF owes (a look at a run, a probe), run in threads of their own.

This module must not know what is asked, or of whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from fastmon_daemon.outbox import Outbox


@dataclass(frozen=True, slots=True)
class BackgroundTask:
    """One call over one link."""

    link: str
    call: Callable[[], Any]
    done: Callable[[Outbox, Any, datetime], None]
    """Takes the answer, or the exception, in the engine's thread, inside its transaction.

    It may run again where that could not be committed."""


class BackgroundTaskSource(Protocol):
    """Somebody with errands of its own."""

    def tasks(self, outbox: Outbox, now: datetime) -> Iterable[BackgroundTask]:
        """The errands that are due now."""

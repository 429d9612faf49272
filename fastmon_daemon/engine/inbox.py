"""The engine's inbox: what other threads have to say to it, in the order in which they said it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastmon_daemon.engine.in_flight import CallResult
from fastmon_daemon.outbox import Outbox


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """What an edge says of its link."""

    link: str
    up: bool
    reason: str = ""
    blocked: bool = False
    """It answers, but refuses us: a person must mend the configuration."""
    started_at: float | None = None
    """When the call was begun that found it so, in monotonic seconds; None where the link itself says it."""


@dataclass(frozen=True, slots=True)
class PendingAction:
    """What somebody wants done in the engine's thread, and where the answer goes."""

    action: Callable[[Outbox, datetime], Any]
    answer: Future[Any]


class Inbox:
    """Made before the engine, for whoever speaks to it. All but `collect` may be called from any thread."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[CallResult | LinkEvent | PendingAction | None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Say that there is something new."""
        self._items.put(None)

    def report_link(self, event: LinkEvent) -> None:
        """Say that a link went or came back."""
        self._items.put(event)

    def submit(self, act: Callable[[Outbox, datetime], Any]) -> Future[Any]:
        """Have *act* done in the engine's thread, in a transaction of its own."""
        future: Future[Any] = Future()
        self._items.put(PendingAction(act, future))
        return future

    def deliver(self, result: CallResult) -> None:
        """Bring what a call gave."""
        self._items.put(result)

    def collect(self, wait_s: float) -> list[CallResult | LinkEvent | PendingAction]:
        """All that has come; where that is nothing, wait for it, *wait_s* seconds at most. A `wake` ends the wait."""
        found: list[CallResult | LinkEvent | PendingAction] = []
        try:
            item = self._items.get(timeout=wait_s) if wait_s > 0 else self._items.get_nowait()
            while True:
                if item is not None:
                    found.append(item)
                item = self._items.get_nowait()
        except queue.Empty:
            return found

"""The engine's inbox: what other threads send to it, in order of arrival."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastmon_daemon.base.errors import DaemonStops
from fastmon_daemon.engine.tasks import CallResult
from fastmon_daemon.outbox import Outbox


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A change of a link, as its edge or a call reports it."""

    link: str
    up: bool
    reason: str = ""
    blocked: bool = False
    """The other side answers but rejects us: an operator must fix the configuration."""
    started_at: float | None = None
    """Start of the call that failed, in monotonic seconds; None if the link itself reports the change."""
    on_trial: bool = False
    """The link may be used again, but is up only when the next event says so."""


@dataclass(frozen=True, slots=True)
class PendingAction:
    """A function to run in the engine's thread, and the future that gets its result."""

    action: Callable[[Outbox, datetime], Any]
    answer: Future[Any]
    may_wait: bool = False
    """Whether it waits for others to share a transaction, also while no call is in flight."""
    committed: Callable[[], object] = lambda: None
    """Called in the engine's thread once all that the action wrote is on disk, before the answer."""


class Inbox:
    """Made before the engine, because others send to it. Every method but `collect` is thread-safe."""

    def __init__(self) -> None:
        self._closed = False
        self._closing = threading.Lock()
        self._items: queue.SimpleQueue[tuple[CallResult, ...] | LinkEvent | PendingAction | None] = queue.SimpleQueue()

    def wake(self) -> None:
        """End the engine's wait: new work may be due."""
        self._items.put(None)

    def report_link(self, event: LinkEvent) -> None:
        """Report that a link went down, was blocked or came back."""
        self._items.put(event)

    def submit(
        self,
        action: Callable[[Outbox, datetime], Any],
        *,
        may_wait: bool = False,
        committed: Callable[[], object] = lambda: None,
    ) -> Future[Any]:
        """Run *action* in the engine's thread; the future is done when all that it wrote is on disk.

        With *may_wait* it takes a moment longer, for other actions to share its transaction. *committed* is for what
        changes in memory: it is called in the same thread, and only if the action is on disk.
        """
        future: Future[Any] = Future()
        with self._closing:
            if self._closed:
                future.set_exception(DaemonStops())
            else:
                self._items.put(PendingAction(action, future, may_wait, committed))
        return future

    def close(self) -> None:
        """The engine ticks no more: actions that were not run, and those that come later, fail with DaemonStops."""
        with self._closing:
            self._closed = True
        for item in self.collect(0.0):
            if isinstance(item, PendingAction):
                item.answer.set_exception(DaemonStops())

    def deliver(self, *results: CallResult) -> None:
        """Deliver the results of calls."""
        self._items.put(results)

    def collect(self, wait_s: float) -> list[CallResult | LinkEvent | PendingAction | None]:
        """All items that have arrived (None: `wake`); if there are none, wait up to *wait_s* seconds."""
        found: list[CallResult | LinkEvent | PendingAction | None] = []
        try:
            item = self._items.get(timeout=wait_s) if wait_s > 0 else self._items.get_nowait()
            while True:
                if isinstance(item, tuple):
                    found += item
                else:
                    found.append(item)
                item = self._items.get_nowait()
        except queue.Empty:
            return found

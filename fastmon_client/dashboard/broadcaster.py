"""One snapshot a moment, for all pages: made once, however many look.

Owns the pace and who is woken. It must not know HTTP. A page that reads slowly gets the newest event,
never a queue of old ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastmon_client.dashboard.serialization import LagHistory, event

LOOKED_AT_EVERY_S = 0.25
AT_LEAST_EVERY_S = 1.0
"""A page that hears nothing for a few times this long calls its own server dead."""


class Broadcaster:
    """Its methods belong to the event loop."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        self._snapshot = snapshot
        self._newest = b""
        self._number = 0
        self._news = asyncio.Condition()
        self._closed = False
        self.pages = 0
        """How many look."""

    async def run(self) -> None:
        """Look at the snapshot for ever; tell the pages at once when something happened, and once a second anyway."""
        clock, lag_history, before, due = asyncio.get_running_loop().time, LagHistory(), None, 0.0
        while not self._closed:
            snapshot = self._snapshot()
            happened = _what_happened(snapshot)
            if happened != before or clock() >= due:
                before, due = happened, clock() + AT_LEAST_EVERY_S
                await self._tell(event(snapshot, lag_history.note(snapshot)))
            await asyncio.sleep(LOOKED_AT_EVERY_S)

    async def events(self) -> AsyncIterator[bytes]:
        """For one page: the newest event, then each newer one; ends with `close`."""
        told = 0
        self.pages += 1
        try:
            while not self._closed:
                async with self._news:
                    await self._news.wait_for(lambda: self._closed or self._number > told)  # noqa: B023 (awaited here)
                    told, newest = self._number, self._newest
                if not self._closed:
                    yield newest
        finally:
            self.pages -= 1

    async def close(self) -> None:
        """End all pages' events."""
        self._closed = True
        async with self._news:
            self._news.notify_all()

    async def _tell(self, newest: bytes) -> None:
        async with self._news:
            self._newest = newest
            self._number += 1
            self._news.notify_all()


def _what_happened(snapshot: Mapping[str, Any]) -> Any:
    """What a person wants to see at once: all but ages and rates, which change with time alone."""
    connection = snapshot["connection"]
    counts = [(run["run"], run["state"], run["stale"], run["verified"], run["tf_files"]) for run in snapshot["runs"]]
    alarms = [(alarm["kind"], alarm["run"], alarm["until"]) for alarm in snapshot["alarms"]]
    return connection["state"], connection["reconnects"], counts, alarms

"""Broadcasts one event per change to all pages; a slow page gets the newest event, never a queue of old ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from fastmon_client.dashboard.history import History
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.dashboard.journal import Kept
from fastmon_client.verdict import OPEN

POLL_S = 0.25
MAX_SILENCE_S = 1.0
"""Longest time between two events; a page that gets none for 5 s shows UNKNOWN."""
SHOWN_RUNS, SHOWN_STRIPS, SHOWN_RECENT = 30, 4, 40
"""Runs, strips (of open runs, else of the newest run) and recent TF files per page."""


class Broadcaster:
    """Its methods belong to the event loop."""

    def __init__(
        self,
        snapshot: Callable[[], Mapping[str, Any]],
        kept: Kept,
        summaries: Callable[[], Sequence[dict[str, Any]]] = list,
    ) -> None:
        """*summaries* are those of the daemon, for the journal."""
        self.history = History()
        self.incidents: list[dict[str, Any]] = []
        """Those of the last snapshot, with their acknowledgements."""
        self.snapshot = snapshot
        self._acknowledgements, self._journal, self._summaries = kept.acknowledgements, kept.journal, summaries
        self._newest = b""
        self._number = 0
        self._changed = asyncio.Condition()
        self._closed = False
        self.pages = 0
        """Pages that are open."""

    async def run(self) -> None:
        """Poll the snapshot; publish it at each change, and at least every `MAX_SILENCE_S`."""
        clock, before, due = asyncio.get_running_loop().time, None, 0.0
        while not self._closed:
            snapshot = self.snapshot()
            incidents = incidents_of(snapshot["alarms"])
            self._acknowledgements.observe(incidents, datetime.fromisoformat(snapshot["at"]))
            self.incidents = [{**each, "acknowledged": self._acknowledgements.of(each)} for each in incidents]
            key = _change_key(snapshot, self.incidents)
            if key != before or clock() >= due:
                before, due = key, clock() + MAX_SILENCE_S
                self.history.add(snapshot)
                at = datetime.fromisoformat(snapshot["at"])
                self._journal.observe(self.incidents, self.history.outages, self._summaries(), at)
                await self._publish(event(snapshot, self.incidents))
            await asyncio.sleep(POLL_S)

    async def events(self) -> AsyncIterator[bytes]:
        """The events of one page, from the newest on, until `close`."""
        sent = 0
        self.pages += 1
        try:
            while not self._closed:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._closed or self._number > sent)  # noqa: B023 (awaited here)
                    sent, newest = self._number, self._newest
                if not self._closed:
                    yield newest
        finally:
            self.pages -= 1

    async def close(self) -> None:
        """End the events of all pages."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    async def _publish(self, newest: bytes) -> None:
        async with self._changed:
            self._newest = newest
            self._number += 1
            self._changed.notify_all()


def event(snapshot: Mapping[str, Any], incidents: Sequence[Mapping[str, Any]]) -> bytes:
    """*snapshot* and *incidents* as a server-sent event: ASCII JSON, with strips as `[first, last, kind]`."""
    rows = snapshot["runs"]
    with_strip = [run["run"] for run in rows if run["state"] in OPEN] or [run["run"] for run in rows[:1]]
    runs = [
        {**run, "strip": spans(run["strip"]) if run["run"] in with_strip[:SHOWN_STRIPS] else []}
        for run in rows[:SHOWN_RUNS]
    ]
    shown = {"runs": runs, "recent": snapshot["recent"][:SHOWN_RECENT], "incidents": incidents}
    data = json.dumps({**snapshot, **shown}, separators=(",", ":"), allow_nan=False)
    return f"event: snapshot\ndata: {data}\n\n".encode()


def spans(strip: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Consecutive cells of one kind as `[first, last, kind]`."""
    found = []
    for _, group in groupby(enumerate(strip), key=lambda at: (at[1]["kind"], at[1]["sequence"] - at[0])):
        cells = [cell for _, cell in group]
        found.append([cells[0]["sequence"], cells[-1]["sequence"], cells[0]["kind"]])
    return found


def _change_key(snapshot: Mapping[str, Any], incidents: Sequence[Mapping[str, Any]]) -> Any:
    """The fields whose change is published at once; numbers wait for the next second, for the work of the pages."""
    connection = snapshot["connection"]
    counts = [(run["run"], run["state"], run["stale"], run["verified"]) for run in snapshot["runs"]]
    alarms = [(each["kind"], each["subject"], each["until"], each["acknowledged"]) for each in incidents]
    tiles = [tile["state"] for tile in snapshot["tiles"].values()]
    return connection["state"], connection["reconnects"], counts, alarms, snapshot["verdict"]["word"], tiles

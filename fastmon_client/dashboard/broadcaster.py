"""Broadcasts one event per change to all pages; a slow page gets the newest event, never a queue of old ones."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from fastmon_client.rates import BIN_S, BINS

POLL_S = 0.25
MAX_SILENCE_S = 1.0
"""Longest time between two events; a page that gets none for 5 s shows DEAD."""
SHOWN_RUNS, SHOWN_STRIPS, SHOWN_RECENT = 30, 4, 60
"""Runs, strips (of the newest runs) and recent TF files per page."""


class Broadcaster:
    """Its methods belong to the event loop."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        self._snapshot = snapshot
        self._newest = b""
        self._number = 0
        self._changed = asyncio.Condition()
        self._closed = False
        self.pages = 0
        """Pages that are open."""

    async def run(self) -> None:
        """Poll the snapshot; publish it at each change, and at least every `MAX_SILENCE_S`."""
        clock, lag_history, before, due = asyncio.get_running_loop().time, LagHistory(), None, 0.0
        while not self._closed:
            snapshot = self._snapshot()
            key = _change_key(snapshot)
            if key != before or clock() >= due:
                before, due = key, clock() + MAX_SILENCE_S
                await self._publish(event(snapshot, lag_history.add(snapshot)))
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


class LagHistory:
    """One point per bin: `[seconds since 1970, p50, p95]` of the newest run. Pages that open late show it, too."""

    def __init__(self) -> None:
        self.points: deque[list[Any]] = deque(maxlen=BINS)

    def add(self, snapshot: Mapping[str, Any]) -> list[list[Any]]:
        """Add the point of *snapshot* (without values unless LIVE); returns all points."""
        at = datetime.fromisoformat(snapshot["at"]).timestamp() // BIN_S * BIN_S
        is_live = snapshot["connection"]["state"] == "LIVE"
        newest: Mapping[str, Any] = next(iter(snapshot["runs"]), {}) if is_live else {}
        point = [at, newest.get("lag_p50_s"), newest.get("lag_p95_s")]
        if self.points and self.points[-1][0] == at:
            self.points[-1] = point
        else:
            self.points.append(point)
        return list(self.points)


def event(snapshot: Mapping[str, Any], lags: Sequence[Any]) -> bytes:
    """*snapshot* and *lags* as a server-sent event: ASCII JSON, with strips as `[first, last, kind]`."""
    runs = [
        {**run, "strip": spans(run["strip"]) if number < SHOWN_STRIPS else []}
        for number, run in enumerate(snapshot["runs"][:SHOWN_RUNS])
    ]
    shown = {
        "runs": runs, "runs_in_all": len(snapshot["runs"]), "recent": snapshot["recent"][:SHOWN_RECENT], "lags": lags,
    }  # fmt: skip
    data = json.dumps({**snapshot, **shown}, separators=(",", ":"), allow_nan=False)
    return f"event: snapshot\ndata: {data}\n\n".encode()


def spans(strip: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Consecutive cells of one kind as `[first, last, kind]`."""
    found = []
    for _, group in groupby(enumerate(strip), key=lambda at: (at[1]["kind"], at[1]["sequence"] - at[0])):
        cells = [cell for _, cell in group]
        found.append([cells[0]["sequence"], cells[-1]["sequence"], cells[0]["kind"]])
    return found


def _change_key(snapshot: Mapping[str, Any]) -> Any:
    """The fields whose change is published at once: all but ages and rates."""
    connection = snapshot["connection"]
    counts = [(run["run"], run["state"], run["stale"], run["verified"], run["tf_files"]) for run in snapshot["runs"]]
    alarms = [(alarm["kind"], alarm["run"], alarm["until"]) for alarm in snapshot["alarms"]]
    return connection["state"], connection["reconnects"], counts, alarms

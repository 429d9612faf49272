"""From snapshots to the bytes that every page gets: as little as a page shows. Pure.

Remembers the lag of the newest run, so that a page that is opened late shows its curve, too.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from fastmon_client.rates import BIN_S, BINS

SHOWN_RUNS, SHOWN_STRIPS, SHOWN_RECENT = 30, 4, 60
"""How many runs, strips of the newest runs, and recent TF files a page shows."""


class LagHistory:
    """Remembers one point a bin: `[seconds since 1970, p50, p95]`."""

    def __init__(self) -> None:
        self.points: deque[list[Any]] = deque(maxlen=BINS)

    def note(self, snapshot: Mapping[str, Any]) -> list[list[Any]]:
        """The points, with that of *snapshot*; where nobody hears, the line is broken."""
        at = datetime.fromisoformat(snapshot["at"]).timestamp() // BIN_S * BIN_S
        newest: Mapping[str, Any] = (
            next(iter(snapshot["runs"]), {}) if snapshot["connection"]["state"] == "LIVE" else {}
        )
        point = [at, newest.get("lag_p50_s"), newest.get("lag_p95_s")]
        if self.points and self.points[-1][0] == at:
            self.points[-1] = point
        else:
            self.points.append(point)
        return list(self.points)


def event(snapshot: Mapping[str, Any], lag_history: Sequence[Any]) -> bytes:
    """*snapshot* and the *lags* so far as one server-sent event: JSON in ASCII, strips as `[first, last, kind]`."""
    runs = [
        {**run, "strip": spans(run["strip"]) if number < SHOWN_STRIPS else []}
        for number, run in enumerate(snapshot["runs"][:SHOWN_RUNS])
    ]
    shown = {
        "runs": runs,
        "runs_in_all": len(snapshot["runs"]),
        "recent": snapshot["recent"][:SHOWN_RECENT],
        "lags": lag_history,
    }
    data = json.dumps({**snapshot, **shown}, separators=(",", ":"), allow_nan=False)
    return f"event: snapshot\ndata: {data}\n\n".encode()


def spans(strip: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """AgentDirectory of one kind drawn together: `[first, last, kind]`."""
    numbered = enumerate(strip)
    groups = groupby(numbered, key=lambda at: (at[1]["kind"], at[1]["sequence"] - at[0]))
    return [_span([cell for _, cell in group]) for _, group in groups]


def _span(cells: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [cells[0]["sequence"], cells[-1]["sequence"], cells[0]["kind"]]

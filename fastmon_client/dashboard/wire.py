"""From a snapshot to the bytes that every page gets: as little as a page shows. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

RUNS, STRIPS, RECENT = 30, 4, 60
"""How many runs, strips of the newest runs, and recent TF files a page shows."""


def event(snapshot: Mapping[str, Any], lags: Sequence[Any]) -> bytes:
    """*snapshot* and the *lags* so far as one server-sent event: JSON in ASCII, strips as `[first, last, kind]`."""
    runs = [
        {**run, "strip": spans(run["strip"]) if number < STRIPS else []}
        for number, run in enumerate(snapshot["runs"][:RUNS])
    ]
    shown = {"runs": runs, "runs_in_all": len(snapshot["runs"]), "recent": snapshot["recent"][:RECENT], "lags": lags}
    data = json.dumps({**snapshot, **shown}, separators=(",", ":"), allow_nan=False)
    return f"event: snapshot\ndata: {data}\n\n".encode()


def spans(strip: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Neighbours of one kind drawn together: `[first, last, kind]`."""
    numbered = enumerate(strip)
    groups = groupby(numbered, key=lambda at: (at[1]["kind"], at[1]["sequence"] - at[0]))
    return [_span([cell for _, cell in group]) for _, group in groups]


def _span(cells: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [cells[0]["sequence"], cells[-1]["sequence"], cells[0]["kind"]]

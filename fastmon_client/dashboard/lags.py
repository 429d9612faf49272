"""The lag of the newest run over the last quarter of an hour, so that a page that is opened late shows it too. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

BIN_S, BINS = 5, 180


class Lags:
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

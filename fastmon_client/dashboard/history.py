"""What the charts show of the last 24 hours: rate, lag, missing STFs, outages, the boundaries of runs. Pure.

Kept per 5 s for 15 minutes and per minute for a day, for pages that open late. Rates of before the start are those of
the TF files in the monitor's tables, as far as they were read; lag and missing STFs begin with the start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

RANGES: dict[str, tuple[int, int]] = {"15m": (5, 180), "1h": (60, 60), "8h": (60, 480), "24h": (60, 1440)}
"""Name of a range -> width of its points in seconds, and their number."""
MAX_MARKS = 500
_STEPS = {5: 180, 60: 1440}
_DAY_S = 24 * 3600
_BEGUN = ("imminent", "running")
_OVER = ("ended", "complete")


class History:
    """Points by time; each is `[TF files, lag p50, lag p95, missing]`, None where it is not known."""

    def __init__(self) -> None:
        self._points: dict[int, dict[int, list[Any]]] = {step: {} for step in _STEPS}
        self._outages: deque[list[Any]] = deque(maxlen=MAX_MARKS)
        """`[from, to, word, reason]`; `to` is None while it lasts."""
        self._boundaries: list[list[Any]] = []
        """`[at, run, "start" or "end"]`."""
        self._states: dict[str, str] = {}
        """The last state of each of the runs seen last, those first that were not seen for longest."""
        self._dark: set[int] = set()
        """Bins of 5 s in which the stream was not LIVE: that nothing was counted there says nothing."""
        self._began_at: float | None = None

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Add what *snapshot* says of now, and of the last 15 minutes of the rate."""
        at = datetime.fromisoformat(snapshot["at"]).timestamp()
        self._began_at = at if self._began_at is None else self._began_at
        is_live = snapshot["connection"]["state"] == "LIVE"
        if not is_live:
            self._dark.add(_floor(at, 5))
        self._add_rates(snapshot, at)
        newest: Mapping[str, Any] = next(iter(snapshot["runs"]), {}) if is_live else {}
        lags = [newest.get("lag_p50_s"), newest.get("lag_p95_s")]
        missing = snapshot["tiles"]["missing"]["count"]
        for step, points in self._points.items():
            point = points.setdefault(_floor(at, step), [None] * 4)
            point[1:3] = lags if is_live else point[1:3]
            point[3] = missing if missing is None or point[3] is None else max(point[3], missing)
        is_out = "bad" in (snapshot["verdict"]["state"], snapshot["tiles"]["monitor"]["state"])
        self._mark_outage(snapshot["verdict"] if is_out else None, at)
        self._mark_runs(snapshot["runs"], at)
        self._prune(at)

    @property
    def outages(self) -> list[list[Any]]:
        """`[from, to, word, reason]`, oldest first; `to` is None while it lasts."""
        return list(self._outages)

    def view(self, name: str, earlier: Mapping[int, int] | None = None) -> dict[str, Any]:
        """The range *name* of `RANGES`, as columns for a chart. Rates are per second.

        *earlier*: TF files made before the start, as the tables have them: begin of a bin -> number.
        """
        step, count = RANGES[name]
        points = self._points[step]
        last = max(points, default=0)
        times = range(last - (count - 1) * step, last + 1, step)
        rows = [points.get(at, [None] * 4) for at in times]
        made: dict[int, int] = {}
        for at, count in (earlier or {}).items():
            made[_floor(at, step)] = made.get(_floor(at, step), 0) + count
        since = times[0]
        return {
            "range": name,
            "step_s": step,
            "at": list(times),
            "rate_hz": [
                None if (found := made.get(at) if row[0] is None else row[0]) is None else round(found / step, 4)
                for at, row in zip(times, rows, strict=True)
            ],
            "lag_p50_s": [row[1] for row in rows],
            "lag_p95_s": [row[2] for row in rows],
            "missing": [row[3] for row in rows],
            "outages": [each for each in self._outages if each[1] is None or each[1] >= since],
            "boundaries": [each for each in self._boundaries if each[0] >= since],
        }

    def _add_rates(self, snapshot: Mapping[str, Any], at: float) -> None:
        """TF files by time; the bins of before the start, and the one that is not complete, say nothing."""
        rates = snapshot["rates"]
        bin_s, counts = rates["bin_s"], rates["tf_files"][:-1]
        end = int(datetime.fromisoformat(rates["ends_at"]).timestamp()) - bin_s
        minutes: dict[int, list[int]] = {}
        for place, count in enumerate(reversed(counts)):
            start = end - (place + 1) * bin_s
            if count or (start not in self._dark and start >= _floor(self._began_at or at, bin_s)):
                self._points[5].setdefault(start, [None] * 4)[0] = count
                minutes.setdefault(_floor(start, 60), []).append(count)
        for minute, found in minutes.items():
            point = self._points[60].setdefault(minute, [None] * 4)
            if minute + 60 <= end:  # a minute that has begun shows what it would come to
                point[0] = max(sum(found), point[0] or 0) if len(found) < 60 // bin_s else sum(found)
            elif found:
                point[0] = sum(found) * 60 / (bin_s * len(found))

    def _mark_outage(self, verdict: Mapping[str, Any] | None, at: float) -> None:
        lasting = self._outages[-1] if self._outages and self._outages[-1][1] is None else None
        if lasting and verdict and lasting[2] == verdict["word"]:
            return
        if lasting:
            lasting[1] = at
        if verdict:
            earlier = max((each[1] for each in self._outages if each[1]), default=at - _DAY_S)
            begin = min(at, max(earlier, _seconds(verdict["since"]) or at))  # it is noticed later than it begins
            self._outages.append([begin, None, verdict["word"], verdict["reason"]])

    def _mark_runs(self, runs: list[Mapping[str, Any]], at: float) -> None:
        is_first = not self._states
        for run in runs:
            before, state = self._states.pop(run["run"], None), run["state"]
            self._states[run["run"]] = state
            if before is None:
                begin = _seconds(run.get("began_at")) or (at if state in _BEGUN and not is_first else None)
                if begin:
                    self._boundaries.append([begin, run["run"], "start"])
            if state in _OVER and before not in _OVER:
                end = _seconds(run.get("ended_at")) or (None if before is None else at)
                if end:
                    self._boundaries.append([end, run["run"], "end"])
        for name in list(self._states)[:-MAX_MARKS]:
            del self._states[name]

    def _prune(self, at: float) -> None:
        for step, count in _STEPS.items():
            points = self._points[step]
            if len(points) > count + 60:
                newest = max(points)
                self._points[step] = {key: row for key, row in points.items() if key > newest - count * step}
        while self._outages and self._outages[0][1] is not None and self._outages[0][1] < at - _DAY_S:
            self._outages.popleft()
        self._boundaries = [each for each in self._boundaries if each[0] >= at - _DAY_S][-MAX_MARKS:]
        self._dark = {start for start in self._dark if start >= at - 2 * _STEPS[5] * 5}


def _floor(at: float, step: int) -> int:
    return int(at // step) * step


def _seconds(iso: str | None) -> float | None:
    return datetime.fromisoformat(iso).timestamp() if iso else None

"""Announced TF files per time bin, over the last 15 minutes. Pure; memory is bounded."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import median

BIN_S = 5
BINS = 180
DAY_S = 24 * 3600
_PER_MINUTE = 60 // BIN_S
_MIN_TIME_S = 1.0
"""A rate over a shorter time says nothing."""


class EarlierRates:
    """TF files by the time when they were made, before the start of this client: a day of bins of `BIN_S` seconds."""

    def __init__(self, started_at: datetime) -> None:
        self._end = int(started_at.timestamp())
        self.counts: dict[int, int] = {}
        """Begin of a bin, in seconds since 1970 -> TF files."""

    def add(self, at: datetime) -> None:
        """Count one TF file, unless it was made after the start, or more than a day before."""
        seconds = int(at.timestamp())
        if self._end - DAY_S <= seconds < self._end:
            begin = seconds // BIN_S * BIN_S
            self.counts[begin] = self.counts.get(begin, 0) + 1


class RateSeries:
    """Counts in bins of `BIN_S` seconds."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._first_s = 0.0
        """Time of the first TF file, in seconds since 1970."""
        self._last_at: datetime | None = None
        self._last_bin = 0

    def add(self, at: datetime) -> None:
        """Count one TF file at *at*."""
        if at is not self._last_at:  # TF files of one batch share the same object
            seconds = at.timestamp()
            self._first_s = self._first_s or seconds
            self._last_at, self._last_bin = at, int(seconds) // BIN_S
        self._counts[self._last_bin] = self._counts.get(self._last_bin, 0) + 1
        if len(self._counts) > 2 * BINS:
            newest = max(self._counts)
            self._counts = {key: count for key, count in self._counts.items() if key > newest - BINS}

    def until(self, at: datetime) -> tuple[datetime, list[int]]:
        """The end of the bin of *at*, and the counts up to that bin, oldest first."""
        number = int(at.timestamp()) // BIN_S
        return datetime.fromtimestamp((number + 1) * BIN_S, UTC), self._bins(number + 1, BINS)

    def rate_hz(self, at: datetime) -> float:
        """TF files per second over the last minute (55 to 60 s), or over the time since the first one."""
        seconds = at.timestamp()
        number = int(seconds) // BIN_S
        count = sum(self._bins(number + 1, _PER_MINUTE))
        begin_s = max(float((number + 1 - _PER_MINUTE) * BIN_S), self._first_s)
        return count / max(_MIN_TIME_S, seconds - begin_s)

    def usual_rate_hz(self, at: datetime) -> float | None:
        """The median rate of the earlier minutes; None before there are three minutes with TF files."""
        bins = self._bins(int(at.timestamp()) // BIN_S, BINS)[:-_PER_MINUTE]
        minutes = [sum(bins[begin : begin + _PER_MINUTE]) for begin in range(0, len(bins), _PER_MINUTE)]
        busy = [count for count in minutes if count]
        return median(busy) / 60 if len(busy) >= 3 else None

    def _bins(self, end: int, count: int) -> list[int]:
        """The counts of *count* bins before bin number *end*."""
        return [self._counts.get(key, 0) for key in range(end - count, end)]

"""How many TF files per bin of time, for the last while. Pure; memory is bounded."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import median

BIN_S = 5
BINS = 180
_PER_MINUTE = 60 // BIN_S


class Bins:
    """Counts in bins of 5 s over the last quarter of an hour."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._moment: datetime | None = None
        self._number = 0

    def add(self, at: datetime) -> None:
        """Count one TF file of the moment *at*."""
        if at is not self._moment:  # many come at one moment
            self._moment, self._number = at, int(at.timestamp()) // BIN_S
        number = self._number
        self._counts[number] = self._counts.get(number, 0) + 1
        if len(self._counts) > 2 * BINS:
            newest = max(self._counts)
            self._counts = {key: count for key, count in self._counts.items() if key > newest - BINS}

    def until(self, at: datetime) -> tuple[datetime, list[int]]:
        """The end of the bin that *at* is in, and the counts up to it, oldest first."""
        number = int(at.timestamp()) // BIN_S
        counts = [self._counts.get(key, 0) for key in range(number - BINS + 1, number + 1)]
        return datetime.fromtimestamp((number + 1) * BIN_S, UTC), counts

    def hertz(self, at: datetime) -> float:
        """TF files per second over the last minute."""
        return sum(self._last(at, _PER_MINUTE)) / 60

    def usual_hertz(self, at: datetime) -> float | None:
        """The median over the minutes before the last one; None before there were three with TF files."""
        bins = self._last(at, BINS)[:-_PER_MINUTE]
        minutes = [sum(bins[begin : begin + _PER_MINUTE]) for begin in range(0, len(bins), _PER_MINUTE)]
        busy = [count for count in minutes if count]
        return median(busy) / 60 if len(busy) >= 3 else None

    def _last(self, at: datetime, bins: int) -> list[int]:
        """The last *bins* that are over at *at*."""
        number = int(at.timestamp()) // BIN_S
        return [self._counts.get(key, 0) for key in range(number - bins, number)]

"""The rows of runs that are no longer kept with their STFs, and the totals over all runs. Pure; memory is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from fastmon_client.runs import Run
from fastmon_client.snapshot import RunRow, Totals

MAX_ROWS = 1000
MAX_DROPPED = 10_000
"""Runs without a row whose numbers are remembered, so that a run that returns is not counted twice."""

Order = tuple[datetime, int]


class RunArchive:
    """Rows by name of the run; the oldest are dropped and only counted."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Order, RunRow]] = {}
        self._dropped: dict[str, Totals] = {}
        self._dropped_sum = _totals()

    def add(self, run: Run, row: RunRow) -> None:
        """Keep the *row* of *run*."""
        self._rows[run.name] = (run.order, row)
        if len(self._rows) > MAX_ROWS:
            oldest = min(self._rows, key=lambda name: self._rows[name][0])
            _, dropped = self._rows.pop(oldest)
            self._drop(oldest, dropped)

    def take(self, name: str, *, is_read_again: bool) -> bool:
        """Remove run *name*, which has returned; whether it was here.

        *is_read_again*: whether the tables will tell all its numbers; else the old ones stay in the totals.
        """
        found = self._rows.pop(name, None)
        if found:
            if not is_read_again:
                self._drop(name, found[1])
        elif is_read_again and (known := self._dropped.pop(name, None)):
            self._dropped_sum = _plus(self._dropped_sum, known, -1)
            return True
        if not is_read_again and name in self._dropped:
            self._dropped[name]["runs"] = 0
            self._dropped_sum["runs"] -= 1
        return found is not None

    def contains(self, name: str) -> bool:
        """Whether it has the row of run *name*."""
        return name in self._rows

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def rows(self, at: datetime) -> Iterator[tuple[Order, RunRow]]:
        """The rows with their order; what depends on the time is that of *at*."""
        for order, row in self._rows.values():
            last_at = row["last_at"]
            age_s = max(0.0, (at - datetime.fromisoformat(last_at)).total_seconds()) if last_at else None
            yield order, {**row, "last_age_s": age_s}

    def totals(self, runs: Iterable[Run]) -> Totals:
        """The totals of *runs* and of all runs that are no longer kept."""
        found = _plus(_totals(), self._dropped_sum)
        for _, row in self._rows.values():
            found = _plus(found, _totals_of(row))
        for run in runs:
            found = _plus(
                found,
                _totals(1, run.stfs.seen, run.tf_files, run.volume, run.unsized, run.backfilled, run.duplicates),
            )
        if found["tf_files_without_size"] and found["tf_files_without_size"] == found["tf_files"]:
            found["bytes"] = None
        return found

    def _drop(self, name: str, row: RunRow) -> None:
        totals = _totals_of(row)
        self._dropped_sum = _plus(self._dropped_sum, totals)
        self._dropped[name] = _plus(self._dropped.get(name, _totals()), totals)
        if len(self._dropped) > MAX_DROPPED:
            del self._dropped[next(iter(self._dropped))]


def _totals(
    runs: int = 0, stfs: int = 0, tf_files: int = 0, size: int = 0, unsized: int = 0, backfilled: int = 0,
    duplicates: int = 0,
) -> Totals:  # fmt: skip
    return {
        "runs": runs, "stfs": stfs, "tf_files": tf_files, "bytes": size, "tf_files_without_size": unsized,
        "backfilled": backfilled, "duplicates": duplicates,
    }  # fmt: skip


def _totals_of(row: RunRow) -> Totals:
    return _totals(
        1, row["stfs_seen"], row["tf_files"], row["bytes"] or 0, row["tf_files_without_size"], row["backfilled"],
        row["duplicates"],
    )  # fmt: skip


def _plus(one: Totals, other: Totals, sign: int = 1) -> Totals:
    return _totals(
        one["runs"] + sign * other["runs"], one["stfs"] + sign * other["stfs"],
        one["tf_files"] + sign * other["tf_files"], (one["bytes"] or 0) + sign * (other["bytes"] or 0),
        one["tf_files_without_size"] + sign * other["tf_files_without_size"],
        one["backfilled"] + sign * other["backfilled"], one["duplicates"] + sign * other["duplicates"],
    )  # fmt: skip

"""One run: its state, its numbers, and how far they are verified; and which runs the monitor's table names.

Pure; it must not know how a run is shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.intervals import Intervals
from fastmon_client.rates import Bins
from fastmon_client.snapshot import RunRow, RunState
from fastmon_client.stfs import Stfs
from fastmon_client.tffile import TfFile, parse_timestamp

STATE_AFTER: dict[str, RunState] = {
    "run_imminent": "imminent", "start_run": "running", "pause_run": "paused", "resume_run": "running",
    "end_run": "ended",
}  # fmt: skip
OVER: tuple[RunState, ...] = ("ended", "complete")
NOT_COMPARED = "not yet compared with the monitor"
NOT_COMPARED_SINCE = "not yet compared with the monitor since its end"
NOT_NUMBERED = "its name is no number: the monitor cannot be asked"
WATCHED_AFTER_END = timedelta(minutes=15)
QUIET = timedelta(minutes=10)
MOST_NAMED = 100
GOING_ON = timedelta(days=1)
"""A run of the table that began longer ago is not taken to be going on."""


class Run:
    """What is known of one run."""

    def __init__(self, name: str, at: datetime, intervals: Intervals, *, was_shown: bool = False) -> None:
        self.name = name
        self.namespace: str | None = None
        """The first that a message named."""
        self.was_shown = was_shown
        """Whether it was known before, and forgotten but for its row: what the monitor has of it was shown then."""
        self.state: RunState = "unknown"
        self.stfs = Stfs()
        self.bins = Bins()
        self.tf_files = self.volume = self.backfilled = self.duplicates = 0
        self.active_at = at
        """When data was last taken, or at least could be: its start, or its last TF file."""
        self.last_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.compare_at: datetime | None = None
        """When the next comparison with the monitor is due; None when none is."""
        self.began_at: datetime | None = None
        """When the comparison that goes on now began."""
        self.verified_at: datetime | None = None
        self.unknown_reason = NOT_COMPARED if self.is_numbered else NOT_NUMBERED
        self._doubted_at = at
        self._lags: deque[float] = deque(maxlen=600)
        self._intervals = intervals
        self._compare_soon(at)

    @property
    def is_numbered(self) -> bool:
        """Whether the monitor can be asked: it knows runs by number only."""
        return self.name.isascii() and self.name.isdigit() and len(self.name) < 10

    @property
    def is_over(self) -> bool:
        """Whether no data is taken any more."""
        return self.state in OVER

    def is_finished(self, at: datetime) -> bool:
        """Whether nothing more is expected: over and compared, or long silent where nobody can be asked for the end."""
        if self.is_over:
            return self.compare_at is None
        return not self.is_numbered and at - self.active_at > QUIET

    def learn_namespace(self, told: object) -> None:
        """*told* is what a message names as its namespace; the first that is one stays."""
        if self.namespace is None and isinstance(told, str) and told:
            self.namespace = told

    def record_state(self, kind: str, at: datetime) -> None:
        """A message of the run control; nothing leads back from the end."""
        if self.is_over:
            return
        self.state, self.active_at = STATE_AFTER[kind], at
        if self.is_over:
            self.ended_at = at
            self.distrust(NOT_COMPARED_SINCE, at, compare=True)

    def take(self, tf: TfFile, at: datetime, *, backfilled: bool) -> bool:
        """Whether *tf* is new."""
        is_new = self.stfs.take(tf, at, backfilled=backfilled)
        if not is_new:
            self.duplicates += is_new is False and not backfilled
            return False
        self.tf_files += 1
        self.volume += tf.size or 0
        self.backfilled += backfilled
        self.last_at = at
        made_at = tf.made_at or at
        self.active_at = max(self.active_at, min(at, made_at) if backfilled else at)
        self.bins.add(min(at, made_at) if backfilled else at)
        if not (backfilled or tf.late) and tf.made_at:
            self._lags.append(max(0.0, (at - tf.made_at).total_seconds()))
        if self.is_over:
            if self.compare_at is None:
                self._compare_soon(at)
        elif self.state in ("unknown", "imminent") and not tf.late and not backfilled:
            self.state = "running"  # fresh TF files prove it, whatever was not heard
        return True

    def distrust(self, reason: str, at: datetime, *, compare: bool) -> None:
        """The stream may have kept something back; *compare*: now it can be found out."""
        if not self.is_numbered or (self.settled(at) and self.ended_at and at - self.ended_at > WATCHED_AFTER_END):
            return
        self.unknown_reason, self._doubted_at = reason, at
        if compare:
            self._compare_soon(at)

    def begin_comparison(self, at: datetime) -> bool:
        """Whether a comparison with the monitor is due; it has begun with that."""
        if self.began_at is not None or self.compare_at is None or self.compare_at > at:
            return False
        self.began_at = at
        return True

    def compared(self, failure: str | None, at: datetime) -> None:
        """A comparison is over."""
        began, self.began_at = self.began_at or at, None
        if failure:
            self.unknown_reason = failure
            self.compare_at = at + timedelta(seconds=self._intervals.retry_s)
            return
        if began >= self._doubted_at:
            self.verified_at, self.unknown_reason = at, ""
            if self.stfs.unconfirmed:
                self.unknown_reason = f"{self.stfs.unconfirmed} STFs were announced that the monitor does not list"
        self.compare_at = self._next_comparison(began, at)
        if self.state == "ended" and self.settled(at) and self._is_whole(at):
            self.state = "complete"

    def _next_comparison(self, began: datetime, at: datetime) -> datetime | None:
        intervals, ended_at = self._intervals, self.ended_at
        rest = timedelta(seconds=intervals.compare_s)
        if not ended_at:
            quiet = at - self.active_at > QUIET
            return at + max(rest * (10 if quiet else 1), 10 * (at - began))  # a long list is read less often
        if self.is_pending(at) or self.unknown_reason:
            return at + timedelta(
                seconds=intervals.settle_s if at - ended_at < timedelta(minutes=1) else intervals.compare_s
            )
        return None if self._is_whole(at) or at - ended_at > WATCHED_AFTER_END else at + rest

    def _compare_soon(self, at: datetime) -> None:
        soon = at + timedelta(seconds=self._intervals.settle_s)
        if not self.is_numbered:
            return
        self.compare_at = min(self.compare_at or soon, soon)

    def asked(self, stf: str, at: datetime) -> None:
        """The monitor's answer for an STF has been taken in."""
        self.stfs.asked(stf, at, self._grace)

    def is_pending(self, at: datetime) -> bool:
        """Whether it is too early for a verdict on some STFs."""
        return self.stfs.is_pending(at, self._grace)

    def is_final(self, at: datetime) -> bool:
        """Whether nothing more is to be waited for: settled, or the monitor does not tell."""
        waited = at - (self.ended_at or at) > timedelta(seconds=self._intervals.end_patience_s)
        return self.is_over and (self.settled(at) or waited or (self.compare_at is None and self.began_at is None))

    def settled(self, at: datetime) -> bool:
        """Whether it has ended and its numbers are final, as far as anybody can say."""
        compared = self.ended_at is not None and self.verified_at is not None and self.verified_at >= self.ended_at
        return self.is_over and compared and not self.is_pending(at)

    def _is_whole(self, at: datetime) -> bool:
        stfs = self.stfs
        return not self.unknown_reason and stfs.missing(at, self._grace) == [] and not stfs.incomplete(at, self._grace)

    @property
    def _grace(self) -> timedelta:
        return self._intervals.grace(has_ended=self.is_over)

    def missing(self, at: datetime) -> list[int] | None:
        """Sequence numbers of the missing STFs, 0 for one without; None where that is not known."""
        return self.stfs.missing(at, self._grace)

    def is_stale(self, at: datetime, after: timedelta) -> bool:
        """Whether it should bring TF files, and does not."""
        return self.state == "running" and at - self.active_at > after

    def why_unknown(self, at: datetime) -> str:
        """Why its numbers are not verified; empty if they are."""
        if self.unknown_reason or self.verified_at is None:
            return self.unknown_reason or NOT_COMPARED
        planned = self.compare_at or at
        if not self.is_over and at - planned > timedelta(seconds=2 * self._intervals.compare_s):
            return f"last compared at {self.verified_at.isoformat(timespec='seconds')}"
        return ""

    def row(self, at: datetime, stale_after: timedelta, *, strip: bool) -> RunRow:
        """As plain data."""
        stfs, doubt, missing = self.stfs, self.why_unknown(at), self.missing(at)
        lags = sorted(self._lags)
        return {
            "run": self.name,
            "namespace": self.namespace,
            "state": self.state,
            "stale": self.is_stale(at, stale_after),
            "verified": "UNKNOWN" if doubt else "VERIFIED",
            "verified_at": self.verified_at.isoformat() if self.verified_at else None,
            "doubt": doubt,
            "stfs_seen": stfs.seen,
            "stfs_expected": stfs.expected(),
            "stfs_skipped": stfs.skipped(),
            "stfs_missing": None if missing is None else len(missing),
            "stfs_incomplete": len(stfs.incomplete(at, self._grace)),
            "missing": [number for number in missing or () if number][:MOST_NAMED],
            "tf_files": self.tf_files,
            "tf_expected": stfs.tf_expected(),
            "bytes": self.volume,
            "backfilled": self.backfilled,
            "duplicates": self.duplicates,
            "rate_hz": round(self.bins.hertz(at), 3),
            "lag_p50_s": round(lags[len(lags) // 2], 3) if lags else None,
            "lag_p95_s": round(lags[len(lags) * 19 // 20], 3) if lags else None,
            "last_at": self.last_at.isoformat() if self.last_at else None,
            "last_age_s": max(0.0, (at - self.last_at).total_seconds()) if self.last_at else None,
            "strip": stfs.strip(at, self._grace) if strip else [],
        }


class RunTable:
    """What was ever read of it: a run that an answer left out is not new in the next."""

    def __init__(self) -> None:
        self._numbers: set[int] | None = None

    def read(self, rows: Iterable[Mapping[str, Any]], at: datetime) -> tuple[list[int], set[int]]:
        """The numbers of runs that are new to the table, and of all that are over.

        The first time, only the newest run is new, and only if it may still be going on.
        """
        starts: dict[int, datetime | None] = {}
        over: set[int] = set()
        for row in rows:
            number = row.get("run_number")
            if type(number) is int:
                starts[number] = parse_timestamp(row.get("start_time"))
                if row.get("end_time") is not None:
                    over.add(number)
        fresh = self._going_on(starts, at) - over if self._numbers is None else starts.keys() - self._numbers
        self._numbers = (self._numbers or set()) | starts.keys()
        return sorted(fresh), over

    @staticmethod
    def _going_on(starts: Mapping[int, datetime | None], at: datetime) -> set[int]:
        newest = max(starts, default=0)
        began = starts.get(newest)
        return {newest} if began and at - began < GOING_ON else set()

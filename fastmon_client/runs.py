"""One run: its state, its numbers, and whether they are verified; and the monitor's table of runs. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.intervals import Intervals
from fastmon_client.rates import RateSeries
from fastmon_client.snapshot import RunRow, RunState
from fastmon_client.stfs import Stfs
from fastmon_client.tffile import TfFile, parse_timestamp

STATE_AFTER: dict[str, RunState] = {
    "run_imminent": "imminent", "start_run": "running", "pause_run": "paused", "resume_run": "running",
    "end_run": "ended",
}  # fmt: skip
OVER: tuple[RunState, ...] = ("ended", "complete")
NOT_COMPARED = "not yet compared with the monitor"
NOT_COMPARED_SINCE_END = "not yet compared with the monitor since its end"
NOT_NUMBERED = "run name is not a number: cannot query the monitor"
WATCHED_AFTER_END = timedelta(minutes=15)
IDLE_AFTER = timedelta(minutes=10)
MAX_NAMED = 100
MAX_KNOWN_RUNS = 200_000
MAX_NEW_RUNS = 50
"""New runs that one response of the monitor may add."""
MAX_RUN_DURATION = timedelta(days=1)
"""An older run of the table counts as ended."""


class Run:
    """One run."""

    def __init__(self, name: str, at: datetime, intervals: Intervals, *, was_shown: bool = False) -> None:
        self.name = name
        self.namespace: str | None = None
        """From the first message that named one."""
        self.was_shown = was_shown
        """Whether its TF files were shown before, and then dropped except for the row."""
        self.state: RunState = "unknown"
        self.stfs = Stfs()
        self.rates = RateSeries()
        self.tf_files = self.volume = self.backfilled = self.duplicates = 0
        self.active_at = at
        """Time of the last run event or TF file."""
        self.last_at: datetime | None = None
        self.began_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.stf_registered_at: datetime | None = None
        """Time of the newest STF that the monitor lists."""
        self.stf_generated_at: datetime | None = None
        """Time of the DAQ's last message about an STF."""
        self.compare_at: datetime | None = None
        """When the next comparison with the monitor is due."""
        self.comparing_since: datetime | None = None
        """Start of the comparison in progress."""
        self.verified_at: datetime | None = None
        self.unknown_reason = NOT_COMPARED if self.is_numbered else NOT_NUMBERED
        self._unverified_since = at
        self._lags: deque[float] = deque(maxlen=600)
        self._intervals = intervals
        self._schedule_comparison(at)

    @property
    def is_numbered(self) -> bool:
        """Whether the monitor can know it: the tables have run numbers only."""
        return self.name.isascii() and self.name.isdigit() and len(self.name) < 10

    @property
    def is_over(self) -> bool:
        """Whether data taking has ended."""
        return self.state in OVER

    def is_finished(self, at: datetime) -> bool:
        """Whether its STFs can be dropped: over and compared, or idle and unknown to the monitor."""
        if self.is_over:
            return self.compare_at is None
        return not self.is_numbered and at - self.active_at > IDLE_AFTER

    def record_namespace(self, value: object) -> None:
        """Set the namespace from a message, once."""
        if self.namespace is None and isinstance(value, str) and value:
            self.namespace = value

    def record_state(self, kind: str, at: datetime) -> None:
        """Record a run event; nothing reopens an ended run."""
        if self.is_over:
            return
        self.state, self.active_at = STATE_AFTER[kind], at
        if kind == "start_run":
            self.began_at = self.began_at or at
        if self.is_over:
            self.ended_at = at
            self.mark_unverified(NOT_COMPARED_SINCE_END, at, compare=True)

    def ingest(self, tf: TfFile, at: datetime, *, backfilled: bool) -> bool:
        """Count *tf*; whether it is new."""
        is_new = self.stfs.ingest(tf, at, backfilled=backfilled)
        if not is_new:
            self.duplicates += is_new is False and not backfilled
            return False
        self.tf_files += 1
        self.volume += tf.size or 0
        self.backfilled += backfilled
        timestamp = min(at, tf.timestamp or at)
        if self.last_at is None or timestamp > self.last_at:
            self.last_at = timestamp
        self.active_at = max(self.active_at, timestamp if backfilled else at)
        self.rates.add(timestamp if backfilled else at)
        if not (backfilled or tf.late) and tf.timestamp:
            self._lags.append(max(0.0, (at - tf.timestamp).total_seconds()))
        if self.is_over:
            if self.compare_at is None:
                self._schedule_comparison(at)
        elif self.state in ("unknown", "imminent") and not tf.late and not backfilled:
            self.state = "running"  # its start_run was missed
        return True

    def mark_unverified(self, reason: str, at: datetime, *, compare: bool) -> None:
        """Mark the numbers UNKNOWN for *reason*; *compare*: schedule a comparison."""
        if not self.is_numbered or (self.is_settled(at) and self.ended_at and at - self.ended_at > WATCHED_AFTER_END):
            return
        self.unknown_reason, self._unverified_since = reason, at
        if compare:
            self._schedule_comparison(at)

    def start_comparison(self, at: datetime) -> bool:
        """Start a comparison if one is due; whether it started."""
        if self.comparing_since is not None or self.compare_at is None or self.compare_at > at:
            return False
        self.comparing_since = at
        return True

    def finish_comparison(self, failure: str | None, at: datetime) -> None:
        """Record the end of a comparison; *failure* is its error."""
        began, self.comparing_since = self.comparing_since or at, None
        if failure:
            self.unknown_reason = failure
            self.compare_at = at + timedelta(seconds=self._intervals.retry_s)
            return
        if began >= self._unverified_since:
            self.verified_at, self.unknown_reason = at, ""
            if self.stfs.left_out:
                self.unknown_reason = f"{self.stfs.left_out} more STFs without TF files than are compared"
            elif self.stfs.unconfirmed:
                self.unknown_reason = f"{self.stfs.unconfirmed} announced STFs are not in the monitor's table"
        self.compare_at = self._next_comparison(began, at)
        if self.state == "ended" and self.is_settled(at) and self._has_no_gaps(at):
            self.state = "complete"

    def _next_comparison(self, began: datetime, at: datetime) -> datetime | None:
        intervals, ended_at = self._intervals, self.ended_at
        rest = timedelta(seconds=intervals.compare_s)
        if not ended_at:
            is_idle = at - self.active_at > IDLE_AFTER
            return at + max(rest * (10 if is_idle else 1), 10 * (at - began))  # a slow listing is read less often
        if self.is_pending(at) or self.unknown_reason:
            return at + timedelta(
                seconds=intervals.settle_s if at - ended_at < timedelta(minutes=1) else intervals.compare_s
            )
        return None if self._has_no_gaps(at) or at - ended_at > WATCHED_AFTER_END else at + rest

    def _schedule_comparison(self, at: datetime) -> None:
        soon = at + timedelta(seconds=self._intervals.settle_s)
        if not self.is_numbered:
            return
        self.compare_at = min(self.compare_at or soon, soon)

    def record_answer(self, stf: str, at: datetime) -> None:
        """Record that the monitor's TF files of an STF were ingested."""
        self.stfs.record_answer(stf, at, self._grace)

    def is_pending(self, at: datetime) -> bool:
        """Whether some STFs are too young for a verdict."""
        return self.stfs.is_pending(at, self._grace)

    def is_final(self, at: datetime) -> bool:
        """Whether waiting is over: settled, or the monitor did not answer in time."""
        waited = at - (self.ended_at or at) > timedelta(seconds=self._intervals.end_timeout_s)
        return self.is_over and (
            self.is_settled(at) or waited or (self.compare_at is None and self.comparing_since is None)
        )

    def is_settled(self, at: datetime) -> bool:
        """Whether it has ended and its numbers are final."""
        compared = self.ended_at is not None and self.verified_at is not None and self.verified_at >= self.ended_at
        return self.is_over and compared and not self.is_pending(at)

    def _has_no_gaps(self, at: datetime) -> bool:
        stfs = self.stfs
        return not self.unknown_reason and stfs.missing(at, self._grace) == [] and not stfs.incomplete(at, self._grace)

    @property
    def _grace(self) -> timedelta:
        return self._intervals.grace(has_ended=self.is_over)

    def missing(self, at: datetime) -> list[int] | None:
        """Sequence numbers of the missing STFs, 0 for one without a number; None if unknown."""
        return self.stfs.missing(at, self._grace)

    def is_stale(self, at: datetime, after: timedelta) -> bool:
        """Whether it runs without TF files for longer than *after*."""
        return self.state == "running" and at - self.active_at > after

    def _doubt(self, at: datetime) -> str:
        """Why its numbers are UNKNOWN; empty if they are VERIFIED."""
        if self.unknown_reason or self.verified_at is None:
            return self.unknown_reason or NOT_COMPARED
        planned = self.compare_at or at
        if not self.is_over and at - planned > timedelta(seconds=2 * self._intervals.compare_s):
            return f"last compared at {self.verified_at.isoformat(timespec='seconds')}"
        return ""

    def row(self, at: datetime, stale_after: timedelta, *, strip: bool) -> RunRow:
        """Plain data for the snapshot."""
        stfs, doubt, missing = self.stfs, self._doubt(at), self.missing(at)
        lags = sorted(self._lags)
        return {
            "run": self.name,
            "namespace": self.namespace,
            "state": self.state,
            "stale": self.is_stale(at, stale_after),
            "verified": "UNKNOWN" if doubt else "VERIFIED",
            "verified_at": _iso(self.verified_at),
            "doubt": doubt,
            "stfs_seen": stfs.seen,
            "stfs_expected": stfs.expected(),
            "stfs_skipped": stfs.skipped(),
            "stfs_missing": None if missing is None else len(missing),
            "stfs_incomplete": len(stfs.incomplete(at, self._grace)),
            "missing": [number for number in missing or () if number][:MAX_NAMED],
            "tf_files": self.tf_files,
            "tf_expected": stfs.tf_expected(),
            "bytes": self.volume,
            "backfilled": self.backfilled,
            "duplicates": self.duplicates,
            "rate_hz": round(self.rates.rate_hz(at), 3),
            "lag_p50_s": round(lags[len(lags) // 2], 3) if lags else None,
            "lag_p95_s": round(lags[len(lags) * 19 // 20], 3) if lags else None,
            "last_at": _iso(self.last_at),
            "last_age_s": max(0.0, (at - self.last_at).total_seconds()) if self.last_at else None,
            "began_at": _iso(self.began_at),
            "ended_at": _iso(self.ended_at),
            "stf_registered_at": _iso(self.stf_registered_at),
            "stf_generated_at": _iso(self.stf_generated_at),
            "strip": stfs.strip(at, self._grace) if strip else [],
        }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


class RunTable:
    """Remembers all runs it ever contained: a run that one response omits is not new in the next."""

    def __init__(self) -> None:
        self._numbers: set[int] | None = None

    def update(self, rows: Iterable[Mapping[str, Any]], at: datetime) -> tuple[list[int], set[int]]:
        """The numbers of the new runs, and of all ended ones.

        At the first call only the newest run is new, and only if it may still be running.
        """
        starts: dict[int, datetime | None] = {}
        over: set[int] = set()
        for row in rows:
            number = row.get("run_number")
            if type(number) is int:
                starts[number] = parse_timestamp(row.get("start_time"))
                if row.get("end_time") is not None:
                    over.add(number)
        fresh = self._ongoing(starts, at) - over if self._numbers is None else starts.keys() - self._numbers
        known = (self._numbers or set()) | starts.keys()
        self._numbers = known if len(known) <= MAX_KNOWN_RUNS else set(starts)
        return sorted(fresh)[-MAX_NEW_RUNS:], over

    def contains(self, run: str) -> bool:
        """Whether the table ever contained the *run* of this name."""
        return run.isdigit() and int(run) in (self._numbers or ())

    @staticmethod
    def _ongoing(starts: Mapping[int, datetime | None], at: datetime) -> set[int]:
        newest = max(starts, default=0)
        started = starts.get(newest)
        return {newest} if started and at - started < MAX_RUN_DURATION else set()

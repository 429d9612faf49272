"""One run: its state, its numbers, and whether they are verified; and the monitor's table of runs. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from fastmon_client.intervals import Intervals
from fastmon_client.rates import RateSeries
from fastmon_client.snapshot import RunRow, RunState
from fastmon_client.stfs import Missing, Stfs
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
MAX_PAST_READS = 2000
"""STFs of a past run whose TF files are read, so that the calls are bounded."""
MAX_RUN_DURATION = timedelta(days=1)
"""An older run of the table counts as ended."""
_NUMBERS = count()
"""Numbers the runs in the order in which the client learns of them."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
MAX_KNOWN_RUNS = 200_000
MAX_NEW_RUNS = 50
"""New runs that one later response of the monitor may add."""
HEARD_MARGIN = timedelta(seconds=10)
"""After a connection, until all TF files of new STFs are surely announced to us."""


@dataclass(frozen=True, slots=True)
class DaemonSummary:
    """What the daemon's `fastmon_run_summary` says of the run; None: not said."""

    completed: int | None
    skipped: int | None
    lost: int
    """Missing, failed and discarded STFs."""
    tf_files: int | None

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> DaemonSummary:
        """From the message; any field may be missing or of any type."""
        tf_files = message.get("tf_files")
        registered = tf_files.get("registered") if isinstance(tf_files, Mapping) else None
        lost = [_count(message.get(name)) or 0 for name in ("missing", "failed", "discarded")]
        return cls(_count(message.get("completed")), _count(message.get("skipped")), sum(lost), _count(registered))


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


class Run:
    """One run."""

    def __init__(self, name: str, at: datetime, intervals: Intervals, *, is_past: bool = False) -> None:
        self.name = name
        self.namespace: str | None = None
        """From the first message that named one."""
        self._number = next(_NUMBERS)
        self.was_shown = is_past
        """Whether its TF files are not shown when they are found in the tables."""
        self.is_past = is_past
        """Whether it was over before this client started, as far as the table of runs tells."""
        self.is_back = self._is_followed = False
        """Whether it was dropped and came back; whether there was a sign that it takes data, or has just ended."""
        self.state: RunState = "unknown"
        self.stfs = Stfs()
        self.rates = RateSeries()
        self.tf_files = self.volume = self.unsized = self.backfilled = self.duplicates = 0
        self.active_at = at
        """Time of the last run event or TF file."""
        self.first_at = at
        """When this client learned of it."""
        self.last_at: datetime | None = None
        """When its newest TF file was made."""
        self.heard_at: datetime | None = None
        """Time of the last announcement."""
        self.began_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.end_known_at: datetime | None = None
        """When this client learned of its end."""
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
        self.summary: DaemonSummary | None = None
        self._failure = ""
        """Why the last comparison failed: it stands until one succeeds."""
        self._refusal = ""
        """Why the stream cannot open until an operator acts."""
        self._unverified_since = at
        self._answered_at = at
        """Last answer of the monitor about this run."""
        self._reads = 0
        """Queries of TF files, of a past run."""
        self._read_all_for: DaemonSummary | None = None
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

    @property
    def is_awaited(self) -> bool:
        """Whether its first comparison is still to end."""
        return self.is_numbered and self.verified_at is None and self.compare_at is not None and not self._failure

    def is_finished(self, at: datetime) -> bool:
        """Whether its STFs can be dropped: over and compared, or idle and unknown to the monitor."""
        if self.is_over or self.is_past:
            return self.compare_at is None
        return not self.is_numbered and at - self.active_at > IDLE_AFTER

    def record_namespace(self, value: object) -> None:
        """Set the namespace from a message, once."""
        if self.namespace is None and isinstance(value, str) and value:
            self.namespace = value

    @property
    def order(self) -> tuple[datetime, int]:
        """Key that orders runs by their own time: their begin, else when this client learned of them."""
        return self.began_at or self.first_at, self._number

    def record_state(self, kind: str, at: datetime, own_time: datetime | None = None) -> None:
        """Record a run event that was received, made at *own_time*; nothing reopens an ended run."""
        if self.is_over:
            return
        self._follow(at)
        if kind == "end_run":
            self._end(at, own_time)
            return
        self.state, self.active_at = STATE_AFTER[kind], at
        if kind in ("run_imminent", "start_run"):
            self.began_at = self.began_at or min(at, own_time or at)

    def _end(self, at: datetime, own_time: datetime | None = None) -> None:
        """Record its end, at *own_time*, once."""
        if self.is_over:
            return
        self.state, self.active_at = "ended", at
        self.ended_at, self.end_known_at = min(at, own_time or at), at
        self.mark_unverified(NOT_COMPARED_SINCE_END, at, compare=True)

    def _follow(self, at: datetime) -> None:
        """Record a sign that it was not over before this client started, though its row looked so."""
        self._is_followed = True
        if self.is_past:
            self.is_past, self._reads = False, 0
            self._schedule_comparison(at)

    def record_past(self) -> None:
        """Record that it was over before this client started, by its row, if only late announcements were heard."""
        if self.heard_at and not self._is_followed:
            self.is_past = self.was_shown = True

    def record_row(self, row: Mapping[str, Any], at: datetime) -> None:
        """Record the run's row in the monitor's table: the times of its begin and end."""
        self.began_at = parse_timestamp(row.get("start_time")) or self.began_at
        if row.get("end_time") is not None:
            self._end(at, parse_timestamp(row["end_time"]))

    def record_summary(self, message: Mapping[str, Any], at: datetime) -> None:
        """Record the daemon's summary: the run is over, and its numbers are compared with ours."""
        self.summary = DaemonSummary.of(message)
        self._end(at, parse_timestamp(message.get("ended_at")))
        self.stfs.unclear_are_skipped = False
        self._schedule_comparison(at)

    def record_listing(
        self, stfs: Iterable[tuple[str, datetime]], at: datetime, live_since: datetime | None
    ) -> list[str]:
        """Record the monitor's STFs (name, time of registration); returns those whose TF files to query.

        *live_since*: since when the stream is read without a gap.
        """
        listed = list(stfs)
        self.stf_registered_at = max((since for _, since in listed), default=self.stf_registered_at)
        if self.began_at is None and listed:
            self.began_at = min(since for _, since in listed)
        is_active = self.stf_registered_at is not None and at - self.stf_registered_at < IDLE_AFTER
        if self.state == "unknown" and is_active:
            self.state = "running"
            self._follow(at)
        heard = (live_since + HEARD_MARGIN, self.heard_at) if live_since and self.heard_at else None
        min_age = timedelta(seconds=self._intervals.min_age_s)
        names = self.stfs.record_listing(listed, at, min_age, self._grace, heard)
        if self.is_past:
            names = names[: MAX_PAST_READS - self._reads]
            self._reads += len(names)
        self._answered_at = at
        return names

    def ingest(self, tf: TfFile, at: datetime, *, backfilled: bool) -> bool:
        """Count *tf*; whether it is new."""
        is_new = self.stfs.ingest(tf, at, backfilled=backfilled)
        if not is_new:
            self.duplicates += is_new is False and not backfilled
            return False
        self.tf_files += 1
        if tf.size is None:
            self.unsized += 1
        else:
            self.volume += tf.size
        timestamp = tf.timestamp
        if timestamp is None or timestamp > at:
            timestamp = at
        if self.last_at is None or timestamp > self.last_at:
            self.last_at = timestamp
        if backfilled:
            self.backfilled += 1
            self.active_at = max(self.active_at, timestamp)
        else:
            self.active_at = self.heard_at = at
            self.rates.add(at)
            if not tf.late and tf.timestamp:
                self._lags.append(max(0.0, (at - tf.timestamp).total_seconds()))
        if self.is_over:
            if self.compare_at is None and not backfilled:
                self._schedule_comparison(at)
        elif self.state in ("unknown", "imminent") and not tf.late and not backfilled:
            self.state = "running"  # its start_run was missed
            self._follow(at)
        return True

    def mark_unverified(self, reason: str, at: datetime, *, compare: bool, is_refusal: bool = False) -> None:
        """Mark the numbers UNKNOWN for *reason*; *compare*: schedule a comparison."""
        if not self.is_numbered or (self.is_settled(at) and self.ended_at and at - self.ended_at > WATCHED_AFTER_END):
            return
        self.unknown_reason, self._unverified_since = reason, at
        if is_refusal:
            self._refusal = reason
        self.stfs.read_again()
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
        self._failure = failure or ""
        if not failure and not self.stfs.has_listing:
            return  # it began before the run was dropped and came back, whose own comparison is still to come
        began, self.comparing_since = self.comparing_since or at, None
        if failure:
            self.compare_at = at + timedelta(seconds=self._intervals.retry_s)
            return
        self._answered_at = at
        if self._reads >= MAX_PAST_READS:
            self.unknown_reason = f"too many STFs to read: fastmon-client summary --run {self.name} reads them all"
            self.compare_at = None
            return
        if self.stfs.unread:
            self.unknown_reason = f"{self.stfs.unread} more STFs without TF files than are compared"
        elif began >= self._unverified_since:
            self.verified_at, self.unknown_reason = at, ""
        self._take_summary_in(at)
        self.compare_at = self._next_comparison(began, at)
        if self.is_settled(at):
            self.state = "complete" if self._has_no_gaps(at) else "ended"

    def _take_summary_in(self, at: datetime) -> None:
        """Use the daemon's summary: it tells skipped STFs from missing ones; where it differs, read all again, once."""
        summary, stfs = self.summary, self.stfs
        if summary is None or not self.is_settled(at):
            return
        if stfs.unclear() and summary.completed == stfs.seen and not summary.lost:
            stfs.unclear_are_skipped = True
        if self._summary_doubt() and self._read_all_for != summary:
            self._read_all_for = summary
            stfs.read_all_again()
            self.mark_unverified("compared again: the daemon's summary differs", at, compare=True)

    def _summary_doubt(self) -> str:
        """Where the daemon's summary differs from our numbers."""
        summary, stfs = self.summary, self.stfs
        if summary is None:
            return ""
        pairs = [
            ("STFs completed", summary.completed, stfs.seen),
            ("skipped", summary.skipped, stfs.skipped()),
            ("TF files", summary.tf_files, self.tf_files),
        ]
        found = [f"{name} {theirs}, here {ours}" for name, theirs, ours in pairs
                 if theirs is not None and ours is not None and theirs != ours]  # fmt: skip
        return f"the daemon's summary differs: {'; '.join(found)}" if found else ""

    def _next_comparison(self, began: datetime, at: datetime) -> datetime | None:
        intervals, ended_at = self._intervals, self.ended_at
        rest = timedelta(seconds=intervals.compare_s)
        if self.stfs.unread:
            return at
        if not ended_at and self.is_past:
            return None
        if not ended_at:
            is_idle = at - self.active_at > IDLE_AFTER
            return at + max(rest * (10 if is_idle else 1), 10 * (at - began))  # a slow listing is read less often
        since_end = at - (self.end_known_at or ended_at)
        if self.is_past and at - ended_at > WATCHED_AFTER_END and not self.is_pending(at):
            return None
        if self.is_pending(at) or self.unknown_reason:
            return at + timedelta(
                seconds=intervals.settle_s if since_end < timedelta(minutes=1) else intervals.compare_s
            )
        return None if self._has_no_gaps(at) or at - ended_at > WATCHED_AFTER_END else at + rest

    def _schedule_comparison(self, at: datetime) -> None:
        soon = at + timedelta(seconds=self._intervals.settle_s)
        if not self.is_numbered:
            return
        self.compare_at = min(self.compare_at or soon, soon)

    def record_answer(self, stf: str, at: datetime) -> None:
        """Record that the monitor's TF files of an STF were ingested."""
        self._answered_at = at
        self.stfs.record_answer(stf, at, self._grace)

    def is_pending(self, at: datetime) -> bool:
        """Whether some STFs are too young for a verdict."""
        return self.stfs.is_pending(at, self._grace)

    def is_final(self, at: datetime) -> bool:
        """Whether waiting is over: settled, or the monitor did not answer for too long."""
        timeout = timedelta(seconds=self._intervals.end_timeout_s)
        if self.stfs.unclear() and self.summary is None and at - (self.ended_at or at) <= timeout:
            return False  # the daemon's summary tells skipped STFs from missing ones
        waited = at - max(self.end_known_at or at, self._answered_at) > timeout
        return self.is_over and (
            self.is_settled(at) or waited or (self.compare_at is None and self.comparing_since is None)
        )

    def is_settled(self, at: datetime) -> bool:
        """Whether it has ended and its numbers are final."""
        if not self.is_over or self.end_known_at is None or self.verified_at is None:
            return False
        return self.verified_at >= self.end_known_at and not self.is_pending(at)

    def _has_no_gaps(self, at: datetime) -> bool:
        missing = self.missing(at)
        return (
            not self._doubt(at) and missing is not None and not missing.count
            and not self.stfs.incomplete(at, self._grace)
        )  # fmt: skip

    @property
    def _grace(self) -> timedelta:
        return self._intervals.grace(has_ended=self.is_over)

    def missing(self, at: datetime) -> Missing | None:
        """The missing STFs; None if unknown."""
        return self.stfs.missing(at, self._grace)

    def is_stale(self, at: datetime, after: timedelta) -> bool:
        """Whether it runs without TF files for longer than *after*."""
        return self.state == "running" and at - self.active_at > after

    def is_verified(self, at: datetime) -> bool:
        """Whether its numbers matched the monitor's tables at the last comparison, and add up."""
        return not self._doubt(at)

    def _doubt(self, at: datetime) -> str:
        """Why its numbers are UNKNOWN; empty if they are VERIFIED."""
        if found := self._refusal or self._failure or self.unknown_reason:
            return found
        assert self.verified_at is not None  # else there is an `unknown_reason`
        planned = self.compare_at or at
        if not self.is_over and at - planned > timedelta(seconds=2 * self._intervals.compare_s):
            return f"last compared at {self.verified_at.isoformat(timespec='seconds')}"
        return self._sum_doubt(at)

    def _sum_doubt(self, at: datetime) -> str:
        """Why the numbers, though compared, do not add up to the run's STFs."""
        stfs = self.stfs
        if stfs.unconfirmed:
            return f"{stfs.unconfirmed} announced STFs are not in the monitor's table"
        if unclear := stfs.unclear():
            fractions = ", ".join(f"{each:g}" for each in stfs.selection.fractions)
            return (
                f"the selection fraction changed ({fractions}): {unclear} STFs without TF files may be skipped or "
                f"missing, as fastmon-daemon verdict {self.name} tells"
            )
        if not self.is_settled(at):
            return ""
        missing, expected = self.missing(at), stfs.expected()
        if missing is not None and expected is not None and stfs.seen + missing.count != expected:
            return f"numbers do not add up: {expected} STFs expected, {stfs.seen} seen, {missing.count} missing"
        return self._summary_doubt()

    def row(self, at: datetime, stale_after: timedelta, *, strip: bool) -> RunRow:
        """Plain data for the snapshot."""
        stfs, doubt, missing = self.stfs, self._doubt(at), self.missing(at)
        lags = sorted(self._lags)
        return {
            "run": self.name,
            "namespace": self.namespace,
            "state": self.state,
            "stale": self.is_stale(at, stale_after),
            "is_past": self.is_past,
            "verified": "UNKNOWN" if doubt else "VERIFIED",
            "verified_at": _iso(self.verified_at),
            "doubt": doubt,
            "stfs_seen": stfs.seen,
            "stfs_expected": stfs.expected(),
            "stfs_skipped": stfs.skipped(),
            "stfs_missing": None if missing is None else missing.count,
            "stfs_incomplete": len(stfs.incomplete(at, self._grace)),
            "missing": missing.numbers if missing else [],
            "tf_files": self.tf_files,
            "tf_expected": stfs.tf_expected(),
            "bytes": None if self.unsized and self.unsized == self.tf_files else self.volume,
            "tf_files_without_size": self.unsized,
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

    def __init__(self, last: int = 0, named: Iterable[str] = ()) -> None:
        """Of the first table, the newest *last* runs and those *named* are new, and the one that may be running."""
        self._last = last
        self._named = set(named)
        self._numbers: set[int] | None = None

    def update(self, rows: Iterable[Mapping[str, Any]], at: datetime) -> tuple[list[int], dict[int, Mapping[str, Any]]]:
        """The numbers of the new runs, oldest first, and all rows by number."""
        found = {row["run_number"]: row for row in rows if type(row.get("run_number")) is int}
        if self._numbers is None:
            newest = sorted(found, key=lambda number: (_began(found[number]), number))
            fresh = {number for number in newest[-1:] if self.may_run(found[number], at)}
            fresh |= set(newest[len(newest) - min(self._last, len(newest)) :])
            fresh |= {number for number in found if str(number) in self._named}
        else:
            fresh = found.keys() - self._numbers
        limit = MAX_NEW_RUNS + self._last + len(self._named) if self._numbers is None else MAX_NEW_RUNS
        known = (self._numbers or set()) | found.keys()
        self._numbers = known if len(known) <= MAX_KNOWN_RUNS else set(found)
        return sorted(fresh, key=lambda number: (_began(found[number]), number))[-limit:], found

    @property
    def was_read(self) -> bool:
        """Whether it was read at least once."""
        return self._numbers is not None

    def contains(self, run: str) -> bool:
        """Whether the table ever contained the *run* of this name."""
        return run.isdigit() and int(run) in (self._numbers or ())

    @staticmethod
    def may_run(row: Mapping[str, Any], at: datetime) -> bool:
        """Whether the run of *row* may still take data."""
        started = parse_timestamp(row.get("start_time"))
        return row.get("end_time") is None and started is not None and at - started < MAX_RUN_DURATION


def _began(row: Mapping[str, Any]) -> datetime:
    return parse_timestamp(row.get("start_time")) or _LONG_AGO

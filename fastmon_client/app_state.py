"""The picture: all that is known, from the stream and from the monitor's tables, with the time at which it was so.

Pure: whoever owns it tells it what came and when. It must not know threads, the network or how it is shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.alarm_rules import check_daemon, check_run
from fastmon_client.alarms import Alarms
from fastmon_client.connection import Connection
from fastmon_client.intervals import Intervals
from fastmon_client.message_filter import MessageFilter
from fastmon_client.rates import BIN_S, Bins
from fastmon_client.runs import STATE_AFTER, Run, RunTable
from fastmon_client.selection import MAX_SEQUENCE
from fastmon_client.snapshot import RecentRow, RunRow, Snapshot, Totals
from fastmon_client.tffile import ANNOUNCED, TfFile, as_announced, run_of

WHOLE_RUNS = 8
"""Runs that are kept with their STFs; of older ones that are finished, the row is kept."""
MOST_RUNS = 50
RECENT = 200


class AppState:
    """What is known. `hear` and `filled` say what of it is to be shown."""

    def __init__(
        self,
        monitor: str,
        wanted: MessageFilter,
        at: datetime,
        *,
        stale_after_s: float = 60.0,
        intervals: Intervals | None = None,
    ) -> None:
        self.intervals = intervals or Intervals()
        self.connection = Connection(at, self.intervals)
        self.alarms = Alarms()
        self.runs: dict[str, Run] = {}
        self._monitor, self._wanted, self._began_at = monitor, wanted, at
        self._stale_after = timedelta(seconds=stale_after_s)
        self._old_rows: dict[str, RunRow] = {}
        self._forgotten: Totals = {"runs": 0, "stfs": 0, "tf_files": 0, "bytes": 0, "backfilled": 0, "duplicates": 0}
        self._recent: deque[tuple[datetime, TfFile, str, bool]] = deque(maxlen=RECENT)
        self._bins = Bins()
        self._table = RunTable()

    # What the stream brings

    def receive(self, message: Mapping[str, Any], at: datetime) -> bool:
        """Take *message* in; whether it is to be shown: wanted, and, if it announces a TF file, new."""
        self.connection.beat(at)
        kind = str(message.get("msg_type"))
        if kind == ANNOUNCED:
            return self._take(message, at, backfilled=False)
        name = run_of(message)
        if kind in STATE_AFTER and name is not None:
            self._hear_run(kind, self.run(name, at), message, at)
        elif kind == "fastmon_status":
            check_daemon(self.alarms, message, at, is_busy=any(not run.is_over for run in self.runs.values()))
        return self._wanted.takes(message)

    def receive_heartbeat(self, at: datetime) -> None:
        """The stream lives."""
        self.connection.beat(at)

    def connected(self, at: datetime) -> None:
        """A stream was opened after a loss, or the first one."""
        self.connection.connected(at)
        for run in self.runs.values():
            run.distrust("not yet compared since the stream came back", at, compare=True)

    def lost(self, reason: str, at: datetime) -> None:
        """The stream was lost."""
        self.connection.lost(reason, at)
        self._distrust_open_runs(f"the stream was lost: {reason}", at)

    def refused(self, reason: str, at: datetime) -> None:
        """There will be no stream until a person acts."""
        self.connection.refused(reason, at)
        self._distrust_open_runs(reason, at)

    # What the monitor's tables say

    def due(self, at: datetime) -> list[str]:
        """The runs that are to be compared now; the comparison has begun with that."""
        return [run.name for run in self.runs.values() if run.begin_comparison(at)]

    def listed(self, name: str, stfs: Iterable[tuple[str, datetime]], at: datetime) -> list[str]:
        """The run's STFs in the monitor, each with the time of its registration: whose TF files are to be asked for."""
        run, young = self.runs.get(name), timedelta(seconds=self.intervals.young_s)
        return run.stfs.listed(stfs, at, young) if run else []

    def filled(self, name: str, stf: str, rows: Sequence[Mapping[str, Any]], at: datetime) -> list[dict[str, Any]]:
        """The monitor's TF files of one STF: those that were not known and are to be shown, as announcements."""
        found = [as_announced(name, row) for row in rows]
        shown = [message for message in found if self._take(message, at, backfilled=True)]
        if name in self.runs:
            self.runs[name].asked(stf, at)
        return shown

    def compared(self, name: str, failure: str | None, at: datetime) -> None:
        """The comparison of a run is over."""
        self.alarms.set("monitor_unreachable", None, failure, at, None)
        if name in self.runs:
            self.runs[name].compared(failure, at)

    def compared_runs(self, failure: str | None, at: datetime) -> None:
        """The table of runs was read, or not."""
        self.alarms.set("monitor_unreachable", None, failure, at, None)

    def still_wanting(self, name: str, stfs: Iterable[str]) -> list[str]:
        """Those of the run's *stfs* whose TF files are still to be asked for."""
        return self.runs[name].stfs.still_wanting(stfs) if name in self.runs else []

    def runs_listed(self, rows: Iterable[Mapping[str, Any]], at: datetime) -> None:
        """The monitor's table of runs: names those that nobody told us of, and ends those whose end was not heard."""
        self.compared_runs(None, at)
        fresh, over = self._table.read(rows, at)
        for number in fresh:
            self.run(str(number), at)
        for run in self.runs.values():
            if run.is_numbered and int(run.name) in over:
                run.record_state("end_run", at)

    # Time, and what a person sees

    def tick(self, at: datetime) -> None:
        """Time passes: what only time shows is found here."""
        was_live = self.connection.state == "LIVE"
        self.connection.tick(at)
        if was_live and self.connection.state == "DEAD":
            self._distrust_open_runs(self.connection.reason, at)
        self.alarms.set("stream_dead", None, self.connection.evidence(at), at, None)
        is_live = self.connection.state == "LIVE"
        for run in self.shown_runs():
            check_run(self.alarms, run, at, self._stale_after, is_live=is_live)
        self._fold(at)

    def shown_runs(self) -> list[Run]:
        """The runs that are wanted and kept whole, oldest first."""
        return [run for run in self.runs.values() if self._shows(run)]

    def rows(self, at: datetime, *, strip: bool) -> list[RunRow]:
        """The runs that are shown, newest first."""
        whole = list(reversed(self.shown_runs()))
        rows = [run.row(at, self._stale_after, strip=strip and number < WHOLE_RUNS) for number, run in enumerate(whole)]
        return [*rows, *reversed(self._old_rows.values())]

    def snapshot(self, at: datetime) -> Snapshot:
        """Everything as plain data."""
        ends_at, counts = self._bins.until(at)
        rows, wanted = self.rows(at, strip=True), self._wanted
        return {
            "at": at.isoformat(),
            "uptime_s": max(0.0, (at - self._began_at).total_seconds()),
            "monitor": self._monitor,
            "filters": {
                "message_types": list(wanted.types), "agents": list(wanted.agents), "run_ids": list(wanted.run_ids),
                "namespace": wanted.namespace,
            },
            "connection": self.connection.row(at),
            "runs": rows[:MOST_RUNS],
            "recent": [_recent_row(*each) for each in reversed(self._recent)],
            "rates": {"bin_s": BIN_S, "ends_at": ends_at.isoformat(), "tf_files": counts},
            "alarms": self.alarms.rows(at),
            "totals": _sum(self._forgotten, rows),
        }  # fmt: skip

    def run(self, name: str, at: datetime) -> Run:
        """The run of that name, which is known from now on."""
        found = self.runs.get(name)
        if found is None:
            row = self._old_rows.pop(name, None)
            found = self.runs[name] = Run(name, at, self.intervals, was_shown=row is not None)
            if row and not found.is_numbered:  # else the monitor's tables bring it all again
                self._forgotten = {**_sum(self._forgotten, [row]), "runs": self._forgotten["runs"]}
        return found

    def _distrust_open_runs(self, reason: str, at: datetime) -> None:
        for run in self.runs.values():
            if not run.settled(at):
                run.distrust(reason, at, compare=True)

    def _hear_run(self, kind: str, run: Run, message: Mapping[str, Any], at: datetime) -> None:
        run.learn_namespace(message.get("namespace"))
        total = message.get("total_stf_files")
        if type(total) is int and 0 < total <= MAX_SEQUENCE:
            run.stfs.diagnostics(total)
        run.record_state(kind, at)
        if kind in ("run_imminent", "start_run") and not run.is_over:  # one run at a time: others ended unheard
            for other in self.runs.values():
                if other is not run and other.namespace == run.namespace and not other.is_over:
                    other.record_state("end_run", at)

    def _take(self, message: Mapping[str, Any], at: datetime, *, backfilled: bool) -> bool:
        tf = TfFile.of(message)
        run = self.run(tf.run, at)
        run.learn_namespace(message.get("namespace"))
        is_new = run.take(tf, at, backfilled=backfilled) and not (backfilled and run.was_shown)
        if not is_new or not self._wanted.takes(message):
            return False
        made_at = min(at, tf.made_at or at) if backfilled else at
        self._bins.add(made_at)
        self._recent.append((made_at, tf, str(message.get("status") or "registered"), backfilled))
        return True

    def _shows(self, run: Run) -> bool:
        return self._wanted.shows_run(run.name, run.namespace)

    def _fold(self, at: datetime) -> None:
        """Keep the rows only of old runs."""
        finished = [run for run in self.runs.values() if run.is_finished(at)]
        for run in finished[: max(0, len(self.runs) - WHOLE_RUNS)]:
            self.alarms.end_all_of(run.name, at)
            if self._shows(self.runs.pop(run.name)):
                self._old_rows[run.name] = run.row(at, self._stale_after, strip=False)
        while len(self._old_rows) > MOST_RUNS - WHOLE_RUNS:
            self._forgotten = _sum(self._forgotten, [self._old_rows.pop(next(iter(self._old_rows)))])


def _recent_row(at: datetime, tf: TfFile, status: str, backfilled: bool) -> RecentRow:
    return {
        "at": at.isoformat(), "run": tf.run, "tf_filename": tf.tf_filename, "stf_filename": tf.stf_filename,
        "size_bytes": tf.size, "status": status, "backfilled": backfilled, "late": tf.late,
    }  # fmt: skip


def _sum(totals: Totals, rows: Sequence[RunRow]) -> Totals:
    return {
        "runs": totals["runs"] + len(rows),
        "stfs": totals["stfs"] + sum(row["stfs_seen"] for row in rows),
        "tf_files": totals["tf_files"] + sum(row["tf_files"] for row in rows),
        "bytes": totals["bytes"] + sum(row["bytes"] for row in rows),
        "backfilled": totals["backfilled"] + sum(row["backfilled"] for row in rows),
        "duplicates": totals["duplicates"] + sum(row["duplicates"] for row in rows),
    }

"""The client's state: everything known from the stream and from the monitor's tables.

Pure: the caller passes in each event and its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.agents import DAQ_AGENTS, DATA_AGENTS, Agents
from fastmon_client.alarms import Alarms
from fastmon_client.connection import Connection
from fastmon_client.intervals import Intervals
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.message_filter import STF_GENERATED, MessageFilter, UnmatchedAgents
from fastmon_client.rates import BIN_S, RateSeries
from fastmon_client.runs import STATE_AFTER, Run, RunTable
from fastmon_client.selection import MAX_SEQUENCE
from fastmon_client.silence import Silence
from fastmon_client.snapshot import RecentRow, RunRow, Snapshot, Tiles, Totals, VerdictRow
from fastmon_client.tffile import ANNOUNCED, TfFile, as_announced, run_of
from fastmon_client.verdict import OPEN, Facts, TablesStatus, judge

MAX_FULL_RUNS = 8
"""Runs kept with their STFs. Of older finished runs only the row is kept."""
MAX_OPEN_RUNS = 200
"""Runs kept with their STFs while they are not finished: whoever may publish can invent any number."""
MAX_MEMORY = 48 * 1024 * 1024
"""Bytes for the STFs of all runs."""
MAX_RUNS = 50
MAX_RECENT = 200


class AppState:
    """The runs, the connection and the alarms; `receive` and `record_tf_files` return what to show."""

    def __init__(
        self,
        monitor: str,
        filter_: MessageFilter,
        at: datetime,
        *,
        stale_after_s: float = 60.0,
        intervals: Intervals | None = None,
        topic: str | None = None,
    ) -> None:
        """With a *topic*, messages come from it, else from the monitor's stream."""
        self.intervals = intervals or Intervals()
        self.connection = Connection(at, self.intervals)
        self.alarms = Alarms()
        self.agents = Agents()
        self.runs: dict[str, Run] = {}
        self._tables = TablesStatus()
        self._verdict: tuple[str, str] = ("", "")
        """The word of the last verdict, and its begin."""
        self._monitor, self._filter, self._started_at = monitor, filter_, at
        self._stale_after = timedelta(seconds=stale_after_s)
        self._old_rows: dict[str, RunRow] = {}
        self._dropped_totals: Totals = {
            "runs": 0,
            "stfs": 0,
            "tf_files": 0,
            "bytes": 0,
            "backfilled": 0,
            "duplicates": 0,
        }
        self._memory = 0
        """Bytes for the STFs of all runs, roughly."""
        self._log = LogThrottle()
        self._recent: deque[tuple[datetime, TfFile, str, bool]] = deque(maxlen=MAX_RECENT)
        self._rates = RateSeries()
        self._table = RunTable()
        self._silence = Silence(topic, at)
        self._unmatched_agents = UnmatchedAgents(filter_)

    # From the stream

    def receive(self, message: Mapping[str, Any], at: datetime) -> bool:
        """Ingest *message*; whether to show it: it matches the filter and is no known TF file."""
        self.connection.record_heartbeat(at)
        kind = str(message.get("msg_type"))
        if kind == ANNOUNCED:
            self._silence.end(at)
            self._unmatched_agents.record(message)
            self.agents.record_sign(message.get("processed_by"), at)
            return self._ingest(message, at, backfilled=False)
        name = run_of(message)
        if kind in STATE_AFTER and name is not None:
            self._record_run_event(kind, self.run(name, at), message, at)
        elif kind == STF_GENERATED and name in self.runs:
            self.runs[name].stf_generated_at = at
        elif kind == "fastmon_status":
            self.agents.record_status(message, at)
            self.alarms.check_daemon(message, at)
        return self._filter.matches(message)

    def receive_heartbeat(self, at: datetime) -> None:
        """Record a heart-beat of the stream."""
        self.connection.record_heartbeat(at)

    def connected(self, at: datetime) -> None:
        """Record the first stream, or one after a loss."""
        self.connection.connected(at)
        self._silence.end(at)
        for run in self.runs.values():
            run.mark_unverified("not compared since the stream reconnected", at, compare=True)

    def lost(self, reason: str, at: datetime) -> None:
        """Record the loss of the stream."""
        self.connection.lost(reason, at)
        self._mark_open_runs_unverified(f"stream lost: {reason}", at)

    def fell_behind(self, at: datetime) -> None:
        """Record that messages waited for our output, and that some may have been lost meanwhile."""
        self._mark_open_runs_unverified("output was blocked: messages may have been lost", at)

    def refused(self, reason: str, at: datetime) -> None:
        """Record that no stream can open until an operator acts."""
        self.connection.refused(reason, at)
        self._mark_open_runs_unverified(reason, at)

    # From the monitor's tables

    def start_comparisons(self, at: datetime) -> list[str]:
        """Start the comparisons that are due; returns the names of their runs."""
        return [run.name for run in self.runs.values() if run.start_comparison(at)]

    def record_stfs(self, name: str, stfs: Sequence[tuple[str, datetime]], at: datetime) -> list[str]:
        """Record the monitor's STFs (name, time of registration); returns those whose TF files to query."""
        self._record_answer(None, at)
        run, min_age = self.runs.get(name), timedelta(seconds=self.intervals.min_age_s)
        if run is None:
            return []
        run.stf_registered_at = max((since for _, since in stfs), default=run.stf_registered_at)
        found = run.stfs.record_listing(stfs, at, min_age)
        self._limit_memory(at)
        return found if name in self.runs else []

    def record_tf_files(
        self, name: str, stf: str, rows: Sequence[Mapping[str, Any]], at: datetime
    ) -> list[dict[str, Any]]:
        """Record the monitor's TF files of one STF; returns the new ones to show, as announcements."""
        found = [as_announced(name, row) for row in rows]
        shown = [message for message in found if self._ingest(message, at, backfilled=True)]
        if name in self.runs:
            self.runs[name].record_answer(stf, at)
        return shown

    def finish_comparison(self, name: str, failure: str | None, at: datetime) -> None:
        """Record the end of a comparison; *failure* is its error."""
        self._record_answer(failure, at)
        if name in self.runs:
            self.runs[name].finish_comparison(failure, at)

    def record_runs_query(self, failure: str | None, at: datetime) -> None:
        """Record whether the table of runs or agents was read; *failure* is the error."""
        self._record_answer(failure, at)

    def record_agents(self, rows: Iterable[Mapping[str, Any]], monitor_at: datetime | None, at: datetime) -> None:
        """Record the monitor's table of agents; *monitor_at* is the monitor's clock."""
        self._record_answer(None, at)
        self.agents.record_rows(rows, monitor_at, at)

    def _record_answer(self, failure: str | None, at: datetime) -> None:
        self.alarms.set("monitor_unreachable", None, failure, at, None)
        before = self._tables
        if failure is None:
            self._tables = TablesStatus(read_at=at)
        else:
            self._tables = TablesStatus(read_at=before.read_at, failure=failure, since=before.since or at)

    def still_to_query(self, name: str, stfs: Iterable[str]) -> list[str]:
        """Those of *stfs* whose TF files still need a query."""
        return self.runs[name].stfs.still_to_query(stfs) if name in self.runs else []

    def record_runs(self, rows: Iterable[Mapping[str, Any]], at: datetime) -> None:
        """Record the monitor's table of runs: add new runs, and end those with an end time."""
        self.record_runs_query(None, at)
        fresh, over = self._table.update(rows, at)
        for number in fresh:
            self.run(str(number), at)
        for run in self.runs.values():
            if run.is_numbered and int(run.name) in over:
                run.record_state("end_run", at)

    # Time, and the snapshot

    def tick(self, at: datetime) -> None:
        """Update what depends on time: connection, alarms, old runs."""
        was_live = self.connection.state == "LIVE"
        self.connection.tick(at)
        if was_live and self.connection.state == "DEAD":
            self._mark_open_runs_unverified(self.connection.reason, at)
        self.alarms.set("stream_dead", None, self.connection.evidence(at), at, None)
        is_live = self.connection.state == "LIVE"
        expects = is_live and ANNOUNCED in self._filter.subscribed_types
        self.alarms.set("source_silent", None, self._silence.evidence(at) if expects else None, at, None)
        self.alarms.set("agents_unmatched", None, self._unmatched_agents.evidence(), at, None)
        for run in self.shown_runs():
            self.alarms.check_run(run, at, self._stale_after, is_live=is_live)
        self._drop_old_runs(at)
        _, tiles = self._judge(self.rows(at, strip=False), at)
        self.alarms.check_silent_daemons(tiles["daemon"]["agents"], at, is_busy=self._is_busy())

    def shown_runs(self) -> list[Run]:
        """The runs that match the filter and are kept with their STFs, oldest first."""
        return [run for run in self.runs.values() if self._filter.matches_run(run.name, run.namespace)]

    def rows(self, at: datetime, *, strip: bool) -> list[RunRow]:
        """The rows of all shown runs, newest first."""
        whole = list(reversed(self.shown_runs()))
        rows = [
            run.row(at, self._stale_after, strip=strip and number < MAX_FULL_RUNS) for number, run in enumerate(whole)
        ]
        return [*rows, *reversed(self._old_rows.values())]

    def snapshot(self, at: datetime) -> Snapshot:
        """Everything as plain data, for the views."""
        ends_at, counts = self._rates.until(at)
        rows, filter_ = self.rows(at, strip=True), self._filter
        verdict, tiles = self._judge(rows, at)
        return {
            "at": at.isoformat(),
            "uptime_s": max(0.0, (at - self._started_at).total_seconds()),
            "verdict": verdict,
            "tiles": tiles,
            "monitor": self._monitor,
            "filters": {
                "message_types": list(filter_.types), "agents": list(filter_.agents), "run_ids": list(filter_.run_ids),
                "namespace": filter_.namespace,
            },
            "connection": self.connection.row(at),
            "runs": rows[:MAX_RUNS],
            "recent": [_recent_row(*each) for each in reversed(self._recent)],
            "rates": {"bin_s": BIN_S, "ends_at": ends_at.isoformat(), "tf_files": counts},
            "alarms": self.alarms.rows(at),
            "totals": _sum(self._dropped_totals, rows),
        }  # fmt: skip

    def _is_busy(self) -> bool:
        return any(not run.is_over for run in self.shown_runs())

    def _judge(self, rows: Sequence[RunRow], at: datetime) -> tuple[VerdictRow, Tiles]:
        connection, agents = self.connection, self.agents
        daemons = agents.daemons(self._shown_namespaces(rows))
        namespaces = {row["namespace"] for row in rows if row["state"] in OPEN}
        verdict, tiles = judge(
            Facts(
                at=at, stale_after=self._stale_after, connection=connection.row(at),
                is_late=connection.evidence(at) is not None, tables=self._tables, runs=rows,
                daemons=[agents.row(agent, at) for agent in daemons], agents_are_known=not agents.is_outdated(at),
                silent_data_agents=_silent(agents, DATA_AGENTS, namespaces),
                silent_daqs=_silent(agents, DAQ_AGENTS, namespaces),
                warnings=[
                    alarm["evidence"] for alarm in self.alarms.rows(at)
                    if alarm["until"] is None and alarm["kind"] in ("source_silent", "agents_unmatched", "rate_dropped")
                ],
            )
        )  # fmt: skip
        if verdict["word"] != self._verdict[0]:
            self._verdict = (verdict["word"], at.isoformat())
        return {**verdict, "since": verdict["since"] or self._verdict[1]}, tiles

    def _shown_namespaces(self, rows: Sequence[RunRow]) -> frozenset[str] | None:
        """The namespaces whose daemons matter; None: not known."""
        if self._filter.namespace is not None:
            return frozenset([self._filter.namespace])
        named = [row for row in rows if row["namespace"] is not None]
        shown = [row for row in named if row["state"] in OPEN] or named[:1]
        return frozenset(row["namespace"] for row in shown if row["namespace"]) or None

    def run(self, name: str, at: datetime) -> Run:
        """The run of that name; creates it."""
        found = self.runs.get(name)
        if found is None:
            row = self._old_rows.pop(name, None)
            if len(self.runs) >= MAX_OPEN_RUNS:
                for run in self._least_likely_first(self.runs.values())[: MAX_OPEN_RUNS // 4]:
                    self._drop(run, at, f"more than {MAX_OPEN_RUNS} runs at a time")
            found = self.runs[name] = Run(name, at, self.intervals, was_shown=row is not None)
            if row and not found.is_numbered:  # a numbered run is read again from the tables
                self._dropped_totals = {**_sum(self._dropped_totals, [row]), "runs": self._dropped_totals["runs"]}
        return found

    def _mark_open_runs_unverified(self, reason: str, at: datetime) -> None:
        for run in self.runs.values():
            if not run.is_settled(at):
                run.mark_unverified(reason, at, compare=True)

    def _record_run_event(self, kind: str, run: Run, message: Mapping[str, Any], at: datetime) -> None:
        run.record_namespace(message.get("namespace"))
        total = message.get("total_stf_files")
        if type(total) is int and 0 < total <= MAX_SEQUENCE:
            memory = run.stfs.memory
            run.stfs.extend_to(total)
            self._record_growth(run.stfs.memory - memory, at)
        run.record_state(kind, at)
        if kind in ("run_imminent", "start_run") and not run.is_over:  # a namespace has one run at a time
            for other in self.runs.values():
                if other is not run and other.namespace == run.namespace and not other.is_over:
                    other.record_state("end_run", at)

    def _ingest(self, message: Mapping[str, Any], at: datetime, *, backfilled: bool) -> bool:
        tf = TfFile.of(message)
        run = self.run(tf.run, at)
        run.record_namespace(message.get("namespace"))
        compared_at, memory = run.verified_at, run.stfs.memory
        is_new = run.ingest(tf, at, backfilled=backfilled) and not (backfilled and run.was_shown)
        self._record_growth(run.stfs.memory - memory, at)
        if is_new and backfilled:
            self._silence.record_backfilled(tf.timestamp, compared_at, at)
        if not is_new or not self._filter.matches(message):
            return False
        timestamp = min(at, tf.timestamp or at) if backfilled else at
        self._rates.add(timestamp)
        self._recent.append((timestamp, tf, str(message.get("status") or "registered"), backfilled))
        return True

    def _drop_old_runs(self, at: datetime) -> None:
        """Keep only the rows of old finished runs."""
        finished = [run for run in self.runs.values() if run.is_finished(at)]
        for run in finished[: max(0, len(self.runs) - MAX_FULL_RUNS)]:
            self._drop(run, at)

    def _least_likely_first(self, runs: Iterable[Run]) -> list[Run]:
        """Those that may be invented: not in the monitor's table; then the others, idle for the longest first."""
        return sorted(runs, key=lambda run: (self._table.contains(run.name), run.active_at))

    def _record_growth(self, size: int, at: datetime) -> None:
        self._memory += size
        if self._memory > MAX_MEMORY:
            self._limit_memory(at)

    def _limit_memory(self, at: datetime) -> None:
        """Keep only the rows of some large runs if all take more than `MAX_MEMORY`."""
        total = sum(run.stfs.memory for run in self.runs.values())
        if total > MAX_MEMORY:
            large = [run for run in self.runs.values() if run.stfs.memory >= total / len(self.runs)]
            for run in self._least_likely_first(large):
                if total <= MAX_MEMORY * 3 / 4 or len(self.runs) == 1:
                    break
                total -= run.stfs.memory
                self._drop(run, at, f"the STFs of all runs take more than {MAX_MEMORY >> 20} MB")
        self._memory = total

    def _drop(self, run: Run, at: datetime, why: str = "") -> None:
        """Keep only the row of *run*; *why*: although it is not finished."""
        if why:
            self._log.record("run dropped", f"run {run.name}: not followed any more: {why}")
        self.alarms.end_all_of(run.name, at)
        del self.runs[run.name]
        if self._filter.matches_run(run.name, run.namespace):
            self._old_rows[run.name] = run.row(at, self._stale_after, strip=False)
        while len(self._old_rows) > MAX_RUNS - MAX_FULL_RUNS:
            self._dropped_totals = _sum(self._dropped_totals, [self._old_rows.pop(next(iter(self._old_rows)))])


def _silent(agents: Agents, kinds: tuple[str, ...], namespaces: set[str | None]) -> dict[str | None, str]:
    found = {namespace: agents.silent(kinds, namespace) for namespace in namespaces}
    return {namespace: agent.where for namespace, agent in found.items() if agent}


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

"""The client's state: everything known from the stream and from the monitor's tables.

Pure: the caller passes in each event and its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from operator import itemgetter
from typing import Any

from fastmon_client.agents import DAQ_AGENTS, DATA_AGENTS, Agents
from fastmon_client.alarms import Alarms
from fastmon_client.archive import RunArchive
from fastmon_client.connection import Connection
from fastmon_client.intervals import Intervals
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.message_filter import RUN_SUMMARY, STF_GENERATED, MessageFilter, UnmatchedAgents
from fastmon_client.rates import BIN_S, EarlierRates, RateSeries
from fastmon_client.runs import STATE_AFTER, Run, RunTable
from fastmon_client.selection import MAX_SEQUENCE
from fastmon_client.silence import Silence
from fastmon_client.snapshot import Loading, RecentRow, ReferenceRow, RunRow, Snapshot, Tiles, VerdictRow
from fastmon_client.tffile import ANNOUNCED, TfFile, as_announced, parse_timestamp, run_of
from fastmon_client.verdict import OPEN, Facts, TablesStatus, judge

MAX_FULL_RUNS = 8
"""Runs kept with their STFs. Of older finished runs only the row is kept."""
MAX_OPEN_RUNS = 200
"""Runs kept with their STFs while they are not finished: whoever may publish can invent any number."""
MAX_RUNS_WITH_PAST = 2 * MAX_OPEN_RUNS
"""The same with those of the monitor's table that were over before the start, besides the runs asked for by name."""
MAX_MEMORY = 48 * 1024 * 1024
"""Bytes for the STFs of all runs."""
_GROWTH = 64 * 1024
"""Bytes by which the STFs of one run may grow before all are counted."""
MAX_RUNS = 50
"""Runs in a snapshot."""
MAX_RECENT = 200


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is shown of the time before the start."""

    last: int = 0
    """How many of the newest runs of the monitor's table."""
    summaries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The daemon's, by run, that were heard before this process."""


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
        earlier: Earlier = Earlier(),
    ) -> None:
        """With a *topic*, messages come from it, else from the monitor's stream."""
        self.intervals = intervals or Intervals()
        self.connection = Connection(at, self.intervals)
        self.agents = Agents(self.intervals)
        self.alarms = Alarms(self.agents.is_listed)
        self.runs: dict[str, Run] = {}
        self.reference: ReferenceRow | None = None
        """The current run beside its reference run."""
        self._tables = TablesStatus()
        self._verdict: tuple[str, str] = ("", "")
        """The word of the last verdict, and its begin."""
        self._monitor, self._filter, self._started_at = monitor, filter_, at
        self._stale_after = timedelta(seconds=stale_after_s)
        self._memory = 0
        """Bytes for the STFs of all runs, roughly."""
        self._log = LogThrottle()
        self._archive = RunArchive()
        self._live_since: datetime | None = None
        """Since when the stream is read without a gap."""
        self._reading: dict[str, int] = {}
        """Number of STFs whose TF files are queried now, by run."""
        self._recent: deque[tuple[datetime, TfFile, str, bool]] = deque(maxlen=MAX_RECENT)
        self._rates = RateSeries()
        self._earlier_rates = EarlierRates(at)
        self._shows_all = ANNOUNCED in filter_.types and not filter_.restricts
        self._earlier_summaries = earlier.summaries
        self._table = RunTable(0 if filter_.run_ids else earlier.last, filter_.run_ids)
        self._silence = Silence(topic, at)
        self._unmatched_agents = UnmatchedAgents(filter_)

    # From the stream

    def receive(self, message: Mapping[str, Any], at: datetime) -> bool:
        """Ingest *message*; whether to show it: it matches the filter and is no known TF file."""
        self.connection.record_heartbeat(at)
        kind = str(message.get("msg_type"))
        if kind == ANNOUNCED:
            self._silence.end(at)
            if self._filter.agents and self._filter.namespace in (None, message.get("namespace")):
                self._unmatched_agents.record(message)
            self.agents.record_sign(message.get("processed_by"), at)
            return self._ingest(message, at, backfilled=False)
        name = run_of(message)
        if kind in STATE_AFTER and name is not None:
            self._record_run_event(kind, self.run(name, at), message, at)
        elif kind == STF_GENERATED and name in self.runs:
            self.runs[name].stf_generated_at = at
        elif kind == RUN_SUMMARY and name is not None:
            self._record_summary(self.run(name, at), message, at)
        elif kind == "fastmon_status":
            self.agents.record_status(message, at)
            if self._filter.namespace in (None, message.get("namespace")):
                self.alarms.check_daemon(message, at)
        return self._filter.matches(message)

    def receive_heartbeat(self, at: datetime) -> None:
        """Record a heart-beat of the stream."""
        self.connection.record_heartbeat(at)

    def connected(self, at: datetime) -> None:
        """Record the first stream, or one after a loss."""
        self.connection.connected(at)
        self._live_since = at
        self._silence.end(at)
        for run in self.runs.values():
            run.mark_unverified("not compared since the stream reconnected", at, compare=True)

    def lost(self, reason: str, at: datetime) -> None:
        """Record the loss of the stream."""
        self.connection.lost(reason, at)
        self._live_since = None
        self._mark_open_runs_unverified(f"stream lost: {reason}", at)

    def fell_behind(self, at: datetime) -> None:
        """Record that messages waited for our output, and that some may have been lost meanwhile."""
        self._live_since = at
        self._mark_open_runs_unverified("output was blocked: messages may have been lost", at)

    def refused(self, reason: str, at: datetime) -> None:
        """Record that no stream can open until an operator acts."""
        self.connection.refused(reason, at)
        self._live_since = None
        for run in self.runs.values():
            run.mark_unverified(reason, at, compare=False, is_refusal=True)

    # From the monitor's tables

    def start_comparisons(self, at: datetime) -> list[str]:
        """Start the comparisons that are due; returns the names of their runs."""
        names = [run.name for run in self.runs.values() if not run.is_past and run.start_comparison(at)]
        past = sorted((run for run in self.runs.values() if run.is_past), key=lambda run: run.order, reverse=True)
        if not any(run.comparing_since for run in past):  # one after the other, the newest first
            names += islice((run.name for run in past if run.start_comparison(at)), 1)
        return names

    def record_stfs(self, name: str, stfs: Iterable[tuple[str, datetime]], at: datetime) -> list[str]:
        """Record the monitor's STFs (name, time of registration); returns those whose TF files to query."""
        self._record_answer(None, at)
        run = self.runs.get(name)
        if run is None:
            return []
        found = run.record_listing(stfs, at, self._live_since)
        self._limit_memory(at)
        return found if name in self.runs else []

    def record_tf_files(
        self, name: str, stf: str, rows: Sequence[Mapping[str, Any]], at: datetime
    ) -> list[dict[str, Any]]:
        """Record the monitor's TF files of one STF; returns the new ones to show, as announcements.

        They bring no run back that was dropped after the query.
        """
        found = (as_announced(name, row) for row in rows)
        shown = [
            message for message in found
            if name in self.runs and self._ingest(message, at, backfilled=True)
        ]  # fmt: skip
        if name in self.runs:
            self.runs[name].record_answer(stf, at)
        return shown

    def finish_comparison(self, name: str, failure: str | None, at: datetime) -> None:
        """Record the end of a comparison; *failure* is its error."""
        self._record_answer(failure, at)
        self._reading.pop(name, None)
        if name in self.runs:
            self.runs[name].finish_comparison(failure, at)

    def record_runs_query(self, failure: str | None, at: datetime) -> None:
        """Record whether the table of runs or agents was read; *failure* is the error."""
        self._record_answer(failure, at)

    def record_agents(
        self, rows: Iterable[Mapping[str, Any]], monitor_at: datetime | None, at: datetime, failure: str = ""
    ) -> None:
        """Record the monitor's table of agents; *monitor_at* is the monitor's clock, *failure* why there is none."""
        self.agents.failure = failure
        if failure:  # the other tables may be there
            return
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
        left = self.runs[name].stfs.still_to_query(stfs) if name in self.runs else []
        self._reading[name] = len(left)
        return left

    def record_runs(self, rows: Iterable[Mapping[str, Any]], at: datetime) -> None:
        """Record the monitor's table of runs: add new runs, and end those with an end time."""
        self.record_runs_query(None, at)
        is_first = not self._table.was_read
        fresh, found = self._table.update(rows, at)
        if is_first:
            fresh = self._meet(fresh, found, at)
        for number in fresh:
            name = str(number)
            if name not in self.runs:
                self._add_run(name, at, is_past=not self._table.may_run(found[number], at))
        for run in self.runs.values():
            if run.is_numbered and (row := found.get(int(run.name))):
                run.record_row(row, at)
                if run.is_over and run.summary is None and run.name in self._earlier_summaries:
                    self._record_summary(run, self._earlier_summaries[run.name], at)

    def _meet(self, fresh: list[int], found: Mapping[int, Mapping[str, Any]], at: datetime) -> list[int]:
        """*fresh* of the first table, with the runs that had to make room, because nobody knew that they are real.

        A run of which only late announcements were heard was over before the start, as the others of its age.
        """
        for run in self.runs.values():
            row = found.get(int(run.name)) if run.is_numbered else None
            if row and not self._table.may_run(row, at):
                run.record_past()
        returned = [number for number in found if number not in fresh and self._archive.contains(str(number))]
        return [*returned, *fresh]

    # Time, and the snapshot

    def tick(self, at: datetime) -> None:
        """Update what depends on time: connection, alarms, old runs."""
        was_live = self.connection.state == "LIVE"
        self.connection.tick(at)
        if self.connection.state == "LIVE":
            self._live_since = self._live_since or at
        elif was_live:
            self._live_since = None
            self._mark_open_runs_unverified(self.connection.reason, at)
        self.alarms.set("stream_dead", None, self.connection.evidence(at), at, None)
        is_live = self.connection.state == "LIVE"
        expects = is_live and ANNOUNCED in self._filter.subscribed_types
        self.alarms.set("source_silent", None, self._silence.evidence(at) if expects else None, at, None)
        self.alarms.set("agents_unmatched", None, self._unmatched_agents.evidence(), at, None)
        for run in self.shown_runs():
            self.alarms.check_run(run, at, self._stale_after, is_live=is_live)
        self._drop_old_runs(at)
        _, tiles = self._judge(self._with_open_runs(self.page(at, 0, MAX_RUNS), at), at)
        self.alarms.check_silent_daemons(tiles["daemon"]["agents"], at, is_busy=self._is_busy())

    def current_run(self, besides: str) -> str | None:
        """The newest run that takes data, else the newest one; never the run *besides*."""
        runs = sorted(self.shown_runs(), key=lambda run: (run.state in OPEN, run.order), reverse=True)
        return next((run.name for run in runs if run.name != besides), None)

    def shown_runs(self) -> list[Run]:
        """The runs that match the filter and are kept with their STFs, oldest first."""
        return [run for run in self.runs.values() if self._filter.matches_run(run.name, run.namespace)]

    def followed_runs(self) -> list[Run]:
        """The shown runs that were not over before the start, and those that were asked for by name."""
        return [run for run in self.shown_runs() if not run.is_past or run.name in self._filter.run_ids]

    def rows(self, at: datetime, *, strip: bool) -> list[RunRow]:
        """The rows of all shown runs, newest first by their own time; with *strip* the newest have one."""
        return self.page(at, 0, None, strip=strip)

    def page(self, at: datetime, offset: int, limit: int | None, *, strip: bool = False) -> list[RunRow]:
        """At most *limit* rows from *offset* on, of all shown runs, newest first."""
        found: list[tuple[tuple[datetime, int], Run | RunRow]] = [(run.order, run) for run in self.shown_runs()]
        found += self._archive.rows(at)
        found.sort(key=itemgetter(0), reverse=True)
        chosen = found[offset:] if limit is None else found[offset : offset + limit]
        return [
            each.row(at, self._stale_after, strip=strip and offset + number < MAX_FULL_RUNS)
            if isinstance(each, Run) else each
            for number, (_, each) in enumerate(chosen)
        ]  # fmt: skip

    def snapshot(self, at: datetime) -> Snapshot:
        """Everything as plain data, for the views."""
        ends_at, counts = self._rates.until(at)
        rows, filter_ = self.page(at, 0, MAX_RUNS, strip=True), self._filter
        verdict, tiles = self._judge(self._with_open_runs(rows, at), at)
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
            "runs": rows,
            "runs_total": self._archive.count + len(self.shown_runs()),
            "loading": self._loading(),
            "recent": [_recent_row(*each) for each in reversed(self._recent)],
            "rates": {"bin_s": BIN_S, "ends_at": ends_at.isoformat(), "tf_files": counts},
            "alarms": self.alarms.rows(at),
            "totals": self._archive.totals(self.shown_runs()),
            "reference": self.reference,
        }  # fmt: skip

    def _with_open_runs(self, rows: list[RunRow], at: datetime) -> list[RunRow]:
        """*rows*, and those of runs that take data for so long that they are not among the newest."""
        listed = {row["run"] for row in rows}
        others = [run for run in self.shown_runs() if run.state in OPEN and run.name not in listed]
        return [*rows, *(run.row(at, self._stale_after, strip=False) for run in others)]

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
                agents_failure=agents.failure,
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
        return self.runs.get(name) or self._add_run(name, at)

    def _add_run(self, name: str, at: datetime, *, is_past: bool = False) -> Run:
        limit = MAX_RUNS_WITH_PAST + len(self._filter.run_ids) if is_past else MAX_OPEN_RUNS
        if len(self.runs) >= limit:
            for other in self._least_likely_first(self.runs.values())[: MAX_OPEN_RUNS // 4]:
                self._drop(other, at, f"more than {limit} runs at a time")
        run = Run(name, at, self.intervals, is_past=is_past)
        run.is_back = self._archive.take(name, is_read_again=run.is_numbered)
        run.was_shown |= run.is_back
        self.runs[name] = run
        return run

    def _loading(self) -> Loading:
        matches, namespace = self._filter.matches_run, self._filter.namespace  # a namespace may be known only later
        waiting = [
            run for run in self.runs.values() if run.is_awaited and matches(run.name, run.namespace or namespace)
        ]
        stfs = sum(self._reading.get(run.name, 0) for run in waiting)
        named = ", ".join(run.name for run in waiting[-3:][::-1]) + (" ..." if len(waiting) > 3 else "")
        text = f"reading {len(waiting)} runs from the monitor's tables: {named}" if waiting else ""
        return {"runs": len(waiting), "stfs": stfs, "text": text + (f", {stfs} STFs to go" if stfs else "")}

    def _mark_open_runs_unverified(self, reason: str, at: datetime) -> None:
        for run in self.runs.values():
            if not run.is_settled(at):
                run.mark_unverified(reason, at, compare=True)

    def _record_run_event(self, kind: str, run: Run, message: Mapping[str, Any], at: datetime) -> None:
        run.record_namespace(message.get("namespace"))
        total = message.get("total_stf_files")
        if type(total) is int and 0 < total <= MAX_SEQUENCE:
            run.stfs.extend_to(total)
            self._record_growth(run, at)
        run.record_state(kind, at, parse_timestamp(message.get("timestamp")))

    def _record_summary(self, run: Run, message: Mapping[str, Any], at: datetime) -> None:
        run.record_namespace(message.get("namespace"))
        if run.namespace in (None, message.get("namespace")):
            run.record_summary(message, at)

    def _ingest(self, message: Mapping[str, Any], at: datetime, *, backfilled: bool) -> bool:
        tf = TfFile.of(message)
        run = self.run(tf.run, at)
        if run.namespace is None:
            run.record_namespace(message.get("namespace"))
        compared_at = run.verified_at
        is_counted = run.ingest(tf, at, backfilled=backfilled)
        if is_counted and backfilled and tf.timestamp and not run.is_back:
            self._record_earlier(run, tf.timestamp)
        is_new = is_counted and not (backfilled and run.was_shown)
        if run.stfs.grown > _GROWTH:
            self._record_growth(run, at)
        if is_new and backfilled and self._filter.matches_run(run.name, run.namespace):
            self._silence.record_backfilled(tf.timestamp, compared_at, at)
        if not is_new or not (self._shows_all or self._filter.matches(message)):
            return False
        timestamp = at
        if backfilled:
            timestamp = min(at, tf.timestamp or at)
        else:
            self._rates.add(at)
        self._recent.append((timestamp, tf, str(message.get("status") or "registered"), backfilled))
        return True

    def _record_earlier(self, run: Run, made_at: datetime) -> None:
        if self._filter.matches_run(run.name, run.namespace):
            self._earlier_rates.add(made_at)

    @property
    def earlier_rates(self) -> Mapping[int, int]:
        """TF files of the tables that were made before the start: begin of a bin -> number."""
        return self._earlier_rates.counts

    def _drop_old_runs(self, at: datetime) -> None:
        """Keep only the rows of old finished runs."""
        excess = len(self.runs) - MAX_FULL_RUNS
        if excess > 0:
            finished = sorted((run for run in self.runs.values() if run.is_finished(at)), key=lambda run: run.order)
            for run in finished[:excess]:
                self._drop(run, at)

    def _least_likely_first(self, runs: Iterable[Run]) -> list[Run]:
        """Those that may be invented: not in the monitor's table; then the others, idle for the longest first."""
        return sorted(runs, key=lambda run: (self._table.contains(run.name), run.active_at))

    def _record_growth(self, run: Run, at: datetime) -> None:
        self._memory += run.stfs.grown
        run.stfs.grown = 0
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
            row = run.row(at, self._stale_after, strip=False)
            self._archive.add(run, {**row, "rate_hz": 0.0, "stale": False})


def _silent(agents: Agents, kinds: tuple[str, ...], namespaces: set[str | None]) -> dict[str | None, str]:
    found = {namespace: agents.silent(kinds, namespace) for namespace in namespaces}
    return {namespace: agent.where for namespace, agent in found.items() if agent}


def _recent_row(at: datetime, tf: TfFile, status: str, backfilled: bool) -> RecentRow:
    return {
        "at": at.isoformat(), "run": tf.run, "tf_filename": tf.tf_filename, "stf_filename": tf.stf_filename,
        "size_bytes": tf.size, "status": status, "backfilled": backfilled, "late": tf.late,
    }  # fmt: skip

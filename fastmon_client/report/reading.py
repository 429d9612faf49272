"""Reads what a report needs from the monitor's tables, within a bounded number of calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.agents import Agents
from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.report.model import RunFacts, UnreadRun, distribution, overlaps
from fastmon_client.runs import MAX_RUN_DURATION
from fastmon_client.selection import sequence_of
from fastmon_client.session import now
from fastmon_client.shifts import Window
from fastmon_client.snapshot import AgentRow
from fastmon_client.summary import ReadObserver, read_run
from fastmon_client.tffile import parse_timestamp

MAX_RUNS = 200
MAX_READS = 20_000
"""STFs whose TF files are read, of all runs: one call each."""
LATE_AFTER_S = 60.0
PROGRESS_EVERY_S = 2.0
UNTIL_NOW = timedelta(minutes=1)
"""A window that ended so long ago at most lasts until now."""
REGISTERED = "STF registered → its TF files registered"

Row = Mapping[str, Any]


class Progress:
    """Tells what is done, once it lasts longer than two seconds, then every two seconds."""

    def __init__(self, tell: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._monotonic = tell, monotonic
        self._next = monotonic() + PROGRESS_EVERY_S

    def at(self, text: str) -> None:
        """Tell *text* if it is time."""
        if self._monotonic() >= self._next:
            self._next = self._monotonic() + PROGRESS_EVERY_S
            self._tell(text)


def begin_in(window: Window, began: datetime | None, at: datetime) -> datetime | None:
    """When a run began, seen in *window* at the time *at*: what is in the table has begun.

    A start that is still to come is one of another time zone; it counts as within a window that lasts until now.
    """
    return window.begin if began and began > at and window.end >= at - UNTIL_NOW else began


def runs_in(rows: list[dict[str, Any]], window: Window, at: datetime) -> list[Row]:
    """The runs of the table that overlap *window* at the time *at*, newest first.

    One without an end lasts a day at most.
    """

    def begin_of(row: Row) -> datetime | None:
        return begin_in(window, parse_timestamp(row.get("start_time")), at)

    def end_of(row: Row) -> datetime | None:
        began, end = parse_timestamp(row.get("start_time")), parse_timestamp(row.get("end_time"))
        is_given_up = end is None and began is not None and window.end - began >= MAX_RUN_DURATION
        return began + MAX_RUN_DURATION if began and is_given_up else end

    found = [
        row for row in rows
        if type(row.get("run_number")) is int and overlaps(window, begin_of(row), end_of(row))
    ]  # fmt: skip
    return sorted(found, key=lambda row: (parse_timestamp(row["start_time"]), row["run_number"]), reverse=True)


def unread(row: Row, why: str) -> UnreadRun:
    """The run of *row*, which was not read for the reason *why*."""
    began, ended = (parse_timestamp(row.get(name)) for name in ("start_time", "end_time"))
    return UnreadRun(
        str(row["run_number"]), began.isoformat() if began else None, ended.isoformat() if ended else None, why
    )


class _Observer(ReadObserver):
    """Limits what is read of one run, and measures it."""

    def __init__(self, max_reads: int, progress: Callable[[str], None]) -> None:
        self._max_reads, self._progress = max_reads, progress
        self._allowed = 0
        self.reads = self.late = 0
        self.registered: dict[str, datetime] = {}
        self.seconds: list[float] = []
        """From the registration of each STF to that of its last TF file."""

    def may_read(self, count: int) -> bool:
        self._allowed += count
        return self._allowed <= self._max_reads

    def on_stfs(self, stfs: list[tuple[str, datetime]]) -> None:
        self.registered.update(stfs)

    def on_tf_files(self, stf: str, files: list[dict[str, Any]]) -> None:
        self.reads += 1
        self._progress(f"{self.reads} of {len(self.registered)} STFs")
        made = [at for file in files if (at := parse_timestamp(file.get("created_at")))]
        if made and stf in self.registered:
            self.seconds.append(max(0.0, (max(made) - self.registered[stf]).total_seconds()))
            self.late += self.seconds[-1] > LATE_AFTER_S


class Reading:
    """What the tables say of the runs in a window, and of the daemons."""

    def __init__(self, tables: Tables, url: str, progress: Progress, summaries: Mapping[str, Row]) -> None:
        self._tables, self._url, self._progress, self._summaries = tables, url, progress, summaries
        self._reads = 0
        self.runs: list[RunFacts | UnreadRun] = []
        """Newest first."""
        self.runs_omitted = 0
        self.daemons: list[AgentRow] | None = None
        self.problems: list[str] = []

    def read(self, window: Window) -> None:
        """Read. Raises: MonitorUnavailable, AccessDenied if not even the table of runs can be read."""
        rows = runs_in(self._tables.runs(), window, now())
        self.runs_omitted = max(0, len(rows) - MAX_RUNS)
        failure = ""
        for number, row in enumerate(rows[:MAX_RUNS]):
            self._progress.at(f"reading run {row['run_number']}, {number + 1} of {min(len(rows), MAX_RUNS)}")
            try:
                self.runs.append(unread(row, failure) if failure else self._run(row))
            except (MonitorUnavailable, AccessDenied) as exc:
                failure = f"not read: {exc}"
                self.problems.append(f"the monitor's tables could be read in part only: {exc}")
                self.runs.append(unread(row, failure))
        if not failure:
            self._read_daemons()

    def _run(self, row: Row) -> RunFacts | UnreadRun:
        number = row["run_number"]
        observer = _Observer(MAX_READS - self._reads, lambda text: self._progress.at(f"reading run {number}: {text}"))
        found = read_run(self._tables, self._url, row, self._summaries.get(str(number)), observer)
        self._reads += observer.reads
        if found is None:
            return unread(row, f"too many STFs to read: fastmon-client summary --run {number} reads them all")
        bad = {*found["missing"], *(cell["sequence"] for cell in found["strip"] if cell["kind"] == "incomplete")}
        names = {sequence: stf for stf in observer.registered if (sequence := sequence_of(None, stf)) in bad}
        return RunFacts(found, names, observer.late, distribution(REGISTERED, observer.seconds))

    def _read_daemons(self) -> None:
        agents, at = Agents(Intervals()), now()
        try:
            rows, monitor_at = self._tables.agents()
        except (MonitorUnavailable, AccessDenied) as exc:
            self.problems.append(f"daemons: not known: {exc}")
            return
        agents.record_rows(rows, monitor_at, at)
        self.daemons = [agents.row(agent, at) for agent in agents.daemons(self._namespaces())]

    def _namespaces(self) -> frozenset[str] | None:
        """Those of the runs; None: not known."""
        found = {run.row["namespace"] for run in self.runs if isinstance(run, RunFacts)}
        return frozenset(name for name in found if name) or None

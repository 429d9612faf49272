"""Queries the monitor's tables in a thread, one query after another, at a limited rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from typing import Any

from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable, Tables

MAX_WAITING = 20
"""Queries that wait before no new comparison starts."""
BURST = 100
"""Queries of TF files at once, after a pause: who comes late sees the newest run within seconds."""


@dataclass(frozen=True, slots=True)
class RunsResult:
    """The table of runs."""

    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AgentsResult:
    """The table of agents, and the time of the monitor's clock; or why the monitor has no such table."""

    rows: list[dict[str, Any]]
    monitor_at: datetime | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class StfsResult:
    """The STFs of a run: name and time of registration."""

    run: str
    stfs: list[tuple[str, datetime]]
    comparison: int = 0
    """The number of the comparison that asked."""


@dataclass(frozen=True, slots=True)
class TfFilesResult:
    """The TF files of some STFs of a run: STF name and rows."""

    run: str
    tf_files: list[tuple[str, list[dict[str, Any]]]]
    comparison: int = 0


@dataclass(frozen=True, slots=True)
class QueryFailed:
    """A failed query; `run` is None for the tables of runs and agents."""

    run: str | None
    reason: str
    comparison: int = 0


QueryResult = RunsResult | AgentsResult | StfsResult | TfFilesResult | QueryFailed


class QueryWorker:
    """Queries may be submitted from any thread; each result goes to *put*."""

    def __init__(self, tables: Tables, put: Callable[[QueryResult], None], query_hz: float) -> None:
        self._tables, self._put, self._query_hz = tables, put, query_hz
        self._allowed, self._allowed_at = float(BURST), time.monotonic()
        """Queries of TF files that may be sent at once, and since when."""
        self._queries: SimpleQueue[Callable[[], QueryResult] | None] = SimpleQueue()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="tables", daemon=True).start()

    def stop(self) -> None:
        """End after the current query; drop the others."""
        self._stopped.set()
        self._queries.put(None)

    @property
    def is_behind(self) -> bool:
        """Whether more queries wait than it makes in some seconds."""
        return self._queries.qsize() > MAX_WAITING

    def list_runs(self) -> None:
        """Query the table of runs."""
        self._submit(None, lambda: RunsResult(self._tables.runs()))

    def list_agents(self) -> None:
        """Query the table of agents."""
        self._submit(None, self._agents)

    def list_stfs(self, run: str, comparison: int = 0) -> None:
        """Query the STFs of *run*, whose name is a number."""
        self._submit(run, lambda: StfsResult(run, self._tables.stfs(int(run)), comparison), comparison)

    def fetch_tf_files(self, run: str, stfs: Sequence[str], comparison: int = 0) -> None:
        """Query the TF files of *stfs*."""
        self._submit(
            run, lambda: TfFilesResult(run, [(stf, self._tf_files(stf)) for stf in stfs], comparison), comparison
        )

    def _agents(self) -> AgentsResult:
        try:
            return AgentsResult(*self._tables.agents())
        except AccessDenied as exc:
            if exc.by_token:
                raise
            return AgentsResult([], None, str(exc))

    def _tf_files(self, stf: str) -> list[dict[str, Any]]:
        now = time.monotonic()
        self._allowed = min(BURST, self._allowed + (now - self._allowed_at) * self._query_hz) - 1
        self._allowed_at = now
        if self._stopped.wait(max(0.0, -self._allowed / self._query_hz)):
            raise MonitorUnavailable("the client is stopping")
        return self._tables.tf_files(stf)

    def _submit(self, run: str | None, query: Callable[[], QueryResult], comparison: int = 0) -> None:
        def result() -> QueryResult:
            try:
                return query()
            except (MonitorUnavailable, AccessDenied) as exc:
                return QueryFailed(run, str(exc), comparison)
            except Exception as exc:  # noqa: BLE001 (a dead thread would leave the runs uncompared)
                return QueryFailed(run, f"cannot read the monitor's tables: {type(exc).__name__}", comparison)

        self._queries.put(result)

    def _run(self) -> None:
        while (query := self._queries.get()) and not self._stopped.is_set():
            self._put(query())
        self._tables.close()

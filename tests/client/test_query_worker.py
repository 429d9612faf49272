"""The queries of the monitor's tables: their rate, and a table that is not there."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable
from fastmon_client.query_worker import (
    BURST,
    MAX_WAITING,
    AgentsResult,
    QueryFailed,
    QueryWorker,
    RunsResult,
    StfsResult,
    TfFilesResult,
)
from tests.client.state_driver import StateDriver
from tests.processes import wait_until


class FakeTables:
    """Answers at once; agents with *error*."""

    def __init__(self, error: AccessDenied | None = None) -> None:
        self._error = error

    def tf_files(self, _stf: str) -> list[dict[str, Any]]:
        return []

    def agents(self) -> tuple[list[dict[str, Any]], None]:
        if self._error:
            raise self._error
        return [], None

    def close(self) -> None:
        """Nothing is open."""


def answers_of(tables: FakeTables, query_hz: float = 1000.0) -> tuple[QueryWorker, SimpleQueue[Any]]:
    answers: SimpleQueue[Any] = SimpleQueue()
    worker = QueryWorker(tables, answers.put, query_hz)  # type: ignore[arg-type]
    worker.start()
    return worker, answers


def test_who_comes_late_reads_100_stfs_at_once_then_at_the_limited_rate() -> None:
    worker, answers = answers_of(FakeTables(), query_hz=0.001)
    worker.fetch_tf_files("7", [f"{n}.stf" for n in range(BURST)])
    assert isinstance(answers.get(timeout=20), TfFilesResult)
    worker.fetch_tf_files("7", ["last.stf"])  # waits for 1000 s, or the end
    time.sleep(0.05)
    assert answers.empty()
    worker.stop()
    assert answers.get(timeout=20) == QueryFailed("7", "the client is stopping")


def test_a_monitor_without_agents_is_told_and_makes_no_other_table_unreadable() -> None:
    worker, answers = answers_of(FakeTables(AccessDenied("monitor has no /api/systemagents/")))
    worker.list_agents()
    result = answers.get(timeout=20)
    worker.stop()
    assert result == AgentsResult([], None, "monitor has no /api/systemagents/")
    driver = StateDriver()
    driver.state.record_runs([], driver.now)
    driver.state.record_agents(result.rows, result.monitor_at, driver.now, result.failure)
    assert driver.alarms() == []
    tiles = driver.state.snapshot(driver.now)["tiles"]
    assert (tiles["monitor"]["tables"]["state"], tiles["daemon"]["state"]) == ("good", "unknown")
    assert "monitor has no /api/systemagents/" in tiles["daemon"]["text"]


def test_a_rejected_token_fails_as_for_any_table() -> None:
    worker, answers = answers_of(FakeTables(AccessDenied("monitor rejected the token (401)", by_token=True)))
    worker.list_agents()
    assert answers.get(timeout=20) == QueryFailed(None, "monitor rejected the token (401)")
    worker.stop()


class FullTables(FakeTables):
    """Of each table one row."""

    closed = False

    def runs(self) -> list[dict[str, Any]]:
        return [{"run_number": 7}]

    def stfs(self, run: int) -> list[tuple[str, datetime]]:
        if run == 8:
            raise MonitorUnavailable("monitor answered 500")
        if run == 9:
            raise KeyError("surprise")
        return [(f"{run}.stf", datetime(2026, 11, 26, tzinfo=UTC))]

    def tf_files(self, stf: str) -> list[dict[str, Any]]:
        return [{"stf_file": stf}]

    def close(self) -> None:
        self.closed = True


def test_each_answer_names_its_run_and_its_comparison() -> None:
    tables = FullTables()
    worker, answers = answers_of(tables)
    worker.list_runs()
    worker.list_agents()
    worker.list_stfs("7", 3)
    worker.fetch_tf_files("7", ["a", "b"], 4)
    worker.list_stfs("8", 5)
    worker.list_stfs("9", 6)
    assert [answers.get(timeout=20) for _ in range(6)] == [
        RunsResult([{"run_number": 7}]), AgentsResult([], None),
        StfsResult("7", [("7.stf", datetime(2026, 11, 26, tzinfo=UTC))], 3),
        TfFilesResult("7", [("a", [{"stf_file": "a"}]), ("b", [{"stf_file": "b"}])], 4),
        QueryFailed("8", "monitor answered 500", 5),
        QueryFailed("9", "cannot read the monitor's tables: KeyError", 6),
    ]  # fmt: skip
    assert not tables.closed
    worker.stop()
    wait_until(lambda: tables.closed, "the connection is closed")


def test_it_is_behind_when_more_than_20_queries_wait() -> None:
    worker = QueryWorker(FullTables(), SimpleQueue().put, 1.0)  # type: ignore[arg-type]
    for _ in range(MAX_WAITING):
        worker.list_runs()
    assert not worker.is_behind
    worker.list_runs()
    assert worker.is_behind

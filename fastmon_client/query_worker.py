"""Asks the monitor's tables in a thread of its own, one question after the other, not too many a second.

It must not know what the answers are for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from typing import Any

from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable, Tables


@dataclass(frozen=True, slots=True)
class RunsResult:
    """The table of runs."""

    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StfsResult:
    """The STFs of a run."""

    run: str
    stfs: list[tuple[str, datetime]]


@dataclass(frozen=True, slots=True)
class TfFilesResult:
    """The TF files of some STFs of a run."""

    run: str
    tf_files: list[tuple[str, list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class QueryFailed:
    """A question without answer; `run` is None where it was for the table of runs."""

    run: str | None
    reason: str


QueryResult = RunsResult | StfsResult | TfFilesResult | QueryFailed


class QueryWorker:
    """Questions may be put from any thread; each answer goes to *put*."""

    def __init__(self, tables: Tables, put: Callable[[QueryResult], None], asks_hz: float) -> None:
        self._tables, self._put, self._rest_s = tables, put, 1 / asks_hz
        self._questions: SimpleQueue[Callable[[], QueryResult] | None] = SimpleQueue()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._answer_all, name="tables", daemon=True).start()

    def stop(self) -> None:
        """End as soon as the present question is answered; questions that wait are not put any more."""
        self._stopped.set()
        self._questions.put(None)

    def list_runs(self) -> None:
        """Ask for the table of runs."""
        self._ask(None, lambda: RunsResult(self._tables.runs()))

    def list_stfs(self, run: str) -> None:
        """Ask for the STFs of a run, whose name is a number."""
        self._ask(run, lambda: StfsResult(run, self._tables.stfs(int(run))))

    def fill(self, run: str, stfs: Sequence[str]) -> None:
        """Ask for the TF files of *stfs*."""
        self._ask(run, lambda: TfFilesResult(run, [(stf, self._tf_files(stf)) for stf in stfs]))

    def _tf_files(self, stf: str) -> list[dict[str, Any]]:
        if self._stopped.wait(self._rest_s):
            raise MonitorUnavailable("the client ends")
        return self._tables.tf_files(stf)

    def _ask(self, run: str | None, question: Callable[[], QueryResult]) -> None:
        def answered() -> QueryResult:
            try:
                return question()
            except (MonitorUnavailable, AccessDenied) as exc:
                return QueryFailed(run, str(exc))

        self._questions.put(answered)

    def _answer_all(self) -> None:
        while (question := self._questions.get()) and not self._stopped.is_set():
            self._put(question())
        self._tables.close()

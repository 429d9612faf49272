"""Registers STFs that nobody else registers, with their runs: found files, and STFs whose data agent stays silent.

It must not know where an STF comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmon_daemon.monitor.client import MonitorClient
from fastmon_daemon.monitor.responses import RUNS, STF_FILES, MeaninglessAnswer, OutcomeUnknown, RequestRejected
from fastmon_daemon.monitor.rows import id_in, integer_in, json_text


class StfRegistrar:
    """Registers an STF and its run; safe to repeat, and from any thread."""

    def __init__(self, monitor: MonitorClient) -> None:
        self._monitor = monitor
        self._run_keys: dict[int, int] = {}
        """Run number -> the monitor's primary key of the run."""

    def register(self, run_number: int, run_began_at: str, stf: Mapping[str, object]) -> bool:
        """Register *stf*, a row without its run; False if the monitor has an STF of that name, in whichever run.

        *run_began_at* (ISO 8601) is used if the monitor does not have the run yet.

        Raises: LinkDown, LinkBlocked, TransientError; PermanentError if the monitor rejects it.
        """
        row = {"run": self._run_key(run_number, run_began_at), "status": "registered", **stf}
        try:
            self._monitor.request("POST", STF_FILES, lambda row: id_in(row, "file_id"), body=json_text(row))
        except RequestRejected as exc:
            if exc.has_error("run", "does not exist"):
                self._run_keys.pop(run_number, None)  # the monitor was reset: its keys have changed
                raise OutcomeUnknown(f"the monitor has lost run {run_number}: {exc}") from exc
            if not exc.has_error("stf_filename", "already exists"):
                raise
            return False
        return True

    def _run_key(self, number: int, began_at: str) -> int:
        if number not in self._run_keys:
            key = self._key_in_stfs(number) or self._key_of_new(number, began_at) or self._key_in_list(number)
            self._run_keys[number] = key
        return self._run_keys[number]

    def _key_in_stfs(self, number: int) -> int | None:
        # The list of runs cannot be filtered, but each STF of the run has its key.
        query = {"run_number": str(number), "limit": "1"}
        keys: list[int] = []
        self._monitor.get_rows(STF_FILES, query, lambda row: keys.append(integer_in(row, "run")), most=1)
        return keys[0] if keys else None

    def _key_of_new(self, number: int, began_at: str) -> int | None:
        row = {"run_number": number, "start_time": began_at}
        try:
            return self._monitor.request("POST", RUNS, lambda row: integer_in(row, "run_id"), body=json_text(row))
        except RequestRejected as exc:
            if not exc.has_error("run_number", "already exists"):
                raise
            return None

    def _key_in_list(self, number: int) -> int:
        keys: list[int] = []

        def take(row: Any) -> bool:
            if isinstance(row, dict) and row.get("run_number") == number:
                keys.append(integer_in(row, "run_id"))
            return not keys

        self._monitor.get_rows(RUNS, {}, take)
        if not keys:
            raise MeaninglessAnswer(f"run {number} exists in the monitor, but is not in its list of runs")
        return keys[0]

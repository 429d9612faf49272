"""Registers an STF that nobody else registers, with its run: found files, and STFs whose data agent stayed silent.

It must not know where the STF comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.monitor.client import MonitorClient
from fastmon_daemon.monitor.responses import RUNS, STF_FILES, OutcomeUnknown, RequestRejected
from fastmon_daemon.monitor.rows import json_text


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStfFile:
    """One STF file as it shall stand in the monitor."""

    stf_filename: str
    run_number: int
    run_began_at: str
    """ISO 8601; used where the monitor does not know the run yet."""
    file_size_bytes: int | None = None
    checksum: str | None = None
    tf_count: int | None = None
    metadata: dict[str, object] = field(default_factory=dict)


class StfRegistrar:
    """The calls that make an STF and its run stand in the monitor; safe to repeat, and from any thread."""

    def __init__(self, monitor: MonitorClient) -> None:
        self._monitor = monitor
        self._run_keys: dict[int, int] = {}
        """Run number -> the monitor's key of the run."""

    def register(self, stf: NewStfFile) -> None:
        """Make *stf* stand in the monitor; what stands there already is left as it is.

        Raises LinkDown, LinkBlocked, TransientError; PermanentError where the monitor will not have it.
        """
        row = {
            "run": self._run_key(stf), "stf_filename": stf.stf_filename, "file_size_bytes": stf.file_size_bytes,
            "checksum": stf.checksum, "tf_count": stf.tf_count, "status": "registered", "metadata": stf.metadata,
        }  # fmt: skip
        try:
            self._monitor.post(STF_FILES, _taken, body=json_text(row))
        except RequestRejected as exc:
            if exc.says("run", "does not exist"):
                self._run_keys.pop(stf.run_number, None)  # the monitor was reset: ask for its key again
                raise OutcomeUnknown(f"the monitor has lost run {stf.run_number}: {exc}") from exc
            if not exc.says("stf_filename", "already exists"):
                raise

    def _run_key(self, stf: NewStfFile) -> int:
        number = stf.run_number
        if number not in self._run_keys:
            self._run_keys[number] = self._key_by_its_stfs(number) or self._key_of_new(stf) or self._key_in_list(number)
        return self._run_keys[number]

    def _key_by_its_stfs(self, number: int) -> int | None:
        # The list of runs cannot be filtered; an STF of the run names its key.
        page = self._monitor.get(STF_FILES, {"run_number": str(number), "limit": "1"}, _results)
        return int(page[0]["run"]) if page else None

    def _key_of_new(self, stf: NewStfFile) -> int | None:
        row = {"run_number": stf.run_number, "start_time": stf.run_began_at}
        try:
            return self._monitor.post(RUNS, _run_key, body=json_text(row))
        except RequestRejected as exc:
            if not exc.says("run_number", "already exists"):
                raise
            return None

    def _key_in_list(self, number: int) -> int:
        key = self._monitor.get(
            RUNS, {}, lambda rows: next((_run_key(r) for r in rows if r["run_number"] == number), 0)
        )
        if not key:
            raise PermanentError(f"the monitor says that run {number} exists, and does not list it")
        return key


def _taken(row: Any) -> str:
    return str(row["stf_filename"])


def _results(page: Any) -> list[dict[str, Any]]:
    return list(page["results"])


def _run_key(row: Any) -> int:
    return int(row["run_id"])

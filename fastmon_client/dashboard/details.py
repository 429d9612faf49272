"""Answers what a page asks about one run or STF: from the monitor's tables, and the daemon's summary of a run."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from fastmon_client.journal_file import MAX_SUMMARIES
from fastmon_client.message_filter import RUN_SUMMARY
from fastmon_client.monitor_session import MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.output import Quiet
from fastmon_client.reference import ProfileReader
from fastmon_client.selection import sequence_of
from fastmon_client.session import now
from fastmon_client.snapshot import ProfileRow
from fastmon_client.tffile import run_of

KEPT_S = 10.0
"""Pages that ask for the same get the same answer for this time."""
MAX_KEPT = 20
MAX_WAITING = 20
"""Questions that wait for the monitor; more are refused."""

Rows = Sequence[Mapping[str, Any]]
_Answer = TypeVar("_Answer")


class Summaries(Quiet):
    """The daemon's summary of each run, as heard; an output of the session."""

    def __init__(self, earlier: Mapping[str, dict[str, Any]] | None = None, *, bell: bool = False) -> None:
        """*earlier*: those that were heard before this process."""
        super().__init__(bell=bell)
        self._of_run = OrderedDict((run, {**each, "run": run}) for run, each in (earlier or {}).items())

    def write(self, message: Mapping[str, Any], *, backfilled: bool) -> None:  # noqa: ARG002
        """Keep *message* if it is a summary; called in the session's thread."""
        run = run_of(message)
        if message.get("msg_type") == RUN_SUMMARY and run is not None:
            self._of_run[run] = {**message, "run": run}
            self._of_run.move_to_end(run)
            if len(self._of_run) > MAX_SUMMARIES:
                self._of_run.popitem(last=False)

    def of(self, run: str) -> dict[str, Any] | None:
        """The last summary of *run*."""
        return self._of_run.get(run)

    def rows(self) -> list[dict[str, Any]]:
        """All, oldest first."""
        return list(self._of_run.values())


class TableDetails:
    """Reads the tables in a thread of its own, one question after another; `close` ends it."""

    def __init__(
        self,
        monitor: MonitorSession,
        summaries: Summaries,
        rows: Callable[[int, int | None], Rows],
        earlier_rates: Callable[[], Mapping[int, int]] = dict,
    ) -> None:
        """*rows* (offset, limit) and *earlier_rates* are those of the session."""
        self._url = monitor.url.rstrip("/")
        self._summaries = summaries
        self._rows = rows
        self.earlier_rates = earlier_rates
        """TF files made before the start: begin of a bin of 5 s -> number."""
        self._tables = Tables(monitor)
        self._profiles = ProfileReader(self._tables, now)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="details")
        self._kept: OrderedDict[tuple[str, str], tuple[float, Any]] = OrderedDict()
        self._waiting = 0

    def close(self) -> None:
        """End the thread after the current question."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, name: str, sequences: Iterable[int]) -> dict[str, Any]:
        """The names of *sequences*, as far as the table of STFs has them; and the summary.

        Raises: MonitorUnavailable, AccessDenied.
        """
        found: dict[str, Any] = {"summary": self._summaries.of(name), "monitor_page": None, "stfs": None, "names": {}}
        if not _is_number(name):
            return found
        stfs = await self._stfs(name)
        wanted = set(sequences)
        names = {sequence: stf for stf, _ in stfs if (sequence := sequence_of(None, stf)) in wanted}
        return {**found, "monitor_page": f"{self._url}/runs/{int(name)}/", "stfs": len(stfs), "names": names}

    async def runs(self) -> list[dict[str, Any]]:
        """The table of runs. Raises: MonitorUnavailable, AccessDenied."""
        return await self._ask(("runs", ""), self._tables.runs)

    async def profile(self, run: str) -> ProfileRow:
        """The run minute by minute; while `to_read` is not 0, each call reads some more STFs.

        Raises: MonitorUnavailable, AccessDenied, LookupError if the monitor has no such run.
        """
        return await self._ask(
            ("profile", run), lambda: self._profiles.read(run), is_kept=lambda found: not found["to_read"]
        )

    async def stf(self, run: str, name: str) -> dict[str, Any]:
        """The TF files of an STF, named by its file or by its sequence number.

        Raises: MonitorUnavailable, AccessDenied, LookupError if the run has no such STF.
        """
        stfs = await self._stfs(run) if _is_number(run) else []
        wanted = int(name) if _is_number(name) else None
        stfs = sorted(stfs, key=lambda each: (sequence_of(None, each[0]) or 0, each[0]))
        place = next((n for n, (stf, _) in enumerate(stfs)
                      if stf == name or (wanted is not None and sequence_of(None, stf) == wanted)), None)  # fmt: skip
        if place is None:
            raise LookupError(f"the monitor has no STF {name} of run {run}")
        stf, registered_at = stfs[place]
        rows = await self._ask(("stf", stf), lambda: self._tables.tf_files(stf))
        fields = ("tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes", "status", "created_at")
        metadata = [row["metadata"] for row in rows if isinstance(row.get("metadata"), dict)]
        return {
            "run": run,
            "stf_filename": stf,
            "sequence": sequence_of(None, stf),
            "registered_at": registered_at.isoformat(),
            "monitor_page": f"{self._url}/runs/{int(run)}/",
            "before": stfs[place - 1][0] if place else None,
            "after": stfs[place + 1][0] if place + 1 < len(stfs) else None,
            "tf_expected": next((each.get("tf_files_per_stf") for each in metadata), None),
            "agent": next((each.get("agent_name") for each in metadata), None),
            "tf_files": sorted(({name: row.get(name) for name in fields} for row in rows), key=_order),
        }

    def rows(self, limit: int | None) -> list[Mapping[str, Any]]:
        """The rows of at most *limit* runs, newest first, without strips."""
        return list(self._rows(0, limit))

    def summaries(self) -> list[dict[str, Any]]:
        """The daemon's summaries of runs, the newest last."""
        return self._summaries.rows()

    async def _stfs(self, run: str) -> list[tuple[str, datetime]]:
        return await self._ask(("run", run), lambda: self._tables.stfs(int(run)))

    async def _ask(
        self,
        key: tuple[str, str],
        question: Callable[[], _Answer],
        is_kept: Callable[[_Answer], bool] = lambda _answer: True,
    ) -> _Answer:
        at, kept = self._kept.get(key, (0.0, None))
        if kept is not None and time.monotonic() - at < KEPT_S:
            answer: _Answer = kept
            return answer
        if self._waiting >= MAX_WAITING:
            raise MonitorUnavailable("too many questions wait for the monitor: try again")
        self._waiting += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, question)
        finally:
            self._waiting -= 1
        if not is_kept(answer):
            return answer
        self._kept[key] = time.monotonic(), answer
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return answer


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _order(row: Mapping[str, Any]) -> tuple[int, str]:
    first = row["tf_first"]
    return first if type(first) is int else -1, str(row["tf_filename"])

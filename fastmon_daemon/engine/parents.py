"""The STF of which TF files are registered: that the monitor has it, in our run, and what its row says of it.

The monitor knows STFs and TF files by name alone, fastmon by run and name. So the monitor is asked for the row of an
STF, but only where the answer may differ: for the first STF of each run, for a name that does not name its run or that
another run has, for each STF of a run in which names of other runs were found, and for each STF of a run whose rows say
what our messages leave out.
This module must not know how TFs are sampled, nor how results are stored.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from loguru import logger

from fastmon_daemon.base.errors import ParentNotRegistered, PermanentError
from fastmon_daemon.messages import names_its_run, run_number
from fastmon_daemon.monitor import MonitorClient, StfFile, StfOfAnotherRun, StfRegistrar
from fastmon_daemon.outbox import Origin, Stf

_PATIENCE_S = 2.0
"""STFs of a run wait so long for the answer about its first STF; then they ask themselves."""

_MAX_RUNS = 1000
"""Runs that are remembered; what was learned of the oldest is asked for again."""

_LISTED = frozenset({Origin.POLLED, Origin.RECOVERED})
"""Origins of STFs that the monitor listed in their run: their row is known."""


@dataclass(slots=True)
class _RunRows:
    """What this process has learned of the rows of one run's STFs."""

    first: threading.Lock = field(default_factory=threading.Lock)
    """Held by the STF that asks while nothing is learned."""
    is_learned: bool = False
    key: int | None = None
    """The monitor's key of the run."""
    has_tf_counts: bool = False
    has_sizes: bool = False
    has_strangers: bool = False
    """A name of the run belongs to another run at the monitor: all others are asked for too."""


class Parents:
    """Thread-safe. It remembers a few facts of each run; after a restart they are asked for again."""

    def __init__(self, monitor: MonitorClient, agent_name: str) -> None:
        self._monitor = monitor
        self._registrar = StfRegistrar(monitor)
        self._agent_name = agent_name
        self._runs: dict[tuple[str, str], _RunRows] = {}

    def prepare(self, stf: Stf, *, may_register: bool) -> StfFile | None:
        """Call this before the first TF file of *stf* is registered; the monitor's row, if it was asked for.

        A found file is registered, as an STF that the monitor does not have if *may_register*.

        Raises: ParentNotRegistered; PermanentError if the monitor has it in another run; LinkDown, TransientError.
        """
        number = run_to_check(stf)
        if number is None:
            return None
        if stf.origin is Origin.FILE:
            return self.register(stf)
        rows = self._rows_of(stf)
        with _turn(rows):
            if not _must_ask(stf, rows):
                return None
            row = self._ask(stf, number, rows)
        if row is not None:
            return row
        if not may_register:
            raise ParentNotRegistered(f"the STF is not registered yet: the monitor does not list {stf.filename}")
        return self.register(stf)

    def register(self, stf: Stf) -> StfFile | None:
        """Register *stf* itself; if the monitor has an STF of that name, return its row.

        Raises: LinkDown, LinkBlocked, TransientError; PermanentError if the monitor rejects it, or has it in another
        run.
        """
        number = run_number(stf.run_id)
        if number is None:
            raise PermanentError(f"run is not a number: {stf.run}: the monitor cannot store it")
        body = json.loads(stf.body)
        keys = ("file_url", "original_path", "modified_at", "state", "substate", "start", "end")
        metadata = {key: body[key] for key in keys if body.get(key) is not None}
        row = {
            "stf_filename": stf.filename,
            "file_size_bytes": stf.size_bytes,
            "checksum": stf.checksum,
            "tf_count": stf.tf_count,
            "metadata": {"registered_by": self._agent_name, **metadata},
        }
        is_new = self._registrar.register(number, stf.born_at, row)
        return None if is_new else self._ask(stf, number, self._rows_of(stf))

    def row_was_read(self, stf: Stf, run_key: int | None) -> None:
        """The monitor's row of *stf*, which somebody else has read, belongs to the run with the key *run_key*.

        The main path does not ask for each STF whose name names its run: it may have registered TF files of *stf*
        already. If that is an STF of another run, it asks for all that follow.
        """
        rows = self._runs.get((stf.namespace, stf.run))
        if rows is None or rows.has_strangers or rows.key is None or run_key in (None, rows.key):
            return
        rows.has_strangers = True
        what = f"{stf.filename}: the monitor knows it as an STF of another run than {stf.run}"
        logger.error("{}: give the files of each run other names", what)

    def forget(self, namespace: str, run: str) -> None:
        """An operator purged the run: if it begins anew, it is another one."""
        self._runs.pop((namespace, run), None)

    def _rows_of(self, stf: Stf) -> _RunRows:
        key = stf.namespace, stf.run
        if key not in self._runs and len(self._runs) >= _MAX_RUNS:
            self._runs.pop(list(self._runs)[0], None)  # noqa: RUF015 (others may change it meanwhile)
        return self._runs.setdefault(key, _RunRows())

    def _ask(self, stf: Stf, number: int, rows: _RunRows) -> StfFile | None:
        try:
            row = self._monitor.stf_file(stf.filename, number)
        except StfOfAnotherRun:
            rows.has_strangers = True
            raise
        if row is not None:
            rows.has_tf_counts |= row.tf_count is not None
            rows.has_sizes |= row.file_size_bytes is not None
            rows.is_learned, rows.key = True, row.run_key
        return row


def run_to_check(stf: Stf) -> int | None:
    """The number of the run in which the monitor must have *stf*; None: that is known, or cannot be compared."""
    return None if stf.origin in _LISTED else run_number(stf.run_id)


@contextmanager
def _turn(rows: _RunRows) -> Iterator[None]:
    """While nothing is learned of a run, one STF asks and the others wait for its answer, but not for long."""
    waited = not rows.is_learned and rows.first.acquire(timeout=_PATIENCE_S)
    try:
        yield
    finally:
        if waited:
            rows.first.release()


def _must_ask(stf: Stf, rows: _RunRows) -> bool:
    tells_more = (rows.has_tf_counts and stf.tf_count is None) or (rows.has_sizes and stf.size_bytes is None)
    may_be_anothers = rows.has_strangers or stf.is_doubtful or not names_its_run(stf.filename, stf.run_id)
    return not rows.is_learned or may_be_anothers or tells_more

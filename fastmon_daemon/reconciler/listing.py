"""Reads the monitor's list of a run, or its count, and compares it with the database, in the thread of the call.

However long the list and the run are, the engine's thread does not wait for it. Of the STFs that are known, only the
listed names are in memory, while the list is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from fastmon_daemon.outbox import OutboxReader, RunRow, open_for_reading, storage_errors
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.runs.poll_state import RunListing


class RunLister:
    """One list at a time, because a long one needs memory. Thread-safe."""

    def __init__(self, config: ReconcilerConfig, room: Callable[[], int]) -> None:
        """*room* returns how many STFs may be read whole."""
        self._config = config
        self._room = room
        self._one_at_a_time = threading.Lock()

    def count(self, row: RunRow, number: int) -> RunListing | None:
        """The count of the run's STFs, if there are as many as we know; else None.

        Raises: as `read`.
        """
        count, run_key = self._config.monitor.stf_count(number)
        with self._database() as reports:
            known = reports.runs.stored_count(row)
        listing = RunListing(count, absent=set(), new=[], unlisted=set(), run_key=run_key, is_whole=False)
        return listing if count == known else None

    @contextmanager
    def _database(self) -> Iterator[OutboxReader]:
        path = self._config.database
        with storage_errors(path), closing(open_for_reading(path)) as reports:
            yield reports

    def read(
        self, key: tuple[str, str], number: int, recovering: set[str], asked_at: datetime, at_least: int = 0
    ) -> RunListing:
        """The list of the run (namespace, run); STFs that are *recovering* are absent, but not read whole again.

        What was registered before *asked_at* is in the list; *at_least* as of `MonitorClient.stf_files`.

        Raises: LinkDown, LinkBlocked, TransientError; StorageError if the database cannot be read.
        """
        config, absent = self._config, set[str]()
        with self._one_at_a_time, self._database() as reports:

            def new_of(names: Collection[str]) -> set[str]:
                unknown = reports.runs.unknown_names(*key, names)
                absent.update(unknown)
                return unknown - recovering

            stfs = config.monitor.stf_files(number, at_least=at_least, new_of=new_of, most=self._room())
            unlisted = reports.runs.unlisted_names(*key, config.listable_states, asked_at, stfs.names)
        return RunListing(len(stfs.names), absent, stfs.new, unlisted, stfs.run_key)

"""The cache of files that were ingested, by fingerprint. A file that is gone for days is evicted.

A file that a scan does not see may be deleted, or its folder may be unmounted or unreadable: only the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from loguru import logger

from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.intake.found_files import Fingerprint

EVICT_AFTER_S = 2 * 86400.0
"""Seconds after which a deleted file is evicted; a restart resets the count."""
EVICT_BATCH = 500
"""Files evicted in one step: a few milliseconds."""

Evict = Callable[[Sequence[str]], object]
"""Deletes fingerprints from the database."""


@dataclass(slots=True)
class _Entry:
    name: str
    seen_at: float


class SeenFileCache:
    """Files that this process or an earlier one ingested; times are monotonic seconds. Used by one thread."""

    def __init__(self, ingested: Mapping[str, str], evict: Evict, now: float) -> None:
        """*ingested* maps fingerprint to file name, as stored in the database."""
        self._entries = {fingerprint: _Entry(name, now) for fingerprint, name in ingested.items()}
        self._evict = evict
        self._scan_at = now
        self._devices: set[str] = set()
        self._may_evict = False
        """Whether files may be left to evict after the last scan."""
        self._is_failing = False

    def begin_scan(self, now: float) -> None:
        """Start a scan: files seen from now on belong to it."""
        self._scan_at = now
        self._devices.clear()

    def see(self, seen: Fingerprint) -> str | None:
        """Note that a file exists. Returns the name under which it was ingested, None if it was not."""
        self._devices.add(str(seen.device))
        entry = self._entries.get(str(seen))
        if entry is None:
            return None
        entry.seen_at = self._scan_at
        return entry.name

    def end_scan(self, *, complete: bool) -> None:
        """Find deleted files. *complete*: the scan could list every folder and read every file's status.

        Files on a device without any visible file are kept: the device may be unmounted.
        """
        for fingerprint, entry in self._entries.items():
            is_visible = complete and fingerprint.partition(":")[0] in self._devices
            if entry.seen_at < self._scan_at and not is_visible:
                entry.seen_at = self._scan_at
        self._may_evict = True

    def add(self, seen: Fingerprint, name: str) -> None:
        """Add a file that was ingested as *name*, or that is to be ignored (empty name)."""
        self._entries[str(seen)] = _Entry(name, self._scan_at)

    def evict_batch(self) -> None:
        """Evict up to `EVICT_BATCH` files. After a failure the next attempt waits for another scan."""
        if not self._may_evict:
            return
        old = (each for each, entry in self._entries.items() if self._scan_at - entry.seen_at >= EVICT_AFTER_S)
        batch = list(islice(old, EVICT_BATCH))
        self._may_evict = len(batch) == EVICT_BATCH
        try:
            if batch:
                self._evict(batch)
        except Exception as exc:  # noqa: BLE001 (neither a full disk nor a bug of ours may stop the watcher)
            if not self._is_failing:
                expected = isinstance(exc, FastmonError)
                logger.opt(exception=None if expected else exc).warning(
                    "watcher: could not evict deleted files, retrying after each scan: {}", exc
                )
            self._is_failing, self._may_evict = True, False
            return
        self._is_failing = False
        for each in batch:
            del self._entries[each]

"""What was taken: files by their fingerprints, until scans that saw everything have not seen them for days.

A file that is not seen may be gone, or behind a folder that is unmounted or cannot be listed: only the first counts.
It must not know where the memory is kept beyond this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from loguru import logger

from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.intake.found_files import Fingerprint

FORGOTTEN_AFTER_S = 2 * 86400.0
"""Seconds after which a file that is gone is forgotten; a restart begins them anew."""
AT_ONCE = 500
"""Files forgotten in one step: a few milliseconds."""

Forget = Callable[[Sequence[str]], object]
"""Drops fingerprints from what the next life will remember."""


@dataclass(slots=True)
class _Taken:
    name: str
    seen_at: float


class SeenFileCache:
    """The files that were taken, in this life and in former ones; times are those of the monotonic clock."""

    def __init__(self, taken: Mapping[str, str], forget: Forget, now: float) -> None:
        self._taken = {fingerprint: _Taken(name, now) for fingerprint, name in taken.items()}
        self._forget = forget
        self._scan_at = now
        self._devices: set[str] = set()
        self._gone: dict[str, None] = {}
        self._failed_at: float | None = None
        """The scan after which the last step failed."""

    def begin_scan(self, now: float) -> None:
        """What is seen from now on is seen by this scan."""
        self._scan_at = now
        self._devices.clear()

    def see(self, seen: Fingerprint) -> str | None:
        """A file is there; the name under which it was taken, None where it was not."""
        self._devices.add(str(seen.device))
        known = self._taken.get(str(seen))
        if known is None:
            return None
        known.seen_at = self._scan_at
        return known.name

    def end_scan(self, *, whole: bool) -> None:
        """Find what is gone for good; *whole*: all there is could be listed and looked at.

        Of a device without any file it cannot be said that its files are gone: it may be unmounted.
        """
        for fingerprint, taken in self._taken.items():
            if taken.seen_at < self._scan_at:
                if not whole or fingerprint.partition(":")[0] not in self._devices:
                    taken.seen_at = self._scan_at
                elif self._is_old(taken):
                    self._gone[fingerprint] = None

    def take(self, seen: Fingerprint, name: str) -> None:
        """This file was taken under this name; without a name it is left alone for good."""
        self._taken[str(seen)] = _Taken(name, self._scan_at)

    def forget_some(self) -> None:
        """One small step of forgetting; after one that failed the next is taken when there was another scan."""
        if not self._gone or self._failed_at == self._scan_at:
            return
        those = list(islice(self._gone, AT_ONCE))
        gone = [each for each in those if self._is_old(self._taken[each])]  # the others have come back meanwhile
        try:
            if gone:
                self._forget(gone)
        except Exception as exc:  # noqa: BLE001 (neither a full disk nor a mistake of ours keeps a file from being found)
            if self._failed_at is None:
                expected = isinstance(exc, FastmonError)
                logger.opt(exception=None if expected else exc).warning(
                    "files that are gone cannot be forgotten now, tried again after each scan: {}", exc
                )
            self._failed_at = self._scan_at
            return
        self._failed_at = None
        for each in gone:
            del self._taken[each]
        for each in those:
            del self._gone[each]

    def _is_old(self, taken: _Taken) -> bool:
        return self._scan_at - taken.seen_at >= FORGOTTEN_AFTER_S

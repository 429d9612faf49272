"""The watcher: waits until STF files stop growing and hands each one over once.

File system events make it fast; periodic scans make it complete, because network file systems send no events.
"""

from __future__ import annotations

import os
import queue
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from os import fsdecode, walk
from os.path import lexists, realpath
from pathlib import Path

from loguru import logger
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.intake.found_files import Fingerprint, FoundFile, run_in
from fastmon_daemon.intake.seen_file_cache import SeenFileCache
from fastmon_daemon.outbox import ReceiveOutcome
from fastmon_daemon.settings import Settings

POLL_S = 0.5
"""Seconds between two polls of the files that may still grow."""
STALLED_AFTER_S = 60.0
"""Seconds in which the watcher finishes a step, for example reads the status of one file."""
MAX_EVENTS = 10_000
"""Events that wait; the files of further ones are found by the next scan."""
MAX_CANDIDATES = 10_000
"""Files that may still grow; further ones follow when these are handed over."""
MAX_WARNINGS = 100
"""Problems of files that are logged for each scan; further ones are counted."""
_MAX_PROBLEMS = 100_000
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True)
class _Candidate:
    """A file that may still grow."""

    seen: Fingerprint
    since: float


class Watcher:
    """Finds complete files. *ingest* is called for each on the watcher's thread; if it raises, a later scan retries."""

    def __init__(
        self, settings: Settings, ingest: Callable[[FoundFile], ReceiveOutcome], cache: SeenFileCache, clock: Clock
    ) -> None:
        self._settings = settings
        self._ingest = ingest
        self._cache = cache
        self._clock = clock
        self._candidates: dict[Path, _Candidate] = {}
        self._problems: dict[Path, str] = {}
        """The problem that was logged for each file."""
        self._warnings = 0
        """Problems since the last scan began."""
        self._step = ("", 0.0)
        """What the thread waits for, and since when; empty: nothing."""
        self._can_store = True
        self._changed: queue.Queue[Path] = queue.Queue(MAX_EVENTS)
        """Files named by file system events."""
        self._observer: BaseObserver | None = None
        self._next_scan_at = self._next_poll_at = clock.monotonic()
        self._is_first_scan = True
        self._too_old = 0
        """Files that the first scan ignored."""
        self._scan_complete = True
        """Whether the current scan could list every folder and read every file's status."""

    def tick(self) -> float:
        """Poll; returns the seconds until the next tick. File system events count from the first tick on."""
        self._observer = self._observer or _observe(self._settings.watch_dirs, self._changed)
        self.poll()
        return POLL_S

    def fault(self) -> str:
        """Return why no file is taken, if the thread waits for a file system that does not answer; for any thread."""
        where, since = self._step
        age_s = self._clock.monotonic() - since
        if not where or age_s <= STALLED_AFTER_S:
            return ""
        return f"watcher: no progress for {age_s:.0f} s at {where}: its file system does not answer"

    def _begin(self, step: Path | str) -> None:
        self._step = str(step), self._clock.monotonic()

    def on_stop(self) -> None:
        """Stop the events. Files that were not handed over are found at the next start."""
        if self._observer is not None:
            self._observer.stop()

    def may_find_more(self) -> bool:
        """Poll, if it is time; whether a file that was found may still grow and be stored (for `run --once`)."""
        now = self._clock.monotonic()
        if now >= self._next_poll_at:
            self._next_poll_at = now + POLL_S
            self.poll()
        return bool(self._candidates) and self._can_store

    @property
    def can_store(self) -> bool:
        """Whether the last complete file could be stored."""
        return self._can_store

    def poll(self) -> None:
        """Check the files named by events and the files that may still grow; scan the folders when a scan is due."""
        try:
            self._poll()
        finally:
            self._step = ("", 0.0)

    def _poll(self) -> None:
        self._begin("the queue of events")
        for _ in range(self._changed.qsize()):  # those that come meanwhile have the next poll
            self._consider(self._changed.get())
        for path in list(self._candidates):
            self._check(path)
        self._begin("the database")
        self._cache.evict_batch()
        if self._clock.monotonic() >= self._next_scan_at:
            self._scan_all()

    def _scan_all(self) -> None:
        began, self._scan_complete = self._clock.monotonic(), True
        self._end_warnings()
        self._cache.begin_scan(began)
        for folder in self._settings.watch_dirs:
            self._begin(folder)
            for path in self._scan(folder):
                self._consider(path)
        self._cache.end_scan(complete=self._scan_complete)
        if self._scan_complete:
            self._problems = {path: problem for path, problem in self._problems.items() if lexists(path)}
        if self._too_old:
            logger.warning("watcher: {} files are older than FASTMON_LOOKBACK_MINUTES: ignored", self._too_old)
        self._is_first_scan, self._too_old = False, 0
        self._next_scan_at = began + self._settings.check_interval_s

    def _scan(self, folder: Path) -> Iterator[Path]:
        def failed(exc: OSError) -> None:
            where = Path(exc.filename or folder)
            if isinstance(exc, FileNotFoundError) and where != folder:
                return  # it was deleted after its parent was listed: the scan is still complete
            self._scan_complete = False
            self._warn(where, f"cannot be listed: {exc.strerror}: fix its permissions")

        for where, below, names in walk(folder, onerror=failed):
            self._begin(where)
            if "lost+found" in below:
                below.remove("lost+found")  # it belongs to the file system
            for name in below:
                self._name_link(Path(where, name))
            for name in names:
                yield Path(where, name)

    def _name_link(self, path: Path) -> None:
        """Log a symbolic link to a folder that is not watched: links are not followed, one may lead to all disks."""
        if not path.is_symlink():
            return
        target = realpath(path)
        if not any(Path(target).is_relative_to(realpath(each)) for each in self._settings.watch_dirs):
            self._warn(path, f"symbolic link to a folder is not followed: add {target} to FASTMON_WATCH_DIRS")

    def _consider(self, path: Path) -> None:
        """Make *path* a candidate if it is a matching file that was not ingested before."""
        if path in self._candidates or not any(fnmatchcase(path.name, each) for each in self._settings.file_patterns):
            return
        self._begin(path)
        try:
            status = path.lstat()
        except OSError as exc:
            self._scan_complete &= isinstance(exc, FileNotFoundError)  # such a file was just deleted
            self._warn(path, f"cannot read its status: {exc.strerror}")
            return
        if problem := _wrong_kind(status):
            self._warn(path, problem)
            return
        seen = Fingerprint.of(status)
        if (name := self._cache.see(seen)) is not None:
            if name not in ("", path.name):
                self._warn(path, f"already ingested as {name}, since renamed: ignored")
        elif self._problems.get(path, "").endswith(str(seen)):
            pass  # rejected, and not changed since
        elif self._is_too_old(seen):  # before the limit of candidates: the next scans would take the others
            self._cache.add(seen, "")
            self._too_old += 1
        elif len(self._candidates) < MAX_CANDIDATES:
            self._candidates[path] = _Candidate(seen, self._clock.monotonic())

    def _check(self, path: Path) -> None:
        self._begin(path)
        candidate = self._candidates[path]
        try:
            seen = Fingerprint.of(path.lstat())
        except OSError as exc:
            del self._candidates[path]
            self._warn(path, f"disappeared before it was complete: {exc.strerror}")
            return
        now = self._clock.monotonic()
        if seen != candidate.seen:
            if seen.size < candidate.seen.size:
                self._warn(path, f"shrank from {candidate.seen.size} to {seen.size} bytes: waiting until it is stable")
            candidate.seen, candidate.since = seen, now
        elif now - candidate.since >= self._settings.settle_s:
            del self._candidates[path]
            self._hand_over(path, seen)

    def _hand_over(self, path: Path, seen: Fingerprint) -> None:
        run = run_in(path.name)
        if seen.size == 0 or run is None or not path.name.isprintable():
            name = "has no run number in its name" if run is None else "has a name that is not printable UTF-8 text"
            problem = f"{name}: rename it" if seen.size else "is empty"
            self._warn(path, f"{problem}, as {seen}", text=f"{problem}: ignored")
            return
        try:
            now, where = self._opened(path)
        except OSError as exc:
            self._warn(path, f"cannot be read: {exc.strerror}: fix its permissions; each scan retries")
            return
        if not any(where.is_relative_to(realpath(each)) for each in self._settings.watch_dirs):
            self._warn(path, f"leads to {where}, outside of FASTMON_WATCH_DIRS: ignored")
            return
        if now != seen:
            self._consider(path)  # it was written or exchanged in the meantime
            return
        self._begin("the database")
        try:
            outcome = self._ingest(FoundFile(path=path, fingerprint=seen, run=run))
        except StorageError as exc:  # for example a full disk: the next scan finds the file again
            if self._can_store:
                logger.error("{}: could not be stored: {}; each scan retries this file and those after it", path, exc)
            self._can_store = False
            return
        except Exception as exc:  # noqa: BLE001 (a bug of ours, or an unexpected file: the other files go on)
            self._warn(path, f"could not be ingested: {type(exc).__name__}: {exc}; each scan retries", exc=exc)
            return
        if not self._can_store:
            logger.info("watcher: files are stored again")
        self._can_store = True
        self._cache.add(seen, path.name)
        self._problems.pop(path, None)
        if outcome is ReceiveOutcome.CONFLICT:
            logger.error("{}: rejected, see fastmon-daemon inspect --rejected", path)

    @staticmethod
    def _opened(path: Path) -> tuple[Fingerprint, Path]:
        """Open the file at *path*; returns its fingerprint and its real path.

        Whoever cuts the STF into TFs must be able to read it. All is asked of the open file, because its name may lead
        to another one at any time; nothing is read. Raises: OSError.
        """
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            return Fingerprint.of(os.fstat(descriptor)), Path("/proc/self/fd", str(descriptor)).readlink()
        finally:
            os.close(descriptor)

    def _warn(self, path: Path, problem: str, *, text: str | None = None, exc: Exception | None = None) -> None:
        """Log each problem of a file once, not at each scan; at most `MAX_WARNINGS` for each scan."""
        if self._problems.get(path) != problem and len(self._problems) < _MAX_PROBLEMS:
            self._problems[path] = problem
            self._warnings += 1
            if self._warnings > MAX_WARNINGS:
                return
            logger.opt(exception=exc).log("ERROR" if exc else "WARNING", "{}: {}", path, text or problem)

    def _end_warnings(self) -> None:
        if self._warnings > MAX_WARNINGS:
            logger.warning("watcher: {} more files have problems like the last ones", self._warnings - MAX_WARNINGS)
        self._warnings = 0

    def _is_too_old(self, seen: Fingerprint) -> bool:
        """Whether a file that the first scan finds is older than FASTMON_LOOKBACK_MINUTES."""
        lookback_s = 60 * self._settings.lookback_minutes
        oldest_ns = (self._clock.now().timestamp() - lookback_s) * 1e9
        return self._is_first_scan and lookback_s > 0 and seen.mtime_ns < oldest_ns


def _wrong_kind(status: os.stat_result) -> str | None:
    """Return why what has this *status* is no STF file, or None."""
    if stat.S_ISLNK(status.st_mode):  # it may lead to a file that its owner may not read
        return "symbolic link to a file is not followed: put the file itself there"
    return None if stat.S_ISREG(status.st_mode) else "is not a regular file: ignored"


def _observe(folders: Iterable[Path], changed: queue.Queue[Path]) -> BaseObserver:
    """Start putting changed files of *folders* into *changed*, if the system provides events."""
    observer, handler = Observer(), _EventHandler(changed)
    try:
        for folder in folders:
            observer.schedule(handler, str(folder), recursive=True)
        observer.start()
    except Exception as exc:  # noqa: BLE001 (for example the limit of watches; the scans go on in any case)
        reason = exc.strerror if isinstance(exc, OSError) else exc
        logger.warning("watcher: no file system events ({}): relying on scans", reason)
    return observer


class _EventHandler(FileSystemEventHandler):
    def __init__(self, changed: queue.Queue[Path]) -> None:
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Queue the current path of a file that was created, written or moved."""
        if event.event_type in {"created", "modified", "moved", "closed"} and not event.is_directory:
            with suppress(queue.Full):
                self._changed.put_nowait(Path(fsdecode(event.dest_path or event.src_path)))

"""The watcher: one thread that waits until STF files stop growing and hands each one over once.

File system events make it fast; periodic scans make it complete, because network file systems send no events.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from os import fsdecode, walk
from os.path import lexists
from pathlib import Path

from loguru import logger
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.intake.found_files import Fingerprint, FoundFile, run_in
from fastmon_daemon.intake.seen_file_cache import SeenFileCache
from fastmon_daemon.outbox import ReceiveOutcome

POLL_S = 0.5
"""Seconds between two polls of the files that may still grow."""
MAX_PAUSE_S = 30.0
"""Longest pause in seconds between polls that fail: each pause is twice the one before."""
FAILING_AFTER_S = 15.0
"""Seconds of failing polls after which the watcher counts as failing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """Which folders and files to watch, and how often; times in seconds."""

    folders: tuple[Path, ...]
    patterns: tuple[str, ...]
    scan_every_s: float
    settled_after_s: float
    """A file is complete when its size and modification time did not change for this long."""
    lookback_s: float = 0.0
    """Ignore files older than this at the start; 0: no limit."""


@dataclass(slots=True)
class _Candidate:
    """A file that may still grow."""

    seen: Fingerprint
    since: float


class Watcher:
    """Finds complete files. *ingest* is called for each on the watcher's thread; if it raises, a later scan retries."""

    def __init__(
        self, config: WatchConfig, ingest: Callable[[FoundFile], ReceiveOutcome], cache: SeenFileCache, clock: Clock
    ) -> None:
        self._config = config
        self._ingest = ingest
        self._cache = cache
        self._clock = clock
        self._candidates: dict[Path, _Candidate] = {}
        self._problems: dict[Path, str] = {}
        """The problem that was logged for each file."""
        self._can_store = True
        self._changed: queue.SimpleQueue[Path] = queue.SimpleQueue()
        """Files named by file system events."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._next_scan_at = clock.monotonic()
        self._is_first_scan = True
        self._scan_complete = True
        """Whether the current scan could list every folder and read every file's status."""
        self._failure: tuple[float, str] | None = None
        """Since when every poll has failed, and the class of the last error."""

    def start(self) -> None:
        """Start the watcher's thread."""
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """Stop, waiting up to *wait_s* seconds. Files that were not handed over are found at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    def wait_until_stable(self, give_up: Callable[[], object]) -> None:
        """Poll in this thread until no file grows any more, or *give_up* returns true (for `run --once`)."""
        self.poll()
        while self._candidates and not give_up() and not self._stopping.wait(POLL_S):
            self.poll()

    def failure(self) -> str | None:
        """The error class if every poll failed for `FAILING_AFTER_S`, else None. Callable from any thread."""
        since, error = self._failure or (self._clock.monotonic(), "")
        return error if self._clock.monotonic() - since >= FAILING_AFTER_S else None

    def poll(self) -> None:
        """Check the files named by events and the files that may still grow; scan the folders when a scan is due."""
        while not self._changed.empty():
            self._consider(self._changed.get())
        for path in list(self._candidates):
            self._check(path)
        self._cache.evict_batch()
        if self._clock.monotonic() >= self._next_scan_at:
            self._scan_all()

    def _run(self) -> None:
        observer = _observe(self._config.folders, self._changed)
        pause_s = POLL_S
        try:
            while not self._stopping.wait(pause_s):
                pause_s = POLL_S if self._try_poll() else min(2 * pause_s, MAX_PAUSE_S)
        finally:
            if observer is not None:
                observer.stop()

    def _try_poll(self) -> bool:
        """Poll without ending the thread on any error; False if the poll failed."""
        try:
            self.poll()
        except Exception as exc:  # noqa: BLE001 (a bug of ours: without this thread no file would be found)
            error = type(exc).__name__
            if self._failure is None or self._failure[1] != error:
                logger.opt(exception=exc).error("watcher: poll failed, retrying: {}", error)
            self._failure = (self._failure[0] if self._failure else self._clock.monotonic(), error)
            return False
        if self._failure:
            logger.info("watcher: polls succeed again")
        self._failure = None
        return True

    def _scan_all(self) -> None:
        began, self._scan_complete = self._clock.monotonic(), True
        self._cache.begin_scan(began)
        for folder in self._config.folders:
            for path in self._scan(folder):
                self._consider(path)
        self._cache.end_scan(complete=self._scan_complete)
        if self._scan_complete:
            self._problems = {path: problem for path, problem in self._problems.items() if lexists(path)}
        if self._is_first_scan and self._config.lookback_s:
            self._ignore_old_files()
        self._is_first_scan = False
        self._next_scan_at = began + self._config.scan_every_s

    def _scan(self, folder: Path) -> Iterator[Path]:
        def failed(exc: OSError) -> None:
            where = Path(exc.filename or folder)
            if isinstance(exc, FileNotFoundError) and where != folder:
                return  # it was deleted after its parent was listed: the scan is still complete
            self._scan_complete = False
            self._warn(where, f"cannot be listed: {exc.strerror}: fix its permissions")

        for where, below, names in walk(folder, onerror=failed):
            if "lost+found" in below:
                below.remove("lost+found")  # it belongs to the file system
            for name in names:
                yield Path(where, name)

    def _consider(self, path: Path) -> None:
        """Make *path* a candidate if it is a matching file that was not ingested before."""
        if path in self._candidates or not any(fnmatchcase(path.name, each) for each in self._config.patterns):
            return
        try:
            if not path.is_file() and path.exists():
                self._warn(path, "is not a regular file: ignored")
                return
            seen = Fingerprint.of(path)
        except OSError as exc:
            self._scan_complete &= isinstance(exc, FileNotFoundError)  # such a file was just deleted
            self._warn(path, f"cannot read its status: {exc.strerror}")
            return
        if (name := self._cache.see(seen)) is not None:
            if name not in ("", path.name):
                self._warn(path, f"already ingested as {name}, since renamed: ignored")
        elif not self._problems.get(path, "").endswith(str(seen)):  # else rejected, and not changed since
            self._candidates[path] = _Candidate(seen, self._clock.monotonic())

    def _check(self, path: Path) -> None:
        candidate = self._candidates[path]
        try:
            seen = Fingerprint.of(path)
        except OSError as exc:
            del self._candidates[path]
            self._warn(path, f"disappeared before it was complete: {exc.strerror}")
            return
        now = self._clock.monotonic()
        if seen != candidate.seen:
            if seen.size < candidate.seen.size:
                self._warn(path, f"shrank from {candidate.seen.size} to {seen.size} bytes: waiting until it is stable")
            candidate.seen, candidate.since = seen, now
        elif now - candidate.since >= self._config.settled_after_s:
            del self._candidates[path]
            self._hand_over(path, seen)

    def _hand_over(self, path: Path, seen: Fingerprint) -> None:
        run = run_in(path.name)
        if seen.size == 0 or run is None:
            problem = "has no run number in its name: rename it" if seen.size else "is empty"
            self._warn(path, f"{problem}, as {seen}", text=f"{problem}: ignored")
            return
        try:
            path.open("rb").close()  # whoever cuts the STF into TFs must be able to read it
            if Fingerprint.of(path) != seen:
                self._consider(path)  # it was written in the meantime
                return
        except OSError as exc:
            self._warn(path, f"cannot be read: {exc.strerror}: fix its permissions; each scan retries")
            return
        try:
            outcome = self._ingest(FoundFile(path=path, fingerprint=seen, run=run))
        except FastmonError as exc:  # for example a full disk: the next scan finds the file again
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

    def _warn(self, path: Path, problem: str, *, text: str | None = None, exc: Exception | None = None) -> None:
        """Log each problem of a file once, not at each scan."""
        if self._problems.get(path) != problem:
            self._problems[path] = problem
            logger.opt(exception=exc).log("ERROR" if exc else "WARNING", "{}: {}", path, text or problem)

    def _ignore_old_files(self) -> None:
        oldest_ns = (self._clock.now().timestamp() - self._config.lookback_s) * 1e9
        old = [path for path, each in self._candidates.items() if each.seen.mtime_ns < oldest_ns]
        for path in old:
            self._cache.add(self._candidates.pop(path).seen, "")
        if old:
            logger.warning("watcher: {} files are older than FASTMON_LOOKBACK_MINUTES: ignored", len(old))


def _observe(folders: Iterable[Path], changed: queue.SimpleQueue[Path]) -> BaseObserver | None:
    """Start putting changed files of *folders* into *changed*; None if the system provides no events."""
    observer, handler = Observer(), _EventHandler(changed)
    try:
        for folder in folders:
            observer.schedule(handler, str(folder), recursive=True)
        observer.start()
    except Exception as exc:  # noqa: BLE001 (for example the limit of watches; the scans go on in any case)
        reason = exc.strerror if isinstance(exc, OSError) else exc
        logger.warning("watcher: no file system events ({}): relying on scans", reason)
        return None
    return observer


class _EventHandler(FileSystemEventHandler):
    def __init__(self, changed: queue.SimpleQueue[Path]) -> None:
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Queue the current path of a file that was created, written or moved."""
        if event.event_type in {"created", "modified", "moved", "closed"} and not event.is_directory:
            self._changed.put(Path(fsdecode(event.dest_path or event.src_path)))

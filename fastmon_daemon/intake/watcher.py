"""The watcher: one thread that looks at files until they have stopped growing, and then hands them over, once each.

Events of the file system make it quick; a scan in intervals makes it complete, as network file systems send no events.
It must not know what becomes of a file.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from os import walk
from os.path import lexists
from pathlib import Path

from loguru import logger

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.intake.file_events import Touched, observing
from fastmon_daemon.intake.found_files import Fingerprint, FoundFile, run_in
from fastmon_daemon.intake.seen_file_cache import SeenFileCache

TICK_S = 0.5
"""Seconds between two looks at the files that may still grow."""
LONGEST_PAUSE_S = 30.0
"""Seconds between two looks at most, where one after the other fails: each pause is twice the one before."""
FAILING_AFTER_S = 15.0
"""Seconds after which a watcher whose looks fail counts as failing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """Where to look, for what, and how often; times in seconds."""

    folders: tuple[Path, ...]
    patterns: tuple[str, ...]
    scan_every_s: float
    settled_after_s: float
    """A file is complete when neither size nor time of change has changed for so long."""
    lookback_s: float = 0.0
    """Files that are older than this at the start are left alone; 0: none is."""


class IngestResult(Enum):
    """What whoever takes a file says of it."""

    FRESH = auto()
    KNOWN = auto()
    REJECTED = auto()


@dataclass(slots=True)
class _Candidate:
    folder: Path
    seen: Fingerprint
    since: float


class Watcher:
    """Looks for files; *take* gets each complete one, from the watcher's thread, and may raise to see it again."""

    def __init__(
        self, watching: WatchConfig, take: Callable[[FoundFile], IngestResult], memory: SeenFileCache, clock: Clock
    ) -> None:
        self._watching = watching
        self._take = take
        self._memory = memory
        self._clock = clock
        self._candidates: dict[Path, _Candidate] = {}
        self._told: dict[Path, str] = {}
        self._storing = True
        self._touched: Touched = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._scan_at = clock.monotonic()
        self._first = True
        self._whole = True
        """Whether the present scan could list and look at everything."""
        self._failure: tuple[float, str] | None = None
        """Since when each look has failed, and the class of the last error."""

    def start(self) -> None:
        """Watch, in a thread of its own."""
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """Watch no more; what was not handed over is found again at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    def wait_until_stable(self, give_up: Callable[[], object]) -> None:
        """Look until no file grows any more, or *give_up* says so: for a run that does what is due and ends."""
        self.poll()
        while self._candidates and not give_up() and not self._stopping.wait(TICK_S):
            self.poll()

    def failure(self) -> str | None:
        """The class of the error by which no look worked for `FAILING_AFTER_S`; None where one did. From any thread."""
        since, why = self._failure or (self._clock.monotonic(), "")
        return why if self._clock.monotonic() - since >= FAILING_AFTER_S else None

    def poll(self) -> None:
        """One look: at what events told, at each file that may still grow, at the folders if their time has come."""
        while not self._touched.empty():
            self._notice(*self._touched.get())
        for path in list(self._candidates):
            self._look_at(path)
        self._memory.forget_some()
        if self._clock.monotonic() >= self._scan_at:
            self._scan_all()

    def _run(self) -> None:
        observer = observing(self._watching.folders, self._touched)
        pause_s = TICK_S
        try:
            while not self._stopping.wait(pause_s):
                pause_s = TICK_S if self._try_to_look() else min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            if observer is not None:
                observer.stop()

    def _try_to_look(self) -> bool:
        """A look that whatever it meets does not end the thread; False where it failed."""
        try:
            self.poll()
        except Exception as exc:  # noqa: BLE001 (a mistake of ours: without the thread no file would be found any more)
            why = type(exc).__name__
            if self._failure is None or self._failure[1] != why:
                logger.opt(exception=exc).error("watcher: a look at the folders failed, tried again: {}", why)
            self._failure = (self._failure[0] if self._failure else self._clock.monotonic(), why)
            return False
        if self._failure:
            logger.info("watcher: looks at the folders work again")
        self._failure = None
        return True

    def _scan_all(self) -> None:
        began, self._whole = self._clock.monotonic(), True
        self._memory.begin_scan(began)
        for folder in self._watching.folders:
            for path in self._scan(folder):
                self._notice(path, folder)
        self._memory.end_scan(whole=self._whole)
        if self._whole:  # of what is gone there is no trouble any more
            self._told = {path: why for path, why in self._told.items() if lexists(path)}
        self._leave_old_alone()
        self._scan_at = began + self._watching.scan_every_s

    def _scan(self, folder: Path) -> Iterator[Path]:
        def broken(exc: OSError) -> None:
            where = Path(exc.filename or folder)
            if isinstance(exc, FileNotFoundError) and where != folder:
                return  # it was removed since its parent was listed: what is gone takes nothing from a scan
            self._whole = False
            self._tell(where, f"cannot be listed: {exc.strerror}: mend its permissions")

        for where, below, names in walk(folder, onerror=broken):
            if "lost+found" in below:
                below.remove("lost+found")  # the file system's own, at its root
            for name in names:
                yield Path(where, name)

    def _notice(self, path: Path, folder: Path) -> None:
        if path in self._candidates or not any(fnmatchcase(path.name, each) for each in self._watching.patterns):
            return
        try:
            if not path.is_file() and path.exists():
                self._tell(path, "is no plain file: not taken")
                return
            seen = Fingerprint.of(path)
        except OSError as exc:
            self._whole &= isinstance(exc, FileNotFoundError)  # that one has just gone
            self._tell(path, f"cannot be looked at: {exc.strerror}")
            return
        if (name := self._memory.see(seen)) is not None:
            if name not in ("", path.name):
                self._tell(path, f"is {name}, renamed: it was taken already")
            return
        if self._told.get(path, "").endswith(str(seen)):
            return  # refused as it stands
        self._candidates[path] = _Candidate(folder, seen, self._clock.monotonic())

    def _look_at(self, path: Path) -> None:
        candidate = self._candidates[path]
        try:
            seen = Fingerprint.of(path)
        except OSError as exc:
            del self._candidates[path]
            self._tell(path, f"went away before it was complete: {exc.strerror}")
            return
        now = self._clock.monotonic()
        if seen != candidate.seen:
            if seen.size < candidate.seen.size:
                self._tell(path, f"was cut from {candidate.seen.size} to {seen.size} bytes: waiting until it is whole")
            candidate.seen, candidate.since = seen, now
        elif now - candidate.since >= self._watching.settled_after_s:
            del self._candidates[path]
            self._complete(path, candidate)

    def _complete(self, path: Path, candidate: _Candidate) -> None:
        if candidate.seen.size == 0:
            self._refuse(path, candidate, "is empty")
            return
        run = run_in(path.name)
        if run is None:
            self._refuse(path, candidate, "has no run number in its name: rename it")
            return
        try:
            path.open("rb").close()  # whoever cuts the STF must be able to read it
            if Fingerprint.of(path) != candidate.seen:
                self._notice(path, candidate.folder)  # it was written meanwhile
                return
        except OSError as exc:
            self._tell(path, f"cannot be read: {exc.strerror}: mend its permissions; it is tried again at each scan")
            return
        found = FoundFile(path=path, fingerprint=candidate.seen, run=run)
        try:
            taken = self._take(found)
        except FastmonError as exc:  # a full disk: the next scan finds the file again
            if self._storing:
                logger.error(
                    "{}: could not be stored: {}; it and those after it are tried again at each scan", path, exc
                )
            self._storing = False
            return
        except Exception as exc:  # noqa: BLE001 (a mistake of ours, or a file as nobody expects it: the others go on)
            self._tell(path, f"cannot be taken: {type(exc).__name__}: {exc}; it is tried again at each scan", exc=exc)
            return
        if not self._storing:
            logger.info("files are stored again")
        self._storing = True
        self._memory.take(candidate.seen, path.name)
        self._told.pop(path, None)
        if taken is IngestResult.REJECTED:
            logger.error("{}: refused, see fastmon-daemon inspect --rejected", path)

    def _refuse(self, path: Path, candidate: _Candidate, why: str) -> None:
        self._tell(path, f"{why}, as {candidate.seen}", say=f"{why}: not taken")

    def _tell(self, path: Path, why: str, *, say: str | None = None, exc: Exception | None = None) -> None:
        """One line for each trouble with a file, not one for each scan."""
        if self._told.get(path) != why:
            self._told[path] = why
            logger.opt(exception=exc).log("ERROR" if exc else "WARNING", "{}: {}", path, say or why)

    def _leave_old_alone(self) -> None:
        """At the first scan, leave alone what is older than the lookback."""
        if not self._first:
            return
        self._first = False
        if not self._watching.lookback_s:
            return
        oldest_ns = (self._clock.now().timestamp() - self._watching.lookback_s) * 1e9
        old = [path for path, each in self._candidates.items() if each.seen.mtime_ns < oldest_ns]
        for path in old:
            self._memory.take(self._candidates.pop(path).seen, "")
        if old:
            logger.warning("{} files are older than FASTMON_LOOKBACK_MINUTES and left alone", len(old))

"""The scene of one attack: real processes, what they cost meanwhile, and whether any STF was lost."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fastmon_daemon.outbox import open_for_reading
from tests.processes import LiveTestbed, name, wait_until

MAX_RSS_MB = 150.0
MAX_LOG_KB = 1000.0
MAX_DESCRIPTORS = 150
_FEED_S = 0.4
"""Seconds between two STFs that are sent during an attack."""

Test = TypeVar("Test", bound=Callable[..., None])
TITLES: dict[str, str] = {}
"""Title of each attack -> the name of its test."""


def attack(title: str, *, target: str = "daemon") -> Callable[[Test], Test]:
    """Mark a test as an attack: a line of the table in docs/security.md. *target*: the program that is attacked."""

    def mark(test: Test) -> Test:
        TITLES[title] = test.__name__
        return pytest.mark.attack(title, target)(test)

    return mark


def all_titles() -> dict[str, str]:
    """`TITLES`, of every module of attacks."""
    for module in sorted(Path(__file__).parent.glob("test_*.py")):
        import_module(f"tests.hostile.{module.stem}")
    return TITLES


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attack cost its target."""

    seconds: float
    rss_mb: float
    """The highest resident memory."""
    descriptors: int
    """The most open file descriptors."""
    log_kb: float
    completed: int | None
    """STFs that were sent and completed meanwhile; None if the target does not process STFs."""
    lost: int | None
    """STFs sent meanwhile that were not completed afterwards either."""


class Meter:
    """Measures a process: its descriptors every 50 ms, the peak of its memory, and what it adds to its log."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self._process = Path("/proc", str(child.pid))
        self._log = log
        self._log_before = self._log_bytes()
        self._began = time.monotonic()
        self._ended = threading.Event()
        self.descriptors = 0
        (self._process / "clear_refs").write_text("5")  # resets the peak
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def end(self) -> tuple[float, float, int, float]:
        """Return seconds, peak of the memory in MB, descriptors, and kB of the log."""
        seconds = time.monotonic() - self._began
        self._ended.set()
        self._thread.join()
        status = (self._process / "status").read_text()
        peak_kb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        return seconds, peak_kb / 1024, self.descriptors, (self._log_bytes() - self._log_before) / 1000

    def _sample(self) -> None:
        while not self._ended.wait(0.05):
            try:
                self.descriptors = max(self.descriptors, len(list((self._process / "fd").iterdir())))
            except OSError:  # it has ended: `end` fails
                return

    def _log_bytes(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0


class Scene(LiveTestbed):
    """A testbed under attack."""

    cost: Cost | None = None
    note = ""
    """What is told of this attack beside its cost."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: list[str] = []
        """The STFs that were announced."""
        self._sequence = 0

    @contextmanager
    def attacked(
        self,
        child: subprocess.Popen[bytes],
        *,
        log: Path | None = None,
        feed: bool = True,
        max_rss_mb: float = MAX_RSS_MB,
        max_descriptors: int = MAX_DESCRIPTORS,
    ) -> Iterator[None]:
        """Measure *child* during the block; afterwards its cost must be within the limits, and no STF lost.

        *log* is its log file (that of the testbed). *feed*: send an STF every now and then, as the data agent would.
        """
        meter, stop = Meter(child, log or self.folder / "log"), threading.Event()
        first = len(self.sent)
        feeder = threading.Thread(target=self._feed, args=(stop,), daemon=True)
        if feed:
            feeder.start()
        try:
            yield
            assert child.poll() is None, f"it ended with {child.returncode}\n{self.log()[-3000:]}"
            completed = len(self._completed(self.sent[first:])) if feed else None
            seconds, rss_mb, descriptors, log_kb = meter.end()
        finally:
            stop.set()
            if feed:
                feeder.join()
        lost = self._lost(self.sent[first:]) if feed else None
        self.cost = Cost(seconds, rss_mb, descriptors, log_kb, completed, lost)
        assert rss_mb < max_rss_mb, self.cost
        assert log_kb < MAX_LOG_KB, self.log()[-3000:]
        assert descriptors < max_descriptors, self.cost
        assert not lost, self.log()[-3000:]

    def send(self) -> None:
        """Register and announce the next STF, as the data agent does."""
        self.register_unannounced(1)
        self.announce(self._sequence)
        self.sent.append(name(self._sequence))

    def register_unannounced(self, count: int) -> int:
        """Register STFs that only the monitor knows; return *count*."""
        for _ in range(count):
            self._sequence += 1
            self.register(self._sequence)
        return count

    def _feed(self, stop: threading.Event) -> None:
        while not stop.wait(_FEED_S):
            self.send()

    def _completed(self, names: Collection[str]) -> set[str]:
        reports = open_for_reading(self.database)
        try:
            return {stf.filename for stf in reports.find(["completed"])} & set(names)
        finally:
            reports.close()

    def _lost(self, names: Collection[str]) -> int:
        """How many of these STFs are not completed within the deadline."""
        with suppress(AssertionError):
            wait_until(lambda: len(self._completed(names)) == len(names), "all STFs are completed")
        return len(names) - len(self._completed(names))

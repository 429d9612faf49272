"""The daemon as a process with default settings, and what it costs."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.machine import cpu_s, durable_commits
from bench.testbed import TestbedProcess

UP = "link to the broker is up"
POLL_S = 0.05
DEADLINE_S = 120.0
STOP_S = 60.0
LOOK_S = 2.0
"""Seconds between two looks whether a program that others wait for has ended."""
QUIET_S = 0.7
"""Seconds without a request (other than heart-beats) after which reports and log lines are considered sent."""
NO_REPORTS = {"FASTMON_STAGES": "off", "FASTMON_REST_LOGGING": "off"}


Result = TypeVar("Result")


class BenchError(Exception):
    """A program under test failed: no figure can be measured."""


class Daemon:
    """A running daemon; *database* and its log lie in *folder*."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.database = folder / "outbox.db"
        self._environment = environment
        self._began = time.monotonic()
        self._log = (folder / "daemon.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastmon_daemon", "run"], env=environment, cwd=folder, stdout=subprocess.DEVNULL,
            stderr=self._log,
        )  # fmt: skip
        self.start_s = 0.0
        """Seconds from the start to READY, with the subscription confirmed."""

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self.process.pid

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def wait_until_up(self) -> None:
        """Wait until the daemon is subscribed. Raises: BenchError."""
        if not self.wait_until(lambda: UP in self.log()):
            raise BenchError(f"the daemon did not start:\n{self.log()[-2000:]}")
        self.start_s = time.monotonic() - self._began

    def wait_until_finalized(self) -> None:
        """Wait until no STF is unfinished. Raises: BenchError."""
        if not self.wait_until(lambda: not self.unfinished()):
            raise BenchError(f"{self.unfinished()} STFs are unfinished:\n{self.log()[-2000:]}")

    def wait_until(
        self, condition: Callable[[], bool], deadline_s: float = DEADLINE_S, *, every_s: float = POLL_S
    ) -> bool:
        """Wait until *condition*, asked every *every_s*, is true; False after *deadline_s*, or if the daemon ended."""
        end = time.monotonic() + deadline_s
        while not condition():
            if self.has_ended() or time.monotonic() > end:
                return False
            time.sleep(every_s)
        return True

    def unfinished(self) -> int:
        """Number of STFs that are not finalized."""
        return self.query("select count(*) from stf where due_at is not null")

    def completed(self) -> int:
        """Number of STFs that are completed."""
        return self.query("select count(*) from stf where state = 'completed'")

    def usage(self) -> tuple[float, int]:
        """CPU seconds and durable commits so far."""
        return cpu_s(self.pid), durable_commits(self.database)

    def log(self) -> str:
        """The log so far."""
        return (self.folder / "daemon.log").read_text(encoding="utf-8", errors="replace")

    def inspect_s(self) -> float:
        """Wall seconds of `fastmon-daemon inspect`. Raises: BenchError."""
        began = time.monotonic()
        command = [sys.executable, "-m", "fastmon_daemon", "inspect", "--json"]
        done = subprocess.run(command, env=self._environment, cwd=self.folder, capture_output=True, check=False)
        if done.returncode not in {0, 1}:
            raise BenchError(f"inspect ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return time.monotonic() - began

    def stop(self) -> None:
        """End it by SIGTERM, or SIGKILL if it does not obey."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def query(self, query: str) -> int:
        """The number that *query* returns, on a connection of its own."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=DEADLINE_S)) as connection:
            return int(connection.execute(query).fetchone()[0])


def wait_while_running(wait: Callable[[float], Result], has_ended: Callable[[], bool], deadline_s: float) -> Result:
    """What *wait* (seconds) returns, which raises TimeoutError; looks every few seconds whether who works has ended.

    Raises: TimeoutError; BenchError if it has ended.
    """
    end = time.monotonic() + deadline_s
    while True:
        try:
            return wait(LOOK_S)
        except TimeoutError as exc:
            if has_ended():
                raise BenchError(f"it has ended: {exc}") from exc
            if time.monotonic() > end:
                raise


@contextmanager
def running_daemon(testbed: TestbedProcess, folder: Path, **settings: str) -> Iterator[Daemon]:
    """Run a daemon in *folder* that samples every STF; *settings* change its environment. Raises: BenchError."""
    inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "LANG", "TMPDIR", "PYTHONPATH"}}
    environment = inherited | testbed.environment()
    environment |= {
        "HOME": str(folder), "FASTMON_DB": str(folder / "outbox.db"), "FASTMON_SELECTION_FRACTION": "1.0", **settings,
    }  # fmt: skip
    daemon = Daemon(folder, environment)
    try:
        daemon.wait_until_up()
        yield daemon
    finally:
        daemon.stop()


def wait_until_quiet(testbed: TestbedProcess) -> None:
    """Wait until the monitor has had no request but heart-beats for `QUIET_S`. Raises: BenchError."""
    seen, since, end = None, time.monotonic(), time.monotonic() + DEADLINE_S
    while time.monotonic() - since < QUIET_S:
        requests: dict[str, Any] = testbed.counts()["requests"]
        now = sum(count for name, count in requests.items() if "systemagents" not in name)
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() > end:
            raise BenchError(f"the monitor is still being asked after {DEADLINE_S:.0f} s")
        time.sleep(POLL_S)

"""The daemon as the demo sees it, from outside: a child process that can be killed, and its database, read-only."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fastmon_daemon.base.errors import FastmonError, StorageError
from fastmon_daemon.outbox import UNREPORTABLE, OutboxReader, Stf, open_for_reading

STOP_TIMEOUT_S = 60.0
_NOT_INHERITED = ("FASTMON_", "SWF_", "ACTIVEMQ_", "MQ_", "NOTIFY_", "STATE_DIRECTORY", "XDG_STATE", "JOURNAL_")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* without the variables that configure a daemon."""
    return {name: value for name, value in environ.items() if not name.startswith(_NOT_INHERITED)}


class DaemonProcess:
    """A `fastmon-daemon run` that can be killed and restarted; its output goes to ``daemon.log`` in *folder*."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon in a session of its own, so that Ctrl-C reaches only the demo."""
        command = [sys.executable, "-m", "fastmon_daemon", "run"]
        with (self._folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                command, cwd=self._folder, env=dict(self._environ), stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """Kill the daemon with SIGKILL, if it is running."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def check(self) -> None:
        """Raise `FastmonError` if the daemon has exited by itself."""
        if self._process and self._process.poll() is not None:
            raise FastmonError(f"the daemon exited by itself with exit code {self._process.returncode}")

    def stop(self) -> None:
        """Stop the daemon with SIGTERM and wait for its exit. Raises `FastmonError` after 60 s."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired as exc:
                raise FastmonError(f"the daemon did not stop within {STOP_TIMEOUT_S:.0f} s of SIGTERM") from exc
            self._process = None


class OutboxObserver:
    """Reads the daemon's database, whether or not the daemon is running."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: OutboxReader | None = None

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._reader:
            self._reader.close()
            self._reader = None

    def counts(self) -> dict[str, int]:
        """State -> number of STFs; empty while the database cannot be read."""
        try:
            return self._open().counts_by_state()
        except (StorageError, sqlite3.Error):
            self.close()
            return {}

    def stfs(self) -> list[Stf]:
        """All STFs. Raises: StorageError."""
        return self._open().find()

    def stages(self) -> tuple[int, int] | None:
        """Numbers of transitions whose report is pending, and of STFs whose stage is unreportable; None if unknown."""
        try:
            reader = self._open()
            return reader.stages.count_pending(), reader.counters().get(UNREPORTABLE, 0)
        except (StorageError, sqlite3.Error):
            self.close()
            return None

    def _open(self) -> OutboxReader:
        self._reader = self._reader or open_for_reading(self._path)
        return self._reader

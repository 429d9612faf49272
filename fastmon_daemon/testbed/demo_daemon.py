"""The daemon as the demo sees it: a child process that can be killed and started again.

It knows the daemon from outside only: its command line, its environment, its exit code.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fastmon_daemon.base.errors import FastmonError

STOP_S = 60.0
_NOT_PASSED_ON = ("FASTMON_", "SWF_", "ACTIVEMQ_", "MQ_", "NOTIFY_", "STATE_DIRECTORY", "XDG_STATE", "JOURNAL_")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* without what would tell a daemon how to behave."""
    return {name: value for name, value in environ.items() if not name.startswith(_NOT_PASSED_ON)}


class DaemonProcess:
    """A `fastmon-daemon run` that can be killed and started again; its output goes to a file."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C is ours to deal with."""
        command = [sys.executable, "-m", "fastmon_daemon", "run"]
        with (self._folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                command, cwd=self._folder, env=dict(self._environ), stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """End it as a power cut would; nothing happens where none runs."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def check(self) -> None:
        """Raise `FastmonError` where it has ended by itself."""
        if self._process and self._process.poll() is not None:
            raise FastmonError(f"the daemon ended by itself with exit code {self._process.returncode}")

    def stop(self) -> None:
        """Ask it to end, and wait for it."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired as exc:
                raise FastmonError("the daemon did not end when asked to") from exc
            self._process = None

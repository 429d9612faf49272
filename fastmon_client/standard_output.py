"""Standard output that is lost is an error, `OutputLost`; a message on standard error that is lost is not.

An OSError would be swallowed by click (exit code 1) or by Python at its exit (120).
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys

OUTPUT_LOST = 74
"""Exit code: standard output could not be written."""
STDOUT, STDERR = 1, 2


class OutputLost(Exception):
    """Standard output could not be written; the rest is discarded."""


class _Messages(io.FileIO):
    """Standard error: what it does not take is discarded."""

    lost = ""
    """Why something was lost, as the first failed write said."""

    def write(self, data: object) -> int:
        """Write *data*, also if another process made the file non-blocking."""
        try:
            while not self.lost:
                if (written := super().write(data)) is not None:  # type: ignore[arg-type]
                    return written
                select.select([], [self], [])
        except OSError as exc:
            self.lost = "it is closed" if exc.errno == errno.EBADF else exc.strerror or str(exc)
        return memoryview(data).nbytes  # type: ignore[arg-type]


class _Output(_Messages):
    """Standard output."""

    def write(self, data: object) -> int:
        """Write *data*.

        Raises: OutputLost, once.
        """
        was_lost, count = self.lost, super().write(data)
        if self.lost and not was_lost:
            raise OutputLost(self.lost)
        return count


def guard_streams() -> None:
    """Replace the standard streams of this process; characters outside their encoding are escaped.

    A closed descriptor is occupied first: else the next file or socket that is opened would take its number.
    """
    for number in (0, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number; to write to it is an error
    sys.stdout, sys.stderr = (
        _stream(_Output(STDOUT, "w", closefd=False)),
        _stream(_Messages(STDERR, "w", closefd=False)),
    )


def probe_output() -> None:
    """Find out whether standard output is closed or full, before anything is to be written.

    Raises: OutputLost.
    """
    file = _output()
    if file is not None:
        file.write(b"")


def report_lost(reason: str) -> None:
    """Record that standard output is lost, before a write fails."""
    file = _output()
    if file is not None:
        file.lost = file.lost or reason


def lost_output() -> str:
    """Why standard output was lost; empty if all of it was written. Flushes it."""
    try:
        sys.stdout.flush()
    except OutputLost as exc:
        return str(exc)
    file = _output()
    return file.lost if file is not None else ""


def _stream(raw: io.FileIO) -> io.TextIOWrapper:
    like = sys.stdout if raw.fileno() == STDOUT else sys.stderr
    encoding = like.encoding if like is not None else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=True)


def _output() -> _Output | None:
    """None if something else replaced `sys.stdout`."""
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return file if isinstance(file, _Output) else None

"""Standard output and standard error of a command: output that is lost is an error, a message that is lost is not."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

from fastmon_daemon.base.errors import OutputLost

STDIN, STDOUT, STDERR = 0, 1, 2
_REASONS = {errno.EPIPE: "its reader has ended", errno.EBADF: "it is closed"}


class _Output(io.FileIO):
    """Standard output. Raises: OutputLost, because an OSError would not say which file failed."""

    def write(self, data: Any) -> int:
        """Write a buffer; return the number of bytes written."""
        try:
            return super().write(data)
        except OSError as exc:
            reason = _REASONS.get(exc.errno or 0, exc.strerror)
            raise OutputLost(f"standard output cannot be written: {reason}: redirect it to another file") from exc


class _Messages(io.FileIO):
    """Standard error. What it does not take is lost: nobody could be told, and the daemon must go on."""

    def write(self, data: Any) -> int:
        """Write a buffer; return the number of bytes that need not be written again."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def guard_streams() -> None:
    """Replace the standard streams of this process by ones that handle lost output; redirected ones are left alone.

    A closed descriptor is occupied first: else the next file that is opened, for example the database, would take its
    number, and what a library prints would be written into it.
    """
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number; to write to it is an error
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(STDIN, "r", closefd=False)))
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(_Output(STDOUT, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(_Messages(STDERR, "w", closefd=False), sys.stderr)


def _stream(raw: io.FileIO, like: TextIO | None) -> TextIO:
    encoding, errors = (like.encoding, like.errors) if like else ("utf-8", "backslashreplace")
    is_messages = isinstance(raw, _Messages)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors, line_buffering=is_messages or raw.isatty(), write_through=is_messages
    )


def flush_output() -> None:
    """Write what is buffered. Raises: OutputLost."""
    sys.stdout.flush()


def drop_output() -> None:
    """Discard what is buffered and all later output, so that the interpreter does not fail on it when it ends.

    After Ctrl-C too: a write that it interrupts stays buffered, whole, though a part of it was written.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, STDOUT)
    os.close(null)

"""A program on a pty, its raw output, and the resulting screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyte

from tests.preloaded import Program, may_preload
from tests.processes import DEADLINE_S, wait_until

_AS_SHELL = """
import fcntl, runpy, sys, termios
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module with the terminal as its controlling terminal, as a shell does: Ctrl-C becomes a signal."""


class Window:
    """A pty of *columns* x *rows* with its screen: what is written to `theirs` is seen."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.raw = b""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._news = threading.Condition()
        self._ours, self.theirs = pty.openpty()
        self._set_size(columns, rows)
        self._stop = os.pipe()
        self.read_on()

    def wait_for(self, what: Callable[[list[str]], bool] | str) -> list[str]:
        """Wait until the screen lines satisfy *what* (or contain that text), and return them."""
        is_so = what if callable(what) else lambda lines: any(what in line for line in lines)
        with self._news:
            assert self._news.wait_for(lambda: is_so(self._lines()), DEADLINE_S), "\n".join(self._lines())
            return self._lines()

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        with self._news:
            self._screen.resize(rows, columns)
            self._screen.reset()
        self._set_size(columns, rows)

    def press(self, keys: str) -> None:
        """Type *keys*, as bytes of the terminal."""
        os.write(self._ours, keys.encode())

    def is_raw(self) -> bool:
        """Whether typed characters have no echo."""
        return not termios.tcgetattr(self._ours)[3] & termios.ECHO

    def hang_up(self) -> None:
        """Close the window."""
        self.stop_reading()
        os.close(self._ours)
        self._ours = -1

    def stop_reading(self) -> None:
        """Leave the output where it is, as a stalled connection does."""
        os.write(self._stop[1], b"x")
        self._reader.join(DEADLINE_S)
        os.read(self._stop[0], 1)

    def read_on(self) -> None:
        """Read again after `stop_reading`."""
        self._reader = threading.Thread(target=self._read_along)
        self._reader.start()

    def colours(self) -> set[str]:
        with self._news:
            return {cell.fg for row in self._screen.buffer.values() for cell in row.values()}

    def _lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read_along(self) -> None:
        while self._stop[0] not in select.select([self._ours, *self._stop[:1]], [], [])[0]:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # the other side is closed
                return
            with self._news:
                self.raw += chunk
                self._stream.feed(chunk)
                self._news.notify_all()

    def close(self) -> None:
        """Close both sides, except what was closed before."""
        if self._reader.is_alive():
            self.stop_reading()
        for fd in (*self._stop, self._ours, self.theirs):
            if fd >= 0:
                os.close(fd)


class Terminal(Window):
    """Runs a Python module, or the program *of* with *words*, in a window."""

    def __init__(
        self, *words: str, of: Sequence[str] = (), columns: int = 80, rows: int = 24, stdin: int | None = None,
        **environment: str,
    ) -> None:  # fmt: skip
        super().__init__(columns, rows)
        options: Any = {
            "stdin": self.theirs if stdin is None else stdin, "stdout": self.theirs, "stderr": self.theirs,
            "env": {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
            "start_new_session": True,
        }  # fmt: skip
        program = ["-c", _AS_SHELL, *words]
        if may_preload(environment) and not of:
            self.process = Program(program, **options)
        else:
            self.process = subprocess.Popen([*of, *words] if of else [sys.executable, *program], **options)
        os.close(self.theirs)
        self.theirs = -1

    def resize(self, columns: int, rows: int) -> None:
        super().resize(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def wait_until_stopped(self) -> None:
        """Wait until the process is suspended."""
        status = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: status.read_text().rpartition(") ")[2].startswith("T"), "the process is stopped")

    def ended(self) -> int:
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        self.close()

"""A program on a pty, its raw output, and the resulting screen."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence

import pyte

from tests.processes import DEADLINE_S


class Terminal:
    """Runs a Python module, or the program *of* with *words*, in a window of *columns* x *rows*."""

    def __init__(
        self, *words: str, of: Sequence[str] = (sys.executable, "-m"), columns: int = 80, rows: int = 24,
        **environment: str,
    ) -> None:  # fmt: skip
        self.raw = b""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._news = threading.Condition()
        self._ours, theirs = pty.openpty()
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            [*of, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )  # fmt: skip
        os.close(theirs)
        self._reader = threading.Thread(target=self._read_along)
        self._reader.start()

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
        self.process.send_signal(signal.SIGWINCH)

    def colours(self) -> set[str]:
        with self._news:
            return {cell.fg for row in self._screen.buffer.values() for cell in row.values()}

    def ended(self) -> int:
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def _lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read_along(self) -> None:
        while True:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # the other side is closed
                return
            with self._news:
                self.raw += chunk
                self._stream.feed(chunk)
                self._news.notify_all()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        os.close(self._ours)

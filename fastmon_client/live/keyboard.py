"""The keys of a terminal: what is typed arrives at once and without an echo, signals (Ctrl-C, Ctrl-Z) stay signals."""

from __future__ import annotations

import codecs
import os
import re
import sys
import termios
import tty
from contextlib import suppress

ESCAPE_S = 0.1
"""An escape character that nothing follows for so long is the key Esc: other keys send one, too."""

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])")
_INCOMPLETE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_SEQUENCES = {
    "A": "up", "B": "down", "H": "home", "F": "end",
    "1~": "home", "7~": "home", "4~": "end", "8~": "end", "5~": "page up", "6~": "page down",
}  # fmt: skip
_CONTROLS = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x0c": "redraw", "\x15": "clear",
    "\x1b": "esc",
}  # fmt: skip


class KeyDecoder:
    """Bytes to names of keys; a printable character is its own name."""

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def is_waiting(self) -> bool:
        """Whether the last key may be incomplete."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys in *data*."""
        text, self._rest = self._rest + self._characters.decode(data), ""
        keys: list[str] = []
        place = 0
        while place < len(text):
            if _INCOMPLETE.match(text, place):
                self._rest = text[place:]
                break
            if found := _SEQUENCE.match(text, place):
                keys.append(_SEQUENCES.get(found[0][2:], ""))
                place = found.end()
            else:
                char = text[place]
                keys.append(_CONTROLS.get(char, char if char.isprintable() else ""))
                place += 1
        return [key for key in keys if key]

    def time_out(self) -> list[str]:
        """The key of which nothing more came."""
        rest, self._rest = self._rest, ""
        return ["esc", *rest[1:]] if rest else []


class Keyboard:
    """Standard input, if it is a terminal; else there are no keys."""

    def __init__(self) -> None:
        self.fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        """None: no keys, or none any more."""
        self._keys = KeyDecoder()
        self._before: list[int | list[bytes | int]] | None = None

    @property
    def timeout_s(self) -> float | None:
        """After this time without input, call `time_out`."""
        return ESCAPE_S if self._keys.is_waiting else None

    def enter(self) -> None:
        """Begin to take keys; a process in the background is stopped until it is in the foreground."""
        if self.fd is not None:
            self._before = termios.tcgetattr(self.fd)
            tty.setcbreak(self.fd, termios.TCSANOW)

    def leave(self) -> None:
        """Restore the terminal. Never waits for output."""
        if self.fd is not None and self._before is not None:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self.fd, termios.TCSANOW, self._before)
            self._before = None

    def read(self) -> list[str]:
        """The keys that were pressed."""
        assert self.fd is not None
        try:
            data = os.read(self.fd, 4096)
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            self.fd = None
        return self._keys.feed(data)

    def time_out(self) -> list[str]:
        """The key of which nothing more came."""
        return self._keys.time_out()

"""The alternate screen of a terminal: draws what changed since the last time, and restores the screen at the end."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress

from rich.console import COLOR_SYSTEMS, Console
from rich.text import Text

from fastmon_client.live.glyphs import ASCII
from fastmon_client.standard_output import OutputLost

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_SIZE = (80, 24)
"""Of a terminal that does not tell its own."""


class Screen:
    """Standard output as a screen; belongs to one thread."""

    def __init__(self) -> None:
        self._console = console = Console(file=sys.stdout)
        self._colours = COLOR_SYSTEMS[console.color_system] if console.color_system else None
        self._drawn: list[str] = []
        self._size = (0, 0)
        self._glyphs = ASCII if _is_limited(sys.stdout.encoding) else {}

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return _SIZE
        return (columns or _SIZE[0], lines or _SIZE[1])

    def enter(self) -> None:
        """Switch to the alternate screen, without a cursor and without wrapping."""
        self._write(_ENTER)
        self.forget()

    def leave(self) -> None:
        """Restore screen and cursor, if there still is a terminal."""
        with suppress(OutputLost):
            self._write(_LEAVE)

    def forget(self) -> None:
        """Draw everything the next time."""
        self._size = (0, 0)

    def draw(self, lines: Sequence[Text], size: tuple[int, int]) -> None:
        """Show *lines*, which fit a window of *size*."""
        parts = []
        if size != self._size:
            self._size, self._drawn = size, []
            parts.append("\x1b[2J")
        drawn = [self._rendered(line, size[0]) for line in lines]
        before = [*self._drawn, *[""] * (len(drawn) - len(self._drawn))]
        parts += [f"\x1b[{place};1H{line}" for place, line in enumerate(drawn, 1) if line != before[place - 1]]
        parts += [f"\x1b[{place};1H\x1b[K" for place in range(len(drawn) + 1, len(self._drawn) + 1)]
        self._drawn = drawn
        if parts:
            self._write("".join(parts))

    def _rendered(self, line: Text, width: int) -> str:
        """*line* with its styles; what stood right of it is erased."""
        if self._glyphs:
            line = line.copy()
            line.plain = line.plain.translate(self._glyphs)
        console, parts = self._console, []
        base = console.get_style(line.style)
        for text, own, _ in line.render(console):
            style = base + own if own else base
            shown = style.without_color if style and console.no_color else style
            parts.append(shown.render(text, color_system=self._colours) if shown else text)
        return "".join(parts) + ("" if line.cell_len >= width else "\x1b[K")  # in the last column, it would erase that

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def resume_output() -> None:
    """Let a terminal that was stopped (Ctrl-S) go on; callable from a signal handler."""
    with suppress(OSError, termios.error):
        termios.tcflow(sys.stdout.fileno(), termios.TCOOFF)  # else Linux does not restart what Ctrl-S stopped
        termios.tcflow(sys.stdout.fileno(), termios.TCOON)


def _is_limited(encoding: str) -> bool:
    """Whether the terminal's *encoding* lacks our characters."""
    try:
        "".join(map(chr, ASCII)).encode(encoding)
    except UnicodeEncodeError:
        return True
    return False

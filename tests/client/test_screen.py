"""What is written to a terminal for lines of the view."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import StringIO

import pytest
from rich.text import Text

from fastmon_client.live.screen import Screen
from fastmon_client.standard_output import OutputLost

SIZE = (20, 4)


class Tty(StringIO):
    encoding: str = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def written(self) -> str:
        """What was written since the last call."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Screen, Tty]]:
    def open_(**environment: str) -> tuple[Screen, Tty]:
        for name in ("NO_COLOR", "COLORTERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm", **environment}.items():
            monkeypatch.setenv(name, value)
        tty = Tty()
        monkeypatch.setattr(sys, "stdout", tty)
        return Screen(), tty

    return open_


Open = Callable[..., tuple[Screen, Tty]]


def test_only_what_changed_is_written(opened: Open) -> None:
    screen, tty = opened()
    screen.draw([Text("one"), Text("two")], SIZE)
    assert tty.written() == "\x1b[2J\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K"
    screen.draw([Text("one"), Text("2")], SIZE)
    assert tty.written() == "\x1b[2;1H2\x1b[K"
    screen.draw([Text("one"), Text("2")], SIZE)
    assert tty.written() == ""
    screen.draw([Text("one")], SIZE)
    assert tty.written() == "\x1b[2;1H\x1b[K"


def test_everything_is_written_at_another_size_and_after_forgetting(opened: Open) -> None:
    screen, tty = opened()
    screen.draw([Text("one")], SIZE)
    for size, forgets in (((30, 4), False), ((30, 4), True)):
        tty.written()
        if forgets:
            screen.forget()
        screen.draw([Text("one")], size)
        assert tty.written().startswith("\x1b[2J\x1b[1;1Hone")


def test_a_full_line_is_not_erased_in_its_last_column(opened: Open) -> None:
    screen, tty = opened()
    screen.draw([Text("x" * 20)], SIZE)
    assert tty.written().endswith("x" * 20)


def test_styles_of_a_line_and_of_its_parts(opened: Open) -> None:
    screen, tty = opened()
    screen.draw([Text("bar", "black on green"), Text.assemble(("red", "red"), " plain")], SIZE)
    assert tty.written() == "\x1b[2J\x1b[1;1H\x1b[30;42mbar\x1b[0m\x1b[K\x1b[2;1H\x1b[31mred\x1b[0m plain\x1b[K"


def test_no_color_leaves_bold(opened: Open) -> None:
    screen, tty = opened(NO_COLOR="1")
    screen.draw([Text("bar", "bold black on green")], SIZE)
    assert tty.written() == "\x1b[2J\x1b[1;1H\x1b[1mbar\x1b[0m\x1b[K"


def test_screen_is_entered_and_left(opened: Open) -> None:
    screen, tty = opened()
    screen.enter()
    screen.leave()
    assert tty.written() == "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"


def test_characters_that_the_encoding_lacks_are_replaced(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, shown in (("utf-8", "● ▁█ 3 → 4"), ("latin-1", "* _# 3 > 4"), ("ascii", "* _# 3 > 4")):
        monkeypatch.setattr(Tty, "encoding", encoding)
        screen, tty = opened()
        line = Text.assemble(("●", "red"), " ▁█ 3 → 4")
        screen.draw([line], SIZE)
        assert tty.written() == f"\x1b[2J\x1b[1;1H\x1b[31m{shown[0]}\x1b[0m{shown[1:]}\x1b[K"
        assert line.plain == "● ▁█ 3 → 4"


def test_a_terminal_that_is_gone_is_left_without_an_error(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, tty = opened()

    def gone(_text: str) -> int:
        raise OutputLost("its reader closed it")

    monkeypatch.setattr(tty, "write", gone)
    screen.leave()
    with pytest.raises(OutputLost):
        screen.enter()


@pytest.mark.parametrize(
    ("known", "size"), [((100, 30), (100, 30)), ((0, 0), (80, 24)), ((0, 30), (80, 30)), (None, (80, 24))]
)
def test_a_size_that_the_terminal_does_not_tell_is_80_by_24(
    opened: Open, monkeypatch: pytest.MonkeyPatch, known: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    def told(_fd: int) -> os.terminal_size:
        if known is None:
            raise OSError
        return os.terminal_size(known)

    screen, tty = opened()
    monkeypatch.setattr(tty, "fileno", lambda: 1)
    monkeypatch.setattr(os, "get_terminal_size", told)
    assert screen.size == size

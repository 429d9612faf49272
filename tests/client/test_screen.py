"""What is written to a terminal for lines of the view."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO

import pytest
from rich.text import Text

from fastmon_client.live.screen import Screen

SIZE = (20, 4)


class Tty(StringIO):
    encoding = "utf-8"

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

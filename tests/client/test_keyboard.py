"""Bytes of a terminal as keys."""

from __future__ import annotations

import os
import pty
from contextlib import closing

import pytest

from fastmon_client.live.keyboard import Keyboard, KeyDecoder


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"qa/?", ["q", "a", "/", "?"]),
        (b"\r\n", ["enter", "enter"]),
        (b"\x7f\x08\x15\x0c", ["backspace", "backspace", "clear", "redraw"]),
        (b"\x1b[A\x1b[B\x1bOA\x1bOB", ["up", "down", "up", "down"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~", ["page up", "page down", "home", "end", "home", "end"]),
        (b"\x1b[1;5C\x1b[200~x", ["x"]),
        (b"\x1bq", ["esc", "q"]),
        ("\u00e9\u65e5".encode(), ["\u00e9", "\u65e5"]),
        (b"\xff\x00\x01", ["\ufffd"]),
    ],
)
def test_keys_of_bytes(data: bytes, keys: list[str]) -> None:
    assert KeyDecoder().feed(data) == keys


def test_a_sequence_may_arrive_in_pieces() -> None:
    decoder = KeyDecoder()
    pieces = [decoder.feed(bytes([byte])) for byte in b"\x1b[5~\xc3\xa9"]
    assert [key for keys in pieces for key in keys] == ["page up", "\u00e9"]
    assert not decoder.is_waiting


def test_an_escape_that_nothing_follows_is_a_key() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.is_waiting
    assert decoder.time_out() == ["esc"]
    assert decoder.time_out() == []


def test_a_person_does_not_notice_how_long_the_key_esc_waits_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = pty.openpty()
    with closing(os.fdopen(terminal)) as stdin, closing(os.fdopen(ours, "wb", buffering=0)) as person:
        monkeypatch.setattr("sys.stdin", stdin)
        keyboard = Keyboard()
        keyboard.enter()
        assert keyboard.timeout_s is None
        person.write(b"\x1b")
        assert keyboard.read() == []
        assert keyboard.timeout_s is not None
        assert 0.02 <= keyboard.timeout_s <= 0.2
        assert keyboard.time_out() == ["esc"]
        assert keyboard.timeout_s is None
        keyboard.leave()

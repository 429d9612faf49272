"""The rows of a long list, one by one as they arrive: neither the text nor the rows are in memory as a whole. Pure."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from fastmon_client.tffile import cut_text

MAX_ROW_CHARS = 256 * 1024
"""Longest row."""
_MAX_FIELDS = 100
_MAX_BEFORE_CHARS = 8192
_DECODER = json.JSONDecoder()
_BETWEEN_ROWS = re.compile(r"[,\s]*")
_BEFORE_ROWS = re.compile(r'\s*(?:\{.{0,4096}?"results"\s*:\s*)?\[', re.DOTALL)
_NUMBER_BYTES, _ENTRY_BYTES, _ROW_BYTES = 32, 100, 300


class NotRows(Exception):
    """The text is not a list of objects; `start` is its begin."""

    def __init__(self, start: str, reason: str = "is not a list of rows") -> None:
        super().__init__(reason)
        self.start = start


def rows_in(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The rows of a JSON list, paged (`results`) or not; reads *chunks* to their end.

    Raises: NotRows if *chunks* are something else, or end too early.
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
    text, is_inside, chunks = "", False, iter(chunks)
    for chunk in chunks:
        text += decode(chunk)
        if not is_inside and (begin := _BEFORE_ROWS.match(text)):
            text, is_inside = text[begin.end() :], True
        if is_inside:
            text = yield from _complete_rows(text)
            if text.startswith("]"):
                for _rest in chunks:  # the connection can be used again, and a cut response is noticed
                    pass
                return
        if len(text) > (MAX_ROW_CHARS if is_inside else _MAX_BEFORE_CHARS):
            break
    if is_inside:
        raise NotRows(text[:40], "has a row that is too long, or ends too early")
    raise NotRows(text[:40]) if _is_json(text) else NotRows(text[:40], "is not JSON (login page or proxy?)")


def _complete_rows(text: str) -> Generator[dict[str, Any], None, str]:
    """Yield the rows at the begin of *text*; returns what follows them."""
    position = 0
    while True:
        if between := _BETWEEN_ROWS.match(text, position):
            position = between.end()
        try:
            row, position = _DECODER.raw_decode(text, position)
        except RecursionError:
            raise NotRows(text[position : position + 40], "is nested too deeply") from None
        except ValueError:  # the end, or the rest of the row has not arrived
            return text[position:]
        if not isinstance(row, dict):
            raise NotRows(text[:40])
        yield row


def slim(row: Mapping[str, Any]) -> dict[str, Any]:
    """*row* without what nobody needs: its texts cut, of its nested values only objects, one level deep."""
    found: dict[str, Any] = {}
    for key, value in list(row.items())[:_MAX_FIELDS]:
        if isinstance(value, dict):
            inner = {k: cut_text(v) for k, v in list(value.items())[:_MAX_FIELDS] if not isinstance(v, (dict, list))}
            found[key[:_MAX_FIELDS]] = {k[:_MAX_FIELDS]: v for k, v in inner.items()}
        elif not isinstance(value, list):
            found[key[:_MAX_FIELDS]] = cut_text(value)
    return found


def memory_of(row: Mapping[str, Any]) -> int:
    """About how many bytes a slim *row* takes."""
    total = _ROW_BYTES
    for key, value in row.items():
        length = len(value) if isinstance(value, str) else _NUMBER_BYTES
        total += _ENTRY_BYTES + len(key) + (memory_of(value) if isinstance(value, dict) else length)
    return total


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True

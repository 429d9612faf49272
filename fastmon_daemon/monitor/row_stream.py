"""The rows of a list, one by one as they arrive: neither the text nor the rows are ever in memory as a whole.

It must not know the tables.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from urllib3 import BaseHTTPResponse

from fastmon_daemon.monitor.responses import MeaninglessAnswer, excerpt

MAX_ROW_CHARS = 1024 * 1024
"""The longest row that is read, in characters: a parsed one may need 25 times as much memory."""
MAX_LIST_BYTES = 64 * 1024 * 1024
"""The longest list that is read."""
_MAX_HEAD_CHARS = 16 * 1024
"""The longest text before the first row of a page."""
_CHUNK_BYTES = 65536
_BETWEEN_ROWS = re.compile(r"[,\s]*")
_HEAD = re.compile(r'\ufeff?\s*(?:\[|\{.*?"results"\s*:\s*\[)', re.DOTALL)
_COUNT = re.compile(r'"count"\s*:\s*([0-9]{1,9})\b')


class RowStream:
    """An iterator over the rows of a list, paged or not (only the first page); iterate once.

    Iterating raises: OutcomeUnknown if the content is not a list of JSON values, ends too early or is too long.
    """

    def __init__(
        self,
        response: BaseHTTPResponse,
        redact: Callable[[str], str] = str,
        between_chunks: Callable[[], object] = lambda: None,
    ) -> None:
        """*redact* removes secrets from the text; *between_chunks* is called when all rows that arrived were taken."""
        self._response = response
        self._redact = redact
        self._between_chunks = between_chunks
        self.count: int | None = None
        """The total that a page begins with; known from the first row on, or from the end."""

    def __iter__(self) -> Iterator[Any]:
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        parse = json.JSONDecoder().raw_decode
        text, position, is_inside, length = "", 0, False, 0
        while chunk := self._response.read1(_CHUNK_BYTES, decode_content=True):
            length += len(chunk)
            text, position = self._redact(text[position:] + decode(chunk)), 0
            if not is_inside and (head := _HEAD.match(text, 0, _MAX_HEAD_CHARS)):
                is_inside, position = True, head.end()
                counted = _COUNT.search(text, 0, position)
                self.count = int(counted[1]) if counted else None
            while is_inside:
                if between := _BETWEEN_ROWS.match(text, position):
                    position = between.end()
                if text.startswith("]", position):
                    return
                try:
                    row, position = parse(text, position)
                except (ValueError, RecursionError):  # the rest of the row has not arrived, or it is none
                    break
                yield row
            self._between_chunks()
            longest = MAX_ROW_CHARS if is_inside else _MAX_HEAD_CHARS
            if len(text) - position > longest:
                break
            if length > MAX_LIST_BYTES:
                raise MeaninglessAnswer(f"list longer than {MAX_LIST_BYTES} bytes")
        raise MeaninglessAnswer(f"unexpected content, not a list of rows: {excerpt(text[position:])}")

"""The rows of a long list, one by one as they arrive: neither the text nor the rows are ever in memory as a whole.

It must not know the tables.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

import requests

from fastmon_daemon.monitor.responses import OutcomeUnknown, excerpt

MAX_ROW_CHARS = 4 * 1024 * 1024
"""The longest row that is read, in characters."""
_CHUNK_BYTES = 65536
_BETWEEN_ROWS = re.compile(r"[,\s]*")


def rows_in(response: requests.Response) -> Iterator[Any]:
    """Yield the rows of a list, paged or not (only the first page).

    Raises: OutcomeUnknown if the content is not a list of JSON values or ends too early.
    """
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    parse = json.JSONDecoder().raw_decode
    text, position, is_inside = "", 0, False
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        text, position = text[position:] + decode(chunk), 0
        if not is_inside:
            position = text.find("[") + 1  # of the list itself, or of a page's "results"
            is_inside = position > 0
        while is_inside:
            if between := _BETWEEN_ROWS.match(text, position):
                position = between.end()
            if text.startswith("]", position):
                return
            try:
                row, position = parse(text, position)
            except ValueError:  # the rest of the row has not arrived
                break
            yield row
        if len(text) - position > MAX_ROW_CHARS:
            break
    raise OutcomeUnknown(f"{response.url}: not a list of rows: {excerpt(text[position:])}")

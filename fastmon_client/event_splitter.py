"""Splits the bytes of an event stream into complete events, for sseclient-py, which parses them. Pure.

sseclient-py gives out a truncated last event as if complete, limits no length, loses the first event after a byte
order mark, joins events whose lines end in different ways, raises at invalid UTF-8, and passes on neither comments nor
a `retry:` without data: so this is decided here, before it.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 1024 * 1024
"""Longest event; a longer one is skipped."""

_BOM = b"\xef\xbb\xbf"
_RETRY = re.compile(rb"(?:^|\n)retry: ?(\d{1,9})(?=\n)")


class EventSplitter:
    """Takes chunks of any size; the cost is linear in their bytes."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        """The server's last `retry:`, in seconds."""
        self.skipped = 0
        """Events that were too long."""
        self.had_comment = False
        """Whether the last chunk began a comment, the heart-beat of many servers."""
        self._kept = bytearray()
        self._at_start = True
        self._after_return = self._is_skipping = False

    def feed(self, chunk: bytes) -> bytes:
        """The events that *chunk* completes, as valid UTF-8 with line feeds; empty if none."""
        if self._after_return or b"\r" in chunk:
            chunk = self._with_line_feeds(chunk)
        searched = max(0, len(self._kept) - 1)  # a blank line may have begun in an earlier chunk
        self._kept += chunk
        if self._at_start and len(self._kept) >= len(_BOM):
            self._at_start = False
            if self._kept.startswith(_BOM):
                del self._kept[: len(_BOM)]
                searched = 0
        if self._is_skipping:
            searched = self._skip()
        end = self._kept.rfind(b"\n\n", searched) + 2
        end = end if end > 1 else 0
        self.had_comment = self._kept.find(b"\n:", searched) >= 0 or (not searched and self._kept.startswith(b":"))
        block = bytes(self._kept[:end])
        del self._kept[:end]
        if len(self._kept) > MAX_EVENT_BYTES:
            self.skipped += 1
            self._is_skipping = True
            self._skip()
        if b"retry:" in block and (found := _RETRY.findall(block)):
            self.retry_s = int(found[-1]) / 1000
        return block if block.isascii() else block.decode(errors="replace").encode()

    def _skip(self) -> int:
        """Drop what is kept up to the end of the event that is too long; returns where to search from."""
        end = self._kept.find(b"\n\n")
        self._is_skipping = end < 0
        del self._kept[: end + 2 if end >= 0 else -1]
        return 0

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """*chunk* with each end of a line (CR LF, LF or CR) as LF; a CR LF may be cut in two."""
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_return = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

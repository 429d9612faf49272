"""Splits the bytes of an event stream into complete events, for sseclient-py, which parses them. Pure.

sseclient-py gives out a truncated last event as if complete, limits no length, loses the first event after a byte
order mark, raises at invalid UTF-8, and passes on no `retry:` without data: so this is decided here, before it.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 1024 * 1024
"""Longest event; a longer one is skipped."""

_BOM = b"\xef\xbb\xbf"
_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")
_RETRY = re.compile(rb"(?:^|[\r\n])retry: ?(\d{1,9})(?=[\r\n])")


class EventSplitter:
    """Takes chunks of any size; the cost is linear in their bytes."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        """The server's last `retry:`, in seconds."""
        self.skipped = 0
        """Events that were too long."""
        self._kept = bytearray()
        self._at_start = True
        self._is_skipping = False

    def feed(self, chunk: bytes) -> bytes:
        """The events that *chunk* completes, as valid UTF-8; empty if none."""
        searched = max(0, len(self._kept) - 3)  # a blank line may have begun in an earlier chunk
        self._kept += chunk
        if self._at_start and len(self._kept) >= len(_BOM):
            self._at_start = False
            if self._kept.startswith(_BOM):
                del self._kept[: len(_BOM)]
                searched = 0
        if self._is_skipping:
            searched = self._skip()
        end = max(self._end_of(mark, searched) for mark in _BLANK_LINES)
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
        ends = [at + len(mark) for mark in _BLANK_LINES if (at := self._kept.find(mark)) >= 0]
        self._is_skipping = not ends
        del self._kept[: min(ends) if ends else -3]
        return 0

    def _end_of(self, mark: bytes, searched: int) -> int:
        found = self._kept.rfind(mark, searched)
        return found + len(mark) if found >= 0 else 0

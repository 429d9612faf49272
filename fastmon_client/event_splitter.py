"""Splits the bytes of an event stream into complete events, for sseclient-py, which parses them. Pure.

sseclient-py gives out a truncated last event as if complete, limits no length, loses the first event after a byte
order mark, raises at invalid UTF-8, and passes on no `retry:` without data: so this is decided here, before it.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Longest event."""

_BOM = b"\xef\xbb\xbf"
_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")
_RETRY = re.compile(rb"(?:^|[\r\n])retry: ?(\d{1,9})(?=[\r\n])")


class EventSplitter:
    """Takes chunks of any size; the cost is linear in their bytes."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        """The server's last `retry:`, in seconds."""
        self._kept = bytearray()
        self._at_start = True

    def feed(self, chunk: bytes) -> bytes:
        """The events that *chunk* completes, as valid UTF-8; empty if none.

        Raises: ValueError if an event has more than `MAX_EVENT_BYTES`.
        """
        searched = max(0, len(self._kept) - 3)  # a blank line may have begun in an earlier chunk
        self._kept += chunk
        if self._at_start and len(self._kept) >= len(_BOM):
            self._at_start = False
            if self._kept.startswith(_BOM):
                del self._kept[: len(_BOM)]
                searched = 0
        end = max(self._end_of(mark, searched) for mark in _BLANK_LINES)
        if len(self._kept) - end > MAX_EVENT_BYTES:
            raise ValueError(f"event has more than {MAX_EVENT_BYTES} bytes")
        block = bytes(self._kept[:end])
        del self._kept[:end]
        if b"retry:" in block and (found := _RETRY.findall(block)):
            self.retry_s = int(found[-1]) / 1000
        return block if block.isascii() else block.decode(errors="replace").encode()

    def _end_of(self, mark: bytes, searched: int) -> int:
        found = self._kept.rfind(mark, searched)
        return found + len(mark) if found >= 0 else 0

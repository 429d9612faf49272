"""Passes on the whole frames of a STOMP connection, and drops those that are too long: stomp.py limits none. Pure."""

from __future__ import annotations

import re

MAX_FRAME_BYTES = 2 * 1024 * 1024
"""Longest frame; a longer one is dropped."""
_MAX_HEAD_BYTES = 64 * 1024
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length: *([0-9]{1,18})\r?$", re.MULTILINE)


class FrameFilter:
    """Takes chunks of any size; holds at most one frame."""

    def __init__(self) -> None:
        self.dropped = 0
        """Frames that were too long."""
        self._kept = bytearray()
        self._searched = 0
        self._length: int | None = None
        """Of the frame that is kept, with its NUL, if its head is complete and tells it."""
        self._has_head = self._is_dropping = False
        self._left = 0
        """Bytes of the frame that is dropped before its NUL is searched for."""

    def feed(self, chunk: bytes) -> bytes:
        """The frames, and the line ends between them, that *chunk* completes; empty if none."""
        self._kept += chunk
        found = bytearray()
        while self._kept and (end := self._next()):
            if not self._is_dropping:
                found += self._kept[:end]
            del self._kept[:end]
            self._has_head, self._is_dropping, self._length, self._searched = False, False, None, 0
        return bytes(found)

    def _next(self) -> int:
        """The length of what is complete at the begin of `_kept`; 0 if more has to come."""
        if self._is_dropping:
            return self._end_of_dropped()
        if not self._has_head:
            between = len(self._kept) - len(self._kept.lstrip(b"\r\n"))
            if between:
                return between
        end = self._kept.find(0, self._searched) + 1
        if not self._has_head:
            self._read_head(end or len(self._kept))
        self._searched = max(0, len(self._kept) - 3)  # the end of the head may have begun
        end = self._length or end
        limit = MAX_FRAME_BYTES if self._has_head else _MAX_HEAD_BYTES
        if (end or len(self._kept)) > limit:
            self.dropped += 1
            self._is_dropping, self._left = True, max(0, end - 1)
            return self._end_of_dropped()
        return end if end <= len(self._kept) else 0

    def _read_head(self, before: int) -> None:
        head_end = _HEAD_END.search(self._kept, self._searched, before)
        if head_end is None or head_end.end() > _MAX_HEAD_BYTES:
            return
        self._has_head = True
        if told := _LENGTH.search(self._kept, 0, head_end.end()):
            self._length = head_end.end() + int(told[1]) + 1

    def _end_of_dropped(self) -> int:
        if self._left:
            passed = min(self._left, len(self._kept))
            self._left -= passed
            del self._kept[:passed]
        end = self._kept.find(0) + 1
        if not end and not self._left:
            self._kept.clear()
        return end if not self._left else 0

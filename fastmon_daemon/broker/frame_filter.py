"""What stomp.py gets to see of the received bytes: frames that fit into memory, whatever the broker sends.

stomp.py collects a frame until its end, however long it is. A publisher decides on the length and the headers of a
message, so a long one must not end the connection either: it would be redelivered to the next. This module must not
know what frames mean.
"""

from __future__ import annotations

import re

MAX_BODY_BYTES = 1_048_577
"""The bytes of a body that are passed on; one more than a message may have, so that a cut one is not taken."""
_MAX_LINE_BYTES = 8192
"""The longest header line; longer ones are dropped."""
_MAX_HEAD_BYTES = 64 * 1024 * 1024
_MAX_DISCARDED_BYTES = 512 * 1024 * 1024
"""Headers and bodies beyond these end the connection: no broker transfers such a message."""
_SMALL_BYTES = 16 * 1024
_KEPT = frozenset(
    b"ack content-length content-type destination heart-beat message message-id receipt-id redelivered server session "
    b"subscription version".split()
)
"""The headers that are passed on."""
_NUMBER = re.compile(rb"\s*([0-9]{1,15})\s*")
_LENGTH = re.compile(rb"\ncontent-length:([0-9]{1,15})\n")
_HEART_BEAT = re.compile(rb"\s*[0-9]{1,7}\s*,\s*[0-9]{1,7}\s*")
_EOL = b"\r\n"
_BETWEEN_FRAMES = re.compile(rb"[\r\n]*")
_NO_FRAME = "sent something that is no STOMP frame"


class FrameTooLong(OSError):
    """The broker sends something that is no frame, or one without end."""


class FrameFilter:
    """Copies a stream of frames without long header lines, unknown headers, and the rest of long bodies."""

    def __init__(self) -> None:
        self._rest = b""
        """The beginning of a line."""
        self._state = self._between
        self._out = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return what is passed on of *data*; may be empty. Raises: FrameTooLong."""
        if self._state == self._between and len(data) <= _SMALL_BYTES:
            whole = data.rstrip(_EOL)
            if not whole:
                return b"\n"  # a heart-beat
            is_known = whole.endswith(b"\0") and b"\nheart-beat" not in data
            if is_known and (b"content-length" not in data or _is_one_frame(whole)):
                return data
        data, self._rest = self._rest + data, b""
        position = 0
        while position < len(data):
            position = self._state(data, position)
        passed, self._out = bytes(self._out), bytearray()
        return passed

    def _between(self, data: bytes, position: int) -> int:
        if between := _BETWEEN_FRAMES.match(data, position):  # no copy: one read may have hundreds of frames
            position = between.end()
        if position == len(data):
            self._out += b"\n"
            return position
        self._is_command, self._is_skipping = True, False
        self._seen: set[bytes] = set()
        self._unsearched, self._size = 0, 0
        self._state = self._head
        return position

    def _head(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        nul = data.find(b"\0", position, end if end >= 0 else len(data))
        if nul >= 0:  # a frame that ends without a body
            self._line(data[position:nul])
            self._end_frame()
            return nul + 1
        if end < 0:
            if len(data) - position <= _MAX_LINE_BYTES:
                self._rest = data[position:]
            elif self._is_command:
                raise FrameTooLong(_NO_FRAME)
            else:
                self._add_size(len(data) - position, _MAX_HEAD_BYTES)
                self._is_skipping = True
            return len(data)
        line = data[position:end].rstrip(b"\r")
        self._add_size(end - position, _MAX_HEAD_BYTES)
        if line or self._is_skipping:
            self._line(line)
        else:
            self._out += b"\n"
            self._state, self._size = self._body, 0
        return end + 1

    def _line(self, line: bytes) -> None:
        too_long = self._is_skipping or len(line) > _MAX_LINE_BYTES
        self._is_skipping = False
        if self._is_command:
            if too_long or not line.isalpha():
                raise FrameTooLong(_NO_FRAME)
            self._is_command = False
            self._out += line + b"\n"
            return
        name, _, value = line.partition(b":")
        if too_long or name not in _KEPT or name in self._seen:
            return
        self._seen.add(name)
        if name == b"content-length":
            number = _NUMBER.fullmatch(value)
            if number is None:
                return
            self._unsearched = int(number[1])
            value = b"%d" % min(self._unsearched, MAX_BODY_BYTES)
        elif name == b"heart-beat" and not _HEART_BEAT.fullmatch(value):
            return
        self._out += name + b":" + value + b"\n"

    def _body(self, data: bytes, position: int) -> int:
        """Pass a part of the body on. It ends at the first NUL after its `content-length`."""
        if self._unsearched:
            end = min(len(data), position + self._unsearched)
            self._unsearched -= end - position
            self._pass(data, position, end)
            return end
        nul = data.find(b"\0", position)
        end = nul if nul >= 0 else len(data)
        self._pass(data, position, end)
        if nul < 0:
            return end
        self._end_frame()
        return nul + 1

    def _pass(self, data: bytes, begin: int, end: int) -> None:
        room = max(0, MAX_BODY_BYTES - self._size)
        self._out += data[begin : min(end, begin + room)]
        self._add_size(end - begin, _MAX_DISCARDED_BYTES)

    def _add_size(self, count: int, most: int) -> None:
        self._size += count
        if self._size > most:
            raise FrameTooLong(f"sent a frame longer than {most // 1024 // 1024} MiB")

    def _end_frame(self) -> None:
        self._out += b"\0"
        self._state = self._between


def _is_one_frame(data: bytes) -> bool:
    """Whether *data* is one frame with the right `content-length`: the usual message, which is passed on unread."""
    head = data.find(b"\n\n")
    found = _LENGTH.search(data, 0, head + 1)
    return found is not None and b"\r" not in data[:head] and int(found[1]) == len(data) - head - len(b"\n\n\0")

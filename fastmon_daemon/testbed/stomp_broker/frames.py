"""STOMP frames as bytes, in versions 1.0 to 1.2: an incremental parser and an encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_EOLS = re.compile(rb"[\r\n]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
# These frames are never escaped: their version is not agreed yet.
_UNESCAPED_COMMANDS = frozenset({"CONNECT", "STOMP", "CONNECTED"})
_UNESCAPES = {
    "1.1": {"n": "\n", "c": ":", "\\": "\\"},
    "1.2": {"n": "\n", "c": ":", "\\": "\\", "r": "\r"},
}
_ESCAPES = {
    # 1.0 has no escape for a line end, which would let the sender inject a header.
    "1.0": str.maketrans({"\n": " "}),
    "1.1": str.maketrans({"\\": "\\\\", "\n": "\\n", ":": "\\c"}),
    "1.2": str.maketrans({"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"}),
}


class ProtocolError(Exception):
    """An invalid request: the client gets an ERROR frame, and its connection is closed.

    *message* is the ERROR's message header, *detail* its body; *headers* are added to the frame.
    """

    def __init__(self, message: str, detail: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Frame:
    """One STOMP frame with unescaped headers (of repeated headers, the first)."""

    command: str
    headers: dict[str, str]
    body: bytes = b""


class FrameParser:
    """Parses frames one by one, because a CONNECT changes the version, and so how the next frame is parsed."""

    def __init__(self) -> None:
        self.version = "1.0"
        self._buffer = bytearray()
        self._head: Frame | None = None
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Add bytes from the socket."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Return the next complete frame, or None.

        Raises: ProtocolError if the bytes are no STOMP frame; the rest of the stream cannot be parsed then.
        """
        if self._head is None:
            self._head = self._take_head()
        if self._head is None:
            return None
        body = self._take_body(self._head.headers.get("content-length"))
        if body is None:
            return None
        frame = Frame(self._head.command, self._head.headers, body)
        self._head = None
        return frame

    def _take_head(self) -> Frame | None:
        if self._searched == 0 and (eols := _EOLS.match(self._buffer)):
            del self._buffer[: eols.end()]
        end = _END_OF_HEAD.search(self._buffer, self._searched)
        if (end.start() if end else len(self._buffer)) > MAX_HEAD_BYTES:
            raise ProtocolError(f"The maximum header size of {MAX_HEAD_BYTES} bytes was exceeded")
        if end is None:
            # The last two bytes may be the first two of "\n\r\n".
            self._searched = max(0, len(self._buffer) - 2)
            return None
        head = bytes(self._buffer[: end.start()])
        del self._buffer[: end.end()]
        self._searched = 0
        return _parse_head(head, self.version)

    def _take_body(self, content_length: str | None) -> bytes | None:
        end = self._end_of_body() if content_length is None else _parse_length(content_length)
        if max(end, self._searched) > MAX_BODY_BYTES:
            raise ProtocolError(f"The maximum body size of {MAX_BODY_BYTES} bytes was exceeded")
        if end < 0 or len(self._buffer) <= end:
            return None
        if self._buffer[end] != 0:
            raise ProtocolError(f"A frame has no NUL after its content-length of {end} bytes")
        body = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return body

    def _end_of_body(self) -> int:
        end = self._buffer.find(0, self._searched)
        self._searched = len(self._buffer)
        return end


def encode(frame: Frame, version: str) -> bytes:
    """Return the bytes of *frame* in STOMP *version*."""
    escapes = _ESCAPES["1.0" if frame.command in _UNESCAPED_COMMANDS else version]
    lines = [frame.command]
    if version == "1.0" or frame.command in _UNESCAPED_COMMANDS:
        lines += [f"{name}:{value.translate(escapes)}" for name, value in frame.headers.items()]
    else:
        lines += [f"{name.translate(escapes)}:{value.translate(escapes)}" for name, value in frame.headers.items()]
    return "\n".join(lines).encode() + b"\n\n" + frame.body + b"\0"


def _parse_head(head: bytes, version: str) -> Frame:
    try:
        lines = head.decode().split("\n")
    except UnicodeDecodeError as exc:
        raise ProtocolError("The header of a frame is not UTF-8") from exc
    opening = lines[0].removesuffix("\r") in _UNESCAPED_COMMANDS
    if opening or version == "1.2":
        lines = [line.removesuffix("\r") for line in lines]
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise ProtocolError(f"A header line has no colon: {line[:80]!r}")
        if not opening and "\\" in line:
            name, value = _unescape(name, version), _unescape(value, version)
        headers.setdefault(name, value)
    return Frame(lines[0], headers)


def _unescape(text: str, version: str) -> str:
    if version == "1.0":
        return text
    unescapes = _UNESCAPES[version]

    def unescaped(match: re.Match[str]) -> str:
        if match[1] not in unescapes:
            raise ProtocolError(f"Undefined escape sequence {match[0]!r} in a header")
        return unescapes[match[1]]

    return _ESCAPED.sub(unescaped, text)


def _parse_length(content_length: str) -> int:
    if not _LENGTH.fullmatch(content_length):
        raise ProtocolError(f"Specified content-length is not a valid number: {content_length[:80]!r}")
    return int(content_length)

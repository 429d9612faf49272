"""One request over a connection that was kept from an earlier one, without the layers of the libraries.

They take four times as long as the request itself. They still make each connection, and read each response that is not
plain: of a known length, not compressed, in HTTP/1.1. It must not know the calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from queue import Empty
from typing import Any

import requests
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError, ReadTimeoutError
from urllib3.util.connection import is_connection_dropped

from fastmon_daemon.monitor.transport import MAX_ANSWER_BYTES, Deadline, DeadlineAdapter, Incoming

_FRESH_S = 0.5
"""So soon after a response no server closes its connection for being idle, in seconds."""
_RECEIVE_BYTES = 65536
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\r\n]*)?\r\n")
_LENGTH = re.compile(r"[0-9]{1,9}", re.ASCII)
_WITHOUT_BODY = frozenset({204, 304})


class _Headers(Mapping[str, str]):
    """The headers of a response; names are found in any case."""

    def __init__(self, values: dict[str, str]) -> None:
        """*values* by names in lower case."""
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class WholeResponse:
    """A response that has arrived completely; an `Incoming`."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status_code = status
        self.headers = headers
        self.raw = self
        self._rest = body

    def read1(self, amount: int, *, decode_content: bool) -> bytes:  # noqa: ARG002 (it is not compressed)
        """The next bytes of the body, *amount* at most; empty at its end."""
        part, self._rest = self._rest[:amount], self._rest[amount:]
        return part

    def __enter__(self) -> WholeResponse:
        return self

    def __exit__(self, *_: object) -> None:
        """The connection is free already."""


def send_on_kept(
    adapter: DeadlineAdapter, method: str, request: bytes, deadline: Deadline, *, may_repeat: bool
) -> Incoming | None:
    """Send the bytes of *request*; return its response, or None if no connection is kept: use a new one.

    Also None if the connection ended without a byte of the response and the request *may_repeat*.

    Raises: urllib3's ProtocolError and ReadTimeoutError.
    """
    pool = adapter.pool_of_kept()
    if pool is None:
        return None
    connection = _take(pool, deadline.now())
    if connection is None:
        return None
    try:
        return _exchange(pool, connection, method, request, deadline)
    except BaseException as exc:
        connection.close()
        pool._put_conn(connection)
        if isinstance(exc, _EndedFirst):
            adapter.keep_none()
            if may_repeat:
                return None
        raise


def _take(pool: Any, now: float) -> Any:
    """A kept connection that its server has not closed; None if there is none."""
    try:
        connection = pool.pool.get_nowait()
    except (Empty, AttributeError):  # AttributeError: the pool was closed
        return None
    # Looking whether it is closed takes a system call, in which another thread gets its turn.
    if connection is not None and now - connection.used_at > _FRESH_S and is_connection_dropped(connection):
        connection.close()
    if connection is None or connection.sock is None:
        pool._put_conn(connection)
        return None
    return connection


class _EndedFirst(ProtocolError):
    """The server closed or reset the connection before the first byte of its response."""


def _exchange(pool: Any, connection: Any, method: str, request: bytes, deadline: Deadline) -> Incoming:
    sock, data = connection.sock, b""
    try:
        deadline.limit(connection)
        with suppress(BrokenPipeError, ConnectionResetError):  # the server may have answered before it closed
            sock.sendall(request)
        data = sock.recv(_RECEIVE_BYTES)
        if not data:
            raise RemoteDisconnected("Remote end closed connection without response")
        plain = _plain(data)
        if plain is None:
            return _streamed(pool, connection, method, data, deadline)
        status, headers, body, length = plain
        while len(body) < length:
            deadline.limit(connection)
            part = sock.recv(_RECEIVE_BYTES)
            if not part:
                raise IncompleteRead(bytes(body), length - len(body))
            body += part
    except (TimeoutError, BlockingIOError) as exc:
        raise ReadTimeoutError(pool, "", "Read timed out.") from exc
    except (HTTPException, OSError) as exc:
        has_ended = not data and isinstance(exc, RemoteDisconnected | ConnectionResetError | BrokenPipeError)
        raise (_EndedFirst if has_ended else ProtocolError)("Connection aborted.", exc) from exc
    if len(body) > length or "close" in headers.get("connection", "").lower():
        connection.close()
    connection.used_at = deadline.now()
    pool._put_conn(connection)
    return WholeResponse(status, _Headers(headers), bytes(body[:length]))


def _plain(data: bytes) -> tuple[int, dict[str, str], bytearray, int] | None:
    """Status, headers, beginning of the body and its length in the first bytes of a plain response; else None."""
    first, end = _STATUS.match(data), data.find(b"\r\n\r\n")
    if first is None or end < first.end():
        return None
    headers: dict[str, str] = {}
    for line in data[first.end() : end].decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name != name.strip():
            return None
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    status, length = int(first[1]), headers.get("content-length", "")
    is_coded = "transfer-encoding" in headers or "content-encoding" in headers
    if is_coded or status in _WITHOUT_BODY or not _LENGTH.fullmatch(length) or int(length) > MAX_ANSWER_BYTES:
        return None
    return status, headers, bytearray(data[end + 4 :]), int(length)


def _streamed(pool: Any, connection: Any, method: str, data: bytes, deadline: Deadline) -> requests.Response:
    """The response that begins with *data*, as the libraries read it."""
    response = deadline.response(connection, method, data)
    response.begin()
    if response.will_close:
        connection.close()  # the response keeps the socket until it is read
    raw = HTTPResponse(
        body=response, headers=response.headers.items(), status=response.status, version=response.version,
        reason=response.reason, preload_content=False, decode_content=False, original_response=response,
        request_method=method, pool=pool, connection=connection,
    )  # fmt: skip
    found = requests.Response()
    found.status_code, found.headers, found.raw = raw.status, CaseInsensitiveDict(raw.headers), raw
    return found

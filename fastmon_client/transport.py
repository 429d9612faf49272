"""HTTP connections for requests: to any address of the monitor, past interim responses, within a deadline, and once
more where a kept connection had ended.
"""

from __future__ import annotations

import io
import math
import socket
import time
from contextvars import ContextVar
from http.client import HTTPException, HTTPResponse, RemoteDisconnected, parse_headers
from typing import Any, BinaryIO

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from fastmon_client.addresses import connect
from fastmon_client.reasons import SlowResponse, causes_of
from fastmon_client.retrying import repeat_once

MAX_HEAD_S = 60.0
"""Longest time until the headers of a response are complete, also of a stream."""
MAX_HEAD_BYTES = 64 * 1024
"""Longest head of a response, with those of all interim responses before it: http.client would read 6 MB."""

_UNTIL: ContextVar[float] = ContextVar("until")
"""Until when (monotonic) the response to this thread's request must be complete: requests passes nothing else down."""


class _BoundedReader(io.RawIOBase):
    """Reads from *sock* until a deadline: the usual timeout limits each silence only."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock
        self.until = math.inf
        self._has_begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.until == math.inf:
            return self._raw.readinto(buffer)
        left_s, silence_s = self.until - time.monotonic(), self._sock.gettimeout()
        self._sock.settimeout(max(0.001, min(left_s, silence_s or left_s)))
        try:
            if left_s <= 0:
                raise TimeoutError
            length = self._raw.readinto(buffer)
            self._has_begun = True
            return length
        except TimeoutError:
            if self._has_begun and time.monotonic() >= self.until:
                raise SlowResponse from None
            raise
        finally:
            self._sock.settimeout(silence_s)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _HeadReader:
    """Reads the lines of a head up to `MAX_HEAD_BYTES`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._left = MAX_HEAD_BYTES

    def readline(self, limit: int = -1) -> bytes:
        """One line. Raises: HTTPException if there are too many bytes of them."""
        line = self.file.readline(min(self._left + 1, limit if limit >= 0 else self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise HTTPException(f"head of more than {MAX_HEAD_BYTES} bytes")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _FinalResponse(HTTPResponse):
    """Complete before a deadline, with a bounded head; skips interim responses (1xx): http.client skips 100 only."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        assert isinstance(self.fp, io.BufferedReader)
        self._reader = _BoundedReader(self.fp.detach(), sock)
        self.fp: Any = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the head."""
        until = _UNTIL.get()
        self._reader.until = min(until, time.monotonic() + MAX_HEAD_S)
        self.fp = head = _HeadReader(self.fp)
        try:
            super().begin()
        finally:
            if self.fp is head:
                self.fp = head.file
        self._reader.until = until

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            parse_headers(self.fp)


class _KeptConnectionEnded(RemoteDisconnected):
    """A connection that had answered before ended without a byte of the next response."""


class _Dialling(HTTPConnection):
    """Connects by `addresses.connect`: an address that swallows packets does not use up the timeout."""

    response_class = _FinalResponse
    _has_answered = False

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request."""
        try:
            super().request(*args, **kwargs)
        except ConnectionResetError as exc:
            self._raise_if_kept(exc)
            raise

    def getresponse(self) -> Any:
        """The response, its body unread."""
        try:
            response = super().getresponse()
        except ConnectionResetError as exc:  # also RemoteDisconnected
            self._raise_if_kept(exc)
            raise
        self._has_answered = True
        return response

    def _raise_if_kept(self, exc: ConnectionResetError) -> None:
        if self._has_answered:
            raise _KeptConnectionEnded("kept connection ended") from exc

    def _new_conn(self) -> socket.socket:
        self._has_answered = False
        timeout: Any = self.timeout
        try:
            return connect(self._dns_host, self.port, timeout, self.socket_options or ())
        except socket.gaierror as exc:
            raise NameResolutionError(self.host, self, exc) from exc
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, str(exc)) from exc
        except OSError as exc:
            raise NewConnectionError(self, str(exc)) from exc


class _DiallingSecurely(_Dialling, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Dialling


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _DiallingSecurely


_POOLS = {"http": _Pool, "https": _SecurePool}


class MonitorAdapter(HTTPAdapter):
    """The adapter of requests with the connections of this module, also to a proxy.

    For requests that may be sent twice.
    """

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send *request*, once more where the connection had ended while it was idle.

        The whole response must be complete within the `total` of the timeout, a `urllib3.Timeout`, if it has one.
        """
        total_s = kwargs["timeout"].total
        _UNTIL.set(math.inf if total_s is None else time.monotonic() + total_s)
        response: requests.Response = repeat_once(_was_kept)(super().send, request, *args, **kwargs)
        return response

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The pools of connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        if isinstance(manager, ProxyManager):  # not PySocks', which connects by itself
            manager.pool_classes_by_scheme = _POOLS
        return manager


def _was_kept(exc: BaseException) -> bool:
    return any(isinstance(each, _KeptConnectionEnded) for each in causes_of(exc))

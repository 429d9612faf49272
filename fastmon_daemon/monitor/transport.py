"""HTTP connections to the monitor: its proxy, and a deadline for the whole response, however slowly it arrives.

Owns the deadline and the maximum length of a response. It must not know the calls.
"""

from __future__ import annotations

import io
import json
import math
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, parse_headers
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, should_bypass_proxies
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.util import Timeout

from fastmon_daemon.base.network import connect, is_loopback
from fastmon_daemon.monitor.failures import ended_without_response
from fastmon_daemon.monitor.responses import MeaninglessAnswer, is_success

KEEP_NONE_S = 600.0
"""Seconds for which no connection is kept, after a kept one ended without a response."""
MAX_ANSWER_BYTES = 64 * 1024
"""The longest response body that is read whole: one row, or an error. Lists are read row by row."""
MAX_HEADER_BYTES = 64 * 1024
"""The longest status line and headers of a response."""

_DEADLINE: ContextVar[float] = ContextVar("deadline")
"""Deadline of this thread's request: requests passes nothing else down to the place where the response is read."""
_IS_NEW: ContextVar[bool] = ContextVar("is_new")
"""Whether a connection was made for this thread's request."""
_KEEPS: ContextVar[bool] = ContextVar("keeps")
"""Whether the connection is kept after this thread's request."""


def proxies(base_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy for *base_url* from *environ*, by the rules of requests; none for loopback addresses."""
    parts = urlsplit(base_url)
    found = (environ.get(name) or environ.get(name.upper()) for name in (f"{parts.scheme}_proxy", "all_proxy"))
    proxy = next(filter(None, found), "")
    if not proxy or is_loopback(parts.hostname or ""):
        return {}
    excluded = should_bypass_proxies(base_url, environ.get("no_proxy") or environ.get("NO_PROXY", ""))
    return {} if excluded else {parts.scheme: proxy}


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The CA certificates that the monitor's certificate is verified with: a PEM file, or a folder of hashed ones."""

    path: str
    name: str
    """Where the choice comes from."""

    @classmethod
    def of(cls, ca: Path | None, environ: Mapping[str, str]) -> TrustStore:
        """*ca*; else SSL_CERT_FILE or SSL_CERT_DIR of *environ*; else the system's CAs; else those of certifi."""
        if ca is not None:
            return cls(str(ca), "FASTMON_MONITOR_CA")
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if path := environ.get(name):
                return cls(path, name)
        system = ssl.get_default_verify_paths()
        if Path(system.openssl_cafile).is_file():
            return cls(system.openssl_cafile, "the system's CAs")
        if any(Path(system.openssl_capath).glob("*.0")):
            return cls(system.openssl_capath, "the system's CAs")
        return cls(DEFAULT_CA_BUNDLE_PATH, "CAs of the Python package certifi")

    def __str__(self) -> str:
        return f"{self.name}: {self.path}"


def strip_userinfo(url: str) -> str:
    """*url* without user name and password."""
    return re.sub(r"//[^/?#]*@", "//", url)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request: *url* is complete and quoted; times are in seconds, *until* on the monotonic clock."""

    method: str
    url: str
    target: str
    """What follows the server's name in *url*."""
    headers: dict[str, str]
    body: bytes | None
    connect_s: float
    read_s: float
    until: float


class DeadlineAdapter(HTTPAdapter):
    """Pools *connections* to one server, and reads each response before the deadline of its request.

    (The usual timeouts limit each silence only: a server that sends single bytes would never exceed them.) The caller
    must limit the number of requests in flight: requests would wait for a connection without a deadline.

    requests makes the connections, and each request through a proxy. Over a kept connection urllib3 alone sends it:
    the objects of requests and of the pool would cost more than the exchange.
    """

    def __init__(
        self, connections: int, monotonic: Callable[[], float], trust: TrustStore, proxies: dict[str, str]
    ) -> None:
        self._monotonic = monotonic
        self._trust = trust
        self._proxies = proxies
        self._keep_none_until = -math.inf
        self._pool: Any = None
        self._changing_pool = threading.Lock()
        super().__init__(pool_maxsize=connections, max_retries=0)

    @contextmanager
    def exchange(self, request: HttpRequest, *, may_repeat: bool) -> Iterator[BaseHTTPResponse]:
        """Send *request*; yield its response, of which the headers have arrived.

        If a kept connection ends without a byte of it, the request is repeated once on a new one, unless our caller
        wants to look up first what became of it. For a while no connection is kept then: a server that closes each
        one at its second request would else get none of these requests through.

        Raises: requests.RequestException, urllib3.exceptions.HTTPError; OSError if the CA file cannot be used.
        """
        _DEADLINE.set(request.until)
        _IS_NEW.set(False)
        _KEEPS.set(self._monotonic() >= self._keep_none_until)
        try:
            response, kept = self._send(request)
        except (requests.ConnectionError, ProtocolError) as exc:
            if _IS_NEW.get() or not ended_without_response(exc):
                raise
            self._keep_none_until = self._monotonic() + KEEP_NONE_S
            self.close()  # the other kept connections are as old
            if not may_repeat:
                raise
            _KEEPS.set(False)
            response, kept = self._send_with_requests(request), None
        is_read = False
        try:
            yield response
            is_read = response.closed
        finally:
            if kept is not None:
                kept.give_back(is_usable=is_read)
            else:
                response.close()
                response.release_conn()

    def _send(self, request: HttpRequest) -> tuple[BaseHTTPResponse, _KeptConnection | None]:
        kept = None if self._proxies else _KeptConnection.of(self._pool)
        return (self._send_with_requests(request), None) if kept is None else (kept.send(request), kept)

    def _send_with_requests(self, request: HttpRequest) -> BaseHTTPResponse:
        prepared = requests.Request(request.method, request.url, request.headers, data=request.body).prepare()
        left_s = max(0.001, request.until - self._monotonic())
        timeout: Any = Timeout(left_s, connect=request.connect_s, read=request.read_s)  # not in requests' stubs
        response = self.send(prepared, stream=True, timeout=timeout, verify=self._trust.path, proxies=self._proxies)
        raw: BaseHTTPResponse = response.raw
        return raw

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool of connections; it is looked up anew only after `close`."""
        pool = self._pool
        if pool is None:
            with self._changing_pool:
                pool = self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return pool

    def close(self) -> None:
        """Let later requests make new connections, and look up the host again."""
        with self._changing_pool:
            super().close()
            self._pool = None

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _limit_responses(self.poolmanager, self._monotonic)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        """The pools of connections through *proxy*, made at the first request."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            _limit_responses(manager, self._monotonic)
        return manager


class _KeptConnection:
    """An open connection that was taken out of its pool."""

    def __init__(self, pool: Any, connection: HTTPConnection) -> None:
        self._pool = pool
        self._connection = connection

    @classmethod
    def of(cls, pool: Any) -> _KeptConnection | None:
        """An open connection of *pool*, which may be closed or None; None without one."""
        if pool is None:
            return None
        try:
            kept = cls(pool, pool._get_conn())
        except ClosedPoolError:
            return None
        if kept._connection.sock is None:
            kept.give_back(is_usable=True)
            return None
        return kept

    def give_back(self, *, is_usable: bool) -> None:
        """Give the connection back to its pool; closed, unless its last response was read to the end."""
        if not is_usable:
            self._connection.close()
        self._pool._put_conn(self._connection)

    def send(self, request: HttpRequest) -> BaseHTTPResponse:
        """Send *request* and read the headers of its response. Raises: urllib3's errors, then it is given back."""
        connection = self._connection
        connection.timeout = request.read_s
        try:
            with suppress(BrokenPipeError):  # the server may have answered before it closed
                connection.request(
                    request.method, request.target, request.body, request.headers,
                    preload_content=False, decode_content=False,
                )  # fmt: skip
            return connection.getresponse()
        except BaseException as exc:
            self.give_back(is_usable=False)
            if isinstance(exc, TimeoutError):
                raise ReadTimeoutError(self._pool, request.url, "no response in time") from exc
            if isinstance(exc, HTTPException | OSError):
                raise ProtocolError("connection aborted", exc) from exc
            raise


def read_body(response: BaseHTTPResponse) -> str:
    """Read the whole body of a response; of an error, which may be a long page, only the beginning."""
    content = bytearray()
    while chunk := response.read1(MAX_ANSWER_BYTES, decode_content=True):
        content += chunk
        if len(content) <= MAX_ANSWER_BYTES:
            continue
        if is_success(response.status):
            raise MeaninglessAnswer(f"response longer than {MAX_ANSWER_BYTES} bytes")
        break
    return content.decode(json.detect_encoding(content), errors="replace")  # it may begin with a byte order mark


class _SendsOnce(HTTPConnection):
    """Sends the headers and the body of a request together: each part would wake the server."""

    _parts: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._parts = parts = list[bytes]()
        try:
            super().request(*args, **kwargs)
        finally:
            self._parts = None
        self.send(b"".join(parts))

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)
        else:
            self._parts.append(data)


def _limit_responses(manager: PoolManager, monotonic: Callable[[], float]) -> None:
    """Make all connections of *manager* read their responses within the deadline."""

    class DeadlineResponse(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            assert isinstance(self.fp, io.BufferedReader)
            self._reader = _DeadlineReader(self.fp.detach(), sock, _DEADLINE.get(), monotonic)
            self.fp = io.BufferedReader(self._reader)

        def begin(self) -> None:
            self._reader.left = MAX_HEADER_BYTES
            super().begin()
            self._reader.left = math.inf
            self.will_close |= not _KEEPS.get()

        def _read_status(self) -> tuple[str, int, str]:
            """Skip informational responses, such as 103: the library skips only 100."""
            while True:
                version, status, reason = super()._read_status()  # type: ignore[misc]
                if not 100 < status < 200:
                    return version, status, reason
                parse_headers(self.fp)

    def limited(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        library: Any = pool.ConnectionCls
        connect_as: Callable[[Any], socket.socket] = library._new_conn
        if connect_as is HTTPConnection._new_conn:  # not PySocks', which asks its proxy
            connect_as = _connect

        class Connection(_SendsOnce, library):  # type: ignore[misc]
            response_class = DeadlineResponse

            def _new_conn(self) -> socket.socket:
                _IS_NEW.set(True)
                return connect_as(self)

        return type("Pool", (pool,), {"ConnectionCls": Connection})

    manager.pool_classes_by_scheme = {scheme: limited(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}


def _connect(connection: HTTPConnection) -> socket.socket:
    """As urllib3's own, with a bounded lookup, and all addresses of the host side by side."""
    timeout_s = connection.timeout
    assert isinstance(timeout_s, float | int)  # each request has a timeout for connecting
    try:
        return connect(connection.host, connection.port, timeout_s, connection.socket_options or ())
    except socket.gaierror as exc:
        raise NameResolutionError(connection.host, connection, exc) from exc
    except TimeoutError as exc:
        raise ConnectTimeoutError(connection, str(exc)) from exc
    except OSError as exc:
        raise NewConnectionError(connection, str(exc)) from exc


class _DeadlineReader(io.RawIOBase):
    """Reads from *sock* until the deadline, and at most *left* bytes and a buffer more."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float, monotonic: Callable[[], float]) -> None:
        self._raw = raw
        self._sock = sock
        self._monotonic = monotonic
        self._read_timeout_s = sock.gettimeout() or 0.0
        self._deadline = deadline
        self.left = math.inf

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline - self._monotonic()
        if left_s <= 0:
            raise TimeoutError("response not complete before the deadline")
        if self.left <= 0:
            raise HTTPException(f"status line and headers longer than {MAX_HEADER_BYTES} bytes")
        self._sock.settimeout(min(left_s, self._read_timeout_s))
        try:
            count = self._raw.readinto(buffer)
            self.left -= count or 0
            return count
        finally:
            self._sock.settimeout(self._read_timeout_s)  # the connection is reused

    def close(self) -> None:
        self._raw.close()
        super().close()

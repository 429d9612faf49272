"""HTTP connections to the monitor: its proxy, and a deadline for the whole response, however slowly it arrives.

Owns the deadline and the maximum length of a response. It must not know the calls.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from http.client import HTTPResponse
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from fastmon_daemon.base.network import connect
from fastmon_daemon.monitor.responses import OutcomeUnknown

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""The longest response body that is read, in bytes."""

_DEADLINE: ContextVar[float] = ContextVar("deadline")
"""Deadline of this thread's request: requests passes nothing else down to the place where the response is read."""


def proxies(base_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy for *base_url* from *environ*; none for loopback addresses and hosts in `no_proxy`."""
    parts = urlsplit(base_url)
    proxy, direct = (
        environ.get(name) or environ.get(name.upper(), "") for name in (f"{parts.scheme}_proxy", "no_proxy")
    )
    host = (parts.hostname or "").lower()
    domains = [name.strip().lower().lstrip(".") for name in direct.split(",") if name.strip()]
    excluded = any(name in {"*", host} or host.endswith(f".{name}") for name in domains)
    return {parts.scheme: proxy} if proxy and not excluded and not _is_loopback(host) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def strip_userinfo(url: str) -> str:
    """*url* without user name and password."""
    return re.sub(r"//[^/?#]*@", "//", url)


class DeadlineAdapter(HTTPAdapter):
    """Pools *connections*, and reads each response within the `total` of its request's timeout, a `urllib3.Timeout`.

    (The usual timeouts limit each silence only: a server that sends single bytes would never exceed them.) The caller
    must limit the number of requests in flight: requests would wait for a connection without a deadline.
    """

    def __init__(self, connections: int, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._pools = _pools(monotonic)
        super().__init__(pool_maxsize=connections, max_retries=0)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send *request* and read the headers of its response."""
        _DEADLINE.set(self._monotonic() + kwargs["timeout"].total)
        return super().send(request, *args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The pools of connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def read_body(response: requests.Response) -> str:
    """Read the whole body of a response."""
    content = bytearray()
    while chunk := response.raw.read1(65536):
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise OutcomeUnknown(f"{response.url}: response longer than {MAX_RESPONSE_BYTES} bytes")
    return content.decode(errors="replace")


def _pools(monotonic: Callable[[], float]) -> dict[str, type[HTTPConnectionPool]]:
    class DeadlineResponse(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            assert isinstance(self.fp, io.BufferedReader)
            self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock, _DEADLINE.get(), monotonic))

    class Plain(HTTPConnection):
        response_class = DeadlineResponse
        _new_conn = _connect

    class Secure(HTTPSConnection):
        response_class = DeadlineResponse
        _new_conn = _connect

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


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
    """Reads from *sock* until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float, monotonic: Callable[[], float]) -> None:
        self._raw = raw
        self._sock = sock
        self._monotonic = monotonic
        self._read_timeout_s = sock.gettimeout() or 0.0
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline - self._monotonic()
        if left_s <= 0:
            raise TimeoutError("response not complete before the deadline")
        self._sock.settimeout(min(left_s, self._read_timeout_s))
        try:
            return self._raw.readinto(buffer)
        finally:
            self._sock.settimeout(self._read_timeout_s)  # the connection is reused

    def close(self) -> None:
        self._raw.close()
        super().close()

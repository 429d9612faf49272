"""Connections to the monitor: which proxy leads there, and answers that end in time, however slowly they drip.

Owns the deadline and the length of one answer. It must not know what is asked or answered.
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

from fastmon_daemon.monitor.responses import OutcomeUnknown

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""The longest answer that is read, in bytes."""

_UNTIL: ContextVar[float] = ContextVar("until")
"""When the answer to what this thread sends must have come: only the socket reaches where it is read."""


def proxies(base_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy for the monitor out of *environ*; none for loopback and for what `no_proxy` names."""
    parts = urlsplit(base_url)
    proxy, direct = (
        environ.get(name) or environ.get(name.upper(), "") for name in (f"{parts.scheme}_proxy", "no_proxy")
    )
    host = (parts.hostname or "").lower()
    domains = [name.strip().lower().lstrip(".") for name in direct.split(",") if name.strip()]
    spared = any(name in {"*", host} or host.endswith(f".{name}") for name in domains)
    return {parts.scheme: proxy} if proxy and not spared and not _is_loopback(host) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def strip_userinfo(url: str) -> str:
    """*url* without user name and password."""
    return re.sub(r"//[^/?#]*@", "//", url)


class DeadlineAdapter(HTTPAdapter):
    """Keeps *connections*, and reads each answer within the `total` of its request's timeout, an `urllib3.Timeout`.

    Other timeouts bound each silence only: a server that sends a byte now and then would never meet one. How many
    requests may be under way at once is for the caller to bound: requests waits for a connection without a deadline.
    """

    def __init__(self, connections: int, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._pools = _pools(monotonic)
        super().__init__(pool_maxsize=connections, max_retries=0)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send *request* and read the headers of its answer."""
        _UNTIL.set(self._monotonic() + kwargs["timeout"].total)
        return super().send(request, *args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The pools of connections over a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def read_body(response: requests.Response) -> str:
    """The body of an answer, to its end."""
    content = bytearray()
    while chunk := response.raw.read1(65536):
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise OutcomeUnknown(f"{response.url}: the answer is longer than {MAX_RESPONSE_BYTES} bytes")
    return content.decode(errors="replace")


def _pools(monotonic: Callable[[], float]) -> dict[str, type[HTTPConnectionPool]]:
    class Response(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            assert isinstance(self.fp, io.BufferedReader)
            self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock, _UNTIL.get(), monotonic))

    class Plain(HTTPConnection):
        response_class = Response

    class Secure(HTTPSConnection):
        response_class = Response

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class _DeadlineReader(io.RawIOBase):
    """What comes over *sock*, until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, until: float, monotonic: Callable[[], float]) -> None:
        self._raw = raw
        self._sock = sock
        self._monotonic = monotonic
        self._silence_s = sock.gettimeout() or 0.0
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - self._monotonic()
        if left <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._sock.settimeout(min(left, self._silence_s))
        try:
            return self._raw.readinto(buffer)
        finally:
            self._sock.settimeout(self._silence_s)  # the connection is used again

    def close(self) -> None:
        self._raw.close()
        super().close()

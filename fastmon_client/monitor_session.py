"""HTTP access to the monitor: URL, token, CA, proxies. The only module that sends requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from urllib3.util import Timeout

from fastmon_client.reasons import certificate_hint, reason_of
from fastmon_client.transport import MonitorAdapter
from fastmon_client.trust import TrustStore

MONITOR_CONNECT_S = 5.0
"""Longest time to connect to the monitor."""


class AccessDenied(Exception):
    """An operator must fix what the message names."""

    def __init__(self, message: str, *, by_token: bool = False) -> None:
        super().__init__(message)
        self.by_token = by_token
        """Whether the monitor rejected the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSession:
    """One monitor and its credentials."""

    url: str
    """Base URL."""
    token: Callable[[], str] = field(repr=False)
    """Called for each request; raises `AccessDenied` if the token cannot be read."""
    trust: TrustStore = field(default_factory=lambda: TrustStore.of({}))
    """Verifies the certificate of the monitor, always."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)

    def session(self) -> requests.Session:
        """A session with kept-alive connections; belongs to one thread."""
        session = requests.Session()
        session.trust_env = False  # a .netrc would replace the token
        session.proxies.update(self.proxies)
        for scheme in ("http://", "https://"):
            session.mount(scheme, MonitorAdapter())
        return session

    def get(
        self,
        session: requests.Session,
        path: str,
        params: Mapping[str, str] | None,
        accept: str,
        read_timeout_s: float,
        total_s: float | None = None,
    ) -> requests.Response:
        """The response, its body unread.

        *read_timeout_s* is the longest time without a byte, *total_s* the longest until the end of the body.

        Raises: requests.RequestException; AccessDenied if the token cannot be read.
        """
        timeout: Any = Timeout(total_s, connect=MONITOR_CONNECT_S, read=read_timeout_s)  # not in requests' stubs
        headers = {"Accept": accept, "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
        if token := self.token():
            headers["Authorization"] = f"Token {token}"
        return session.get(
            f"{self.url.rstrip('/')}{path}",
            params=params,
            headers=headers,
            timeout=timeout,
            stream=True,
            allow_redirects=False,
            verify=self.trust.path,
        )

    def denial(self, exc: Exception) -> AccessDenied | None:
        """*exc* as `AccessDenied` if an operator must fix its cause, else None."""
        if isinstance(exc, AccessDenied):
            return exc
        if hint := certificate_hint(exc):
            return AccessDenied(f"{reason_of(exc)}: {hint} (trusted now: {self.trust})")
        if isinstance(exc, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
            return AccessDenied(f"invalid URL: --monitor-url (SWF_MONITOR_URL) {self.url}, or a proxy variable")
        return None


def token_rejected(status: int) -> AccessDenied:
    """The error for a 401 or 403."""
    hint = "set SWF_API_TOKEN, or SWF_API_TOKEN_FILE to a file with the token"
    return AccessDenied(f"monitor rejected the token ({status}): {hint}", by_token=True)


def read_chunk(response: requests.Response, size: int) -> bytes:
    """The next *size* bytes of the body at most, decompressed; empty at its end.

    Raises: urllib3's HTTPError, OSError.
    """
    return response.raw.read1(size, decode_content=True)

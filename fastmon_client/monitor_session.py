"""HTTP access to the monitor: URL, token, CA, proxies. The only module that sends requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ssl import SSLCertVerificationError

import requests

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
    ca: str | None = None
    """PEM file of a private CA. The certificate of the monitor is always verified."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)

    def session(self) -> requests.Session:
        """A session with kept-alive connections; belongs to one thread."""
        session = requests.Session()
        session.trust_env = False  # a .netrc would replace the token
        session.proxies.update(self.proxies)
        return session

    def get(
        self, session: requests.Session, path: str, params: Mapping[str, str] | None, accept: str, read_timeout_s: float
    ) -> requests.Response:
        """The response, its body unread; *read_timeout_s* is the longest time without a byte.

        Raises: requests.RequestException; AccessDenied if the token cannot be read.
        """
        headers = {"Accept": accept, "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
        if token := self.token():
            headers["Authorization"] = f"Token {token}"
        return session.get(
            f"{self.url.rstrip('/')}{path}",
            params=params,
            headers=headers,
            timeout=(MONITOR_CONNECT_S, read_timeout_s),
            stream=True,
            allow_redirects=False,
            verify=self.ca or True,
        )

    def denial(self, exc: Exception) -> AccessDenied | None:
        """*exc* as `AccessDenied` if an operator must fix its cause, else None."""
        if isinstance(exc, AccessDenied):
            return exc
        if any(isinstance(cause, SSLCertVerificationError) for cause in _causes(exc)):
            return AccessDenied(f"{reason_of(exc)}: set FASTMON_MONITOR_CA to the CA of the monitor")
        if isinstance(exc, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
            return AccessDenied(f"invalid URL: --monitor-url (SWF_MONITOR_URL) {self.url}, or a proxy variable")
        return None


def token_rejected(status: int) -> AccessDenied:
    """The error for a 401 or 403."""
    hint = "set SWF_API_TOKEN, or SWF_API_TOKEN_FILE to a file with the token"
    return AccessDenied(f"monitor rejected the token ({status}): {hint}", by_token=True)


def reason_of(exc: Exception) -> str:
    """The innermost cause of a failed request: the outer ones repeat the whole URL."""
    innermost = list(_causes(exc))[-1]
    words = innermost.strerror if isinstance(innermost, OSError) else None  # without the number
    return words or str(innermost) or type(innermost).__name__


def _causes(exc: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__

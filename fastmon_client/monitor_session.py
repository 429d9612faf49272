"""How the monitor is reached: its URL, the token, the CA, proxies. The only place that sends requests.

It must not know what the answers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ssl import SSLCertVerificationError

import requests

MONITOR_CONNECT_S = 5.0
"""How long a connection to the monitor may take."""


class AccessDenied(Exception):
    """The monitor cannot be used until a person mends what the message names."""

    def __init__(self, message: str, *, by_token: bool = False) -> None:
        super().__init__(message)
        self.by_token = by_token
        """Whether it is the token that the monitor refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSession:
    """One monitor."""

    url: str
    """Base URL of the monitor."""
    token: Callable[[], str] = field(repr=False)
    """Asked at each request; raises `RequestRejected`."""
    ca: str | None = None
    """PEM file of a private CA; the monitor's certificate is checked in any case."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)

    def session(self) -> requests.Session:
        """Keeps connections open between requests; belongs to one thread."""
        session = requests.Session()
        session.trust_env = False  # a .netrc would replace the token
        session.proxies.update(self.proxies)
        return session

    def get(
        self, session: requests.Session, path: str, params: Mapping[str, str] | None, accept: str, read_timeout_s: float
    ) -> requests.Response:
        """The answer, whose body is still to be read; *read_timeout_s* is the longest silence, in seconds.

        Raises:
            Refused: the token cannot be read.
            requests.RequestException: no answer.
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
        """What a person must mend, if *exc* shows such a thing."""
        if isinstance(exc, AccessDenied):
            return exc
        if any(isinstance(cause, SSLCertVerificationError) for cause in _causes(exc)):
            return AccessDenied(f"{reason_of(exc)}: name the CA of the monitor's certificate in FASTMON_MONITOR_CA")
        if isinstance(exc, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
            return AccessDenied(f"--monitor-url (SWF_MONITOR_URL), or a proxy variable, is no usable URL: {self.url}")
        return None


def refused_token(status: int) -> AccessDenied:
    """The remedy for a 401 or 403."""
    hint = "set SWF_API_TOKEN, or name a file in SWF_API_TOKEN_FILE"
    return AccessDenied(f"the monitor refuses the token ({status}): {hint}", by_token=True)


def reason_of(exc: Exception) -> str:
    """The innermost cause: the outer ones repeat the whole URL."""
    innermost = list(_causes(exc))[-1]
    words = innermost.strerror if isinstance(innermost, OSError) else None  # without the number
    return words or str(innermost) or type(innermost).__name__


def _causes(exc: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__

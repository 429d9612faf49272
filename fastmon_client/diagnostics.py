"""One try of everything between here and the monitor, in the order in which it can fail, each with its remedy.

It must not know the command line, nor what the messages of the stream mean.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from fastmon_client.monitor_session import MONITOR_CONNECT_S, AccessDenied, MonitorSession, reason_of
from fastmon_client.stream import STREAM

GREETING_S = 10.0
"""Seconds in which the stream must greet us; the monitor does so at once."""
_AGAIN = "try again; is the monitor well?"


Cause = Literal["unreachable", "token", "other"]


@dataclass(frozen=True, slots=True)
class DiagnosticResult:
    """What one try brought."""

    what: str
    ok: bool
    detail: str
    hint: str = ""


class _Failed(Exception):
    """A try failed; what follows it need not be tried."""

    def __init__(self, detail: str, hint: str, cause: Cause = "other") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.cause = cause


class Diagnostics:
    """The tries of one monitor."""

    def __init__(self, monitor: MonitorSession) -> None:
        self._monitor = monitor
        self._url = urlsplit(monitor.url)
        self._by_proxy = monitor.proxies.get(self._url.scheme)
        self.cause: Cause | None = None
        """Of the try that failed; None as long as none did."""

    def run(self) -> Iterator[DiagnosticResult]:
        """Each try as it is done; the first that fails is the last, but for REST, which needs no token."""
        steps = [("DNS", self._dns), ("TCP", self._tcp), ("TLS", self._tls), ("REST", self._rest),
                 ("token", self._token), ("stream", self._stream)]  # fmt: skip
        for what, attempt in steps:
            try:
                yield DiagnosticResult(what, True, attempt())
            except _Failed as exc:
                self.cause = exc.cause
                yield DiagnosticResult(what, False, exc.detail, exc.hint)
                return

    @property
    def _host(self) -> tuple[str, int]:
        return self._url.hostname or "", self._url.port or (443 if self._url.scheme == "https" else 80)

    def _dns(self) -> str:
        host, port = self._host
        if self._by_proxy:
            return "left to the proxy"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            hint = "is the host in SWF_MONITOR_URL spelt right?"
            raise _Failed(f"{host}: {exc.strerror or exc}", hint, "unreachable") from exc
        return f"{host} is {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"

    def _tcp(self) -> str:
        if self._by_proxy:
            return "left to the proxy"
        with closing(self._connection()):
            return f"port {self._host[1]} answers"

    def _connection(self) -> socket.socket:
        host, port = self._host
        try:
            return socket.create_connection((host, port), MONITOR_CONNECT_S)
        except OSError as exc:
            hint = "is the monitor up, the port in SWF_MONITOR_URL right, a firewall between?"
            raise _Failed(f"{host}:{port}: {exc.strerror or exc}", hint, "unreachable") from exc

    def _tls(self) -> str:
        if self._url.scheme != "https":
            return "not used (http)"
        if self._by_proxy:
            return "tried with REST, through the proxy"
        context = ssl.create_default_context(cafile=self._monitor.ca)
        with closing(self._connection()) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=self._host[0]) as secured:
                    return f"{secured.version()}, certificate good"
            except (ssl.SSLError, OSError) as exc:
                reason = getattr(exc, "verify_message", "") or getattr(exc, "reason", "") or exc
                raise _Failed(str(reason), _remedy_for(exc)) from exc

    def _rest(self) -> str:
        anybody = replace(self._monitor, token=str)
        with self._ask(anybody, "/api/stf-files/", {"limit": "1"}) as answer:
            try:
                count = int(answer.json()["count"])
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as exc:
                raise _Failed(f"the answer breaks off: {reason_of(exc)}", _AGAIN, "unreachable") from exc
            except (ValueError, KeyError, TypeError) as exc:
                detail = f"{answer.status_code}, but not what a monitor says"
                raise _Failed(detail, "set SWF_MONITOR_URL to the monitor's base, without /api") from exc
        return f"answers; it knows {count} STFs"

    def _token(self) -> str:
        try:
            token = self._monitor.token()
        except AccessDenied as exc:
            raise _Failed(str(exc), "mend that file", "token") from exc
        if not token:
            raise _Failed("none is set", "set SWF_API_TOKEN, or SWF_API_TOKEN_FILE to the file that holds it", "token")
        self._ask(self._monitor, "/api/stf-files/", {"limit": "1"}).close()
        return "taken"

    def _stream(self) -> str:
        with self._ask(self._monitor, STREAM, None, "text/event-stream") as answer:
            try:
                first = answer.raw.read1(65536)
            except (HTTPError, OSError) as exc:
                hint = "does a proxy hold the stream back?"
                raise _Failed(f"silent for {GREETING_S:g} s", hint, "unreachable") from exc
            if not first.startswith(b"event:"):
                raise _Failed("its first bytes are no event", "is that the monitor's own stream?")
        return "greets us"

    def _ask(
        self, monitor: MonitorSession, path: str, params: Mapping[str, str] | None, accept: str = "*/*"
    ) -> requests.Response:
        try:
            with monitor.session() as session:
                answer = monitor.get(session, path, params, accept, GREETING_S)
        except requests.RequestException as exc:
            is_silence = isinstance(exc, (requests.ConnectionError, requests.Timeout))
            is_silence = is_silence and not isinstance(exc, requests.exceptions.SSLError)
            raise _Failed(f"no answer: {reason_of(exc)}", _AGAIN, "unreachable" if is_silence else "other") from exc
        self._check(answer)
        return answer

    def _check(self, answer: requests.Response) -> None:
        status = answer.status_code
        if status in (401, 403):
            raise _Failed(f"refused with {status}", "set SWF_API_TOKEN to a valid token of this monitor", "token")
        if 300 <= status < 400:
            to = answer.headers.get("Location", "elsewhere")
            raise _Failed(f"sent to {to}", "a login page? set SWF_MONITOR_URL to the monitor itself")
        if status >= 400:
            raise _Failed(f"answered {status}", "set SWF_MONITOR_URL to the monitor's base; see the monitor's log")


def _remedy_for(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "set FASTMON_MONITOR_CA to the PEM file of the monitor's CA"
    return "does it speak TLS there? else write http:// in SWF_MONITOR_URL"

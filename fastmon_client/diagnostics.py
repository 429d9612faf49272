"""Checks every layer between the client and the monitor, in order, with a hint for each failure."""

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

RESPONSE_TIMEOUT_S = 10.0
"""Longest wait for a response, and for the first event of the stream."""
_RETRY_HINT = "try again, and check the monitor's health"

Cause = Literal["unreachable", "token", "other"]


@dataclass(frozen=True, slots=True)
class DiagnosticResult:
    """The result of one check."""

    what: str
    ok: bool
    detail: str
    hint: str = ""


class _Failed(Exception):
    """A check failed; the later ones are skipped."""

    def __init__(self, detail: str, hint: str, cause: Cause = "other") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.cause = cause


class Diagnostics:
    """The checks of one monitor."""

    def __init__(self, monitor: MonitorSession) -> None:
        self._monitor = monitor
        self._url = urlsplit(monitor.url)
        self._uses_proxy = monitor.proxies.get(self._url.scheme)
        self.cause: Cause | None = None
        """Of the failed check; None if all passed."""

    def run(self) -> Iterator[DiagnosticResult]:
        """The result of each check as it is made; ends with the first failure."""
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
        if self._uses_proxy:
            return "left to the proxy"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            hint = "check the host in SWF_MONITOR_URL"
            raise _Failed(f"{host}: {exc.strerror or exc}", hint, "unreachable") from exc
        return f"{host} is {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"

    def _tcp(self) -> str:
        if self._uses_proxy:
            return "left to the proxy"
        with closing(self._connection()):
            return f"port {self._host[1]} is open"

    def _connection(self) -> socket.socket:
        host, port = self._host
        try:
            return socket.create_connection((host, port), MONITOR_CONNECT_S)
        except OSError as exc:
            hint = "check that the monitor is up, the port in SWF_MONITOR_URL, and firewalls"
            raise _Failed(f"{host}:{port}: {exc.strerror or exc}", hint, "unreachable") from exc

    def _tls(self) -> str:
        if self._url.scheme != "https":
            return "not used (http)"
        if self._uses_proxy:
            return "checked with REST, through the proxy"
        context = ssl.create_default_context(cafile=self._monitor.ca)
        with closing(self._connection()) as sock:
            try:
                with context.wrap_socket(sock, server_hostname=self._host[0]) as secured:
                    return f"{secured.version()}, certificate valid"
            except (ssl.SSLError, OSError) as exc:
                reason = getattr(exc, "verify_message", "") or getattr(exc, "reason", "") or exc
                raise _Failed(str(reason), _tls_hint(exc)) from exc

    def _rest(self) -> str:
        anybody = replace(self._monitor, token=str)
        with self._get(anybody, "/api/stf-files/", {"limit": "1"}) as response:
            try:
                count = int(response.json()["count"])
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as exc:
                raise _Failed(f"response is truncated: {reason_of(exc)}", _RETRY_HINT, "unreachable") from exc
            except (ValueError, KeyError, TypeError) as exc:
                detail = f"response is not a monitor's ({response.status_code})"
                raise _Failed(detail, "set SWF_MONITOR_URL to the monitor's base URL, without /api") from exc
        return f"{count} STFs registered"

    def _token(self) -> str:
        try:
            token = self._monitor.token()
        except AccessDenied as exc:
            raise _Failed(str(exc), "fix that file", "token") from exc
        if not token:
            raise _Failed("not set", "set SWF_API_TOKEN, or SWF_API_TOKEN_FILE to a file with the token", "token")
        self._get(self._monitor, "/api/stf-files/", {"limit": "1"}).close()
        return "accepted"

    def _stream(self) -> str:
        with self._get(self._monitor, STREAM, None, "text/event-stream") as response:
            try:
                first = response.raw.read1(65536)
            except (HTTPError, OSError) as exc:
                hint = "check for a proxy that buffers the stream"
                raise _Failed(f"no data for {RESPONSE_TIMEOUT_S:g} s", hint, "unreachable") from exc
            if not first.startswith(b"event:"):
                raise _Failed("first bytes are not an event", "check that SWF_MONITOR_URL is the monitor itself")
        return "first event received"

    def _get(
        self, monitor: MonitorSession, path: str, params: Mapping[str, str] | None, accept: str = "*/*"
    ) -> requests.Response:
        try:
            with monitor.session() as session:
                response = monitor.get(session, path, params, accept, RESPONSE_TIMEOUT_S)
        except requests.RequestException as exc:
            is_silence = isinstance(exc, (requests.ConnectionError, requests.Timeout))
            is_silence = is_silence and not isinstance(exc, requests.exceptions.SSLError)
            raise _Failed(
                f"no response: {reason_of(exc)}", _RETRY_HINT, "unreachable" if is_silence else "other"
            ) from exc
        self._check(response)
        return response

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            raise _Failed(f"rejected ({status})", "set SWF_API_TOKEN to a valid token of this monitor", "token")
        if 300 <= status < 400:
            to = response.headers.get("Location", "elsewhere")
            raise _Failed(f"redirected to {to}", "login page? set SWF_MONITOR_URL to the monitor itself")
        if status >= 400:
            raise _Failed(
                f"answered {status}", "set SWF_MONITOR_URL to the monitor's base URL; check the monitor's log"
            )


def _tls_hint(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "set FASTMON_MONITOR_CA to the PEM file of the monitor's CA"
    return "if the monitor has no TLS, use http:// in SWF_MONITOR_URL"

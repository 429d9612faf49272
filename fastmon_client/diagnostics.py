"""Checks every layer between the client and the monitor (and its broker), in order, with a hint for each failure."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

import requests
from requests.utils import select_proxy
from urllib3.exceptions import HTTPError

from fastmon_client.addresses import connect, resolve
from fastmon_client.broker_config import BrokerConfig
from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import MONITOR_CONNECT_S, AccessDenied, MonitorSession, read_chunk
from fastmon_client.reasons import certificate_hint, reason_of
from fastmon_client.stream import STREAM, Connected, Disconnected
from fastmon_client.tffile import ANNOUNCED
from fastmon_client.topic_stream import TopicStream

RESPONSE_TIMEOUT_S = 10.0
"""Longest wait for a whole response, and for the first event of the stream."""
LISTEN_S = 10.0
"""Longest wait for an announcement on a topic."""
_EVENT = b"event:"
MAX_RESPONSE_BYTES = 1024 * 1024
_URLS_HINT = "set SWF_MONITOR_URL and the proxy variables to valid URLs"
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
    """The checks of one monitor, and of a *broker* if messages come from its topic (waits *listen_s* seconds)."""

    def __init__(
        self, monitor: MonitorSession, broker: BrokerConfig | None = None, *, listen_s: float = LISTEN_S
    ) -> None:
        self._monitor, self._broker, self._listen_s = monitor, broker, listen_s
        self._url = urlsplit(monitor.url)
        self._uses_proxy = select_proxy(monitor.url, dict(monitor.proxies))
        self.cause: Cause | None = None
        """Of the failed check; None if all passed."""

    def run(self) -> Iterator[DiagnosticResult]:
        """The result of each check as it is made; ends with the first failure."""
        last = ("topic", self._topic) if self._broker else ("stream", self._stream)
        steps = [("DNS", self._dns), ("TCP", self._tcp), ("TLS", self._tls), ("REST", self._rest),
                 ("token", self._token), last]  # fmt: skip
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
            found = resolve(host, port, MONITOR_CONNECT_S)
        except OSError as exc:
            hint = "check the host in SWF_MONITOR_URL"
            raise _Failed(f"{host}: {reason_of(exc)}", hint, "unreachable") from exc
        return f"{host} is {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"

    def _tcp(self) -> str:
        if self._uses_proxy:
            return "left to the proxy"
        with closing(self._connection()) as sock:
            return f"port {self._host[1]} is open at {sock.getpeername()[0]}"

    def _connection(self) -> socket.socket:
        host, port = self._host
        try:
            return connect(host, port, MONITOR_CONNECT_S)
        except OSError as exc:
            hint = "check that the monitor is up, the port in SWF_MONITOR_URL, and firewalls"
            raise _Failed(f"{host}:{port}: {reason_of(exc)}", hint, "unreachable") from exc

    def _tls(self) -> str:
        if self._url.scheme != "https":
            return "not used (http)"
        if self._uses_proxy:
            return "checked with REST, through the proxy"
        trust = self._monitor.trust
        with closing(self._connection()) as sock:
            try:
                with trust.context().wrap_socket(sock, server_hostname=self._host[0]) as secured:
                    return f"{secured.version()}, certificate valid ({trust})"
            except (ssl.SSLError, OSError) as exc:
                hint = certificate_hint(exc)
                hint = f"{hint} (trusted now: {trust})" if hint else "check the port in SWF_MONITOR_URL"
                raise _Failed(reason_of(exc), hint) from exc

    def _rest(self) -> str:
        anybody = replace(self._monitor, token=str)
        return f"{self._count(anybody, '/api/stf-files/')} STFs registered"

    def _count(self, monitor: MonitorSession, path: str) -> int:
        with self._get(monitor, path, {"limit": "1"}) as response:
            try:
                return int(json.loads(self._start_of(response))["count"])
            except (ValueError, KeyError, TypeError, RecursionError) as exc:  # also requests' JSONDecodeError
                detail = f"response is not a monitor's ({response.status_code})"
                raise _Failed(detail, "set SWF_MONITOR_URL to the monitor's base URL, without /api") from exc
            except (HTTPError, OSError) as exc:
                raise _Failed(f"response is unreadable: {reason_of(exc)}", _RETRY_HINT, "unreachable") from exc

    @staticmethod
    def _start_of(response: requests.Response) -> bytes:
        """The body up to `MAX_RESPONSE_BYTES`: one row is shorter."""
        body, end = b"", time.monotonic() + RESPONSE_TIMEOUT_S
        while len(body) < MAX_RESPONSE_BYTES and time.monotonic() < end and (chunk := read_chunk(response, 65536)):
            body += chunk
        return body

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
            first = b""
            try:
                while len(first) < len(_EVENT) and (piece := read_chunk(response, 65536)):
                    first += piece
            except (HTTPError, OSError) as exc:
                hint = "check for a proxy that buffers the stream"
                raise _Failed(f"no data for {RESPONSE_TIMEOUT_S:g} s", hint, "unreachable") from exc
            if not first.startswith(_EVENT):
                raise _Failed("first bytes are not an event", "check that SWF_MONITOR_URL is the monitor itself")
        return "first event received"

    def _topic(self) -> str:
        assert self._broker is not None
        before = self._count(self._monitor, "/api/fastmon-files/")
        if self._hears_announcement(self._broker):
            return f"announcements arrive on {self._broker.topic}"
        registered = self._count(self._monitor, "/api/fastmon-files/") - before
        if registered > 0:
            what = f"nothing received from {self._broker.topic} in {self._listen_s:g} s, while the monitor registered"
            hint = "set --topic to one of the daemon's FASTMON_ANNOUNCE"
            raise _Failed(f"{what} {registered} TF files", hint)
        return f"subscribed to {self._broker.topic}; no TF file was registered in {self._listen_s:g} s"

    def _hears_announcement(self, broker: BrokerConfig) -> bool:
        topic = TopicStream(config=broker, types=(ANNOUNCED,), intervals=Intervals())
        timer = threading.Timer(self._listen_s, topic.stop)
        try:
            for [notice] in topic.batches():
                if isinstance(notice, Connected):
                    timer.start()
                elif isinstance(notice, dict):
                    return True
                elif isinstance(notice, Disconnected):
                    raise _Failed(notice.reason, "check ACTIVEMQ_HOST, ACTIVEMQ_PORT and the broker", "unreachable")
        except AccessDenied as exc:
            raise _Failed(
                str(exc), "ask the broker's operator for access", "token" if exc.by_token else "other"
            ) from exc
        finally:
            timer.cancel()
        return False

    def _get(
        self, monitor: MonitorSession, path: str, params: Mapping[str, str] | None, accept: str = "*/*"
    ) -> requests.Response:
        try:
            with monitor.session() as session:
                response = monitor.get(session, path, params, accept, RESPONSE_TIMEOUT_S, RESPONSE_TIMEOUT_S)
        except requests.RequestException as exc:
            if isinstance(exc, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
                raise _Failed(f"request not sent ({type(exc).__name__})", _URLS_HINT) from exc
            is_silence = isinstance(exc, (requests.ConnectionError, requests.Timeout))
            is_silence = is_silence and not isinstance(exc, requests.exceptions.SSLError)
            raise _Failed(
                f"no response: {reason_of(exc)}", _RETRY_HINT, "unreachable" if is_silence else "other"
            ) from exc
        except (HTTPError, ValueError) as exc:  # some invalid proxy URLs; the text may contain their password
            raise _Failed(f"request not sent ({type(exc).__name__})", _URLS_HINT) from exc
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

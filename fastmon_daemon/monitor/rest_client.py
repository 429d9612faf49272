"""One request and its complete response within a deadline.

Owns the connections. It must not know which calls there are.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import requests
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from fastmon_daemon.base.backoff import MAX_BACKOFF
from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.base.metrics import count_request
from fastmon_daemon.messages import read_json
from fastmon_daemon.monitor.failures import transport_error
from fastmon_daemon.monitor.responses import (
    MeaninglessAnswer,
    OutcomeUnknown,
    RequestRejected,
    Response,
    ResponseClock,
    UnreadableRow,
    classify_response,
    excerpt,
    is_success,
)
from fastmon_daemon.monitor.row_stream import RowStream
from fastmon_daemon.monitor.transport import (
    DeadlineAdapter,
    HttpRequest,
    TrustStore,
    proxies,
    read_body,
    strip_userinfo,
)

MAX_ROWS = 200_000
"""The most rows of one list."""
_MAX_ADDRESSES = 16
"""Addresses that are kept: some calls have an id in their path."""
_HEADERS = {
    "User-Agent": requests.utils.default_user_agent(), "Connection": "keep-alive",
    "Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json",
}  # fmt: skip

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a request goes."""

    url: str
    target: str
    """What follows the server's name in *url*."""
    login: dict[str, str]
    """The header of the user and password in the URL, which is stronger than the token; empty without them."""


class RestClient:
    """A client of the monitor's REST interface; one instance is shared by all threads.

    *token* is called at each request, so that a changed token file takes effect. Times are in seconds: *timeout_s*
    for connecting and for each silence of the server; *deadline_s* for a whole call, from waiting for one of the
    *connections* to the end of the response; *max_retry_after_s* limits how long a `Retry-After` stops all requests
    (0: it stops none; the caller handles it for each call). *on_write* is called when the monitor has accepted a
    request that writes. *redact* removes secrets from what the monitor says, before anybody stores or tells it.
    """

    def __init__(  # noqa: PLR0913 (keyword arguments with defaults)
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        connections: int,
        ca: Path | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
        timeout_s: tuple[float, float] = (3.05, 10.0),
        deadline_s: float = 15.0,
        max_retry_after_s: float = MAX_BACKOFF.total_seconds(),
        on_write: Callable[[], object] = lambda: None,
        redact: Callable[[str], str] = str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._shown_base = strip_userinfo(self._base)
        """The base in texts."""
        self._token = token
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._on_write = on_write
        self._redact = redact
        self._monotonic = monotonic
        self._connections = connections
        self._free_connections = threading.Semaphore(connections)
        self._max_retry_after_s = max_retry_after_s
        self._retry_after_lock = threading.Lock()
        self._send_nothing_until = -math.inf
        self.trust = TrustStore.of(ca, environ)
        self.response_clock = ResponseClock()
        self._adapter = DeadlineAdapter(connections, monotonic, self.trust, proxies(base_url, environ))
        self._addresses: dict[tuple[str, str], _Address] = {}

    def close(self) -> None:
        """Close the idle connections; calls in flight keep theirs, and later calls get the full number of new ones."""
        self._free_connections = threading.Semaphore(self._connections)
        self._adapter.close()

    def get(
        self,
        path: str,
        query: Mapping[str, str],
        parse: Callable[[Any], _T],
        slack_s: float = 0.0,
        read: Callable[[BaseHTTPResponse], str] = read_body,
    ) -> _T:
        """As `request`, but a missing response means that the link is down.

        Raises: LinkDown, LinkBlocked, RequestRejected, UnreadableRow; OutcomeUnknown only with *slack_s*.
        """
        with _errors_of_get(slack_s):
            return self.request("GET", path, parse, query=query, slack_s=slack_s, read=read)

    def get_rows(
        self,
        path: str,
        query: Mapping[str, str],
        take: Callable[[Any], object],
        *,
        slack_s: float = 0.0,
        most: int = MAX_ROWS,
        between_chunks: Callable[[], object] = lambda: None,
    ) -> int | None:
        """As `get`, but pass the rows of a list to *take*, as `rows_to` does; return the total with which it begins."""
        read = self.rows_to(take, most, between_chunks)
        total: int | None = self.get(path, query, lambda count: count, slack_s, read)
        return total

    def rows_to(
        self,
        take: Callable[[Any], object],
        most: int = MAX_ROWS,
        between_chunks: Callable[[], object] = lambda: None,
    ) -> Callable[[BaseHTTPResponse], str]:
        """A reader for `request` that passes the rows of a list to *take* as they arrive.

        It ends early if *take* returns False, or after *most* rows, if that is less than `MAX_ROWS`. Its text is the
        total with which a page begins, or null. *between_chunks* is called before it waits for further rows.

        The reader raises: OutcomeUnknown for more than `MAX_ROWS` rows; UnreadableRow if *take* does.
        """

        def read(response: BaseHTTPResponse) -> str:
            if not is_success(response.status):
                return read_body(response)
            stream = RowStream(response, self._redact, between_chunks)
            for number, row in enumerate(stream, 1):
                if take(row) is False or number == most < MAX_ROWS:
                    break
                if number >= MAX_ROWS:
                    raise MeaninglessAnswer(f"more than {MAX_ROWS} rows")
            return "null" if stream.count is None else str(stream.count)

        return read

    def request(  # noqa: PLR0913 (keyword arguments with defaults)
        self,
        method: str,
        path: str,
        parse: Callable[[Any], _T],
        *,
        query: Mapping[str, str] | None = None,
        body: str | None = None,
        slack_s: float = 0.0,
        read: Callable[[BaseHTTPResponse], str] = read_body,
        may_repeat: bool = True,
    ) -> _T:
        """Send one request; return what *parse* returns for the JSON of a 200 or 201.

        *slack_s* is added to the read timeout and to the deadline. *read* returns the body as text. With *may_repeat*
        the request is sent once more if the connection was kept from an earlier one and ended without a response; a
        caller that looks up what became of a request leaves it out.

        Raises: LinkDown, LinkBlocked, RequestRejected, OutcomeUnknown; the secrets are removed from their texts.
        """
        where = f"{method} {self._shown_base}/api/{path}"
        try:
            response = self._exchange(where, method, path, query, body, slack_s, read, may_repeat=may_repeat)
            error = classify_response(response, path, f"{where}: {response.status}")
            if error is not None:
                if isinstance(error, LinkDown) and error.retry_after_s:
                    until = self._monotonic() + min(error.retry_after_s, self._max_retry_after_s)
                    with self._retry_after_lock:
                        self._send_nothing_until = max(self._send_nothing_until, until)
                raise error
            if method != "GET":
                self._on_write()
            try:
                return parse(read_json(response.body))
            except UnreadableRow as exc:
                exc.args = (f"{where}: {response.status}, {exc}",)
                raise
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                raise MeaninglessAnswer(
                    f"{where}: {response.status}, unexpected content: {excerpt(response.body)}"
                ) from exc
        except FastmonError as exc:
            exc.args = (self._redact(str(exc)),)
            raise

    def _exchange(  # noqa: PLR0913 (those of `request`)
        self,
        where: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: str | None,
        slack_s: float,
        read: Callable[[BaseHTTPResponse], str],
        *,
        may_repeat: bool,
    ) -> Response:
        """Send the request and read the response, within the deadline."""
        until = self._monotonic() + self._deadline_s + slack_s
        reserved = self._reserve_connection(where, until)
        try:
            self._check_retry_after(where)
            connect_s, read_s = self._timeout_s
            begun, status = self._monotonic(), None
            try:
                address = self._address(method, path, query)
                request = HttpRequest(
                    method, address.url, address.target, self._headers() | address.login,
                    None if body is None else body.encode(), connect_s, read_s + slack_s, until,
                )  # fmt: skip
                # Redirects are not followed, cookies not kept.
                with failpoints_around("http"), self._adapter.exchange(request, may_repeat=may_repeat) as raw:
                    status = raw.status
                    self.response_clock.record(raw.headers)
                    response = Response(status, raw.headers, self._redact(read(raw)))
            except OutcomeUnknown as exc:
                exc.args = (f"{where}: {exc}",)
                raise
            except (OSError, HTTPError, ValueError, TypeError) as exc:
                raise transport_error(exc, where, str(self.trust)) from exc
            finally:
                count_request(method, status, self._monotonic() - begun)
        finally:
            reserved.release()
        return response

    def _address(self, method: str, path: str, query: Mapping[str, str] | None) -> _Address:
        """Where a request goes; it is prepared once for a path without query, which takes as long as sending it."""
        address = self._addresses.get((method, path)) if query is None else None
        if address is None:
            prepared = requests.Request(method, f"{self._base}/api/{path}", params=query).prepare()
            login = {name: value for name, value in prepared.headers.items() if name == "Authorization"}
            address = _Address(str(prepared.url), prepared.path_url, login)
            if query is None and len(self._addresses) < _MAX_ADDRESSES:
                self._addresses[method, path] = address
        return address

    def _reserve_connection(self, where: str, until: float) -> threading.Semaphore:
        """Reserve one of the connections; release what is returned. LinkDown if none is free before *until*."""
        free = self._free_connections  # `close` replaces it
        if not free.acquire(timeout=max(0.0, until - self._monotonic())):
            raise LinkDown(f"{where}: not sent: all connections are busy with calls that wait for a response")
        return free

    def _check_retry_after(self, where: str) -> None:
        left_s = self._send_nothing_until - self._monotonic()
        if left_s > 0:
            raise LinkDown(f"{where}: not sent: Retry-After of the monitor, {left_s:.0f} s left", retry_after_s=left_s)

    def _headers(self) -> dict[str, str]:
        token = self._token().strip()
        if not (token.isascii() and token.isprintable()):
            raise LinkBlocked("SWF_API_TOKEN has invalid characters: set it to a valid token")
        return _HEADERS | ({"Authorization": f"Token {token}"} if token else {})


@contextmanager
def _errors_of_get(slack_s: float) -> Iterator[None]:
    """Turn the errors of a request that only reads into those of the link, where the link is at fault."""
    try:
        yield
    except OutcomeUnknown as exc:
        if slack_s or isinstance(exc, UnreadableRow):
            raise  # neither a slow long list nor an odd row proves that the link is down
        raise LinkDown(str(exc), retry_after_s=exc.retry_after_s, is_meaningless=exc.is_meaningless) from exc
    except RequestRejected as exc:
        if exc.from_api:
            raise
        raise LinkBlocked(f"{exc}: set SWF_MONITOR_URL to a host name that the monitor accepts") from exc

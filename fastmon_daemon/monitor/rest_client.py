"""One request and its complete response within a deadline.

Owns the connections. It must not know which calls there are.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlencode

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from fastmon_daemon.base.backoff import MAX_BACKOFF
from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.base.metrics import count_request
from fastmon_daemon.messages import read_json
from fastmon_daemon.monitor.failures import transport_error
from fastmon_daemon.monitor.kept_connection import send_on_kept
from fastmon_daemon.monitor.responses import (
    MeaninglessAnswer,
    OutcomeUnknown,
    RequestRejected,
    Response,
    ResponseClock,
    UnreadableRow,
    classify_response,
    excerpt,
)
from fastmon_daemon.monitor.row_stream import RowStream
from fastmon_daemon.monitor.transport import (
    MAY_REPEAT,
    Deadline,
    DeadlineAdapter,
    Incoming,
    TrustStore,
    is_success,
    proxies,
    read_body,
    strip_userinfo,
)

MAX_ROWS = 200_000
"""The most rows of one list."""
_PLAIN_PATH = re.compile(r"[\w/-]*", re.ASCII)

_T = TypeVar("_T")


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
        self._session = requests.Session()
        self._session.trust_env = False
        self.trust = TrustStore.of(ca, environ)
        self._session.proxies = proxies(base_url, environ)
        self.response_clock = ResponseClock()
        self._token_and_headers: tuple[str, dict[str, str]] | None = None
        self._base_request: requests.PreparedRequest | None = None
        self._adapter = DeadlineAdapter(connections, monotonic)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def close(self) -> None:
        """Close the idle connections; calls in flight keep theirs, and later calls get the full number of new ones."""
        self._free_connections = threading.Semaphore(self._connections)
        self._session.close()

    def get(
        self,
        path: str,
        query: Mapping[str, str],
        parse: Callable[[Any], _T],
        slack_s: float = 0.0,
        read: Callable[[Incoming], str] = read_body,
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
    ) -> int | None:
        """As `get`, but pass the rows of a list to *take*, as `rows_to` does; return the total with which it begins."""
        total: int | None = self.get(path, query, lambda count: count, slack_s, self.rows_to(take, most))
        return total

    def rows_to(self, take: Callable[[Any], object], most: int = MAX_ROWS) -> Callable[[Incoming], str]:
        """A reader for `request` that passes the rows of a list to *take* as they arrive.

        It ends early if *take* returns False, or after *most* rows, if that is less than `MAX_ROWS`. Its text is the
        total with which a page begins, or null.

        The reader raises: OutcomeUnknown for more than `MAX_ROWS` rows; UnreadableRow if *take* does.
        """

        def read(response: Incoming) -> str:
            if not is_success(response):
                return read_body(response)
            stream = RowStream(response, self._redact)
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
        read: Callable[[Incoming], str] = read_body,
        may_repeat: bool = True,
    ) -> _T:
        """Send one request; return what *parse* returns for the JSON of a 200 or 201.

        *slack_s* is added to the read timeout and to the deadline. *read* returns the body as text. With *may_repeat*
        the request is sent once more if the connection was kept from an earlier one and ended without a response; a
        caller that looks up what became of a request leaves it out.

        Raises: LinkDown, LinkBlocked, RequestRejected, OutcomeUnknown; the secrets are removed from their texts.
        """
        where = f"{method} {strip_userinfo(self._base)}/api/{path}"
        with self._redacting():
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

    def _exchange(  # noqa: PLR0913 (those of `request`)
        self,
        where: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: str | None,
        slack_s: float,
        read: Callable[[Incoming], str],
        *,
        may_repeat: bool,
    ) -> Response:
        """Send the request and read the response, within the deadline."""
        until = self._monotonic() + self._deadline_s + slack_s
        with self._connection(where, until):
            self._check_retry_after(where)
            begun, status = self._monotonic(), None
            left_s, read_s = max(0.001, until - begun), self._timeout_s[1] + slack_s
            sent = None if body is None else body.encode()
            try:
                with (
                    failpoints_around("http"),
                    self._open(method, path, query, sent, left_s, read_s, may_repeat=may_repeat) as raw,
                ):
                    status = raw.status_code
                    response = Response(status, raw.headers, self._redact(read(raw)))
            except OutcomeUnknown as exc:
                exc.args = (f"{where}: {exc}",)
                raise
            except (OSError, HTTPError, ValueError, TypeError) as exc:
                raise transport_error(exc, where, str(self.trust)) from exc
            finally:
                count_request(method, status, self._monotonic() - begun)
        return response

    @contextmanager
    def _redacting(self) -> Iterator[None]:
        try:
            yield
        except FastmonError as exc:
            exc.args = (self._redact(str(exc)),)
            raise

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        left_s: float,
        read_s: float,
        *,
        may_repeat: bool,
    ) -> Incoming:
        """Send a request and read the headers of its response; redirects are not followed, cookies not kept."""
        base, headers = self._prepared_base(), self._headers()
        url = self._url(base, path, query)
        adapter = self._adapter
        request = _request_bytes(method, url, headers, body)
        deadline = Deadline(left_s, read_s, self._monotonic)
        raw = send_on_kept(adapter, method, request, deadline, may_repeat=may_repeat)
        if raw is None:
            prepared = requests.PreparedRequest()
            prepared.method, prepared.url, prepared.hooks = method, url, base.hooks
            prepared.headers = CaseInsensitiveDict(headers)
            prepared.prepare_body(body, None)
            MAY_REPEAT.set(may_repeat)
            timeout: Any = Timeout(left_s, connect=self._timeout_s[0], read=read_s)  # not in requests' stubs
            raw = adapter.send(
                prepared, stream=True, timeout=timeout, verify=self.trust.path, proxies=self._session.proxies
            )
        self.response_clock.record(raw.headers)
        return raw

    def _prepared_base(self) -> requests.PreparedRequest:
        """A request to the API itself: preparing each one takes as long as sending it. Raises: ValueError."""
        if self._base_request is None:
            request = requests.Request("GET", f"{self._base}/api/")
            self._base_request = self._session.prepare_request(request)
        return self._base_request

    def _url(self, base: requests.PreparedRequest, path: str, query: Mapping[str, str] | None) -> str:
        url = f"{base.url}{path}"
        if not _PLAIN_PATH.fullmatch(path):  # the monitor's ids are texts
            url = str(self._session.prepare_request(requests.Request("GET", url)).url)
        return f"{url}?{urlencode(query)}" if query else url

    @contextmanager
    def _connection(self, where: str, until: float) -> Iterator[None]:
        """Reserve one of the connections; LinkDown if none is free before *until*."""
        free = self._free_connections  # `close` replaces it
        if not free.acquire(timeout=max(0.0, until - self._monotonic())):
            raise LinkDown(f"{where}: not sent: all connections are busy with calls that wait for a response")
        try:
            yield
        finally:
            free.release()

    def _check_retry_after(self, where: str) -> None:
        left_s = self._send_nothing_until - self._monotonic()
        if left_s > 0:
            raise LinkDown(f"{where}: not sent: Retry-After of the monitor, {left_s:.0f} s left", retry_after_s=left_s)

    def _headers(self) -> dict[str, str]:
        """The headers of each request; a user name in the URL takes the place of the token."""
        token = self._token().strip()
        known = self._token_and_headers
        if known is None or token != known[0]:
            if not (token.isascii() and token.isprintable()):
                raise LinkBlocked("SWF_API_TOKEN has invalid characters: set it to a valid token")
            base = dict(self._prepared_base().headers)
            headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
            of_token = {"Authorization": f"Token {token}"} if token else {}
            known = self._token_and_headers = token, {**of_token, **base, **headers}
        return known[1]


def _request_bytes(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The bytes of a request that goes straight to its server."""
    server, slash, target = url.partition("://")[2].partition("/")
    lines = [f"{method} {slash}{target} HTTP/1.1", f"Host: {server.rpartition('@')[2]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


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

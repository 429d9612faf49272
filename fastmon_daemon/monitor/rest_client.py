"""Class Exchange: one request and its whole answer within a deadline, whatever is asked.

Owns the connections. It must not know which calls there are.
"""

from __future__ import annotations

import json
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
from urllib3.util import Timeout

from fastmon_daemon.base.backoff import MAX_BACKOFF
from fastmon_daemon.base.errors import LinkBlocked, LinkDown
from fastmon_daemon.base.failpoints import failpoints_around
from fastmon_daemon.monitor.responses import (
    OutcomeUnknown,
    RequestRejected,
    Response,
    ResponseCounter,
    classify_response,
    excerpt,
    transport_errors,
)
from fastmon_daemon.monitor.transport import DeadlineAdapter, proxies, read_body, strip_userinfo

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    path: str
    query: Mapping[str, str] | None
    body: str | None


class RestClient:
    """The way to the monitor's REST interface; one instance is shared by all threads.

    *token* is asked at each call, so that a changed token file is seen; times are in seconds: *timeout_s* for the
    connection and for each silence, *deadline_s* over all of a call, from waiting for one of the *connections* to the
    end of the answer; *patience_s* is the longest time for which nothing at all is sent where the other side asks for
    patience; 0: whoever calls sees to it, for each call apart.
    """

    def __init__(  # noqa: PLR0913 (the world is handed in, by name)
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        connections: int,
        ca: Path | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
        timeout_s: tuple[float, float] = (3.05, 10.0),
        deadline_s: float = 15.0,
        patience_s: float = MAX_BACKOFF.total_seconds(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._monotonic = monotonic
        self._connections = connections
        self._free = threading.Semaphore(connections)
        self._patience_s = patience_s
        self._patience_lock = threading.Lock()
        self._patient_until = -math.inf
        """Until then the other side asked us to send nothing."""
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = True if ca is None else str(ca)
        self._session.proxies = proxies(base_url, environ)
        self.answer_count = ResponseCounter()
        self._session.hooks["response"].append(self.answer_count.record)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, DeadlineAdapter(connections, monotonic))

    def close(self) -> None:
        """Close the connections; a call under way keeps its own, beside which the next calls have as many as ever."""
        self._free = threading.Semaphore(self._connections)
        self._session.close()

    def get(self, path: str, query: Mapping[str, str], parse: Callable[[Any], _T], slack_s: float = 0.0) -> _T:
        """What *parse* makes of the answer to a GET, which is asked about a link: no answer means that it is down."""
        try:
            return self.post(path, parse, query=query, slack_s=slack_s)
        except OutcomeUnknown as exc:
            if slack_s:
                raise  # that a long list is slow does not prove that the link is down
            raise LinkDown(str(exc), retry_after_s=exc.retry_after_s) from exc
        except RequestRejected as exc:
            if exc.by_the_api:
                raise
            raise LinkBlocked(f"{exc}; is the host in SWF_MONITOR_URL one that the monitor goes by?") from exc

    def post(
        self,
        path: str,
        parse: Callable[[Any], _T],
        *,
        query: Mapping[str, str] | None = None,
        body: str | None = None,
        slack_s: float = 0.0,
    ) -> _T:
        """GET, or POST where there is a *body*; what *parse* makes of the JSON of a good answer.

        *slack_s* is added to the silence and to the deadline that are borne.
        """
        request = Request("GET" if body is None else "POST", path, query, body)
        return self._request(request, parse, slack_s)

    def patch(self, path: str, parse: Callable[[Any], _T], body: str) -> _T:
        """PATCH; what *parse* makes of the JSON of a good answer."""
        return self._request(Request("PATCH", path, None, body), parse, 0.0)

    def _request(self, request: Request, parse: Callable[[Any], _T], slack_s: float) -> _T:
        where = f"{request.method} {strip_userinfo(self._base)}/api/{request.path}"
        until = self._monotonic() + self._deadline_s + slack_s
        with self._connection(where, until):
            self._wait_for_retry_after(where)
            with failpoints_around("http"), transport_errors(where):
                answer = self._rest_client(request, slack_s, until)
        error = classify_response(answer, request.path, f"{where}: {answer.status}")
        if error is not None:
            if isinstance(error, LinkDown) and error.retry_after_s:
                asked_until = self._monotonic() + min(error.retry_after_s, self._patience_s)
                with self._patience_lock:
                    self._patient_until = max(self._patient_until, asked_until)
            raise error
        try:
            return parse(json.loads(answer.body))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            said = excerpt(answer.body)
            raise OutcomeUnknown(f"{where}: {answer.status}, but not what a monitor says: {said}") from exc

    @contextmanager
    def _connection(self, where: str, until: float) -> Iterator[None]:
        """Hold one of the connections; LinkDown where none becomes free before *until*."""
        free = self._free  # `close` makes another
        if not free.acquire(timeout=max(0.0, until - self._monotonic())):
            raise LinkDown(f"{where}: not sent, each connection waited for an answer until the deadline of this call")
        try:
            yield
        finally:
            free.release()

    def _wait_for_retry_after(self, where: str) -> None:
        """Send nothing, also no probe, while the other side will have nothing from us."""
        left = self._patient_until - self._monotonic()
        if left > 0:
            raise LinkDown(f"{where}: not sent, the monitor asks for patience, {left:.0f} s more", retry_after_s=left)

    def _rest_client(self, request: Request, slack_s: float, until: float) -> Response:
        connect_s, silence_s = self._timeout_s
        left_s = max(0.001, until - self._monotonic())
        timeout: Any = Timeout(left_s, connect=connect_s, read=silence_s + slack_s)  # requests' stubs know no such
        with self._session.request(
            request.method,
            f"{self._base}/api/{request.path}",
            params=request.query,
            data=None if request.body is None else request.body.encode(),
            headers=self._headers(),
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            return Response(response.status_code, response.headers, read_body(response))

    def _headers(self) -> dict[str, str]:
        token = self._token().strip()
        if not (token.isascii() and token.isprintable()):
            raise LinkBlocked("SWF_API_TOKEN has characters that no token has: set it anew")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        return headers | ({"Authorization": f"Token {token}"} if token else {})

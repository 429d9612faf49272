"""The ASGI applications in front of REST: the testbed's own calls (``/_testbed/``) and the login of the stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from fastmon_daemon.testbed.monitor.counts import Counts
from fastmon_daemon.testbed.monitor.fault_middleware import LOGIN_PATH, FaultMiddleware
from fastmon_daemon.testbed.monitor.faults import BadFaults, Faults
from fastmon_daemon.testbed.monitor.requests import authenticated, json_body
from fastmon_daemon.testbed.monitor.responses import JSON_TYPE, HTTPException, Response, as_json, login_page

TESTBED = "/_testbed/"
STREAM = "/api/messages/stream/"
STREAM_STATUS = STREAM + "status/"


def spaced_json(status: int, content: object) -> Response:
    """Return JSON with spaces, as the stream's views write it."""
    return Response(status, json.dumps(content).encode(), JSON_TYPE)


class AuthMiddleware:
    """ASGI application: checks the token for the stream, answers the stream's status, and leaves the rest to *rest*.

    As in the real monitor, the status always reports no clients.
    """

    def __init__(self, rest: ASGIApp, stream: ASGIApp, token_for: Callable[[str], str]) -> None:
        self._rest = rest
        self._stream = stream
        self._token_for = token_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] == STREAM:
            await self._serve_stream(scope, receive, send)
        elif scope["path"] == STREAM_STATUS:
            await spaced_json(200, {"connected_clients": 0, "client_ids": [], "client_filters": {}}).send(send)
        else:
            await self._rest(scope, receive, send)

    async def _serve_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_authenticated(Request(scope)):
            await spaced_json(401, {"detail": "Authentication credentials were not provided."}).send(send)
        elif scope["method"] != "GET":
            await spaced_json(405, {"detail": f'Method "{scope["method"]}" not allowed.'}).send(send)
        else:
            await self._stream(scope, receive, send)

    def _is_authenticated(self, request: Request) -> bool:
        try:
            return authenticated(request, self._token_for(STREAM), token_only=True)
        except HTTPException:
            return False


@dataclass(frozen=True)
class Application:
    """The whole ASGI application. *faults_changed* is called once the response to a change of faults is sent."""

    rest: FaultMiddleware
    faults: Faults
    counts: Counts
    faults_changed: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["path"].startswith(TESTBED):
            await self._testbed(Request(scope, receive), send)
            return
        if scope["path"] == LOGIN_PATH:
            await login_page().send(send)
            return
        self.counts.request(scope["method"], scope["path"])
        if scope["path"] == STREAM:
            await self.rest(scope, receive, send)
            return
        self.counts.in_flight += 1
        try:
            await self.rest(scope, receive, send)
        finally:
            self.counts.in_flight -= 1

    async def _testbed(self, request: Request, send: Send) -> None:
        call = f"{request.method} {request.scope['path']}"
        if call == "GET /_testbed/counts":
            await as_json(200, self.counts.report()).send(send)
        elif call == "GET /_testbed/faults":
            await as_json(200, self.faults.in_force()).send(send)
        elif call == "POST /_testbed/faults":
            response = await self._set_faults(request)
            await response.send(send)
            self.faults_changed()
        else:
            calls = "GET /_testbed/counts, GET /_testbed/faults, POST /_testbed/faults"
            await as_json(404, {"error": f"unknown call: {call}: use one of {calls}"}).send(send)

    async def _set_faults(self, request: Request) -> Response:
        close = {"Connection": "close"}
        try:
            return as_json(200, self.faults.set(await json_body(request)), close)
        except HTTPException as exc:
            return exc.response
        except ClientDisconnect:
            return as_json(400, {"error": "the client disconnected"})
        except BadFaults as exc:
            return as_json(400, {"error": "no fault was changed", "faults": exc.problems}, close)

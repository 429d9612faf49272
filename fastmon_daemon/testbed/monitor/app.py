"""Which part answers a request: the testbed's own calls, the stream, or the REST side behind the faults.

Owns ``/_testbed/`` and the door of the stream. It must not know resources.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from fastmon_daemon.testbed.monitor.counts import Counts
from fastmon_daemon.testbed.monitor.fault_middleware import LOGIN_PATH, FaultMiddleware
from fastmon_daemon.testbed.monitor.faults import BadFaults, Faults
from fastmon_daemon.testbed.monitor.requests import authenticated, json_whatever_its_type
from fastmon_daemon.testbed.monitor.responses import JSON_TYPE, HTTPException, Response, as_json, login_page

TESTBED = "/_testbed/"
STREAM = "/api/messages/stream/"
STREAM_STATUS = STREAM + "status/"


def spaced_json(status: int, content: object) -> Response:
    """JSON as the stream's views write it, with spaces."""
    return Response(status, json.dumps(content).encode(), JSON_TYPE)


class AuthMiddleware:
    """ASGI application: who may read the stream, and the status call that always says 0. All else is *rest*'s."""

    def __init__(self, rest: ASGIApp, hub: ASGIApp, token_for: Callable[[str], str]) -> None:
        self._rest = rest
        self._hub = hub
        self._token_for = token_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] == STREAM:
            await self._stream(scope, receive, send)
        elif scope["path"] == STREAM_STATUS:
            await spaced_json(200, {"connected_clients": 0, "client_ids": [], "client_filters": {}}).send(send)
        else:
            await self._rest(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._knows(Request(scope)):
            await spaced_json(401, {"detail": "Authentication credentials were not provided."}).send(send)
        elif scope["method"] != "GET":
            await spaced_json(405, {"detail": f'Method "{scope["method"]}" not allowed.'}).send(send)
        else:
            await self._hub(scope, receive, send)

    def _knows(self, request: Request) -> bool:
        try:
            return authenticated(request, self._token_for(STREAM), token_only=True)
        except HTTPException:
            return False


@dataclass(frozen=True)
class Application:
    """The whole ASGI application. *faults_set* is called after the answer to a change of faults has gone out."""

    breaker: FaultMiddleware
    faults: Faults
    counts: Counts
    faults_set: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing else than HTTP is spoken here."""
        if scope["path"].startswith(TESTBED):
            await self._testbed(Request(scope, receive), send)
            return
        if scope["path"] == LOGIN_PATH:
            await login_page().send(send)
            return
        self.counts.request(scope["method"], scope["path"])
        await self.breaker(scope, receive, send)

    async def _testbed(self, request: Request, send: Send) -> None:
        call = f"{request.method} {request.scope['path']}"
        if call == "GET /_testbed/counts":
            await as_json(200, self.counts.report()).send(send)
        elif call == "GET /_testbed/faults":
            await as_json(200, self.faults.in_force()).send(send)
        elif call == "POST /_testbed/faults":
            answer = await self._set_faults(request)
            await answer.send(send)
            self.faults_set()
        else:
            known = "GET /_testbed/counts, GET /_testbed/faults, POST /_testbed/faults"
            await as_json(404, {"error": f"there is no {call}; there are {known}"}).send(send)

    async def _set_faults(self, request: Request) -> Response:
        close = {"Connection": "close"}
        try:
            return as_json(200, self.faults.set(await json_whatever_its_type(request)), close)
        except HTTPException as refusal:
            return refusal.answer
        except ClientDisconnect:
            return as_json(400, {"error": "the client left"})
        except BadFaults as bad:
            return as_json(400, {"error": "no fault was changed", "faults": bad.problems}, close)

"""The web server of the dashboard: page, assets, events and sign-in form."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from uvicorn import Config, Server

from fastmon_client.dashboard.api import Api, Details
from fastmon_client.dashboard.auth import (
    SESSION_MAX_S,
    TOO_MANY,
    Access,
    AuthMiddleware,
    DashboardToken,
    TooManyGuesses,
    address_of,
)
from fastmon_client.dashboard.broadcaster import Broadcaster
from fastmon_client.dashboard.connections import ACCEPTED_AT_ONCE, WAITING, BoundedProtocol, Limits
from fastmon_client.dashboard.journal import Kept
from fastmon_client.dashboard.metrics import DashboardMetrics
from fastmon_client.dashboard.reports import PageReports
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.shifts import Shifts

STATIC = Path(__file__).parent / "static"
CLOSE_TIMEOUT_S = 2.0
"""Then connections are aborted: a page that stopped reading (a sleeping computer) never closes its own."""
_LOGIN_PAGE = (STATIC / "login.html").read_text(encoding="utf-8")
_PAGE = (STATIC / "index.html").read_text(encoding="utf-8")
_SIGN_OUT = '<form method="post" action="logout"><button>Sign out</button></form>'
_MAX_FORM_BYTES = 4096


class _Server(Server):
    """uvicorn without its signal handlers: `serve` closes the pages first."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(WAITING)  # asyncio uses one number for this and for what it accepts at once

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free port.

    Raises: OSError if the address is in use, or not of this host.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


async def serve(
    snapshot: Callable[[], Mapping[str, Any]],
    sock: socket.socket,
    key: DashboardToken,
    until: asyncio.Event,
    kept: Kept | None = None,
    details: Details | None = None,
    shifts: Shifts | None = None,
) -> None:
    """Serve snapshots on the listening *sock* until *until* is set; *details* answer what the pages ask beside them."""
    kept, log = kept or Kept(), LogThrottle()
    broadcaster = Broadcaster(snapshot, kept, details.summaries if details else list)
    reports = PageReports(broadcaster, kept.journal, details, shifts or Shifts.parse("", ""))
    api = [*Api(broadcaster, kept.acknowledgements, details).routes, *reports.routes]
    metrics = DashboardMetrics(snapshot, lambda: broadcaster.pages).routes
    application = _application(broadcaster, Access(key, log), [*api, *metrics])
    # Its own protocol, on h11: httptools, which uvicorn takes where it is installed, reads headers without a limit.
    protocol: Any = partial(BoundedProtocol, limits=Limits(log))
    config = Config(
        application, http=protocol, ws="none", lifespan="off", log_config=None,
        log_level="warning", access_log=False, server_header=False,
        proxy_headers=key.is_public, forwarded_allow_ips="127.0.0.1,::1", backlog=ACCEPTED_AT_ONCE,
    )  # fmt: skip
    server = _Server(config)
    tasks = [asyncio.create_task(work) for work in (broadcaster.run(), server.serve([sock]), until.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    until.set()
    await broadcaster.close()
    server.should_exit = True
    await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await asyncio.gather(*tasks)


def _application(broadcaster: Broadcaster, access: Access, api: list[Route]) -> Starlette:
    key = access.key

    async def page(_request: Request) -> Response:
        return HTMLResponse(_PAGE.replace("<!-- sign out -->", _SIGN_OUT if key.token else ""))

    async def events(request: Request) -> Response:
        lasts = partial(access.has_session, request.headers) if access.has_session(request.headers) else lambda: True
        return StreamingResponse(
            _while(lasts, broadcaster.events()), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def form(_request: Request) -> Response:
        return HTMLResponse(_LOGIN_PAGE)

    async def sign_in(request: Request) -> Response:
        try:
            value = access.sign_in(await _submitted_token(request), address_of(request.scope))
        except TooManyGuesses:
            return _login_error(TOO_MANY, 429)
        if value is None:
            return _login_error("Invalid token.", 403)
        response = RedirectResponse("./", 303)
        response.set_cookie(
            key.cookie_name, value, max_age=int(SESSION_MAX_S), httponly=True, samesite="strict", secure=key.is_public
        )
        return response

    async def sign_out(request: Request) -> Response:
        access.sign_out(request.headers)
        response = RedirectResponse("login", 303)
        response.delete_cookie(key.cookie_name, httponly=True, samesite="strict", secure=key.is_public)
        return response

    own = [
        *api,
        Route("/", page),
        Route("/events", events),
        Route("/login", form),
        Route("/login", sign_in, methods=["POST"]),
        Route("/logout", sign_out, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=own, middleware=[Middleware(AuthMiddleware, access=access)])


def _login_error(text: str, status: int) -> Response:
    return HTMLResponse(_LOGIN_PAGE.replace("<!-- error -->", f'<p class="note" role="alert">{text}</p>'), status)


async def _while(lasts: Callable[[], bool], events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The *events* while the session *lasts*."""
    async for each in events:
        if not lasts():
            return
        yield each


async def _submitted_token(request: Request) -> str:
    """The form field `token`; empty if missing or too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            return ""
    return parse_qs(body.decode("latin-1")).get("token", [""])[0].strip()

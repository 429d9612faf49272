"""The web server of the dashboard: page, assets, events and sign-in form."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from uvicorn import Config, Server

from fastmon_client.dashboard.auth import AuthMiddleware, DashboardToken
from fastmon_client.dashboard.broadcaster import Broadcaster

STATIC = Path(__file__).parent / "static"
CLOSE_TIMEOUT_S = 2.0
"""Then connections are aborted: a page that stopped reading (a sleeping computer) never closes its own."""
_SIGN_IN_ERROR = '<p class="note" role="alert">Invalid token.</p>'
_MAX_FORM_BYTES = 4096
_COOKIE_MAX_AGE_S = 30 * 24 * 3600


class _Server(Server):
    """uvicorn without its signal handlers: `serve` closes the pages first."""

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
    snapshot: Callable[[], Mapping[str, Any]], sock: socket.socket, key: DashboardToken, until: asyncio.Event
) -> None:
    """Serve snapshots on the listening *sock* until *until* is set."""
    broadcaster = Broadcaster(snapshot)
    config = Config(
        _application(broadcaster, key), ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False,
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


def _application(broadcaster: Broadcaster, key: DashboardToken) -> Starlette:
    async def page(_request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def events(_request: Request) -> Response:
        return StreamingResponse(
            broadcaster.events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def form(_request: Request) -> Response:
        return FileResponse(STATIC / "login.html")

    async def sign_in(request: Request) -> Response:
        if not key.is_token(await _submitted_token(request)):
            page = (STATIC / "login.html").read_text(encoding="utf-8")
            return HTMLResponse(page.replace("<!-- invalid token -->", _SIGN_IN_ERROR), 403)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            key.cookie_name, key.cookie_value, max_age=_COOKIE_MAX_AGE_S, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    routes = [
        Route("/", page),
        Route("/events", events),
        Route("/login", form),
        Route("/login", sign_in, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(AuthMiddleware, key=key)])


async def _submitted_token(request: Request) -> str:
    """The form field `token`; empty if missing or too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            return ""
    return parse_qs(body.decode("latin-1")).get("token", [""])[0].strip()

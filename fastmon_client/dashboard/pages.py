"""What a browser can ask for: the page, its assets, its events, the form to sign in.

It must not know where snapshots come from, nor who may ask: `door` does.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fastmon_client.dashboard.auth import AuthMiddleware, DashboardToken
from fastmon_client.dashboard.broadcaster import Broadcaster

STATIC = Path(__file__).parent / "static"
_REFUSED = '<p class="note" role="alert">This is not the token of this dashboard.</p>'
_LONGEST_FORM = 4096
_SIGNED_IN_S = 30 * 24 * 3600


def application(broadcaster: Broadcaster, key: DashboardToken) -> Starlette:
    """The ASGI application of one dashboard."""

    async def page(_request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def events(_request: Request) -> Response:
        return StreamingResponse(
            broadcaster.events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def form(_request: Request) -> Response:
        return FileResponse(STATIC / "login.html")

    async def sign_in(request: Request) -> Response:
        if not key.is_token(await _token_in(request)):
            page = (STATIC / "login.html").read_text(encoding="utf-8")
            return HTMLResponse(page.replace("<!-- refused -->", _REFUSED), 403)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            key.cookie_name, key.cookie_value, max_age=_SIGNED_IN_S, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    routes = [
        Route("/", page),
        Route("/events", events),
        Route("/login", form),
        Route("/login", sign_in, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(AuthMiddleware, key=key)])


async def _token_in(request: Request) -> str:
    """The field `token` of the form; empty where there is none, or where it is no such form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return ""
    return parse_qs(body.decode("latin-1")).get("token", [""])[0].strip()

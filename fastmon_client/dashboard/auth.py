"""Access to the dashboard: token, cookie, allowed Host headers; and the security headers of each response."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_TOKEN_CHARS = 16
"""A shorter token could be guessed."""
OPEN_PATHS = ("/login", "/static/style.css", "/static/icon.svg")
"""The sign-in form and its assets."""
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether *host* is a loopback name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class DashboardToken:
    """The token of the dashboard; without one, all requests to a loopback name have access."""

    token: str | None = field(default=None, repr=False)
    port: int = 0

    @property
    def cookie_name(self) -> str:
        """Contains the port: browsers share cookies between all ports of a host."""
        return f"fastmon_dashboard_{self.port}"

    @property
    def cookie_value(self) -> str:
        """Derived from the token: valid across restarts, until the token changes."""
        return hmac.digest((self.token or "").encode(), b"fastmon-client dashboard", "sha256").hex()

    def is_token(self, text: str) -> bool:
        """Whether *text* is the token, in constant time."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def allows(self, headers: Mapping[str, str]) -> bool:
        """Whether *headers* contain the token or the cookie."""
        scheme, _, word = headers.get("authorization", "").partition(" ")
        if scheme.lower() in ("bearer", "token") and self.is_token(word.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie_name)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.cookie_value.encode())


class AuthMiddleware:
    """Checks each request, and adds the security headers to each response."""

    def __init__(self, app: ASGIApp, key: DashboardToken) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        denial = self._denial(scope) if scope["type"] == "http" else None
        await (denial or self._app)(scope, receive, send_secured)

    def _denial(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if self._key.token is None:
            return None if is_loopback(_host(headers.get("host", ""))) else PlainTextResponse(
                "Unknown Host header: use localhost or 127.0.0.1. Without a token, other names are\n"
                "rejected as a protection against DNS rebinding.\n", 421)  # fmt: skip
        if scope["path"] in OPEN_PATHS or self._key.allows(headers):
            return None
        if scope["path"] == "/":
            return RedirectResponse("/login", 303)
        return PlainTextResponse("Sign in at /login, or send the header Authorization: Bearer TOKEN.\n", 401,
                                 {"WWW-Authenticate": "Bearer"})  # fmt: skip


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""

"""Access to the dashboard: token, cookie, allowed Host headers; and the security headers of each response."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address, ip_network
from itertools import pairwise
from math import log2
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastmon_client.log_throttle import LogThrottle

MIN_TOKEN_CHARS = 16
MIN_TOKEN_BITS = 60
"""A token with less could be guessed."""
SESSION_IDLE_S = 12 * 3600.0
"""A session ends when no page of it was open for so long: a shift and a half."""
SESSION_MAX_S = 30 * 24 * 3600.0
"""The longest session, also of a page that is always open."""
MAX_SESSIONS = 1000
MAX_GUESSES = 10
"""Invalid tokens of one address in a row; then one every `GUESS_EVERY_S`."""
GUESS_EVERY_S = 6.0
_MAX_ADDRESSES = 1000
OPEN_PATHS = ("/login", "/logout", "/livez", "/static/style.css", "/static/icon.svg")
"""The sign-in form and its assets, the end of a session, and the probe of a container."""
TOO_MANY = "Too many invalid tokens from this address. Wait a minute."
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


def token_bits(token: str) -> float:
    """An upper bound of the entropy of *token*, from how often its characters, and their distances, repeat."""
    codes = [ord(each) for each in token]
    distances = [after - before for before, after in pairwise(codes)]
    return min(map(_bits, (codes, distances)), default=0.0)


def _bits(symbols: Sequence[int]) -> float:
    return -sum(count * log2(count / len(symbols)) for count in Counter(symbols).values())


@dataclass(frozen=True, slots=True)
class DashboardToken:
    """The token of the dashboard; without one, all requests to a loopback name have access."""

    token: str | None = field(default=None, repr=False)
    port: int = 0
    public_host: str | None = None
    """The host name of the TLS proxy in front, if there is one."""

    @property
    def is_public(self) -> bool:
        """Whether browsers reach the page over https."""
        return self.public_host is not None

    @property
    def cookie_name(self) -> str:
        """Contains the port: browsers share cookies between all ports of a host."""
        return f"{'__Host-' if self.is_public else ''}fastmon_dashboard_{self.port}"

    def is_token(self, text: str) -> bool:
        """Whether *text* is the token, in constant time."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def is_host(self, header: str) -> bool:
        """Whether a Host *header* is a name of this page; with a token alone, any name is."""
        host = _host(header)
        if self.token is not None and not self.is_public:
            return True
        return is_loopback(host) or (self.is_public and host == self.public_host)


class Sessions:
    """The sessions of signed-in browsers, by the random value of their cookies; they end with the process.

    *clock*: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[str, tuple[float, float]] = {}
        """When each began, and when it was last used; the longest unused first."""

    def begin(self) -> str:
        """Begin a session; returns the value of its cookie."""
        if len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        value, now = secrets.token_urlsafe(32), self._clock()
        self._sessions[value] = now, now
        return value

    def is_open(self, value: str | None) -> bool:
        """Whether the session of *value* has begun and not ended; this is a use of it."""
        found = self._sessions.pop(value, None) if value else None
        if value is None or found is None:
            return False
        (began, used), now = found, self._clock()
        if now - began > SESSION_MAX_S or now - used > SESSION_IDLE_S:
            return False
        self._sessions[value] = began, now
        return True

    def end(self, value: str | None) -> None:
        """End the session of *value*, if there is one."""
        self._sessions.pop(value or "", None)


class Guesses:
    """The invalid tokens of each address: few in a row, then one every `GUESS_EVERY_S`."""

    def __init__(self, log: LogThrottle, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._left: dict[str, tuple[float, float]] = {}
        """Guesses left, and when they were counted."""

    def may(self, address: str) -> bool:
        """Whether *address* may try a token now."""
        return self._of(address) >= 1.0

    def failed(self, address: str) -> None:
        """Record an invalid token."""
        left = self._of(address)
        address = _network(address)
        self._left.pop(address, None)
        if len(self._left) >= _MAX_ADDRESSES:
            del self._left[next(iter(self._left))]
        self._left[address] = max(0.0, left - 1.0), self._clock()
        self._log.record("sign-in", f"dashboard: invalid token from {address}")

    def _of(self, address: str) -> float:
        left, at = self._left.get(_network(address), (float(MAX_GUESSES), self._clock()))
        return min(float(MAX_GUESSES), left + (self._clock() - at) / GUESS_EVERY_S)


class Access:
    """Who may see the page: those with the token, and the browsers that signed in with it."""

    def __init__(self, key: DashboardToken, log: LogThrottle) -> None:
        self.key = key
        self._sessions, self._guesses = Sessions(), Guesses(log)

    def sign_in(self, token: str, address: str) -> str | None:
        """The cookie's value of a new session; None if *token* is wrong.

        Raises: TooManyGuesses.
        """
        return self._sessions.begin() if self._is_token(token, address) else None

    def sign_out(self, headers: Mapping[str, str]) -> None:
        """End the session of the cookie in *headers*."""
        self._sessions.end(self._cookie(headers))

    def allows(self, headers: Mapping[str, str], address: str) -> bool:
        """Whether *headers* contain the token, or the cookie of a session.

        Raises: TooManyGuesses.
        """
        if self.has_session(headers):
            return True
        scheme, _, word = headers.get("authorization", "").partition(" ")
        return scheme.lower() in ("bearer", "token") and self._is_token(word.strip(), address)

    def has_session(self, headers: Mapping[str, str]) -> bool:
        """Whether *headers* contain the cookie of a session that has not ended."""
        return self._sessions.is_open(self._cookie(headers))

    def _is_token(self, text: str, address: str) -> bool:
        if not self._guesses.may(address):
            raise TooManyGuesses
        if self.key.is_token(text):
            return True
        self._guesses.failed(address)
        return False

    def _cookie(self, headers: Mapping[str, str]) -> str | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.key.cookie_name)
        except CookieError:
            return None
        return morsel.value if morsel else None


class TooManyGuesses(Exception):
    """This address sent too many invalid tokens: no token of it is looked at for a while."""


class AuthMiddleware:
    """Checks each request, and adds the security headers to each response."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

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
        headers, key = Headers(scope=scope), self._access.key
        if not key.is_host(headers.get("host", "")):
            return PlainTextResponse(f"Unknown Host header: use {_known_names(key)}\n", 421)
        if key.token is None or scope["path"] in OPEN_PATHS:
            return None
        try:
            if self._access.allows(headers, address_of(scope)):
                return None
        except TooManyGuesses:
            return PlainTextResponse(f"{TOO_MANY}\n", 429, {"Retry-After": f"{GUESS_EVERY_S:.0f}"})
        if scope["path"] == "/":
            return RedirectResponse("login", 303)  # relative: the page works under a path prefix
        return PlainTextResponse("Sign in at /login, or send the header Authorization: Bearer TOKEN.\n", 401,
                                 {"WWW-Authenticate": "Bearer"})  # fmt: skip


def _known_names(key: DashboardToken) -> str:
    if key.public_host is not None:
        return f"{key.public_host}."
    return "localhost or 127.0.0.1. Without a token, other names are\nrejected as a protection against DNS rebinding."


def address_of(scope: Scope) -> str:
    """The address of the browser: of the connection, or as the proxy of `--public-url` says."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _network(address: str) -> str:
    """*address*; of an IPv6 address the first half, in which one host may choose any."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:100]
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else address


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""

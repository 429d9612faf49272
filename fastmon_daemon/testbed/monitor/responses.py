"""What goes back over the wire: a status, a body and headers, in the monitor's own spelling.

Owns the encoding of JSON, the HTML pages and which answers end the connection. It must not know resources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from starlette.types import Send

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
HANGING_UP = (400, 500, 502, 503, 504)
"""The web server in front of the monitor closes the connection after these."""


@dataclass(frozen=True)
class Response:
    """One whole HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = HTML_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send it; with *head* everything but the body."""
        await send({"type": "http.response.start", "status": self.status, "headers": self._wire_headers()})
        await send({"type": "http.response.body", "body": b"" if head else self.body})

    def _wire_headers(self) -> list[tuple[bytes, bytes]]:
        headers = {"content-type": self.content_type, "content-length": str(len(self.body))}
        headers |= {"date": formatdate(usegmt=True), **self.headers}
        if self.status in HANGING_UP:
            headers["connection"] = "close"
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class HTTPException(Exception):
    """Carries the answer that ends a request early."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


def as_json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """*content* as compact JSON in UTF-8."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Response(status, body, JSON_TYPE, headers or {})


def detail(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error of the REST framework: ``{"detail": text}``."""
    return as_json(status, {"detail": text}, headers)


def page(status: int) -> Response:
    """The HTML page that the monitor (or the web server in front of it) shows for *status*."""
    title, heading, text = _PAGES.get(status, (f"Server Error ({status})", f"Server Error ({status})", ""))
    return Response(status, _PAGE.format(title=title, heading=heading, text=text).encode())


def login_page() -> Response:
    """A login page with status 200: what a proxy shows in the monitor's place."""
    return Response(200, _PAGE.format(title="Log in", heading="Log in", text="Please log in to go on.").encode())


_PAGE = """
<!doctype html>
<html lang="en">
<head>
  <title>{title}</title>
</head>
<body>
  <h1>{heading}</h1><p>{text}</p>
</body>
</html>
"""
_PAGES = {
    400: ("Bad Request (400)", "Bad Request (400)", ""),
    403: ("403 Forbidden", "403 Forbidden", ""),
    404: ("Not Found", "Not Found", "The requested resource was not found on this server."),
}

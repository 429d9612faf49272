"""HTTP responses as the monitor writes them: JSON, HTML pages, and the statuses that close the connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from starlette.types import Send

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
ROWS_AT_ONCE = 200
"""Rows of a list between two looks for other requests: half a millisecond."""
CLOSING = (400, 500, 502, 503, 504)
"""Statuses after which the web server in front of the monitor closes the connection."""


@dataclass(frozen=True)
class Response:
    """One complete HTTP response."""

    status: int
    body: bytes = b""
    content_type: str = HTML_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send the response; with *head*, without the body."""
        await send({"type": "http.response.start", "status": self.status, "headers": self._all_headers()})
        await send({"type": "http.response.body", "body": b"" if head else self.body})

    def _all_headers(self) -> list[tuple[bytes, bytes]]:
        headers = {"content-type": self.content_type, "content-length": str(len(self.body))}
        headers |= {"date": formatdate(usegmt=True), **self.headers}
        if self.status in CLOSING:
            headers["connection"] = "close"
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class HTTPException(Exception):
    """Ends a request with *response*."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def as_json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return *content* as compact JSON in UTF-8."""
    return Response(status, _encoded(content), JSON_TYPE, headers or {})


async def listed(content: Any) -> Response:
    """As `as_json`, for a list or a page of one: other requests are served meanwhile, as by the monitor's threads."""
    rows, close = (content["results"], 2) if isinstance(content, dict) else (content, 1)
    frame = _encoded({**content, "results": []} if isinstance(content, dict) else [])
    pieces = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        pieces.append(_encoded(rows[start : start + ROWS_AT_ONCE])[1:-1])
        await asyncio.sleep(0)
    return Response(200, frame[:-close] + b",".join(pieces) + frame[-close:], JSON_TYPE)


def _encoded(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def detail(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error of the REST framework: ``{"detail": text}``."""
    return as_json(status, {"detail": text}, headers)


def page(status: int) -> Response:
    """Return the HTML page of the monitor (or of the web server in front of it) for *status*."""
    title, heading, text = _PAGES.get(status, (f"Server Error ({status})", f"Server Error ({status})", ""))
    return Response(status, _PAGE.format(title=title, heading=heading, text=text).encode())


def login_page() -> Response:
    """Return a login page with status 200, as a proxy in front of the monitor does."""
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

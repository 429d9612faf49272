"""Checks a request before its view: accepted media type, token and body, with the monitor's error texts."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from fastmon_daemon.testbed.monitor.responses import JSON_TYPE, HTTPException, Response, detail, page

LARGEST_BODY = 2_621_440
"""Bytes: Django's DATA_UPLOAD_MAX_MEMORY_SIZE."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
ACCEPTED = (JSON_TYPE, "application/*", "*/*")
FORM_TYPE = "application/x-www-form-urlencoded"


def negotiate(request: Request) -> None:
    """Raise a 406 `HTTPException` unless the client accepts JSON."""
    accept = request.headers.get("accept", "*/*") or "*/*"
    if not any(part.split(";")[0].strip() in ACCEPTED for part in accept.split(",")):
        raise HTTPException(detail(406, "Could not satisfy the request Accept header."))


def authenticated(request: Request, token: str, *, token_only: bool) -> bool:
    """Whether the client is authenticated; False if it is anonymous.

    With *token_only* (the ``state/next-...`` calls) the tunnel's header does not count, and a wrong token gets 401
    instead of 403. Raises: HTTPException for a wrong token.
    """
    if not token_only and request.headers.get("x-remote-user"):
        return True
    words = request.headers.get("authorization", "").split()
    if not words or words[0].lower() != "token":
        return False
    if words[1:] != [token]:
        raise HTTPException(unauthenticated(_token_error(words), token_only=token_only))
    return True


def _token_error(words: list[str]) -> str:
    if len(words) == 1:
        return "Invalid token header. No credentials provided."
    if len(words) > 2:
        return "Invalid token header. Token string should not contain spaces."
    return "Invalid token."


def unauthenticated(text: str, *, token_only: bool) -> Response:
    """Return a 403 with *text*, or a 401 for *token_only* calls."""
    if token_only:
        return detail(401, text, {"WWW-Authenticate": "Token"})
    return detail(403, text)


async def json_body(request: Request) -> Any:
    """Parse the body as JSON whatever the Content-Type; an empty body is an empty object. Raises: HTTPException."""
    body = await _whole_body(request)
    return _parse_json(body) if body else {}


async def payload(request: Request) -> Any:
    """Parse the body: JSON, or a form into a dictionary of texts.

    Raises: HTTPException if the body is too large, malformed or of another type.
    """
    body = await _whole_body(request)
    media_type = request.headers.get("content-type", "")
    if not body:
        return {}
    kind = media_type.split(";")[0].strip().lower()
    if kind == JSON_TYPE:
        return _parse_json(body)
    if kind == FORM_TYPE:
        return {name: value or None for name, value in parse_qsl(body.decode("latin-1"), keep_blank_values=True)}
    raise HTTPException(detail(415, f'Unsupported media type "{media_type}" in request.'))


async def _whole_body(request: Request) -> bytes:
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= LARGEST_BODY:
            body += chunk
    if size > LARGEST_BODY:
        raise HTTPException(page(400))
    return bytes(body)


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_reject_constant)
    except ValueError as error:
        raise HTTPException(detail(400, f"JSON parse error - {error}")) from error


def _reject_constant(name: str) -> Any:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")

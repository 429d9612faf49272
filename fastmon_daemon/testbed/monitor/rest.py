"""The REST interface of the embedded monitor: routes, methods, status codes and pagination."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from fastmon_daemon.testbed.monitor.agents import heartbeat
from fastmon_daemon.testbed.monitor.counts import Counts
from fastmon_daemon.testbed.monitor.fields import DatabaseError, Resource
from fastmon_daemon.testbed.monitor.requests import (
    SAFE_METHODS,
    authenticated,
    negotiate,
    payload,
    unauthenticated,
)
from fastmon_daemon.testbed.monitor.responses import HTTPException, Response, as_json, detail, listed, page
from fastmon_daemon.testbed.monitor.store import Store, ValidationError, is_uuid
from fastmon_daemon.testbed.monitor.tables import INTEGER_KEYS, RESOURCES, TEXT_KEYS

View = Callable[[Request], Awaitable[Response]]
PREFIX = "/api/"
NUMBERS = {
    "state/next-agent-id/": ("agent_id", 1),
    "state/next-run-number/": ("run_number", 100001),
    "state/next-workflow-execution-id/": ("sequence", 1),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """One path: a view for each method, and who may call it."""

    views: Mapping[str, View] = field(default_factory=dict)
    anonymous: bool = False
    """Whether tokens are ignored."""
    token_only: bool = False
    known_format: bool = True
    """Whether the format suffix is one of the monitor's: it reads the end of ``name.stf`` as a format."""

    @property
    def allow(self) -> str:
        """The ``Allow`` header."""
        return ", ".join([*self.views, *(["HEAD"] if "GET" in self.views else []), "OPTIONS"])


class Rest:
    """ASGI application for ``/api/`` without the stream.

    *token_for* returns the valid token of a path; *publish* enables ``messages/``.
    """

    def __init__(
        self,
        store: Store,
        counts: Counts,
        token_for: Callable[[str], str],
        publish: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._token_for = token_for
        self._store = store
        self._counts = counts
        self._publish = publish
        self._fixed: dict[str, Endpoint] = {
            "namespaces/ensure/": Endpoint({"POST": self._ensure_namespace}),
            "systemagents/heartbeat/": Endpoint({"POST": self._heartbeat}),
            **{
                path: Endpoint({"POST": self._number_view(name, first)}, token_only=True)
                for path, (name, first) in NUMBERS.items()
            },
            **{f"{path}/": self._collection(resource) for path, resource in RESOURCES.items()},
        }
        if publish:
            self._fixed["messages/"] = Endpoint({"POST": self._post_message})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        await response.send(send, head=request.method == "HEAD")

    async def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        endpoint = self._endpoint(path)
        if endpoint:
            return await self._call(endpoint, request)
        if not path.endswith("/") and self._endpoint(path + "/"):
            query = f"?{request.url.query}" if request.url.query else ""
            return Response(301, headers={"Location": f"{path}/{query}"})
        return page(404)

    def _endpoint(self, path: str) -> Endpoint | None:
        if not path.startswith(PREFIX):
            return None
        rest = path.removeprefix(PREFIX)
        if rest in self._fixed:
            return self._fixed[rest]
        match = re.fullmatch(r"([^/.]+)(?:/([^/.]+))?(?:/|\.([a-z0-9]+)/?)", rest)
        resource = RESOURCES.get(match[1]) if match else None
        if not match or not resource:
            return None
        endpoint = self._member(resource, match[2]) if match[2] else self._fixed[f"{match[1]}/"]
        return replace(endpoint, known_format=match[3] in (None, "json"))

    async def _call(self, endpoint: Endpoint, request: Request) -> Response:
        try:
            response = await self._checked(endpoint, request)
        except HTTPException as exc:
            response = exc.response
        except ValidationError as exc:
            response = as_json(400, exc.errors)
        except (DatabaseError, RecursionError):
            return page(500)
        except ClientDisconnect:
            raise
        except Exception:
            logger.exception("%s %s", request.method, request.scope["path"])
            return page(500)
        if response.content_type.startswith("text/html"):
            return response
        headers = {"Vary": "Accept, Cookie", "Allow": endpoint.allow, **response.headers}
        return Response(response.status, response.body, response.content_type, headers)

    async def _checked(self, endpoint: Endpoint, request: Request) -> Response:
        if not endpoint.known_format:
            raise HTTPException(detail(404, "Not found."))
        negotiate(request)
        if not endpoint.anonymous:
            token = self._token_for(request.scope["path"])
            is_known = authenticated(request, token, token_only=endpoint.token_only)
            if not is_known and (endpoint.token_only or request.method not in SAFE_METHODS):
                text = "Authentication credentials were not provided."
                raise HTTPException(unauthenticated(text, token_only=endpoint.token_only))
        if request.method == "OPTIONS":
            return as_json(200, {"renders": ["application/json"], "parses": ["application/json"]})
        view = endpoint.views.get("GET" if request.method == "HEAD" else request.method)
        if view is None:
            return detail(405, f'Method "{request.method}" not allowed.')
        return await view(request)

    def _collection(self, resource: Resource) -> Endpoint:
        async def read(request: Request) -> Response:
            rows = self._store.select(resource, dict(request.query_params))
            return await listed(_paged(request, rows) if resource.paginated else rows)

        async def create(request: Request) -> Response:
            data = await payload(request)
            try:
                return as_json(201, self._store.create(resource, data))
            except ValidationError as exc:
                self._counts.rejected(resource, exc.errors)
                raise

        return Endpoint({"GET": read, "POST": create}, anonymous=resource.anonymous_writes)

    def _member(self, resource: Resource, text: str) -> Endpoint:
        rows = self._store.tables[resource.path].rows

        def existing_key() -> Any:
            key = _key(resource, text)
            if key is None:
                raise HTTPException(detail(404, "Not found."))
            if key not in rows:
                raise HTTPException(detail(404, f"No {resource.model} matches the given query."))
            return key

        async def read(_request: Request) -> Response:
            return as_json(200, rows[existing_key()])

        async def put(request: Request) -> Response:
            return as_json(200, self._store.update(resource, existing_key(), await payload(request), partial=False))

        async def change(request: Request) -> Response:
            return as_json(200, self._store.update(resource, existing_key(), await payload(request), partial=True))

        async def delete(_request: Request) -> Response:
            self._store.delete(resource, existing_key())
            return Response(204, content_type="application/json")

        views: Mapping[str, View] = {"GET": read, "PUT": put, "PATCH": change, "DELETE": delete}
        return Endpoint(views, anonymous=resource.anonymous_writes)

    def _number_view(self, name: str, first: int) -> View:
        async def number(_request: Request) -> Response:
            return as_json(200, {name: self._store.next_number(name, first), "status": "success"})

        return number

    async def _ensure_namespace(self, request: Request) -> Response:
        data = await payload(request)
        given = data if isinstance(data, dict) else {}
        for name in ("name", "owner"):
            if not given.get(name):
                return as_json(400, {"error": f"{name} is required", "status": "error"})
        if len(str(given["name"])) > 100:
            error = "value too long for type character varying(100)\n"
            return as_json(500, {"error": error, "status": "error"})
        created = given["name"] not in self._store.namespaces
        fresh = {"name": given["name"], "owner": given["owner"], "description": given.get("description", "")}
        namespace = self._store.namespaces.setdefault(given["name"], fresh)
        return as_json(200, {**namespace, "created": created, "status": "success"})

    async def _heartbeat(self, request: Request) -> Response:
        row, new = heartbeat(self._store, await payload(request))
        self._counts.heartbeats += 1
        return as_json(201 if new else 200, row)

    async def _post_message(self, request: Request) -> Response:
        data = await payload(request)
        if not isinstance(data, dict):
            raise ValidationError({"non_field_errors": ["Invalid data. Expected a dictionary."]})
        if self._publish:
            self._publish(data)
        return as_json(201, data)


def _key(resource: Resource, text: str) -> Any:
    """Parse a primary key; None if *text* cannot be one."""
    if resource.path in TEXT_KEYS:
        return text
    if resource.path in INTEGER_KEYS:
        return int(text) if text.isdecimal() else None
    return text.lower() if is_uuid(text) else None


def _paged(request: Request, rows: list[dict[str, Any]]) -> Any:
    """Return *rows*, or the page that a positive ``limit`` requests."""
    limit = _positive(request.query_params.get("limit", ""))
    if not limit:
        return rows
    offset = _positive(request.query_params.get("offset", ""))
    has_next = offset + limit < len(rows)
    return {
        "count": len(rows),
        "next": _page_url(request, limit, offset + limit) if has_next else None,
        "previous": _page_url(request, limit, offset - limit) if offset else None,
        "results": rows[offset : offset + limit],
    }


def _positive(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _page_url(request: Request, limit: int, offset: int) -> str:
    query = {**request.query_params, "limit": str(limit), "offset": str(offset)}
    if offset <= 0:
        del query["offset"]
    return f"{request.url.scheme}://{request.url.netloc}{request.url.path}?{urlencode(sorted(query.items()))}"

"""Pages of a list, as the monitor cuts them: only for a positive ``limit``, in no particular order.

Owns the page and the links to its neighbours. It must not know what the rows are.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request


def paged(request: Request, rows: list[dict[str, Any]]) -> Any:
    """*rows*, or the page of them that a positive ``limit`` asks for."""
    limit = _positive(request.query_params.get("limit", ""))
    if not limit:
        return rows
    offset = _positive(request.query_params.get("offset", ""))
    further = offset + limit < len(rows)
    return {
        "count": len(rows),
        "next": _page_url(request, limit, offset + limit) if further else None,
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

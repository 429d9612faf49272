"""What a page asks for beside the stream: history, all runs, one run, one STF, the guide; and acknowledgements."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.dashboard.broadcaster import Broadcaster, spans
from fastmon_client.dashboard.guide import GUIDE
from fastmon_client.dashboard.history import RANGES
from fastmon_client.formatting import escape
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable
from fastmon_client.snapshot import ProfileRow

PAGE_HEADER = "x-fastmon-page"
"""A page of another site cannot send it without asking first, which is never allowed: so no request is forged."""
MAX_RUNS = 1000
"""Runs that a page lists; their total is in the stream."""
_MAX_BODY_BYTES = 4096


class Details(Protocol):
    """Answers questions about one run or STF from the monitor's tables.

    Raises: MonitorUnavailable, AccessDenied, LookupError if there is no such run or STF.
    """

    async def run(self, name: str, sequences: Iterable[int]) -> dict[str, Any]:
        """What the tables say of a run, and the names of the STFs with these numbers."""

    async def profile(self, run: str) -> ProfileRow:
        """The run minute by minute."""

    async def runs(self) -> list[dict[str, Any]]:
        """The monitor's table of runs."""

    async def stf(self, run: str, name: str) -> dict[str, Any]:
        """The TF files of an STF, named by its file or by its sequence number."""

    @property
    def earlier_rates(self) -> Callable[[], Mapping[int, int]]:
        """TF files made before the start: begin of a bin of 5 s -> number."""

    def rows(self, limit: int | None) -> list[Mapping[str, Any]]:
        """The rows of at most *limit* runs, newest first, without strips."""

    def summaries(self) -> list[dict[str, Any]]:
        """The daemon's summaries of runs, the newest last."""


class Api:
    """Answers below `/api`."""

    def __init__(self, broadcaster: Broadcaster, acknowledgements: Acknowledgements, details: Details | None) -> None:
        self._broadcaster, self._acknowledgements, self._details = broadcaster, acknowledgements, details

    @property
    def routes(self) -> list[Route]:
        """All routes."""
        return [
            Route("/api/runs", self._runs),
            Route("/api/history", self._history),
            Route("/api/runs/{run}", self._run),
            Route("/api/runs/{run}/profile", self._profile),
            Route("/api/runs/{run}/stfs/{stf}", self._stf),
            Route("/api/summaries", self._summaries),
            Route("/api/guide", self._guide),
            Route("/api/acknowledge", self._acknowledge, methods=["POST"]),
        ]

    async def _runs(self, _request: Request) -> Response:
        return JSONResponse({"runs": self._rows(MAX_RUNS)})

    def _rows(self, limit: int | None) -> list[Mapping[str, Any]]:
        """Rows without strips, newest first."""
        if self._details is not None:
            return self._details.rows(limit)
        return [{**run, "strip": []} for run in self._broadcaster.snapshot()["runs"]]

    async def _history(self, request: Request) -> Response:
        name = request.query_params.get("range", "15m")
        if name not in RANGES:
            return problem(400, f"unknown range: use {', '.join(RANGES)}")
        earlier = self._details.earlier_rates() if self._details else {}
        return JSONResponse(self._broadcaster.history.view(name, earlier))

    async def _run(self, request: Request) -> Response:
        name = request.path_params["run"]
        row = row_of(name, self._broadcaster.snapshot()["runs"]) or row_of(name, self._rows(None))
        found: dict[str, Any] = {"row": row and {**row, "strip": spans(row["strip"])}, "tables": None, "problem": ""}
        if self._details is not None:
            try:
                found["tables"] = await self._details.run(name, bad_sequences(row))
            except (MonitorUnavailable, AccessDenied, LookupError) as exc:
                found["problem"] = str(exc)
        is_known = row or (found["tables"] and (found["tables"]["stfs"] or found["tables"]["summary"]))
        return JSONResponse(found, 200 if is_known or found["problem"] else 404)

    async def _stf(self, request: Request) -> Response:
        asked = request.path_params
        return await self._answer(lambda details: details.stf(asked["run"], asked["stf"]))

    async def _profile(self, request: Request) -> Response:
        return await self._answer(lambda details: details.profile(request.path_params["run"]))

    async def _answer(self, ask: Callable[[Details], Awaitable[Mapping[str, Any]]]) -> Response:
        if self._details is None:
            return problem(404, "this server reads no tables")
        try:
            return JSONResponse(await ask(self._details))
        except LookupError as exc:
            return problem(404, str(exc))
        except (MonitorUnavailable, AccessDenied) as exc:
            return problem(502, str(exc))

    async def _summaries(self, _request: Request) -> Response:
        return JSONResponse({"summaries": self._details.summaries() if self._details else []})

    async def _guide(self, _request: Request) -> Response:
        return JSONResponse({kind: asdict(entry) for kind, entry in GUIDE.items()})

    async def _acknowledge(self, request: Request) -> Response:
        if PAGE_HEADER not in request.headers or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return problem(403, f"send the header {PAGE_HEADER}, from a page of this server")
        try:
            asked = await _json(request)
            wanted, by = (str(asked["kind"]), str(asked["subject"]), None), one_line(asked["by"])
        except (ValueError, KeyError, RecursionError):
            return problem(400, "send JSON with kind, subject and by")
        if not by:
            return problem(400, "by is empty: send a name")
        active = {(each["kind"], each["subject"], each["until"]): each for each in self._broadcaster.incidents}
        if wanted not in active:
            return problem(409, "the alarm has ended")
        try:
            row = self._acknowledgements.acknowledge(
                active[wanted], by, one_line(asked.get("note") or ""), datetime.now(UTC)
            )
        except OSError as exc:
            return problem(507, f"cannot be written: {exc.strerror}")
        return JSONResponse(row)


def row_of(name: str, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of run *name*, or None."""
    return next((row for row in rows if row["run"] == name), None)


def bad_sequences(row: Mapping[str, Any] | None) -> list[int]:
    """The numbers of the missing and incomplete STFs of a run: these are shown by name."""
    strip = row["strip"] if row else []
    bad = [cell["sequence"] for cell in strip if cell["kind"] in ("missing", "incomplete")]
    return [*(row["missing"] if row else []), *bad]


def one_line(value: object) -> str:
    """*value* as one line of text, with control characters as escapes."""
    return escape(" ".join(str(value).split()))


def problem(status: int, text: str) -> Response:
    """The answer to a request that cannot be met, with the reason."""
    return JSONResponse({"error": text}, status)


async def _json(request: Request) -> Mapping[str, Any]:
    """The body. Raises: ValueError if it is no JSON object, or too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise ValueError("too long")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found

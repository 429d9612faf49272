"""The report for the next shift, from the page: what this server has followed; only names are asked of the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastmon_client.dashboard.api import Details, bad_sequences, one_line, problem, row_of
from fastmon_client.dashboard.broadcaster import Broadcaster
from fastmon_client.dashboard.journal import Journal
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable
from fastmon_client.report.model import Facts, LatencyReport, RunFacts, UnreadRun, make_report, overlaps
from fastmon_client.report.reading import MAX_RUNS, begin_in, runs_in, unread
from fastmon_client.report.rendering import CONTENT_SECURITY_POLICY, FORMATS
from fastmon_client.shifts import Shifts, Window, last
from fastmon_client.snapshot import RunRow
from fastmon_client.tffile import parse_timestamp

LAST = {"1h": 3600, "8h": 8 * 3600, "24h": 24 * 3600}
MAX_NAMED_RUNS = 20
"""Runs whose missing STFs are named: one call each."""
MAX_NAME, MAX_NOTE = 60, 4000
"""Characters."""
_TYPES = {"html": "text/html", "md": "text/markdown", "json": "application/json"}


class PageReports:
    """Answers `/report` and `/api/report-ranges`."""

    def __init__(self, broadcaster: Broadcaster, journal: Journal, details: Details | None, shifts: Shifts) -> None:
        self._broadcaster, self._journal, self._details, self._shifts = broadcaster, journal, details, shifts

    @property
    def routes(self) -> list[Route]:
        """All routes."""
        return [Route("/report", self._report), Route("/api/report-ranges", self._ranges)]

    async def _ranges(self, _request: Request) -> Response:
        """The shifts of the last day, the newest first, then the last hours: value and title."""
        at = datetime.now(UTC)
        windows = sorted(((self._shifts.of(name, at), name) for name in self._shifts.names),
                         key=lambda each: each[0].begin, reverse=True)  # fmt: skip
        shifts = [[f"shift={name}", window.title] for window, name in windows]
        return JSONResponse({"ranges": [*shifts, *([f"since={name}", last(s, at).title] for name, s in LAST.items())]})

    async def _report(self, request: Request) -> Response:
        asked, at = request.query_params, datetime.now(UTC)
        kind = asked.get("format", "html")
        if kind not in FORMATS:
            return problem(400, f"unknown format: use {', '.join(FORMATS)}")
        try:
            window = self._window(asked.get("range", "since=8h"), at)
        except ValueError as exc:
            return problem(400, str(exc))
        runs, problems = await self._runs(window)
        snapshot = self._broadcaster.snapshot()
        summaries = self._details.summaries() if self._details else []
        facts = Facts(
            at=at,
            window=window,
            monitor=snapshot["monitor"],
            shifter=one_line(asked.get("shifter", ""))[:MAX_NAME],
            notes=asked.get("note", "")[:MAX_NOTE].splitlines(),
            runs=runs[:MAX_RUNS],
            runs_omitted=max(0, len(runs) - MAX_RUNS),
            daemons=snapshot["tiles"]["daemon"]["agents"],
            journal=self._journal.read(at),
            summaries={each["run"]: each for each in summaries},
            problems=problems,
        )
        report = make_report(facts)
        name = re.sub(r"\W+", "-", window.title)
        way = "inline" if kind == "html" else "attachment"
        headers = {"Content-Disposition": f'{way}; filename="fastmon-report-{name}.{kind}"',
                   "Content-Security-Policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'"}  # fmt: skip
        return Response(FORMATS[kind](report, self._shifts), headers=headers, media_type=_TYPES[kind])

    def _window(self, text: str, at: datetime) -> Window:
        how, _, name = text.partition("=")
        if how == "shift":
            return self._shifts.of(name, at)
        if how != "since" or name not in LAST:
            raise ValueError(f"unknown range: use shift=NAME, or since= with one of {', '.join(LAST)}")
        return last(LAST[name], at)

    async def _runs(self, window: Window) -> tuple[list[RunFacts | UnreadRun], list[str]]:
        """The runs in *window*, newest first, and what could not be read."""
        with_strip = self._broadcaster.snapshot()["runs"]
        rows = self._details.rows(None) if self._details else with_strip
        at = datetime.now(UTC)
        inside = [row for row in rows if _is_in(row, window, at)]
        found: list[RunFacts | UnreadRun] = []
        problems: list[str] = []
        named = 0
        for row in inside:
            whole = row_of(row["run"], with_strip) or row
            names: Mapping[int, str] = {}
            if self._details and named < MAX_NAMED_RUNS and not problems and (bad := bad_sequences(whole)):
                named += 1
                try:
                    names = (await self._details.run(row["run"], bad))["names"]
                except (MonitorUnavailable, AccessDenied) as exc:
                    problems.append(f"names of missing STFs: {exc}")
            found.append(RunFacts(cast(RunRow, whole), names, None, _lag(whole)))
        if self._details and not problems:
            known = {row["run"] for row in rows}
            try:
                others = [
                    row
                    for row in runs_in(await self._details.runs(), window, at)
                    if str(row["run_number"]) not in known
                ]
            except (MonitorUnavailable, AccessDenied) as exc:
                problems.append(f"runs that this page has not followed: {exc}")
            else:
                found += [unread(row, _not_followed(row["run_number"])) for row in others]
        return found, problems


def _is_in(row: Mapping[str, Any], window: Window, at: datetime) -> bool:
    begin = begin_in(window, parse_timestamp(row["began_at"]) or parse_timestamp(row["last_at"]), at)
    end = parse_timestamp(row["ended_at"]) or (parse_timestamp(row["last_at"]) if row["is_past"] else None)
    return overlaps(window, begin, end)


def _not_followed(run: int) -> str:
    return f"this page has not followed it: fastmon-client summary --run {run} reads it"


def _lag(row: Mapping[str, Any]) -> list[LatencyReport]:
    if row["lag_p50_s"] is None:
        return []
    return [{"what": "announced → shown on the page", "count": None, "p50_s": row["lag_p50_s"],
             "p95_s": row["lag_p95_s"], "max_s": None}]  # fmt: skip

"""Reads the monitor's tables over REST: runs, the STFs of a run, the TF files of an STF."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from fastmon_client.monitor_session import AccessDenied, MonitorSession, read_chunk, token_rejected
from fastmon_client.reasons import reason_of
from fastmon_client.tffile import parse_timestamp

MAX_RESPONSE_S = 60.0
"""Longest duration of one response."""
MAX_RESPONSE_BYTES = 512 * 1024 * 1024
"""Longest response: some 700 000 rows of STFs."""
MAX_ROWS = 10_000_000
"""Requests one page with all rows: the monitor's pages have no order."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class MonitorUnavailable(Exception):
    """No usable response; try again later."""


class Tables:
    """Belongs to one thread; each response takes `MAX_RESPONSE_S` at most.

    Raises: MonitorUnavailable; AccessDenied if an operator must fix the token, the URL or the CA.
    """

    def __init__(self, monitor: MonitorSession) -> None:
        self._monitor = monitor
        self._session = monitor.session()
        self._answered_at: datetime | None = None
        """The header Date of the last response."""

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def runs(self) -> list[dict[str, Any]]:
        """All runs."""
        return self._rows("/api/runs/", {})

    def agents(self) -> tuple[list[dict[str, Any]], datetime | None]:
        """All agents, and the time of the monitor's clock if it tells it."""
        rows = self._rows("/api/systemagents/", {})
        return rows, self._answered_at

    def stfs(self, run_number: int) -> list[tuple[str, datetime]]:
        """The STFs of a run: name and time of registration."""
        rows = self._rows("/api/stf-files/", {"run_number": str(run_number), "limit": str(MAX_ROWS)})
        return [(str(row.get("stf_filename")), parse_timestamp(row.get("created_at")) or _LONG_AGO) for row in rows]

    def tf_files(self, stf_filename: str) -> list[dict[str, Any]]:
        """The TF files of an STF."""
        rows = self._rows("/api/fastmon-files/", {"stf_filename": stf_filename}) if stf_filename else []
        return [row for row in rows if row.get("stf_file") == stf_filename]  # a monitor without this filter sends all

    def _rows(self, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
        try:
            body = self._body(path, params)
        except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
            if denied := self._monitor.denial(exc):
                raise denied from exc
            raise MonitorUnavailable(f"no response from the monitor to {path}: {reason_of(exc)}") from exc
        try:
            data = json.loads(body)
        except RecursionError as exc:
            raise MonitorUnavailable(f"response to {path} is nested too deeply") from exc
        except ValueError as exc:
            start = body[:40].decode(errors="replace")
            raise MonitorUnavailable(f"response to {path} is not JSON (login page or proxy?): {start!r}") from exc
        rows = data.get("results") if isinstance(data, dict) else data
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise MonitorUnavailable(f"response to {path} is not a list of rows")
        return rows

    def _body(self, path: str, params: dict[str, str]) -> bytes:
        end = time.monotonic() + MAX_RESPONSE_S
        with self._monitor.get(self._session, path, params, "application/json", 20.0) as response:
            status = response.status_code
            self._answered_at = _date(response.headers.get("Date"))
            if status in (401, 403):
                raise token_rejected(status)
            if status == 404:
                raise AccessDenied(f"monitor has no {path}: check --monitor-url (SWF_MONITOR_URL): {self._monitor.url}")
            if status != 200:
                raise MonitorUnavailable(f"monitor answered {status} to {path}")
            pieces, length = [], 0
            while piece := read_chunk(response, 1 << 20):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_RESPONSE_BYTES:
                    raise MonitorUnavailable(f"response to {path} is longer than {MAX_RESPONSE_BYTES} bytes")
                if time.monotonic() > end:
                    raise MonitorUnavailable(f"response to {path} took longer than {MAX_RESPONSE_S:.0f} s")
            return b"".join(pieces)


def _date(header: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(header or "")
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

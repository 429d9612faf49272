"""Reads the monitor's tables over REST: runs, the STFs of a run, the TF files of an STF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from fastmon_client.monitor_session import AccessDenied, MonitorSession, read_chunk, token_rejected
from fastmon_client.reasons import reason_of
from fastmon_client.row_stream import NotRows, memory_of, rows_in, slim
from fastmon_client.tffile import parse_timestamp

MAX_RESPONSE_S = 60.0
"""Longest duration of one response."""
MAX_RESPONSE_BYTES = 512 * 1024 * 1024
"""Longest response: some 700 000 rows of STFs."""
MAX_LIST_BYTES = 40 * 1024 * 1024
"""Memory for the rows of one response: some 30 000 runs, or 200 000 STFs of a run."""
MAX_TF_FILES_BYTES = 4 * 1024 * 1024
"""Memory for the TF files of one STF: some 2000."""
MAX_ROWS = 10_000_000
"""Requests one page with all rows: the monitor's pages have no order."""
_CHUNK_BYTES = 65536
_STF_BYTES = 150

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
        return self._rows("/api/runs/", {}, MAX_LIST_BYTES)

    def agents(self) -> tuple[list[dict[str, Any]], datetime | None]:
        """All agents, and the time of the monitor's clock if it tells it."""
        rows = self._rows("/api/systemagents/", {}, MAX_LIST_BYTES)
        return rows, self._answered_at

    def stfs(self, run_number: int) -> list[tuple[str, datetime]]:
        """The STFs of a run: name and time of registration."""
        params, left = {"run_number": str(run_number), "limit": str(MAX_ROWS)}, MAX_LIST_BYTES
        found: list[tuple[str, datetime]] = []
        for row in self._rows_one_by_one("/api/stf-files/", params):
            name = str(row.get("stf_filename"))
            left -= len(name) + _STF_BYTES
            if left < 0:
                raise MonitorUnavailable(f"run {run_number} has more than {len(found)} STFs: too many to compare")
            found.append((name, parse_timestamp(row.get("created_at")) or _LONG_AGO))
        return found

    def tf_files(self, stf_filename: str) -> list[dict[str, Any]]:
        """The TF files of an STF."""
        if not stf_filename:
            return []

        def is_wanted(row: dict[str, Any]) -> bool:
            return bool(row.get("stf_file") == stf_filename)  # a monitor without this filter sends all

        return self._rows("/api/fastmon-files/", {"stf_filename": stf_filename}, MAX_TF_FILES_BYTES, is_wanted)

    def _rows(
        self,
        path: str,
        params: dict[str, str],
        max_bytes: int,
        is_wanted: Callable[[dict[str, Any]], bool] = lambda _row: True,
    ) -> list[dict[str, Any]]:
        """The rows that are wanted, slim, within *max_bytes* of memory."""
        found, left = [], max_bytes
        for row in self._rows_one_by_one(path, params):
            if is_wanted(row):
                found.append(row)
                left -= memory_of(row)
            if left < 0:
                raise MonitorUnavailable(f"response to {path} is too long: more than {len(found)} rows")
        return found

    def _rows_one_by_one(self, path: str, params: dict[str, str]) -> Iterator[dict[str, Any]]:
        try:
            with self._monitor.get(self._session, path, params, "application/json", 20.0, MAX_RESPONSE_S) as response:
                self._answered_at = _date(response.headers.get("Date"))
                self._check(response.status_code, path)
                yield from map(slim, rows_in(self._chunks(response, path)))
        except NotRows as exc:
            raise MonitorUnavailable(f"response to {path} {exc}: {exc.start!r}") from exc
        except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
            if denied := self._monitor.denial(exc):
                raise denied from exc
            raise MonitorUnavailable(f"no response from the monitor to {path}: {reason_of(exc)}") from exc

    def _check(self, status: int, path: str) -> None:
        if status in (401, 403):
            raise token_rejected(status)
        if status == 404:
            raise AccessDenied(f"monitor has no {path}: check --monitor-url (SWF_MONITOR_URL): {self._monitor.url}")
        if status != 200:
            raise MonitorUnavailable(f"monitor answered {status} to {path}")

    @staticmethod
    def _chunks(response: requests.Response, path: str) -> Iterator[bytes]:
        """The body, up to `MAX_RESPONSE_BYTES`."""
        left = MAX_RESPONSE_BYTES
        while chunk := read_chunk(response, _CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise MonitorUnavailable(f"response to {path} is longer than {MAX_RESPONSE_BYTES} bytes")
            yield chunk


def _date(header: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(header or "")
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

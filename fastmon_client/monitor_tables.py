"""The monitor's tables, read over REST: runs, the STFs of a run, the TF files of an STF.

It must not know what the rows are compared with.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from fastmon_client.monitor_session import AccessDenied, MonitorSession, reason_of, refused_token
from fastmon_client.tffile import parse_timestamp

LONGEST_ANSWER_S = 60.0
"""The longest that one answer may take."""
MOST_ROWS = 10_000_000
"""Pages have no order, so that a list is read in one."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class MonitorUnavailable(Exception):
    """The monitor did not answer, or not with what was asked for: try again later."""


class Tables:
    """Reads, in one thread.

    Raises:
        Refused: a person must mend something (the token, the URL, a CA).
        Unanswered: anything else; each answer may take `LONGEST_ANSWER_S` at most.
    """

    def __init__(self, monitor: MonitorSession) -> None:
        self._monitor = monitor
        self._session = monitor.session()

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def runs(self) -> list[dict[str, Any]]:
        """All runs."""
        return self._rows("/api/runs/", {})

    def stfs(self, run_number: int) -> list[tuple[str, datetime]]:
        """The STFs of a run: name and time of registration."""
        rows = self._rows("/api/stf-files/", {"run_number": str(run_number), "limit": str(MOST_ROWS)})
        return [(str(row.get("stf_filename")), parse_timestamp(row.get("created_at")) or _LONG_AGO) for row in rows]

    def tf_files(self, stf_filename: str) -> list[dict[str, Any]]:
        """The TF files of an STF."""
        rows = self._rows("/api/fastmon-files/", {"stf_filename": stf_filename}) if stf_filename else []
        return [row for row in rows if row.get("stf_file") == stf_filename]  # a monitor that does not filter sends all

    def _rows(self, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
        try:
            answer = json.loads(self._body(path, params))
        except (requests.RequestException, HTTPError, OSError, RecursionError, ValueError) as exc:
            if refusal := self._monitor.denial(exc):
                raise refusal from exc
            raise MonitorUnavailable(f"the monitor does not answer {path}: {reason_of(exc)}") from exc
        rows = answer.get("results") if isinstance(answer, dict) else answer
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise MonitorUnavailable(f"the monitor's answer to {path} is no list")
        return rows

    def _body(self, path: str, params: dict[str, str]) -> bytes:
        end = time.monotonic() + LONGEST_ANSWER_S
        with self._monitor.get(self._session, path, params, "application/json", 20.0) as response:
            status = response.status_code
            if status in (401, 403):
                raise refused_token(status)
            if status == 404:
                raise AccessDenied(
                    f"the monitor has no {path}: is --monitor-url (SWF_MONITOR_URL) {self._monitor.url} right?"
                )
            if status != 200:
                raise MonitorUnavailable(f"the monitor said {status} to {path}")
            pieces = []
            while piece := response.raw.read1(1 << 20):
                pieces.append(piece)
                if time.monotonic() > end:
                    raise MonitorUnavailable(
                        f"the monitor's answer to {path} took longer than {LONGEST_ANSWER_S:.0f} s"
                    )
            return b"".join(pieces)

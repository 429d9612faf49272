"""What the paths of the HTTP server answer: /livez, /readyz, /healthz, /status and /metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.inspection.inspector import View
from fastmon_daemon.inspection.liveness import Liveness, describe_stall
from fastmon_daemon.inspection.metrics import CONTENT_TYPE
from fastmon_daemon.presence.assessment import Assessment
from fastmon_daemon.presence.periodic_worker import WorkerErrors

PLAIN = "text/plain; charset=utf-8"
_JSON = "application/json"

Response = tuple[int, str, bytes]
"""Status, content type and body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The functions that answer. While the daemon is starting *metrics* waits for it, and the others return None."""

    liveness: Liveness
    errors: WorkerErrors
    assess: Callable[[], Assessment | None]
    readiness: Callable[[], Mapping[str, str] | None]
    """Part of the daemon -> what is wrong with it, or an empty text."""
    status: Callable[[], View | None]
    metrics: Callable[[], bytes]

    def by_path(self) -> dict[str, Callable[[], Response]]:
        """Return path -> the function that answers it. These raise: StorageError, OSError."""
        return {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/healthz": self._healthz,
            "/status": self._status,
            "/metrics": lambda: (200, CONTENT_TYPE, self.metrics()),
        }

    def _livez(self) -> Response:
        """Whether the engine's loop turns; nothing else: what a restart does not cure is no reason for one."""
        if self.liveness.is_stalled:
            return _text(503, describe_stall(self.liveness.age_s))
        return _text(200, f"alive: last engine tick {self.liveness.age_s:.1f} s ago")

    def _readyz(self) -> Response:
        """Whether STFs are stored and processed now: one line for each part that this needs."""
        parts = self.readiness()
        if parts is None:
            return _text(503, "starting")
        return _text(503 if any(parts.values()) else 200, *readiness_lines(parts))

    def _healthz(self) -> Response:
        """The verdict, and whether a restart may help: 503 while the engine is stalled or a worker has an error."""
        try:
            found = self.assess()
            verdict = found.line if found else "starting"
        except (StorageError, OSError) as exc:
            verdict = escape_controls(f"database not readable: {exc}")
        status, kind, alive = self._livez()
        if status == 200 and (failing := ", ".join(f"{name} ({error})" for name, error in self.errors.now().items())):
            status, alive = 503, f"unexpected errors, see the log: {failing}\n".encode()
        return status, kind, f"{verdict}\n".encode() + alive

    def _status(self) -> Response:
        view = self.status()
        if view is None:
            return 503, _JSON, b'{"verdict": "starting"}\n'
        return 200, _JSON, f"{json.dumps(view)}\n".encode()


def readiness_lines(parts: Mapping[str, str]) -> list[str]:
    """Return one line for each part: `ok` and its name, or `not ready` and what is wrong."""
    return [f"not ready  {part}: {wrong}" if wrong else f"ok         {part}" for part, wrong in parts.items()]


def _text(status: int, *lines: str) -> Response:
    return status, PLAIN, "".join(f"{line}\n" for line in lines).encode()

"""The HTTP server of `/metrics` and `/healthz`: which path answers what."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loguru import logger

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.inspection.bounded_server import BoundedRequestHandler, BoundedServer
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.inspection.metrics import CONTENT_TYPE
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.settings import ListenAddress

_PLAIN = "text/plain; charset=utf-8"

Response = tuple[int, str, bytes]
"""Status, content type and body."""


@contextmanager
def serve(
    listen: ListenAddress | None,
    liveness: Liveness,
    render: Callable[[], str],
    errors: WorkerErrors,
    verdict: Callable[[], str],
) -> Iterator[None]:
    """Serve inside the block, unless *listen* is None; if the address cannot be bound, log it and run the block anyway.

    *render* returns the metrics, *verdict* the verdict on the daemon in one line. /healthz begins with that line; it
    answers 503 while the engine is stalled or *errors* has an error (what a restart may cure), else 200. Errors of this
    server are added to *errors*.
    """
    if listen is None:
        yield
        return
    try:
        server = _Server(listen, liveness, render, errors, verdict)
    except OSError as exc:
        logger.error("FASTMON_HTTP={}: {}: metrics not served: choose a free local address", listen, exc.strerror)
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    logger.info("metrics at http://{}/metrics", ListenAddress(listen.host, server.server_port))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Server(BoundedServer):
    def __init__(
        self,
        listen: ListenAddress,
        liveness: Liveness,
        render: Callable[[], str],
        errors: WorkerErrors,
        verdict: Callable[[], str],
    ) -> None:
        self.liveness = liveness
        self.render = render
        self.errors = errors
        self.verdict = verdict
        super().__init__(listen, _RequestHandler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (its signature)
        error = sys.exception()
        if error is None or isinstance(error, OSError):  # of the socket; see also `respond`
            logger.debug("http: the client disconnected")
        else:
            self.errors.failed("http", error)

    def respond(self, path: str) -> Response:
        """Return the response for *path*; 500 if making it fails by a bug of ours."""
        make = {"/healthz": self._health, "/metrics": self._metrics}.get(path)
        if make is None:
            return 404, _PLAIN, b"not found: use /healthz or /metrics\n"
        try:
            with self.alone(path):
                status, kind, text = make()
            body = text.encode()
        except (StorageError, OSError) as exc:  # TimeoutError, too
            return 503, _PLAIN, f"metrics not readable: {exc}\n".encode()
        except Exception as exc:  # noqa: BLE001 (the client gets an answer, and /healthz shows the error)
            self.errors.failed(f"http {path}", exc)
            return 500, _PLAIN, b"internal error: see the log\n"
        self.errors.worked(f"http {path}")
        return status, kind, body

    def _health(self) -> tuple[int, str, str]:
        age = f"{self.liveness.age_s:.1f} s"
        try:
            verdict = self.verdict()
        except (StorageError, OSError) as exc:
            verdict = escape_controls(f"database not readable: {exc}")
        if self.liveness.is_stalled:
            return 503, _PLAIN, f"{verdict}\nengine loop stalled for {age}: see the log, then restart the daemon\n"
        if failing := ", ".join(f"{worker} ({error})" for worker, error in self.errors.now().items()):
            return 503, _PLAIN, f"{verdict}\nunexpected errors, see the log: {failing}\n"
        return 200, _PLAIN, f"{verdict}\nalive: last engine tick {age} ago\n"

    def _metrics(self) -> tuple[int, str, str]:
        return 200, CONTENT_TYPE, self.render()


class _RequestHandler(BoundedRequestHandler):
    server: _Server

    def do_GET(self) -> None:  # noqa: N802 (the base class calls this name)
        status, kind, body = self.server.respond(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.server.errors.worked("http")

    do_HEAD = do_GET  # noqa: N815 (the base class calls this name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (name in the base class)
        logger.debug("http: {}", format % args)

"""The HTTP server of the endpoints: one thread that accepts, and one short thread for each request."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from loguru import logger

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.inspection.bounded_server import BoundedRequestHandler, BoundedServer
from fastmon_daemon.inspection.endpoints import PLAIN, Response
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.settings import ListenAddress


@contextmanager
def serve(
    listen: ListenAddress | None, endpoints: Mapping[str, Callable[[], Response]], errors: WorkerErrors
) -> Iterator[None]:
    """Serve inside the block, unless *listen* is None; if the address cannot be bound, log it and run the block anyway.

    *endpoints* is path -> the function that answers it. Errors of this server are added to *errors*.
    """
    if listen is None:
        yield
        return
    try:
        server = _Server(listen, endpoints, errors)
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
        self, listen: ListenAddress, endpoints: Mapping[str, Callable[[], Response]], errors: WorkerErrors
    ) -> None:
        self.endpoints = endpoints
        self.errors = errors
        super().__init__(listen, _RequestHandler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (its signature)
        error = sys.exception()
        if error is None or isinstance(error, OSError):  # of the socket; see also `respond`
            logger.debug("http: the client disconnected")
        else:
            self.errors.failed("http", error)

    def respond(self, path: str) -> Response:
        """Return the response for *path*; 500 if making it fails by a bug of ours."""
        make = self.endpoints.get(path)
        if make is None:
            return 404, PLAIN, f"not found: use {', '.join(self.endpoints)}\n".encode()
        try:
            with self.alone(path):
                response = make()
        except (StorageError, OSError) as exc:  # TimeoutError, too
            return 503, PLAIN, f"not readable: {exc}\n".encode()
        except Exception as exc:  # noqa: BLE001 (the client gets an answer, and /healthz shows the error)
            self.errors.failed(f"http {path}", exc)
            return 500, PLAIN, b"internal error: see the log\n"
        self.errors.worked(f"http {path}")
        return response


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

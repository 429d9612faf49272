"""The HTTP server: one thread that accepts, one short thread for each question, nothing that writes.

It must not know what the numbers mean.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loguru import logger

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.inspection.metrics import CONTENT_TYPE
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.settings import ListenAddress

_PLAIN = "text/plain; charset=utf-8"

Answer = tuple[int, str, bytes]
"""Status, content type and body."""


@contextmanager
def serve(
    listen: ListenAddress | None, liveness: Liveness, page: Callable[[], str], errors: WorkerErrors
) -> Iterator[None]:
    """Serve inside the block, where there is an address; where that cannot be had, say so and go on without.

    *page* gives the metrics; /healthz is not well while *pulse* stands or anything is in *errors*, our own included.
    """
    if listen is None:
        yield
        return
    try:
        server = _Server(listen, liveness, page, errors)
    except OSError as exc:
        logger.error("FASTMON_HTTP={}: {}: no metrics are served; name a free address of ours", listen, exc.strerror)
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a reader that never ends must not hold up the drain

    def __init__(
        self, listen: ListenAddress, liveness: Liveness, page: Callable[[], str], errors: WorkerErrors
    ) -> None:
        self.liveness = liveness
        self.page = page
        self.errors = errors
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        super().__init__((listen.host, listen.port), _RequestHandler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the DNS for our name, and may wait long for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (its signature there)
        error = sys.exception()
        if error is None or isinstance(error, OSError):  # the socket's: those of an answer are caught where it is made
            logger.debug("HTTP: a reader went away")
        else:
            self.errors.failed("http", error)

    def answer(self, path: str) -> Answer:
        """The answer at *path*; 500 where making it fails by a mistake of ours."""
        maker = {"/healthz": self._health, "/metrics": self._metrics}.get(path)
        if maker is None:
            return 404, _PLAIN, b"there are /healthz and /metrics\n"
        try:
            status, kind, text = maker()
            body = text.encode()
        except (StorageError, OSError) as exc:
            return 503, _PLAIN, f"the numbers cannot be read: {exc}\n".encode()
        except Exception as exc:  # noqa: BLE001 (the reader is answered, and health tells of it)
            self.errors.failed(f"http {path}", exc)
            return 500, _PLAIN, b"an error of our own: see the log\n"
        self.errors.worked(f"http {path}")
        return status, kind, body

    def _health(self) -> tuple[int, str, str]:
        age = f"{self.liveness.age_s:.1f} s"
        if self.liveness.is_stalled:
            return 503, _PLAIN, f"the engine has not turned for {age}: see its log, then restart it\n"
        if failing := ", ".join(f"{worker} ({error})" for worker, error in self.errors.now().items()):
            return 503, _PLAIN, f"unexpected errors, see the log: {failing}\n"
        return 200, _PLAIN, f"alive: the engine turned {age} ago\n"

    def _metrics(self) -> tuple[int, str, str]:
        return 200, CONTENT_TYPE, self.page()


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "fastmon"
    sys_version = ""
    timeout = 5.0
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        status, kind, body = self.server.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.server.errors.worked("http")

    do_HEAD = do_GET  # noqa: N815 (called by this name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the standard library)
        logger.debug("HTTP: {}", format % args)

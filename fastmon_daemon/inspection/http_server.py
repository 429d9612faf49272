"""The HTTP server of the endpoints: one thread that accepts, and one short thread for each request."""

from __future__ import annotations

import hmac
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from loguru import logger

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.base.network import is_address, is_loopback
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.inspection.bounded_server import BoundedRequestHandler, BoundedServer
from fastmon_daemon.inspection.endpoints import PLAIN, Response
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.settings import ListenAddress


@contextmanager
def serve(
    listen: ListenAddress | None,
    endpoints: Mapping[str, Callable[[], Response]],
    errors: WorkerErrors,
    token: str = "",
) -> Iterator[None]:
    """Serve inside the block, unless *listen* is None; if the address cannot be bound, log it and run the block anyway.

    *endpoints* is path -> the function that answers it. Errors of this server are added to *errors*. With a *token*
    each request must send it; without one, a browser that was led here by the name of another host gets nothing.
    """
    if listen is None:
        yield
        return
    try:
        server = _Server(listen, endpoints, errors, token)
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
        self, listen: ListenAddress, endpoints: Mapping[str, Callable[[], Response]], errors: WorkerErrors, token: str
    ) -> None:
        self.endpoints = endpoints
        self.errors = errors
        self._token = token
        own = socket.gethostname().lower()
        self._own_names = {listen.host.lower(), own, own.partition(".")[0]}
        super().__init__(listen, _RequestHandler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (its signature)
        error = sys.exception()
        if error is None or isinstance(error, OSError):  # of the socket; see also `respond`
            logger.debug("http: the client disconnected")
        else:
            self.errors.failed("http", error)

    def refusal(self, host: str | None, authorization: str | None) -> Response | None:
        """The response to a request that may not read, by its headers `Host` and `Authorization`; None if it may."""
        if self._token:
            expected = f"Bearer {self._token}".encode()
            if hmac.compare_digest((authorization or "").encode(), expected):
                return None
            return 401, PLAIN, b"the token is missing or wrong: send Authorization: Bearer and FASTMON_HTTP_TOKEN\n"
        name = _host_name(host)
        if name is None or name in self._own_names or is_loopback(name) or is_address(name):
            return None
        hint = "use the address, set FASTMON_HTTP=NAME:PORT, or set FASTMON_HTTP_TOKEN"
        return 421, PLAIN, f"this host is not known as {escape_controls(name[:255])}: {hint}\n".encode()

    def respond(self, path: str) -> Response:
        """Return the response for *path*; 500 if making it fails by a bug of ours."""
        make = self.endpoints.get(path)
        if make is None:
            return 404, PLAIN, f"not found: use {', '.join(self.endpoints)}\n".encode()
        try:
            response = make()
        except (StorageError, OSError) as exc:
            return 503, PLAIN, f"not readable: {exc}\n".encode()
        except Exception as exc:  # noqa: BLE001 (the client gets an answer, and /healthz shows the error)
            self.errors.failed(f"http {path}", exc)
            return 500, PLAIN, b"internal error: see the log\n"
        self.errors.worked(f"http {path}")
        return response


class _RequestHandler(BoundedRequestHandler):
    server: _Server

    def do_GET(self) -> None:  # noqa: N802 (the base class calls this name)
        refusal = self.server.refusal(self.headers.get("Host"), self.headers.get("Authorization"))
        status, kind, body = refusal or self.server.respond(self.path.partition("?")[0])
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.server.errors.worked("http")

    do_HEAD = do_GET  # noqa: N815 (the base class calls this name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (name in the base class)
        logger.debug("http: {}", format % args)


def _host_name(host: str | None) -> str | None:
    """The name or address in a `Host` header, without its port; None without the header: every browser sends it."""
    if not host:
        return None
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower().removesuffix(".")

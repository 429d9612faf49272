"""The HTTP server: one thread that accepts, one short thread for each question, nothing that writes.

It must not know what the numbers mean.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from loguru import logger

from fastmon_daemon.front.exposition import CONTENT_TYPE
from fastmon_daemon.front.pulse import Pulse
from fastmon_daemon.settings import Listen

_PLAIN = "text/plain; charset=utf-8"


@contextmanager
def served(listen: Listen | None, pulse: Pulse, page: Callable[[], str]) -> Iterator[None]:
    """Serve inside the block, where there is an address; where that cannot be had, say so and go on without."""
    if listen is None:
        yield
        return
    try:
        server = _Server(listen, pulse, page)
    except OSError as exc:
        logger.error("FASTMON_HTTP={}: {}: no metrics are served; name a free address of ours", listen, exc.strerror)
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    logger.info("metrics at http://{}/metrics", Listen(listen.host, server.server_port))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a reader that never ends must not hold up the drain

    def __init__(self, listen: Listen, pulse: Pulse, page: Callable[[], str]) -> None:
        self.pulse = pulse
        self.page = page
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        super().__init__((listen.host, listen.port), _Answering)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the DNS for our name, and may wait long for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (its signature there)
        logger.debug("HTTP: a reader went away")


class _Answering(BaseHTTPRequestHandler):
    server: _Server
    server_version = "fastmon"
    sys_version = ""
    timeout = 5.0
    wbufsize = -1
    disable_nagle_algorithm = True
    answers: ClassVar[dict[str, str]] = {"/healthz": "_health", "/metrics": "_metrics"}

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        maker = self.answers.get(path)
        status, kind, text = getattr(self, maker)() if maker else (404, _PLAIN, "there are /healthz and /metrics\n")
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (called by this name)

    def _health(self) -> tuple[int, str, str]:
        pulse = self.server.pulse
        if pulse.stands:
            return 503, _PLAIN, f"the engine has not turned for {pulse.age_s:.1f} s: see its log, then restart it\n"
        if failure := pulse.watcher_failure():
            return 503, _PLAIN, f"no files are found, the watcher fails: {failure}: see the log, then restart\n"
        return 200, _PLAIN, f"alive: the engine turned {pulse.age_s:.1f} s ago\n"

    def _metrics(self) -> tuple[int, str, str]:
        try:
            return 200, CONTENT_TYPE, self.server.page()
        except Exception as exc:  # noqa: BLE001 (whatever is wrong with the database, the asker is told)
            return 503, _PLAIN, f"the numbers cannot be read: {exc}\n"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the standard library)
        logger.debug("HTTP: {}", format % args)

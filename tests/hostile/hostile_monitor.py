"""A monitor that changes its answers: a proxy before the embedded one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

Change = Callable[[str, str, int, bytes], tuple[int, bytes] | None]
"""(method, path, status, body of the answer) -> another status and body, or None for the true ones."""


class HostileMonitor:
    """Passes each request on to the monitor at *url*, and its answer through `change`; a context manager."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.change: Change = lambda *_: None
        self.send: Callable[[socket.socket], None] | None = None
        """If set, it answers instead."""
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_any(self) -> None:
                hostile._pass_on(self)

            do_GET = do_POST = do_PATCH = handle_any  # noqa: N815 (the base class calls these names)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # the client has had enough

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        send, change = self.send, self.change
        if send is not None:
            request.close_connection = True
            send(request.connection)
            return
        target = HTTPConnection(self._target.hostname or "", self._target.port, timeout=20)
        headers = {key: value for key, value in request.headers.items() if key.lower() != "connection"}
        target.request(request.command, request.path, body, headers)
        with target.getresponse() as answer:
            said = answer.read()
            status = answer.status
        target.close()
        status, content = change(request.command, request.path, status, said) or (status, said)
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def says_endlessly(head: bytes, piece: bytes, total: int) -> Callable[[socket.socket], None]:
    """An answer of *head* and *total* bytes of *piece*, over and over."""

    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        block = piece * (65536 // len(piece))
        for _ in range(total // len(block)):
            connection.sendall(block)

    return send

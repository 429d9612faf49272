"""The HTTP transport: at most so many connections, each with one deadline, so that no reader can use up the process.

It must not know what is served.
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fastmon_daemon.settings import ListenAddress

MAX_CONNECTIONS = 16
REQUEST_DEADLINE_S = 5.0
"""Seconds from the connection to the last byte of the response."""
MAX_REQUEST_BYTES = 16 * 1024
"""The longest request, with its headers."""

_ACCEPT_PAUSE_S = 0.1


@dataclass(slots=True)
class _Reader:
    since: float
    has_asked: bool = False


class BoundedServer(ThreadingHTTPServer):
    """A server whose readers cannot stop each other, nor the process.

    A reader beyond `MAX_CONNECTIONS` takes the place of the one that has left its request unfinished for the longest
    time; if all have asked, it is closed at once.
    """

    daemon_threads = True
    block_on_close = False  # a client that never ends must not delay the drain
    request_queue_size = 128  # readers that connect at once; a place in the queue is no descriptor

    def __init__(self, listen: ListenAddress, handler: type[BoundedRequestHandler]) -> None:
        self._readers: dict[socket.socket, _Reader] = {}
        self._readers_lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        super().__init__((listen.host, listen.port), handler)

    def server_bind(self) -> None:
        """Bind; the base class would resolve our host name, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def get_request(self) -> Any:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_ACCEPT_PAUSE_S)  # without descriptors the loop would spin
            raise

    def verify_request(self, request: Any, client_address: object) -> bool:  # noqa: ARG002 (its signature)
        """Whether the connection gets a thread."""
        with self._readers_lock:
            if len(self._readers) >= MAX_CONNECTIONS:
                unfinished = [each for each, reader in self._readers.items() if not reader.has_asked]
                if not unfinished:
                    return False
                self._cut(min(unfinished, key=lambda each: self._readers[each].since))
            self._readers[request] = _Reader(time.monotonic())
        return True

    def service_actions(self) -> None:
        """End the connections that are past their deadline (called twice a second)."""
        too_old = time.monotonic() - REQUEST_DEADLINE_S
        with self._readers_lock:
            for each in [each for each, reader in self._readers.items() if reader.since < too_old]:
                self._cut(each)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection."""
        with self._readers_lock:
            self._readers.pop(request, None)
        super().shutdown_request(request)

    def asked(self, connection: socket.socket) -> None:
        """Note that the request is complete: others do not take its place any more."""
        with self._readers_lock:
            if reader := self._readers.get(connection):
                reader.has_asked = True

    def _cut(self, connection: socket.socket) -> None:
        """Wake the thread of *connection*, which closes it."""
        del self._readers[connection]
        with suppress(OSError):  # the peer has gone
            connection.shutdown(socket.SHUT_RDWR)


class BoundedRequestHandler(BaseHTTPRequestHandler):
    """Reads at most `MAX_REQUEST_BYTES`."""

    server: BoundedServer
    server_version = "fastmon"
    sys_version = ""
    timeout = REQUEST_DEADLINE_S
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Limit what is read."""
        super().setup()
        self.rfile = _LimitedReader(self.rfile)  # type: ignore[assignment]

    def parse_request(self) -> bool:
        """Parse the request line, which has arrived, and read the headers."""
        is_valid = super().parse_request()
        self.server.asked(self.connection)
        return is_valid


class _LimitedReader:
    """The lines of a request. Raises: ConnectionError beyond the limit."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._left = MAX_REQUEST_BYTES
        self.close = raw.close

    def readline(self, size: int) -> bytes:
        line: bytes = self._raw.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise ConnectionError(f"request longer than {MAX_REQUEST_BYTES} bytes")
        return line

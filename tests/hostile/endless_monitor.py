"""A monitor that sends what it likes: its tables without an end, and any stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from fastmon_daemon.base.clock import utcnow

LENGTH = 99_000_000_000
Body = Callable[[str], Iterable[bytes]]
"""The pieces of the answer to a request for this path; its head promises 99 GB unless they are a list."""


class EndlessMonitor:
    """Answers any table with *body*, and sends events that the test gives it."""

    def __init__(self, body: Body, headers: Iterable[tuple[str, str]] = ()) -> None:
        self._body, self._headers = body, list(headers)
        self.events: SimpleQueue[bytes] = SimpleQueue()
        self.sent = 0
        """Bytes of tables."""
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message over the stream."""
        self.events.put(f"data: {json.dumps({'msg_type': kind, 'namespace': 'ns', **fields})}\n\n".encode())

    def announce(self, run: object, number: int, **fields: Any) -> None:
        """Send the announcement of a TF file."""
        stf = f"swf.{run}.{number:06d}.stf"
        self.send("tf_file_registered", **{
            "run_id": run, "stf_filename": stf, "tf_filename": f"{stf}_tf_001.tf", "stf_sequence": number,
            "tf_total": 1, "processed_by": "agent", "file_size_bytes": 1, "timestamp": utcnow().isoformat(), **fields,
        })  # fmt: skip

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                with suppress(OSError):
                    if "/stream/" in self.path:
                        self.send_header("Content-Type", "text/event-stream")
                        pieces: Iterable[bytes] = monitor._stream()
                    else:
                        body = monitor._body(self.path)
                        self.send_header("Content-Type", "application/json")
                        length = sum(map(len, body)) if isinstance(body, list) else LENGTH
                        self.send_header("Content-Length", str(length))
                        for name, value in monitor._headers:
                            self.send_header(name, value)
                        pieces = monitor._counted(body)
                    self.end_headers()
                    for piece in pieces:
                        self.wfile.write(piece)
                self.close_connection = True

            def log_message(self, *_words: object) -> None:
                pass

        return Handler

    def _stream(self) -> Iterator[bytes]:
        yield b"event: connected\ndata: {}\n\n"
        while not self._over.is_set():
            try:
                yield self.events.get(timeout=0.5)
            except Empty:
                yield b"event: heartbeat\ndata: {}\n\n"

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._over.is_set():
                return
            self.sent += len(piece)
            yield piece

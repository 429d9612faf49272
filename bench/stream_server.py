"""A server that sends a prepared event stream as fast as the client reads it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

from bench.recorder import TF_PER_STF

_PIECE = 65_536


def announcement(number: int, run: str) -> str:
    """Return the announcement of TF file *number* as the stream has it."""
    stf, tf = divmod(number, TF_PER_STF)
    name = f"swf.{run}.{stf + 1:06d}.stf"
    return json.dumps({
        "msg_type": "tf_file_registered", "status": "registered", "event_id": str(UUID(int=number + 2**100)),
        "namespace": "bench", "run_id": run, "execution_id": None, "processed_by": "fastmon-agent-bench-1",
        "sender": "fastmon-agent-bench-1", "tf_file_id": str(UUID(int=number + 1)),
        "tf_filename": f"{name.removesuffix('.stf')}_tf_{tf + 1:03d}.tf",
        "tf_first": tf * 142, "tf_last": tf * 142 + 20,
        "tf_count": 21, "file_size_bytes": 42_000_000, "stf_filename": name, "run_number": int(run),
        "timestamp": "2026-11-21T20:00:00.000+00:00", "tf_sequence": tf + 1, "tf_total": TF_PER_STF,
        "stf_sequence": stf + 1, "selection_fraction": 1.0, "previous_selected": stf or None, "late": False,
        "sender_agent": "fastmon-agent-bench-1", "recipient_agent": None, "queue_name": "epictopic",
        "sent_at": "2026-11-21T20:00:00.100000+00:00",
    })  # fmt: skip


def stream_of(count: int, run: str = "100014") -> bytes:
    """Return a stream: ``connected``, *count* announcements, and ``end_run``."""
    greeting = 'event: connected\ndata: {"client_id": "bench", "status": "connected"}\n\n'
    end = json.dumps(
        {"msg_type": "end_run", "namespace": "bench", "run_id": run, "total_stf_files": count // TF_PER_STF}
    )
    events = (f"event: tf_file_registered\ndata: {announcement(n, run)}\n\n" for n in range(count))
    return (greeting + "".join(events) + f"event: end_run\ndata: {end}\n\n").encode()


@contextmanager
def serving(stream: bytes) -> Iterator[str]:
    """Run a server on loopback that sends *stream* and then keeps the connection open; yield its URL."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "/messages/stream/" in self.path:
                with suppress(ConnectionError):  # the client disconnects when it has enough
                    self._stream()
                self.close_connection = True
            else:  # a monitor without rows
                self._answer("application/json", b'{"count": 0, "next": null, "previous": null, "results": []}')

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for begin in range(0, len(stream), _PIECE):
                piece = stream[begin : begin + _PIECE]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            over.wait()

        def log_message(self, *_: object) -> None:
            """No log."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a client may disconnect at any time
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()

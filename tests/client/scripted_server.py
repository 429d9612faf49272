"""A loopback server that sends scripted bytes, connection by connection."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from fastmon_client.stream import Notice
from fastmon_client.stream_manager import Source
from fastmon_client.trust import TrustStore

DEADLINE_S = 20.0
OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

Answer = Iterable[bytes] | Callable[[socket.socket], object]


class ScriptedServer:
    """Answers the n-th connection with the n-th of *answers*, then closes it; ignores further connections.

    An answer that is a function receives the connection; without *waits_for_request* it is sent at once.
    """

    def __init__(
        self, *answers: Answer, tls: ssl.SSLContext | None = None, waits_for_request: bool = True
    ) -> None:  # fmt: skip
        self.requests: list[str] = []
        self.request_received = threading.Semaphore(0)
        self.over = threading.Event()
        self._answers, self._tls, self._waits_for_request = answers, tls, waits_for_request
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE_S)
        self._thread = threading.Thread(target=self._serve, name="scripted")

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE_S)
        self._listener.close()

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                sock, _ = self._listener.accept()
                sock.settimeout(DEADLINE_S)
                with self._tls.wrap_socket(sock, server_side=True) if self._tls else sock as connection:
                    self._answer(connection, answer)
            except OSError:  # the client or the test closed it
                continue

    def _answer(self, connection: socket.socket, answer: Answer) -> None:
        request = b""
        while self._waits_for_request and b"\r\n\r\n" not in request:
            if not (piece := connection.recv(65536)):
                return
            request += piece
        self.requests.append(request.decode())
        self.request_received.release()
        if callable(answer):
            answer(connection)
            return
        for piece in answer:
            connection.sendall(piece)


def event(message: str, kind: str = "x") -> bytes:
    return f"event: {kind}\ndata: {message}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def status_response(status: str, *headers: str) -> list[bytes]:
    lines = "".join(f"{header}\r\n" for header in headers)
    return [f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{lines}Connection: close\r\n\r\n".encode()]


def response(body: Any, kind: str = "application/json") -> list[bytes]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return [head.encode(), text]


def certified(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server context for localhost, and the PEM file of its CA."""
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    return context, str(folder / "ca.pem")


def trust_in(ca: str | None) -> TrustStore:
    """The trust store of FASTMON_MONITOR_CA=*ca*."""
    return TrustStore.of({"FASTMON_MONITOR_CA": ca} if ca else {})


def notices_of(source: Source) -> Iterator[Notice]:
    """The notices of *source*, one by one."""
    for batch in source.batches():
        yield from batch

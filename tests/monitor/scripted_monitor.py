"""A monitor that performs a scripted action for each request."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastmon_daemon.monitor import MonitorClient, TfFile

TOKEN = "0123456789abcdef"
TF = TfFile(
    tf_filename="a_tf_001.tf",
    stf_filename="a.stf",
    tf_first=60,
    tf_last=80,
    tf_count=21,
    file_size_bytes=2100,
    metadata={"simulation": True},
)
ROW = {
    "tf_file_id": "a17480c2-c054-4c61-b5a2-2fc235e559c8",
    "stf_file": "a.stf",
    "tf_filename": "a_tf_001.tf",
    "file_size_bytes": 2100,
    "checksum": None,
    "status": "registered",
    "metadata": {"simulation": True},
    "tf_count": 21,
    "tf_first": 60,
    "tf_last": 80,
}
EXISTS = {"tf_filename": ["fast mon file with this tf filename already exists."]}
NO_STF = {"stf_file": ["Object with stf_filename=a.stf does not exist."]}
REQUIRED = {"stf_file": ["This field is required."], "tf_filename": ["This field is required."]}
SHORT = (3, 0.3)
"""Timeouts for connecting and reading, in seconds."""
HTML = "<!doctype html><title>Log in</title>"

Action = Callable[[socket.socket], None]


def says(status: int, body: object = "", **headers: str) -> Action:
    """Respond with *body*, as JSON unless it is text."""
    text = body if isinstance(body, str) else json.dumps(body)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(text)}", *(f"{k}: {v}" for k, v in fields.items())]
    raw = ("\r\n".join(lines) + "\r\n\r\n" + text).encode()
    return lambda connection: connection.sendall(raw)


def sends(raw: str) -> Action:
    """Send *raw* and close."""

    def act(connection: socket.socket) -> None:
        connection.sendall(raw.encode())
        with suppress(OSError):  # a TLS client resets the connection first
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()  # else a request that came before would be read, and take its part of the script

    return act


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hangs(connection: socket.socket) -> None:
    """Send nothing until the client closes the connection."""
    connection.recv(1)


def dripping(begin: bytes) -> Action:
    """Send *begin*, then single bytes until the client closes the connection."""

    def act(connection: socket.socket) -> None:
        connection.sendall(begin)
        connection.settimeout(0.02)
        while True:
            connection.sendall(b"x")
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue

    return act


drips = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")


class Server:
    """Performs the actions of `script` in order, one for each request, and keeps the requests."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: list[Action] = []
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self._open: list[socket.socket] = []
        self._clients: list[MonitorClient] = []
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def client(self, **arguments: Any) -> MonitorClient:
        """A client of this monitor, closed with it."""
        self._clients.append(client(f"{self.url}/swf-monitor/", **arguments))
        return self._clients[-1]

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def request_lines(self) -> list[str]:
        return [line for line, _, _ in self.requests]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join(20)
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._tls is not None:
                    index = self._open.index(connection)
                    connection = self._open[index] = self._tls.wrap_socket(connection, server_side=True)
                with connection:
                    while self._request(connection):
                        self.script.pop(0)(connection)
            except OSError:
                return

    def _request(self, connection: socket.socket) -> bool:
        stream = connection.makefile("rb")
        line = stream.readline().decode().strip()
        headers = {}
        while header := stream.readline().decode().strip():
            name, value = header.split(": ", 1)
            headers[name.lower()] = value
        body = stream.read(int(headers.get("content-length", 0))).decode()
        if line:
            self.requests.append((line.removesuffix(" HTTP/1.1"), headers, body))
        return bool(line)


def client(url: str, token: Callable[[], str] = lambda: TOKEN, **arguments: Any) -> MonitorClient:
    return MonitorClient(url, token, **{"connections": 1, **arguments})


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])

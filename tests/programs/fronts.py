"""What stands in front of a monitor: an HTTP proxy, a SOCKS5 proxy, TLS. All lead to one port of this host."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer

END_OF_HEAD = b"\r\n\r\n"


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@dataclass
class Front:
    """`asked` holds the HOST:PORT that each connection of a proxy named."""

    port: int
    asked: list[str] = field(default_factory=list)


def http_proxy(target: int) -> AbstractContextManager[Front]:
    """A proxy for `http://` URLs, with the absolute form, and for `https://` ones, with CONNECT."""
    return _serving(_serve_http, target)


def socks_proxy(target: int) -> AbstractContextManager[Front]:
    """A proxy of SOCKS version 5 that takes names."""
    return _serving(_serve_socks, target)


def tls(context: ssl.SSLContext, target: int) -> AbstractContextManager[Front]:
    """A server with the certificate of *context*."""

    def serve(client: socket.socket, _front: Front, target: int) -> None:
        with context.wrap_socket(client, server_side=True) as plain, _server(target) as server:
            join(plain, server)

    return _serving(serve, target)


def one_request_each(target: int) -> AbstractContextManager[Front]:
    """A server that closes each connection when its second request comes; `asked` holds the first lines of all."""
    return _serving(_serve_one, target)


@contextmanager
def _serving(serve: Callable[[socket.socket, Front, int], None], target: int) -> Iterator[Front]:
    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                serve(self.request, front, target)

    with _Server(("127.0.0.1", 0), Handler) as server:
        front = Front(server.server_address[1])
        threading.Thread(target=server.serve_forever, name="front", daemon=True).start()
        try:
            yield front
        finally:
            server.shutdown()


def _server(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def _serve_http(client: socket.socket, front: Front, target: int) -> None:
    head = b""
    while END_OF_HEAD not in head:
        if not (piece := client.recv(65536)):
            return
        head += piece
    method, url, rest = head.split(b" ", 2)
    host = url if method == b"CONNECT" else url.split(b"/")[2]
    front.asked.append(host.decode())
    with _server(target) as server:
        if method == b"CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:  # one request a connection: the next may name another host
            path = b"/" + url.split(b"/", 3)[3]
            server.sendall(b" ".join([method, path, rest.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)]))
        join(client, server)


def _serve_socks(client: socket.socket, front: Front, target: int) -> None:
    _version, count = client.recv(2)
    client.recv(count)
    client.sendall(b"\x05\x00")  # no password
    request = client.recv(4)
    host = client.recv(client.recv(1)[0]).decode() if request[3] == 3 else socket.inet_ntoa(client.recv(4))
    front.asked.append(f"{host}:{int.from_bytes(client.recv(2), 'big')}")
    with _server(target) as server:
        client.sendall(b"\x05\x00\x00\x01" + bytes(6))
        join(client, server)


def _serve_one(client: socket.socket, front: Front, target: int) -> None:
    with _server(target) as server:
        answers = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        answers.start()
        server.sendall(_request(client, front))
        if answers.is_alive():
            _request(client, front)  # nobody answers it


def _request(client: socket.socket, front: Front) -> bytes:
    """One whole request; Raises: OSError if there is none."""
    request = b""
    while END_OF_HEAD not in request:
        request += _some(client)
    head, _, body = request.partition(END_OF_HEAD)
    lines = head.decode().split("\r\n")
    front.asked.append(lines[0])
    length = sum(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
    while len(body) < length:
        body += _some(client)
    return head + END_OF_HEAD + body


def _some(client: socket.socket) -> bytes:
    if data := client.recv(65536):
        return data
    raise ConnectionError("ended")


def join(client: socket.socket, server: socket.socket) -> None:
    """Pass on what either side sends, until one of them ends."""
    back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
    back.start()
    _pass_on(client, server)
    back.join()


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    for each in (source, to):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

"""The control socket beside the database: one JSON line in, one JSON line out, from the same user only.

This module must not know what the acts do.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from loguru import logger

from fastmon_daemon.base.errors import FastmonError, MalformedMessage, StorageError, StorageUnavailable, TransientError

REQUEST_TIMEOUT_S = 10.0
"""Seconds that a caller, or the daemon, waits for the other."""
MAX_LINE_BYTES = 1_048_576

Handle = Callable[[dict[str, Any]], dict[str, Any]]


def socket_path(database: Path) -> Path:
    """The socket beside *database*."""
    return database.with_name(f"{database.name}.sock")


class ControlServer:
    """The daemon's end; `handle` answers a request, in a thread of the socket's."""

    def __init__(self, database: Path, handle: Handle) -> None:
        self._path = socket_path(database)
        self._handle = handle
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def __enter__(self) -> Self:
        with suppress(FileNotFoundError):
            self._path.unlink()  # of a daemon that is dead: we hold the lock
        handle = self._handle

        class OneRequest(socketserver.StreamRequestHandler):
            timeout = REQUEST_TIMEOUT_S

            def handle(self) -> None:
                with suppress(OSError):  # whoever asked has gone
                    self.wfile.write(json.dumps(_answer(self.connection, self.rfile, handle)).encode() + b"\n")

        try:
            with _short(self._path) as address:
                self._server = socketserver.ThreadingUnixStreamServer(address, OneRequest)
        except OSError as exc:
            raise StorageError(
                f"{self._path}: the control socket cannot be made: {exc}: name a database with a shorter file name, "
                "on a local file system, in FASTMON_DB"
            ) from exc
        self._path.chmod(0o600)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, name="control", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        with suppress(FileNotFoundError):
            self._path.unlink()


def _answer(connection: socket.socket, lines: Any, handle: Handle) -> dict[str, Any]:
    uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    if uid not in (0, os.geteuid()):
        return {"error": f"user id {uid} may not do this: be the daemon's user, or root"}
    try:
        return handle(_object(lines.readline(MAX_LINE_BYTES)))
    except StorageUnavailable as exc:
        return {"error": str(exc), "busy": True}
    except FastmonError as exc:
        return {"error": str(exc)}
    except TimeoutError:
        return {"error": "the daemon is busy, and may still do it: look with inspect, then try again", "busy": True}
    except Exception as exc:  # noqa: BLE001 (whoever asked hears of it, and the socket lives on)
        logger.opt(exception=exc).error("control: unexpected error")
        return {"error": f"unexpected {type(exc).__name__}: {exc}"}


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(f"not a JSON line: {exc}") from exc
    if not isinstance(value, dict):
        raise MalformedMessage("not a JSON object")
    return value


def send_request(
    database: Path, request: dict[str, Any], patience_s: float | None = REQUEST_TIMEOUT_S
) -> dict[str, Any]:
    """The running daemon's answer to *request*. Raises `TransientError` where it does not answer.

    *patience_s* None: as long as the daemon lives, where it asks somebody else first, within deadlines of its own.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client, _short(socket_path(database)) as address:
            client.settimeout(REQUEST_TIMEOUT_S)
            client.connect(address)
            client.sendall(json.dumps(request).encode() + b"\n")
            client.settimeout(patience_s)
            with client.makefile("rb") as lines:
                answer = dict(json.loads(lines.readline()))
    except (OSError, ValueError) as exc:
        where = socket_path(database)
        raise TransientError(
            f"the daemon does not answer at {where}: {exc}: look with inspect, then try again"
        ) from exc
    if answer.get("busy"):
        raise TransientError(str(answer["error"]))
    return answer


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address of *path* that fits into a socket's 107 bytes however long the path is."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

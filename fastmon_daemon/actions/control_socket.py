"""The control socket beside the database: one JSON line as request, one as response, for the same user or root only."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from loguru import logger

from fastmon_daemon.base.errors import (
    FastmonError,
    MalformedMessage,
    PermanentError,
    StorageError,
    StorageUnavailable,
    TransientError,
)
from fastmon_daemon.base.users import user_name

REQUEST_TIMEOUT_S = 10.0
"""Seconds that client and daemon wait for each other."""
MAX_LINE_BYTES = 1_048_576
_ACCEPT_PAUSE_S = 0.1

Handle = Callable[[dict[str, Any]], dict[str, Any]]


def socket_path(database: Path) -> Path:
    """Return the path of the control socket of *database*."""
    return database.with_name(f"{database.name}.sock")


class ControlServer:
    """The daemon's side; *handle* answers each request, on a thread of the server. Raises: StorageError on entry."""

    def __init__(self, database: Path, handle: Handle) -> None:
        self._path = socket_path(database)
        self._handle = handle
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        with suppress(FileNotFoundError):
            self._path.unlink()  # left by a dead daemon: we have the database lock
        handle = self._handle

        class RequestHandler(socketserver.StreamRequestHandler):
            timeout = REQUEST_TIMEOUT_S

            def handle(self) -> None:
                with suppress(OSError):  # the client has gone
                    self.wfile.write(json.dumps(_respond(self.connection, self.rfile, handle)).encode() + b"\n")

        try:
            with _short_address(self._path) as address:
                self._server = _Server(address, RequestHandler)
        except OSError as exc:
            raise StorageError(
                f"{self._path}: cannot create the control socket: {exc}: set FASTMON_DB to a shorter file name "
                "on a local file system"
            ) from exc
        self._path.chmod(0o600)
        threading.Thread(target=self._server.serve_forever, name="control", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        with suppress(FileNotFoundError):
            self._path.unlink()


class _Server(socketserver.ThreadingUnixStreamServer):
    """Answers also while the process has no descriptor left: `inspect` must be able to name that."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, handler: type[socketserver.BaseRequestHandler]) -> None:
        self._spare: int | None = None
        self._spare_lock = threading.Lock()
        super().__init__(address, handler)
        self._keep_spare()

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except OSError:
            self._give_spare()
        try:
            return super().get_request()
        except OSError:
            time.sleep(_ACCEPT_PAUSE_S)  # else the loop would spin
            self._keep_spare()
            raise

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._keep_spare()

    def server_close(self) -> None:
        super().server_close()
        self._give_spare()

    def _keep_spare(self) -> None:
        with self._spare_lock, suppress(OSError):  # none is left: the next request tries again
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if self._spare is None else self._spare

    def _give_spare(self) -> None:
        with self._spare_lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)


def _respond(connection: socket.socket, lines: Any, handle: Handle) -> dict[str, Any]:
    uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    if uid not in (0, os.geteuid()):
        return {"error": f"permission denied for user id {uid}: run the command as the daemon's user or as root"}
    try:
        request = _parse_object(lines.readline(MAX_LINE_BYTES))
        if "by" in request:
            request["by"] = user_name(uid)  # the history records who it was, not who it says it was
        return handle(request)
    except StorageUnavailable as exc:
        return {"error": str(exc), "busy": True}
    except FastmonError as exc:
        return {"error": str(exc)}
    except TimeoutError:
        return {"error": "the daemon is busy and may still do it: check with inspect, then try again", "busy": True}
    except Exception as exc:  # noqa: BLE001 (the client gets the error, and the server goes on)
        logger.opt(exception=exc).error("control socket: unexpected error")
        return {"error": f"unexpected {type(exc).__name__}: {exc}"}


def _parse_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(f"not a JSON line: {exc}") from exc
    if not isinstance(value, dict):
        raise MalformedMessage("not a JSON object")
    return value


def send_request(
    database: Path, request: dict[str, Any], timeout_s: float | None = REQUEST_TIMEOUT_S
) -> dict[str, Any]:
    """Send *request* to the running daemon and return its response.

    *timeout_s* None: no limit, for a request that makes the daemon call the monitor, within deadlines of its own.
    Raises: TransientError if the daemon does not answer or is busy; PermanentError if it rejects the request.
    """
    path = socket_path(database)
    try:
        with socket.socket(socket.AF_UNIX) as client, _short_address(path) as address:
            client.settimeout(REQUEST_TIMEOUT_S)
            client.connect(address)
            client.sendall(json.dumps(request).encode() + b"\n")
            client.settimeout(timeout_s)
            with client.makefile("rb") as lines:
                response = dict(json.loads(lines.readline()))
    except (OSError, ValueError) as exc:
        raise TransientError(f"{path}: the daemon does not answer: {exc}: check with inspect, then try again") from exc
    if "error" in response:
        raise (TransientError if response.get("busy") else PermanentError)(str(response["error"]))
    return response


@contextmanager
def _short_address(path: Path) -> Iterator[str]:
    """An address of *path* that fits into a socket's 107 bytes, even if the folder's path does not."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

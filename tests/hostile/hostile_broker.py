"""A broker that sends what no broker should: a proxy before the embedded one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from tests.programs.fronts import join


class HostileBroker:
    """Connects each client with the broker at *port*; while `answer` is set, that serves it. A context manager."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.answer: Callable[[socket.socket], None] | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self._open.add(client)
            if (answer := self.answer) is not None:
                answer(client)
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                self._open.add(server)
                join(client, server)
                self._open.discard(server)
        self._open.discard(client)

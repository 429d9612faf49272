"""The port of the broker."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress


class Listener:
    """Accepts connections in the running event loop until `close`.

    asyncio's own server leaves connections open that it has accepted when it is closed, but not handed over: those in
    their TLS handshake, and those that came in the same iteration of the loop.
    """

    def __init__(
        self, host: str, port: int, protocol_factory: Callable[[], asyncio.Protocol], ssl: ssl.SSLContext | None
    ) -> None:
        """Listen; port 0 is any free one. Raises: OSError if the port is taken."""
        self._protocol_factory = protocol_factory
        self._ssl = ssl
        self._loop = asyncio.get_running_loop()
        self._socket = socket.create_server((host, port))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._opening: set[asyncio.Task[None]] = set()
        self._loop.add_reader(self._socket, self._accept)

    async def close(self) -> None:
        """Stop listening, and cut the connections that are not handed over yet."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        await asyncio.sleep(0)  # each task has begun now: a connection whose task never begins would stay open
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):  # the client is gone already
            connection, _ = self._socket.accept()
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # the TLS handshake failed
            await self._loop.connect_accepted_socket(self._protocol_factory, connection, ssl=self._ssl)

"""A TCP proxy in front of a server that can cut connections, or drop every byte while they stay open."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from fastmon_daemon.testbed.loop_thread import LoopThread


@dataclass(eq=False)
class _Pair:
    """One connection through the proxy, with the writers of both sides."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    swallowed: bool = False
    """Nothing is forwarded any more, in either direction, not even the end of the connection."""


class FaultyProxy(LoopThread):
    """Context manager: inside it connections to `port` are forwarded to the port *target*.

    `swallow`: drop every byte of present and new connections, which stay open. `restore`: forward new connections
    again. `drop_upstream`: drop only what goes to the server. `cut`: reset all connections.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._pairs: set[_Pair] = set()
        self._swallowing = False
        self._drop_upstream = False
        self._restored_at = 0.0
        self.reached_s: float | None = None
        """Seconds from `restore` to the first forwarded connection; None before."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        super().__init__("proxy", asyncio.new_event_loop())

    def start(self) -> None:
        self._server = self.run(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.run(self._end())

    def swallow(self) -> None:
        self.call(lambda: self._set_swallowing(True))

    def restore(self) -> None:
        self._restored_at, self.reached_s = time.monotonic(), None
        self.call(lambda: self._set_swallowing(False))

    def drop_upstream(self, drop: bool) -> None:
        self._drop_upstream = drop

    def cut(self) -> None:
        self.call(self._cut)

    def _set_swallowing(self, swallowing: bool) -> None:
        self._swallowing = swallowing
        for pair in self._pairs:
            pair.swallowed = pair.swallowed or swallowing

    def _cut(self) -> None:
        for pair in self._pairs:
            for writer in pair.writers:
                writer.transport.abort()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pair = _Pair([writer], swallowed=self._swallowing)
        self._pairs.add(pair)
        try:
            if pair.swallowed:
                await self._pump(pair, reader, None)
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            pair.writers.append(far_writer)
            if self.reached_s is None:
                self.reached_s = time.monotonic() - self._restored_at
            await asyncio.gather(self._pump(pair, reader, far_writer), self._pump(pair, far_reader, writer))
        except OSError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
        is_upstream = writer is not pair.writers[0]
        try:
            while data := await reader.read(65536):
                if writer and not pair.swallowed and not (self._drop_upstream and is_upstream):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        if writer and not pair.swallowed:
            writer.transport.abort()

"""A wire from the daemon to another server: it can be cut, or swallow every byte while both ends believe it stands.

Owns the listening port and the connections through it. It must not know STOMP or HTTP.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from fastmon_daemon.testbed.loop_thread import LoopThread


@dataclass(eq=False)
class _Pair:
    """One connection through the wire; *writers* are those of its two ends."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    swallowed: bool = False
    """Nothing goes through it any more, in either direction, not even its end."""


class Wire(LoopThread):
    """Context manager: inside it connections to `port` are led to the port *target*.

    `swallow`: no byte of the connections that stand, nor of those that come, arrives; nobody is told. `mend`: new ones
    go through again; those that were swallowed stay so. `deaf`: the broker hears nothing, but is heard. `cut`: all
    connections are reset.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._pairs: set[_Pair] = set()
        self._swallowing = False
        self._deaf = False
        self._mended_at = 0.0
        self.reached_s: float | None = None
        """Seconds from `mend` until somebody came through; None while nobody has."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        super().__init__("wire", asyncio.new_event_loop())

    def start(self) -> None:
        self._server = self.run(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.run(self._end())

    def swallow(self) -> None:
        self.call(lambda: self._set_swallowing(True))

    def mend(self) -> None:
        self._mended_at, self.reached_s = time.monotonic(), None
        self.call(lambda: self._set_swallowing(False))

    def deaf(self, deaf: bool) -> None:
        self._deaf = deaf

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
                self.reached_s = time.monotonic() - self._mended_at
            await asyncio.gather(self._pump(pair, reader, far_writer), self._pump(pair, far_reader, writer))
        except OSError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
        upwards = writer is not pair.writers[0]
        try:
            while data := await reader.read(65536):
                if writer and not pair.swallowed and not (self._deaf and upwards):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        if writer and not pair.swallowed:
            writer.transport.abort()

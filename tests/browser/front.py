"""A front in a thread: passes requests to a dashboard below a path prefix, or answers them itself with an error."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PREFIX = "/monitoring/fastmon"


class Front:
    """`status` is None to pass requests on, else what it answers; `requests` has (time, path) of each."""

    def __init__(self, backend: int) -> None:
        self.status: int | None = None
        self.retry_after_s: int | None = None
        self.failing = "/"
        """Only paths with this in them fail."""
        self.requests: list[tuple[float, str]] = []
        self.streams = 0
        """Streams that are open now."""
        self.port = 0
        self._backend = backend
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}/"

    def count(self, path: str) -> int:
        """Requests so far with *path* in their path."""
        return sum(path in each for _, each in self.requests)

    def cut(self) -> None:
        """Close all connections, as a front does that is restarted."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
        self._tasks.discard(task)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, rest = head.split(" ", 2)
        self.requests.append((time.monotonic(), path))
        if not path.startswith(PREFIX):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif self.status is not None and self.failing in path:
            later = f"Retry-After: {self.retry_after_s}\r\n" if self.retry_after_s is not None else ""
            text = f"HTTP/1.1 {self.status} No\r\n{later}Content-Type: text/html\r\nContent-Length: 4\r\n"
            writer.write(f"{text}Connection: close\r\n\r\nbusy".encode())
        else:
            inner = path.removeprefix(PREFIX) or "/"
            rest = rest.replace("Connection: keep-alive", "Connection: close")
            there, here = await asyncio.open_connection("127.0.0.1", self._backend)
            here.write(f"{method} {inner} {rest}".encode("latin-1"))
            length = next((line for line in rest.lower().split("\r\n") if line.startswith("content-length:")), "x: 0")
            here.write(await reader.readexactly(int(length.split(":")[1])))
            self.streams += "/events" in path
            try:
                while data := await there.read(1 << 16):
                    writer.write(data)
                    await writer.drain()
            finally:
                self.streams -= "/events" in path
                here.close()
        await writer.drain()

    def _run(self, started: threading.Event, stop: asyncio.Event) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()
            server.close()
            await asyncio.sleep(0.1)  # connections that were accepted just now begin, and close their sockets
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self._loop.run_until_complete(main())
        self._loop.close()


@contextmanager
def front_of(backend: int) -> Iterator[Front]:
    """A front of the dashboard at port *backend*."""
    front, started, stop = Front(backend), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=front._run, args=(started, stop))
    thread.start()
    started.wait()
    try:
        yield front
    finally:
        front._loop.call_soon_threadsafe(stop.set)
        thread.join()

"""The dashboard's web server: listens, serves until it is asked to end, and lets go of every page.

It must not know what is served to whom.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from uvicorn import Config, Server

from fastmon_client.dashboard.door import Key
from fastmon_client.dashboard.fanout import Fanout
from fastmon_client.dashboard.pages import application


class _Server(Server):
    """uvicorn without its own signal handlers: ours let the pages go first, else it would wait for them for ever."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one.

    Raises:
        OSError: the address is taken, or is none of this machine's.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


async def serve(
    snapshot: Callable[[], Mapping[str, Any]], sock: socket.socket, key: Key, until: asyncio.Event
) -> int | None:
    """Show snapshots to all who may come in, until *until*, SIGINT or SIGTERM; the signal's number, if it was one."""
    fanout, loop = Fanout(snapshot), asyncio.get_running_loop()
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        until.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    config = Config(
        application(fanout, key), ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    server = _Server(config)
    telling = asyncio.create_task(fanout.run())
    serving = asyncio.create_task(server.serve([sock]))
    asked = asyncio.create_task(until.wait())
    await asyncio.wait((telling, serving, asked), return_when=asyncio.FIRST_COMPLETED)
    await fanout.close()
    server.should_exit = True
    asked.cancel()
    await asyncio.gather(telling, serving)
    return signals[0] if signals else None

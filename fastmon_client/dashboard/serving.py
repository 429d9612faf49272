"""The dashboard's web server: listens, serves until it is asked to end, and lets go of every page.

It must not know what is served to whom.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from uvicorn import Config, Server

from fastmon_client.dashboard.auth import DashboardToken
from fastmon_client.dashboard.broadcaster import Broadcaster
from fastmon_client.dashboard.pages import application

LET_GO_S = 2.0
"""So long the end waits for pages; one that no longer reads (a machine asleep) would never let go by itself."""


class _Server(Server):
    """uvicorn without its signal handlers: the pages must be let go first, else it would wait for them for ever."""

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
    snapshot: Callable[[], Mapping[str, Any]], sock: socket.socket, key: DashboardToken, until: asyncio.Event
) -> None:
    """Show snapshots on *sock*, which listens, to all who may come in, until *until* is set."""
    broadcaster = Broadcaster(snapshot)
    config = Config(
        application(broadcaster, key), ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    server = _Server(config)
    tasks = [asyncio.create_task(work) for work in (broadcaster.run(), server.serve([sock]), until.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    until.set()
    await broadcaster.close()
    server.should_exit = True
    await asyncio.wait(tasks, timeout=LET_GO_S)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await asyncio.gather(*tasks)

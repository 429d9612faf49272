"""A dashboard server of hand-made snapshots, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.dashboard.api import Details
from fastmon_client.dashboard.auth import DashboardToken
from fastmon_client.dashboard.journal import Kept
from fastmon_client.dashboard.server import listen, serve
from tests.processes import DEADLINE_S


@dataclass
class Served:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(
    snapshot: Callable[[], dict[str, Any]], token: str | None = None, port: int = 0, public_host: str | None = None,
    acknowledgements: Acknowledgements | None = None, details: Details | None = None,
) -> Iterator[Served]:  # fmt: skip
    sock = listen("127.0.0.1", port)
    port = sock.getsockname()[1]
    loop, until = asyncio.new_event_loop(), asyncio.Event()
    kept = Kept(acknowledgements or Acknowledgements())
    main = serve(snapshot, sock, DashboardToken(token, port, public_host), until, kept, details)
    thread = threading.Thread(target=loop.run_until_complete, args=(main,))
    thread.start()
    try:
        yield Served(port)
    finally:
        loop.call_soon_threadsafe(until.set)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        loop.close()
        sock.close()

"""The monitor in a thread of its own, for programs and tests that are not asyncio.

Owns the thread and its event loop. It must not know what the monitor answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from fastmon_daemon.testbed.monitor.faults import OnBroker
from fastmon_daemon.testbed.monitor.server import MonitorOptions, MonitorServer

CALL_DEADLINE_S = 30.0

T = TypeVar("T")


class MonitorThread:
    """Context manager: inside it a monitor listens on 127.0.0.1. Its methods are for other threads."""

    def __init__(
        self,
        token: str,
        options: MonitorOptions | None = None,
        on_broker: OnBroker | None = None,
        *,
        port: int = 0,
    ) -> None:
        self.server = MonitorServer(token, options, on_broker)
        self._asked_port = port
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="monitor", daemon=True)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return self.server.url

    @property
    def port(self) -> int:
        """Where it listens; the same after a `stop` and `start`."""
        return self.server.port

    @property
    def token(self) -> str:
        """The API token that it accepts."""
        return self.server.token

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.start()
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            self._end_loop()

    def start(self) -> int:
        """Listen (again), on the same port, and return it.

        Raises:
            OSError: the port is taken.
        """
        return self.run(self.server.start(port=self._asked_port))

    def stop(self) -> None:
        """Begin an outage without end: connections are cut, the port is closed; `start` ends it."""
        self.run(self.server.stop())

    def call(self, fn: Callable[[], T]) -> T:
        """What *fn* returns or raises, run in the monitor's loop.

        Raises:
            TimeoutError: the loop did not answer within 30 s.
        """

        async def called() -> T:
            return fn()

        return self.run(called())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* returns or raises, run in the monitor's loop.

        Raises:
            TimeoutError: it took more than 30 s.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_DEADLINE_S)

    def faults(self, **wanted: Any) -> dict[str, Any]:
        """Set faults and return those in force; without arguments clear all.

        Raises:
            BadFaults: a name or a value that is none; nothing was set.
        """
        return self.call(lambda: self.server.set_faults(wanted))

    def counts(self) -> dict[str, Any]:
        """The numbers of ``GET /_testbed/counts``."""
        return self.call(self.server.counts)

    def deliver(self, body: str) -> None:
        """Hand over a message of the topic, see `MonitorServer.deliver`."""
        self.call(lambda: self.server.deliver(body))

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_DEADLINE_S)
        self._loop.close()

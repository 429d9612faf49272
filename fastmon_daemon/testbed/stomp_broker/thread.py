"""The broker in a thread of its own, for programs and tests that are not asyncio.

Owns the thread and its event loop. It must not know STOMP.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from fastmon_daemon.testbed.stomp_broker.broker import Broker

CALL_DEADLINE_S = 30.0
_POLL_S = 0.005

T = TypeVar("T")


class BrokerThread:
    """Context manager: inside it the broker listens on 127.0.0.1 at `port`.

    Its methods are for other threads: called in the broker's loop (from a hook) they would wait for themselves.
    """

    def __init__(self, broker: Broker, *, port: int = 0, ssl: ssl.SSLContext | None = None) -> None:
        self.broker = broker
        self._asked_port = port
        self._ssl = ssl
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stomp-broker", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens; the same after a `stop` and `start`."""
        return self.broker.port

    def __enter__(self) -> BrokerThread:
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
        """Listen (again) on the same port, and return it.

        Raises:
            OSError: the port is taken.
        """
        return self.run(self.broker.start(port=self._asked_port, ssl=self._ssl))

    def stop(self) -> None:
        """Begin an outage: connections are cut, the port is closed; `start` ends it."""
        self.run(self.broker.stop())

    def call(self, fn: Callable[[], T]) -> T:
        """What *fn* returns or raises, run in the broker's loop: ``thread.call(lambda: thread.broker.silent(3))``.

        Raises:
            TimeoutError: the loop did not answer within 30 s.
        """

        async def called() -> T:
            return fn()

        return self.run(called())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* returns or raises, run in the broker's loop.

        Raises:
            TimeoutError: it took longer than 30 s.
            RuntimeError: the thread has ended.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("The broker's thread has ended: use it inside its with block")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_DEADLINE_S)

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = 15.0) -> None:
        """Wait until *condition*, asked in the broker's loop, is true.

        Raises:
            TimeoutError: it was not within *deadline_s* (at most 30 s).
        """

        async def came_true() -> None:
            async with asyncio.timeout(deadline_s):
                while not condition():
                    await asyncio.sleep(_POLL_S)

        self.run(came_true())

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

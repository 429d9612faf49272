"""A server of the testbed in a thread of its own, for programs and tests that are not asyncio.

Owns the thread and its event loop. It must not know what is served.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

CALL_DEADLINE_S = 30.0
_POLL_S = 0.005

T = TypeVar("T")


class LoopThread(ABC):
    """Context manager: inside it the server listens on 127.0.0.1.

    Its methods are for other threads: called in the loop itself (from a hook) they would wait for themselves.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)

    @abstractmethod
    def start(self) -> object:
        """ListenAddress (again), on the same port. Raises OSError where it is taken."""

    @abstractmethod
    def stop(self) -> None:
        """Begin an outage without end: connections are cut, the port is closed; `start` ends it."""

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

    def call(self, fn: Callable[[], T]) -> T:
        """What *fn* returns or raises, run in the loop: ``thread.call(lambda: thread.broker.silent(3))``.

        Raises:
            TimeoutError: the loop did not answer within 30 s.
        """

        async def called() -> T:
            return fn()

        return self.run(called())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* returns or raises, run in the loop.

        Raises:
            TimeoutError: it took longer than 30 s.
            RuntimeError: the thread has ended.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError(f"The thread {self._thread.name} has ended: use it inside its with block")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_DEADLINE_S)

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = 15.0) -> None:
        """Wait until *condition*, asked in the loop, is true.

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
        self._thread.join(CALL_DEADLINE_S)
        self._loop.close()

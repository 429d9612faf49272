"""Runs a server of the testbed in a thread with its own event loop, for programs and tests without asyncio."""

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

    Call its methods from other threads only: in the loop itself (from a hook) they would deadlock.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)

    @abstractmethod
    def start(self) -> object:
        """Listen, after a `stop` on the same port. Raises: OSError if the port is taken."""

    @abstractmethod
    def stop(self) -> None:
        """Begin an outage: cut the connections and close the port until `start`."""

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
        """Call *fn* in the loop and return its result: ``thread.call(lambda: thread.broker.silent(3))``.

        Raises: TimeoutError after 30 s.
        """

        async def call() -> T:
            return fn()

        return self.run(call())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run *coroutine* in the loop and return its result.

        Raises: TimeoutError after 30 s; RuntimeError if the thread has ended.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError(f"thread {self._thread.name} has ended: use it inside its with block")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_DEADLINE_S)

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = 15.0) -> None:
        """Wait until *condition*, called in the loop, is true.

        Raises: TimeoutError after *deadline_s* (at most 30 s).
        """

        async def wait() -> None:
            async with asyncio.timeout(deadline_s):
                while not condition():
                    await asyncio.sleep(_POLL_S)

        self.run(wait())

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_DEADLINE_S)
        self._loop.close()

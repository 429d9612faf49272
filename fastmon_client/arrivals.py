"""The bounded queue between the threads that read (stream, tables) and the one that shows."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

LATE_S = 0.5
"""After this time the monitor or the broker may begin to drop messages."""
MAX_WAITING = 1024 * 1024
"""Bytes of messages that may wait; some 40 s at the highest rate of the monitor."""


class ArrivalQueue(Generic[T]):
    """A FIFO whose `put` waits while *limit* is reached: a reader of our output that stands still costs no memory.

    An item that waited for *late_s* seconds is late; a burst that we take more slowly than it comes waits for less.
    """

    def __init__(self, limit: int = MAX_WAITING, late_s: float = LATE_S) -> None:
        self._limit, self._late_s = limit, late_s
        self._items: SimpleQueue[tuple[T, int, bool]] = SimpleQueue()
        self._waiting = 0
        self._room = threading.Condition()
        self._closed = False

    def put(self, item: T, size: int) -> None:
        """Append *item* of *size* bytes; waits for room, until `close`. One item always fits."""
        with self._room:
            began = time.monotonic()
            self._room.wait_for(lambda: self._closed or not self._waiting or self._waiting + size <= self._limit)
            is_late = time.monotonic() - began >= self._late_s
            if self._closed:
                return
            self._waiting += size
        self._items.put((item, size, is_late))

    def put_at_once(self, item: T) -> None:
        """Append a small *item* without waiting and without a lock: also in a signal handler."""
        self._items.put((item, 0, False))

    def get(self, timeout: float) -> tuple[T, int, bool]:
        """The next item, its size, and whether it is late: the sender may have dropped others meanwhile.

        Raises: queue.Empty after *timeout* seconds.
        """
        item, size, is_late = self._items.get(timeout=timeout) if timeout > 0 else self._items.get_nowait()
        if size:
            with self._room:
                self._waiting -= size
                self._room.notify_all()
        return item, size, is_late

    def close(self) -> None:
        """Drop what is put from now on; ends all waits."""
        with self._room:
            self._closed = True
            self._room.notify_all()

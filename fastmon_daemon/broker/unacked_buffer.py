"""The messages that could not be stored: held unacknowledged, in order, and stored when that is possible again.

The broker would repeat them only to a new connection, and give up after a few times. It must not know sockets, nor why
storing fails.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from loguru import logger
from stomp.utils import Frame

from fastmon_daemon.base.errors import StorageUnavailable

Store = Callable[[], None]
Accept = Callable[[bytes], Store | None]
RETRY_BATCH_SIZE = 100
"""So many held messages are stored before the link is looked at again."""


class LogThrottle:
    """What is said while messages cannot be stored: one line for each kind of trouble, until one is stored again.

    It outlives a connection: on a full disk each new one gets the messages again, and has the same trouble.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def report(self, exc: Exception) -> None:
        """A message could not be stored."""
        kind = type(exc).__name__ if isinstance(exc, StorageUnavailable) else repr(exc)
        if kind in self._told:
            return
        self._told.add(kind)
        traced = logger if isinstance(exc, StorageUnavailable) else logger.opt(exception=exc)
        traced.error("messages wait unacknowledged at the broker, they cannot be stored: {}", exc)

    def resolved(self, waited: int) -> None:
        """None waits any more; *waited* had, at this connection."""
        if self._told:
            self._told.clear()
            logger.info("messages are stored again: {} had waited", waited)


class UnackedBuffer:
    """Between the thread that receives and the one that watches; the broker's window bounds it.

    Only one of the two stores at a time: the receiving one while nothing is held, else the watching one.
    """

    def __init__(self, accept: Accept, acknowledge: Callable[[Frame], None], trouble: LogThrottle) -> None:
        self._accept = accept
        self._acknowledge = acknowledge
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Frame, Store]] = deque()
        self._stored = 0
        self._trouble = trouble

    @property
    def count(self) -> int:
        """How many messages are held."""
        with self._lock:
            return len(self._waiting)

    def receive(self, frame: Frame) -> None:
        """Store a message that came, and acknowledge it; behind others that wait, it waits too."""
        body = frame.body or b""
        store: Store | None = partial(self._whole, body)
        try:
            store = self._accept(body)
            if store is not None:
                if self._buffer(frame, store):
                    return
                store()
                self._trouble.resolved(0)
        except Exception as exc:  # noqa: BLE001 (whatever it is, the message must not be lost)
            self._trouble.report(exc)
            with self._lock:
                self._waiting.append((frame, store or partial(self._whole, body)))
            return
        self._acknowledge(frame)

    def retry(self) -> bool:
        """Store what is held, at most `BACKGROUND_THREADS`; whether there is more that is worth a try at once."""
        failed = False
        for _ in range(min(RETRY_BATCH_SIZE, len(self._waiting))):
            frame, store = self._waiting[0]
            try:
                store()
            except StorageUnavailable:
                return False
            except Exception as exc:  # noqa: BLE001 (one message that cannot be stored must not keep the others)
                self._trouble.report(exc)
                failed = True
                with self._lock:
                    self._waiting.rotate(-1)
                continue
            self._acknowledge(frame)
            self._gone()
        return bool(self._waiting) and not failed

    def _gone(self) -> None:
        """The first one is stored and acknowledged."""
        with self._lock:
            self._waiting.popleft()
            self._stored += 1
            if not self._waiting:  # told before the receiving thread may store, and tell that none had waited
                self._trouble.resolved(self._stored)
                self._stored = 0

    def _buffer(self, frame: Frame, store: Store) -> bool:
        with self._lock:
            if self._waiting:
                self._waiting.append((frame, store))
            return bool(self._waiting)

    def _whole(self, body: bytes) -> None:
        if store := self._accept(body):
            store()

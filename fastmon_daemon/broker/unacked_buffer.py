"""Messages that are not on disk yet: those that arrived together, and those that could not be stored.

The latter are buffered in order, unacknowledged, until they can be stored: the broker would redeliver them only to a
new connection, and only a few times. This module must not know sockets, nor why storing fails.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from loguru import logger
from stomp.utils import Frame

from fastmon_daemon.base.errors import DaemonStops, EnoughWork, StorageUnavailable

Store = Callable[[], Future[Any]]
"""Begins to store a message; the future is done when it is on disk, or has failed."""
Accept = Callable[[bytes], Store | None]
ENOUGH_PAUSE_S = 0.1
"""Pause between two tries to store a buffered message while we have enough to do, in seconds."""
RETRY_BATCH_SIZE = 100
"""Number of buffered messages that are stored before the link's liveness is checked again."""
MAX_BUFFERED_BYTES = 32 * 1024 * 1024
"""With more than this the receiving thread waits: not every broker keeps to the window that we ask for."""


class StorageErrorLog:
    """Logs each kind of storage error once, until messages are stored again.

    It outlives a connection: on a full disk each new connection gets the same messages, and the same error.
    """

    def __init__(self) -> None:
        self._reported: set[str] = set()
        self.latest = ""
        """Why a message could not be stored, the last time; empty if messages are stored."""

    def report(self, exc: Exception) -> None:
        """Log that a message could not be stored, once for each kind of error."""
        expected = isinstance(exc, StorageUnavailable)
        self.latest = str(exc) if expected else f"unexpected {type(exc).__name__}, see the log"
        kind = type(exc).__name__ if expected else repr(exc)
        if kind not in self._reported:
            self._reported.add(kind)
            traced = logger if expected else logger.opt(exception=exc)
            traced.error("messages cannot be stored: buffered without acknowledgement ({})", exc)

    def resolved(self, buffered: int) -> None:
        """Log that no message is buffered any more, if an error was logged; *buffered* were, on this connection."""
        self.latest = ""
        if self._reported:
            self._reported.clear()
            logger.info("storage recovered: {} buffered messages stored", buffered)


class UnackedBuffer:
    """The messages between the receiving thread and the watching thread, bounded by the broker's window.

    Only one thread stores at a time: the receiving thread while the buffer is empty, else the watching thread. The
    receiving thread begins to store each message that has arrived, and then waits for all: they share a transaction.
    """

    def __init__(
        self, accept: Accept, acknowledge: Callable[[Frame], None], storage_error_log: StorageErrorLog
    ) -> None:
        self._accept = accept
        self._acknowledge = acknowledge
        self._storage_error_log = storage_error_log
        self._lock = threading.Lock()
        self._begun: list[tuple[Frame, Store, Future[Any]]] = []
        """What the receiving thread has begun to store."""
        self._buffer: deque[tuple[Frame, Store]] = deque()
        self._stored = 0
        self._bytes = 0
        self._has_room = threading.Event()
        self._has_room.set()
        self._is_closed = False

    @property
    def count(self) -> int:
        """Number of buffered messages."""
        with self._lock:
            return len(self._buffer)

    def receive(self, frame: Frame) -> None:
        """Begin to store a received message, or acknowledge one that is not stored; buffer it if others are."""
        body = frame.body or b""
        store: Store = partial(self._accept_and_store, body)
        try:
            accepted = self._accept(body)
            if accepted is not None:
                store = accepted
                with self._lock:
                    is_next = not self._buffer
                if is_next:
                    self._begun.append((frame, store, store()))
                else:
                    self._append(frame, store)
                return
        except Exception as exc:  # noqa: BLE001 (the message must not be lost, whatever the error)
            self._storage_error_log.report(exc)
            self._append(frame, store)
            return
        self._acknowledge(frame)

    @property
    def has_begun(self) -> bool:
        """Whether the receiving thread has begun to store a message; for that thread."""
        return bool(self._begun)

    def finish(self) -> None:
        """Wait until what was begun is on disk, and acknowledge it; buffer what could not be stored."""
        begun, self._begun = self._begun, []
        for frame, store, stored in begun:
            try:
                stored.result()
            except DaemonStops:
                continue  # the broker will redeliver it
            except EnoughWork:
                self._append(frame, store)
                continue
            except Exception as exc:  # noqa: BLE001 (as in `receive`)
                self._storage_error_log.report(exc)
                self._append(frame, store)
                continue
            if not self._buffer:
                self._storage_error_log.resolved(0)
            self._acknowledge(frame)

    def retry(self) -> float:
        """Store at most `RETRY_BATCH_SIZE` buffered messages; return after how many seconds to go on (0: at once)."""
        failed = False
        for _ in range(min(RETRY_BATCH_SIZE, len(self._buffer))):
            frame, store = self._buffer[0]
            try:
                store().result()
            except DaemonStops:
                return math.inf
            except EnoughWork:
                return ENOUGH_PAUSE_S
            except StorageUnavailable as exc:
                self._storage_error_log.report(exc)
                return math.inf
            except Exception as exc:  # noqa: BLE001 (one bad message must not block the others)
                self._storage_error_log.report(exc)
                failed = True
                with self._lock:
                    self._buffer.rotate(-1)
                continue
            self._acknowledge(frame)
            with self._lock:
                self._buffer.popleft()
                self._stored += 1
                self._bytes -= len(frame.body or b"")
                if self._bytes <= MAX_BUFFERED_BYTES:
                    self._has_room.set()
                if not self._buffer:  # inside the lock: before the receiving thread may store, and report 0
                    self._storage_error_log.resolved(self._stored)
                    self._stored = 0
        return 0.0 if self._buffer and not failed else math.inf

    def close(self) -> None:
        """Let the receiving thread wait no more: the connection ends."""
        with self._lock:
            self._is_closed = True
            self._has_room.set()

    def _append(self, frame: Frame, store: Store) -> None:
        with self._lock:
            self._buffer.append((frame, store))
            self._bytes += len(frame.body or b"")
            if self._bytes > MAX_BUFFERED_BYTES and not self._is_closed:
                self._has_room.clear()
        self._has_room.wait()

    def _accept_and_store(self, body: bytes) -> Future[Any]:
        if store := self._accept(body):
            return store()
        nothing_to_store = Future[Any]()
        nothing_to_store.set_result(None)
        return nothing_to_store

"""Messages that could not be stored: buffered in order, unacknowledged, until they can be stored.

The broker would redeliver them only to a new connection, and only a few times. This module must not know sockets, nor
why storing fails.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from loguru import logger
from stomp.utils import Frame

from fastmon_daemon.base.errors import EnoughWork, StorageUnavailable

Store = Callable[[], None]
Accept = Callable[[bytes], Store | None]
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

    Only one thread stores at a time: the receiving thread while the buffer is empty, else the watching thread.
    """

    def __init__(
        self, accept: Accept, acknowledge: Callable[[Frame], None], storage_error_log: StorageErrorLog
    ) -> None:
        self._accept = accept
        self._acknowledge = acknowledge
        self._storage_error_log = storage_error_log
        self._lock = threading.Lock()
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
        """Store and acknowledge a received message; buffer it if that fails or if others are already buffered."""
        body = frame.body or b""
        store: Store = partial(self._accept_and_store, body)
        try:
            accepted = self._accept(body)
            if accepted is not None:
                store = accepted
                with self._lock:
                    is_next = not self._buffer
                if not is_next:
                    self._append(frame, store)
                    return
                store()
                self._storage_error_log.resolved(0)
        except EnoughWork:
            self._append(frame, store)
            return
        except Exception as exc:  # noqa: BLE001 (the message must not be lost, whatever the error)
            self._storage_error_log.report(exc)
            self._append(frame, store)
            return
        self._acknowledge(frame)

    def retry(self) -> bool:
        """Store at most `RETRY_BATCH_SIZE` buffered messages; return whether to go on at once."""
        failed = False
        for _ in range(min(RETRY_BATCH_SIZE, len(self._buffer))):
            frame, store = self._buffer[0]
            try:
                store()
            except EnoughWork:
                return False
            except StorageUnavailable as exc:
                self._storage_error_log.report(exc)
                return False
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
        return bool(self._buffer) and not failed

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

    def _accept_and_store(self, body: bytes) -> None:
        if store := self._accept(body):
            store()

"""Reads the stream in a thread, and renews it, with overlap, before the server stops sending messages.

Drops what both of two overlapping streams deliver.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.stream import Connected, Disconnected, Message, Notice

_MAX_REMEMBERED = 10_000
_RENEW_RETRY_S = 60.0


StreamBatch = tuple[int, Sequence[Notice | AccessDenied]]


def size_of(batch: StreamBatch) -> int:
    """Bytes of the messages in *batch*, roughly."""
    return sum(each.size if isinstance(each, Message) else 100 for each in batch[1])


class Source(Protocol):
    """A stream of the monitor, or a topic of the broker."""

    def batches(self) -> Iterator[list[Notice]]:
        """Batches of notices, until `stop`.

        Raises: AccessDenied if an operator must fix something first.
        """

    def drop(self, reason: str) -> None:
        """Close the current connection."""

    def stop(self) -> None:
        """End `batches`."""


@dataclass(slots=True)
class _Reader:
    """One stream. Times are `time.monotonic()`."""

    stream: Source
    opened_at: float | None = None
    last_data_at: float = 0.0
    """Set by its thread: queued batches count as received."""
    ends_at: float | None = None


class StreamManager:
    """Passes (number of the stream, batch) to *put*; the receiver calls `process` and `tick`.

    *now* is `time.monotonic()`, in seconds.
    """

    def __init__(self, make: Callable[[], Source], put: Callable[[StreamBatch], None], intervals: Intervals) -> None:
        self._make, self._put, self._intervals = make, put, intervals
        self._readers: dict[int, _Reader] = {}
        self._current = 0
        self._sources: dict[bytes, int] = {}
        self._compare_until = 0.0
        self._renew_at = math.inf

    def start(self) -> None:
        """Open the first stream."""
        self._open()

    def stop(self) -> None:
        """Close all streams; callable from any thread and from a signal handler."""
        for reader in list(self._readers.values()):
            reader.stream.stop()

    def process(self, number: int, notice: Notice | AccessDenied, now: float) -> Notice | AccessDenied | None:
        """The *notice* to pass on; None if another stream makes it irrelevant."""
        reader = self._readers.get(number)
        if isinstance(notice, dict):  # also from a stream that is closed by now
            return None if self._is_duplicate(number, notice, now) else notice
        if reader is None:
            return None
        if isinstance(notice, AccessDenied):
            return self._denied(number, notice)
        if isinstance(notice, Connected):
            return self._connected(number, reader, now)
        if isinstance(notice, Disconnected):
            return self._disconnected(number, reader, notice, now)
        return notice

    def tick(self, now: float) -> None:
        """Renew an old stream, close a replaced one, drop one without data."""
        is_alone = len(self._readers) == 1 and self._readers[self._current].opened_at is not None
        if now >= self._renew_at and is_alone:
            self._renew_at = now + _RENEW_RETRY_S
            self._open()
        for number, reader in list(self._readers.items()):
            if reader.ends_at is not None and now >= reader.ends_at:
                self._close(number, now)
            elif reader.opened_at is not None and now - reader.last_data_at > self._intervals.dead_after_s:
                reader.last_data_at = now
                reader.stream.drop(f"no data for {self._intervals.dead_after_s:.0f} s")

    def _open(self) -> None:
        number = self._current + len(self._readers)
        reader = self._readers[number] = _Reader(self._make())
        threading.Thread(target=self._read, args=(number, reader), name=f"stream {number}", daemon=True).start()

    def _read(self, number: int, reader: _Reader) -> None:
        try:
            for batch in reader.stream.batches():
                reader.last_data_at = time.monotonic()
                self._put((number, batch))
        except AccessDenied as exc:
            self._put((number, [exc]))
        except Exception as exc:  # noqa: BLE001 (a dead thread would leave the screen unchanged)
            self._put((number, [AccessDenied(f"cannot read the stream: {type(exc).__name__}: {exc}")]))

    def _connected(self, number: int, reader: _Reader, now: float) -> Notice | None:
        if reader.ends_at is not None:  # replaced while disconnected
            self._close(number, now)
            return None
        reader.opened_at = now
        self._renew_at = now + self._intervals.recycle_s
        if number == self._current:
            return Connected()
        before = self._readers[self._current]
        was_open = before.opened_at is not None
        before.ends_at = now + self._intervals.overlap_s
        self._current = number
        return None if was_open else Connected()

    def _disconnected(self, number: int, reader: _Reader, notice: Disconnected, now: float) -> Notice | None:
        reader.opened_at = None
        if reader.ends_at is not None:
            self._close(number, now)
        return None if any(each.opened_at is not None for each in self._readers.values()) else notice

    def _close(self, number: int, now: float) -> None:
        self._readers.pop(number).stream.stop()
        self._compare_until = now + self._intervals.overlap_s  # its last batches may still be queued

    def _denied(self, number: int, notice: AccessDenied) -> AccessDenied | None:
        if number == self._current:
            return notice
        del self._readers[number]  # the old stream continues; the next tick retries the renewal
        return None

    def _is_duplicate(self, number: int, message: dict[str, object], now: float) -> bool:
        """Whether the other stream delivered the same message."""
        if len(self._readers) == 1 and now >= self._compare_until:
            self._sources.clear()
            return False
        if len(self._sources) >= _MAX_REMEMBERED:
            self._sources.clear()
        digest = blake2b(json.dumps(message).encode(), digest_size=16).digest()
        return self._sources.setdefault(digest, number) != number

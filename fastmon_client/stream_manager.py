"""One stream after the other: each is read in a thread of its own, and renewed, with overlap, before it goes deaf.

Owns the threads of the streams and what both of two overlapping ones bring. It must not know what a message means.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.stream import Connected, Disconnected, Notice

_REMEMBERED = 10_000
_AGAIN_S = 60.0


Brought = tuple[int, Sequence[Notice | AccessDenied]]


class Source(Protocol):
    """What brings notices: a stream of the monitor, or a topic of the broker."""

    def batches(self) -> Iterator[list[Notice]]:
        """What comes at once, for ever, until `stop`.

        Raises:
            Refused: a person must mend something first.
        """

    def drop(self, reason: str) -> None:
        """Give the present connection up."""

    def stop(self) -> None:
        """End `batches`."""


@dataclass(slots=True)
class _Reader:
    """One stream. Times are monotonic seconds."""

    stream: Source
    opened_at: float | None = None
    heard_at: float = 0.0
    """Written by its thread: what waits to be taken was heard."""
    ends_at: float | None = None


class StreamManager:
    """Puts (number of the stream, what came at once) with *put*; `take` and `tick` belong to whoever gets them.

    *now* is `time.monotonic()`, in seconds.
    """

    def __init__(self, make: Callable[[], Source], put: Callable[[Brought], None], intervals: Intervals) -> None:
        self._make, self._put, self._intervals = make, put, intervals
        self._readers: dict[int, _Reader] = {}
        self._current = 0
        self._brought_by: dict[str, int] = {}
        self._compare_until = 0.0
        self._renew_at = math.inf

    def start(self) -> None:
        """Open the first stream."""
        self._open()

    def stop(self) -> None:
        """Close all; callable from any thread and from a signal handler."""
        for reader in list(self._readers.values()):
            reader.stream.stop()

    def take(self, number: int, notice: Notice | AccessDenied, now: float) -> Notice | AccessDenied | None:
        """What *notice* says of the whole; None where another stream makes it meaningless."""
        reader = self._readers.get(number)
        if isinstance(notice, dict):  # also what a stream that is closed by now had brought
            return None if self._is_known(number, notice, now) else notice
        if reader is None:
            return None
        if isinstance(notice, AccessDenied):
            return self._refused(number, notice)
        if isinstance(notice, Connected):
            return self._connected(number, reader, now)
        if isinstance(notice, Disconnected):
            return self._lost(number, reader, notice, now)
        return notice

    def tick(self, now: float) -> None:
        """Renew what is old and open, close what is replaced, give up what brings nothing complete."""
        is_alone = len(self._readers) == 1 and self._readers[self._current].opened_at is not None
        if now >= self._renew_at and is_alone:
            self._renew_at = now + _AGAIN_S
            self._open()
        for number, reader in list(self._readers.items()):
            if reader.ends_at is not None and now >= reader.ends_at:
                self._close(number, now)
            elif reader.opened_at is not None and now - reader.heard_at > self._intervals.patience_s:
                reader.heard_at = now
                reader.stream.drop(f"nothing came for {self._intervals.patience_s:.0f} s")

    def _open(self) -> None:
        number = self._current + len(self._readers)
        reader = self._readers[number] = _Reader(self._make())
        threading.Thread(target=self._read, args=(number, reader), name=f"stream {number}", daemon=True).start()

    def _read(self, number: int, reader: _Reader) -> None:
        try:
            for batch in reader.stream.batches():
                reader.heard_at = time.monotonic()
                self._put((number, batch))
        except AccessDenied as exc:
            self._put((number, [exc]))
        except Exception as exc:  # noqa: BLE001 (a thread that ends in silence would leave the screen as it is)
            self._put((number, [AccessDenied(f"the stream cannot be read: {type(exc).__name__}: {exc}")]))

    def _connected(self, number: int, reader: _Reader, now: float) -> Notice | None:
        if reader.ends_at is not None:  # replaced while it was away: were it taken, both would be closed
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

    def _lost(self, number: int, reader: _Reader, notice: Disconnected, now: float) -> Notice | None:
        reader.opened_at = None
        if reader.ends_at is not None:
            self._close(number, now)
        return None if any(each.opened_at is not None for each in self._readers.values()) else notice

    def _close(self, number: int, now: float) -> None:
        self._readers.pop(number).stream.stop()
        self._compare_until = now + self._intervals.overlap_s  # what it brought last may still be on its way here

    def _refused(self, number: int, notice: AccessDenied) -> AccessDenied | None:
        if number == self._current:
            return notice
        del self._readers[number]  # the stream before it goes on; it is renewed at the next tick
        return None

    def _is_known(self, number: int, message: dict[str, object], now: float) -> bool:
        """Whether the other of two streams brought the very same message."""
        if len(self._readers) == 1 and now >= self._compare_until:
            self._brought_by.clear()
            return False
        if len(self._brought_by) >= _REMEMBERED:
            self._brought_by.clear()
        return self._brought_by.setdefault(json.dumps(message), number) != number

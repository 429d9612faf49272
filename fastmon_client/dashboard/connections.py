"""The connections of the page: how many there are, and how long each may take to ask and to read.

uvicorn itself limits neither: half requests would use up the descriptors.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastmon_client.log_throttle import LogThrottle

ASKING_S = 10.0
"""Longest time for one request, from the connection or the end of the previous answer to its last byte."""
READING_S = 30.0
"""Longest time in which a reader takes nothing of what it asked for; its page reconnects by itself."""
MAX_ASKERS = 64
"""Connections without a complete request."""
MAX_READERS = 200
"""Connections that are answered: the open pages."""
ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before the limits apply."""
WAITING = 1024
"""Connections that may wait in the kernel to be accepted."""


class Places:
    """At most *limit* connections; when full, the oldest one of the address with the most is aborted."""

    def __init__(self, limit: int, what: str, log: LogThrottle) -> None:
        self._limit, self._what, self._log = limit, what, log
        self._taken: dict[BoundedProtocol, str] = {}

    def take(self, connection: BoundedProtocol) -> None:
        """Give *connection* a place."""
        self.free(connection)
        if len(self._taken) >= self._limit:
            busiest = Counter(self._taken.values()).most_common(1)[0][0]
            oldest = next(each for each, address in self._taken.items() if address == busiest)
            del self._taken[oldest]
            oldest.transport.abort()
            self._log.record(self._what, f"more than {self._limit} {self._what}: closed the oldest, from {busiest}")
        self._taken[connection] = connection.client[0] if connection.client else ""

    def free(self, connection: BoundedProtocol) -> None:
        """End the place of *connection*, if it has one."""
        self._taken.pop(connection, None)


class Limits:
    """The places of one server."""

    def __init__(self, log: LogThrottle) -> None:
        self.askers = Places(MAX_ASKERS, "unfinished requests", log)
        self.readers = Places(MAX_READERS, "open pages", log)


class BoundedProtocol(H11Protocol):
    """uvicorn's connection with a place among the askers, then among the readers, and a deadline for each."""

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._is_asking: bool | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._reading_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it as asker."""
        super().connection_made(transport)
        self._update()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        self._update()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._is_asking = None  # each request has its own deadline
        self._update()

    def pause_writing(self) -> None:
        """Begin the deadline of a reader that does not read."""
        super().pause_writing()
        self._reading_deadline = self._reading_deadline or self.loop.call_later(READING_S, self.transport.abort)

    def resume_writing(self) -> None:
        """End it."""
        super().resume_writing()
        _cancel(self._reading_deadline)
        self._reading_deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Free its place."""
        _cancel(self._deadline)
        self._deadline = None
        self._limits.askers.free(self)
        self._limits.readers.free(self)
        super().connection_lost(exc)
        _cancel(self._reading_deadline)
        self._reading_deadline = None

    def _update(self) -> None:
        """Move to the places of what it does now; a body that is still to come is asking, too."""
        if self.transport.is_closing():  # it may still have to read an answer
            self._deadline = self._deadline or self.loop.call_later(READING_S, self.transport.abort)
            return
        is_asking = self.conn.their_state not in (h11.DONE, h11.MUST_CLOSE) or self._is_answered
        if is_asking == self._is_asking:
            return
        self._is_asking = is_asking
        _cancel(self._deadline)
        self._deadline = None
        old, new = self._limits.readers, self._limits.askers
        if is_asking:
            self._deadline = self.loop.call_later(ASKING_S, self._end_asking)
        else:
            old, new = new, old
        old.free(self)
        new.take(self)

    @property
    def _is_answered(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete

    def _end_asking(self) -> None:
        if self.transport.get_write_buffer_size():  # the last answer is still being read
            self._deadline = self.loop.call_later(READING_S, self.transport.abort)
        else:
            self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()

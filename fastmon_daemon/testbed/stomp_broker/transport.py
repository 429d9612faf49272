"""One socket: bytes in, frames out to its owner, frames back in its own outgoing queue, heart-beats, and silence.

A reader that is slow fills only its own queue. This module must not know what frames mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from fastmon_daemon.testbed.stomp_broker.frames import Frame, FrameParser, ProtocolError, encode

LINGER_S = 2.0
"""How long a finished connection may take to read the last words and close."""
MARGIN_S = 0.5
"""Granted to a client over twice its heart-beat interval."""
_WRITE_BYTES = 256 * 1024


class Owner(Protocol):
    """Who is told what happens on the wire."""

    def on_open(self) -> None:
        """The socket stands."""

    def on_frame(self, frame: Frame) -> None:
        """A whole frame arrived."""

    def on_garbage(self, refusal: ProtocolError) -> None:
        """The bytes are no STOMP."""

    def on_lost(self) -> None:
        """The socket is gone; said once."""


class Transport(asyncio.Protocol):
    """The broker's end of one connection. *is_silent* says whether the broker plays dead just now."""

    def __init__(self, owner: Owner, is_silent: Callable[[], bool]) -> None:
        self.parser = FrameParser()
        self.peer = ""
        self._owner = owner
        self._is_silent = is_silent
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._outgoing: deque[bytes] = deque()
        self._unread: deque[bytes] = deque()
        self._flushing = self._paused = self._finishing = self._cut = False
        self._heard = self._loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.peer = f"tcp://{host}:{port}"
        self._owner.on_open()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio. In silence the bytes wait, as they would in front of a process that hangs."""
        self._heard = self._loop.time()
        if self._is_silent():
            self._unread.append(data)
        else:
            self._read(data)

    def pause_writing(self) -> None:
        """Called by asyncio: the client reads too slowly, so frames wait in our queue."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Called by asyncio. In silence the loss is noticed only after the bytes that came before it."""
        self._cut = True
        for timer in self._timers.values():
            timer.cancel()
        if not self._unread:
            self._report_loss()

    def wake(self) -> None:
        """Silence is over: do what was left."""
        while self._unread:
            self._read(self._unread.popleft())
        if self._cut:
            self._report_loss()
        self._flush()

    def write(self, frame: Frame, version: str) -> None:
        """Queue *frame*; what is queued in one turn of the loop goes out in one write."""
        self._outgoing.append(encode(frame, version))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def finish(self) -> None:
        """Hear nothing more, say what is queued, and close."""
        self._finishing = True
        if self._cut:
            return
        self._timers["linger"] = self._loop.call_later(LINGER_S, self._transport.abort)
        self._flush()

    def abort(self) -> None:
        """Cut the connection now (RST), whatever is queued or unread."""
        self._unread.clear()
        self._outgoing.clear()
        self._transport.abort()
        if self._cut:  # in a silence, and nobody was told yet
            self._report_loss()

    def start_heart_beats(self, send_every_s: float, expect_every_s: float) -> None:
        """Send beats, and cut a client that is silent for longer than twice its interval and a margin; 0: neither."""
        if send_every_s:
            # Twice per interval, since timers come late on a busy machine.
            self._beat(send_every_s / 2)
        if expect_every_s:
            self._watch(2 * expect_every_s + MARGIN_S)

    def _read(self, data: bytes) -> None:
        if self._finishing:
            return
        self.parser.feed(data)
        try:
            while not self._finishing and (frame := self.parser.next_frame()):
                self._owner.on_frame(frame)
        except ProtocolError as refusal:
            self._owner.on_garbage(refusal)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport.is_closing():
            self._outgoing.clear()
        while self._outgoing and not self._paused and not self._is_silent():
            self._transport.write(self._next_chunk())
        if self._finishing and not self._outgoing:
            self._close()

    def _next_chunk(self) -> bytes:
        frames = [self._outgoing.popleft()]
        size = len(frames[0])
        while self._outgoing and size < _WRITE_BYTES:
            frames.append(self._outgoing.popleft())
            size += len(frames[-1])
        return b"".join(frames)

    def _close(self) -> None:
        # Closing with bytes unread would send RST, and the client might lose our last frame: end our half first.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _report_loss(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
            self._owner.on_lost()

    def _beat(self, pause_s: float) -> None:
        if not (self._outgoing or self._paused or self._finishing or self._is_silent()):
            self._transport.write(b"\n")
        self._timers["beat"] = self._loop.call_later(pause_s, self._beat, pause_s)

    def _watch(self, limit_s: float) -> None:
        left_s = self._heard + limit_s - self._loop.time()
        if left_s <= 0:
            self.abort()
        else:
            self._timers["watch"] = self._loop.call_later(left_s, self._watch, limit_s)

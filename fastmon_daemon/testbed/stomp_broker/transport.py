"""One connection: parses incoming frames, queues outgoing ones, and handles heart-beats and silence.

Each connection has its own queue, so a slow client does not delay the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from fastmon_daemon.testbed.stomp_broker.frames import Frame, FrameParser, ProtocolError, encode

LINGER_S = 2.0
"""How long a client may take to read the last frame and close."""
MARGIN_S = 0.5
"""How long a client may be silent beyond twice its heart-beat interval."""
_WRITE_BYTES = 256 * 1024


class Owner(Protocol):
    """Gets the events of a `Transport`."""

    def on_open(self) -> None:
        """The connection is open."""

    def on_frame(self, frame: Frame) -> None:
        """A complete frame arrived."""

    def on_protocol_error(self, error: ProtocolError) -> None:
        """The bytes are no STOMP frame."""

    def on_lost(self) -> None:
        """The connection is lost; called once."""


class Transport(asyncio.Protocol):
    """The broker's side of one connection. *is_silent* returns whether the broker hangs."""

    def __init__(self, owner: Owner, is_silent: Callable[[], bool]) -> None:
        self.parser = FrameParser()
        self.peer = ""
        self._owner = owner
        self._is_silent = is_silent
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._outgoing: deque[bytes] = deque()
        self._unread: deque[bytes] = deque()
        self._flushing = self._paused = self._closing = self._disconnected = False
        self._received_at = self._loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.peer = f"tcp://{host}:{port}"
        self._owner.on_open()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio. During a silence the bytes wait, as they would for a process that hangs."""
        self._received_at = self._loop.time()
        if self._is_silent():
            self._unread.append(data)
        else:
            self._read(data)

    def pause_writing(self) -> None:
        """Called by asyncio: the client reads too slowly, so frames stay queued."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Called by asyncio. During a silence the loss is reported only after the bytes that came before it."""
        self._disconnected = True
        for timer in self._timers.values():
            timer.cancel()
        if not self._unread:
            self._report_loss()

    def wake(self) -> None:
        """The silence is over: process what arrived meanwhile."""
        while self._unread:
            self._read(self._unread.popleft())
        if self._disconnected:
            self._report_loss()
        self._flush()

    def write(self, frame: Frame, version: str) -> None:
        """Queue *frame*; all frames of one loop iteration are sent in one write."""
        self._outgoing.append(encode(frame, version))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close_gracefully(self) -> None:
        """Ignore further input, send the queued frames, and close."""
        self._closing = True
        if self._disconnected:
            return
        self._timers["linger"] = self._loop.call_later(LINGER_S, self._transport.abort)
        self._flush()

    def abort(self) -> None:
        """Cut the connection now (RST); drop everything that is queued or unread."""
        self._unread.clear()
        self._outgoing.clear()
        self._transport.abort()
        if self._disconnected:  # during a silence the loss is not reported yet
            self._report_loss()

    def start_heart_beats(self, send_every_s: float, expect_every_s: float) -> None:
        """Send heart-beats, and cut a client that is silent for twice its interval plus a margin; 0 disables either."""
        if send_every_s:
            # Twice per interval, because timers are late on a busy machine.
            self._beat(send_every_s / 2)
        if expect_every_s:
            self._check_liveness(2 * expect_every_s + MARGIN_S)

    def _read(self, data: bytes) -> None:
        if self._closing:
            return
        self.parser.feed(data)
        try:
            while not self._closing and (frame := self.parser.next_frame()):
                self._owner.on_frame(frame)
        except ProtocolError as error:
            self._owner.on_protocol_error(error)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport.is_closing():
            self._outgoing.clear()
        while self._outgoing and not self._paused and not self._is_silent():
            self._transport.write(self._next_chunk())
        if self._closing and not self._outgoing:
            self._close()

    def _next_chunk(self) -> bytes:
        frames = [self._outgoing.popleft()]
        size = len(frames[0])
        while self._outgoing and size < _WRITE_BYTES:
            frames.append(self._outgoing.popleft())
            size += len(frames[-1])
        return b"".join(frames)

    def _close(self) -> None:
        # Closing with unread bytes would send RST, and the client might lose the last frame: shut down only our half.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _report_loss(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
            self._owner.on_lost()

    def _beat(self, pause_s: float) -> None:
        if not (self._outgoing or self._paused or self._closing or self._is_silent()):
            self._transport.write(b"\n")
        self._timers["beat"] = self._loop.call_later(pause_s, self._beat, pause_s)

    def _check_liveness(self, limit_s: float) -> None:
        left_s = self._received_at + limit_s - self._loop.time()
        if left_s <= 0:
            self.abort()
        else:
            self._timers["liveness"] = self._loop.call_later(left_s, self._check_liveness, limit_s)

"""A stomp.py transport that notices when its peer is gone, keeps the reason of each failure and never blocks for ever.

Owns the socket and its options. It must not know what is sent over it.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from stomp.connect import StompConnection12
from stomp.transport import Transport
from stomp.utils import PollableQueue

from fastmon_daemon.base.network import connect
from fastmon_daemon.broker.frame_filter import FrameFilter

_RECEIVE_BYTES = 65536
_TCP_USER_TIMEOUT_MS = 20_000
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
# stomp.py waits without a deadline after a missed heart-beat: scaled by this, ours (`Session`) always notices first.
_HEARTBEAT_SCALE = 100.0


class StompTransport(Transport):
    """One TCP or TLS connection to *address*; `last_byte_at` (by *monotonic*) is when the last byte was received.

    With a *context* nothing is ever sent in clear: `socket` is set only after the TLS handshake.
    """

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext | None,
        connect_s: float,
        monotonic: Callable[[], float],
        before_receiving: Callable[[], None] = lambda: None,
    ) -> None:
        """*before_receiving* is called by the receiving thread when it has passed on all that has arrived."""
        super().__init__([address], auto_decode=False)
        self._address = address
        self._context = context
        self._connect_s = connect_s
        self._monotonic = monotonic
        self._before_receiving = before_receiving
        self.last_byte_at = monotonic()
        self.was_connected = False
        """Whether the connection, with its TLS handshake, was ever established."""
        self.receive_error: OSError | None = None
        self._filter = FrameFilter()
        self._held: dict[int, list[bytes]] = {}
        """Thread -> frames that it sends together."""
        self._is_aborted = False

    def attempt_connection(self) -> None:
        """Connect once. (stomp.py's own method only logs the reason of a failure, and then sleeps.)

        Raises: OSError if it failed or was aborted meanwhile; ssl.SSLError if TLS failed.
        """
        plain = connect(*self._address, self._connect_s)
        try:
            _set_options(plain)
            self.socket = self._wrap_tls(plain)
        except OSError:
            plain.close()
            raise
        if self._is_aborted:
            self.socket.close()
            if not self.blocking:
                self.shutdown_queue()
            raise OSError("aborted")
        self.socket.setblocking(self.blocking)
        self.current_host_and_port = self._address
        self.was_connected = True

    def receive(self) -> bytes:
        """The received bytes, as far as they fit into memory (see `FrameFilter`); empty at the end of the connection.

        (stomp.py would spin at the end of a TLS stream.)
        """
        self._before_receiving()
        sock = self.socket
        if sock is None or not self._send_answers():
            return b""
        passed = b""
        while not passed:
            try:
                data = sock.recv(_RECEIVE_BYTES)
                # Linux resets this option by itself; without it a batch of receipts stalls for 40 ms.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                passed = self._filter.feed(data) if data else b""
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError as exc:
                self.receive_error = self.receive_error or exc
                data = b""
            if not data:
                if not self.blocking:
                    self.shutdown_queue()
                return b""
            self.last_byte_at = self._monotonic()
        return passed

    def _send_answers(self) -> bool:
        """Send the frames that the receiving thread has kept since its last call: the ACKs of what arrived together."""
        me = threading.get_ident()
        frames, self._held[me] = self._held.get(me), []
        try:
            if frames:
                super().send(b"".join(frames))
        except OSError as exc:
            self.receive_error = self.receive_error or exc
            return False
        return True

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send the frames of this thread in the block at its end, in one piece: each one would wake the broker."""
        frames = self._held[threading.get_ident()] = []
        try:
            yield
        finally:
            del self._held[threading.get_ident()]
            if frames:
                self.send(b"".join(frames))

    def send(self, encoded_frame: bytes) -> None:
        """Send a frame, or keep it until the end of `together`; the receiving thread's until its next `receive`."""
        held = self._held.get(threading.get_ident())
        if held is None:
            super().send(encoded_frame)
        else:
            held.append(encoded_frame)

    def abort(self) -> None:
        """End the connection at once, from any thread: readers and writers wake. Sends no TLS close: it might block."""
        self._is_aborted = True
        sock = self.socket
        if sock is None:
            return  # `attempt_connection` sees `_is_aborted`
        with suppress(OSError):  # already closed
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _wrap_tls(self, plain: socket.socket) -> socket.socket:
        if self._context is None:
            return plain
        tls = self._context.wrap_socket(plain, server_hostname=self._address[0].strip("[]"))
        self.send_queue = PollableQueue()
        self.sel = selectors.DefaultSelector()
        self.sel.register(self.send_queue, selectors.EVENT_READ)
        self.sel.register(tls, selectors.EVENT_READ)
        self.blocking = False
        return tls


def stomp_connection(transport: StompTransport, heart_beat_s: float) -> StompConnection12:
    """A new STOMP connection over *transport* that offers versions 1.1 and 1.2 and heart-beats in both directions."""
    interval_ms = round(heart_beat_s * 1000)
    connection = StompConnection12(heartbeats=(interval_ms, interval_ms), heart_beat_receive_scale=_HEARTBEAT_SCALE)
    connection.version = "1.1,1.2"
    connection.transport = transport
    transport.set_listener("protocol-listener", connection)
    return connection


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)

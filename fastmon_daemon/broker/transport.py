"""A stomp.py connection that notices when its peer has gone, says why it could not connect, and never waits for ever.

Owns the socket and its options. It must not know what is sent over it.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable

from stomp.connect import StompConnection12
from stomp.transport import Transport
from stomp.utils import PollableQueue

_RECEIVE_BYTES = 65536
_UNACKNOWLEDGED_MS = 20_000
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
# Our own liveness timer cuts long before stomp.py's would, whose loss ends in a wait without a deadline.
_NEVER_FIRST = 100.0


class StompTransport(Transport):
    """One TCP or TLS connection to *address*; `heard_at` (by *monotonic*) is when its last byte came.

    With a *context* nothing is ever sent in clear: the socket does not exist before TLS stands.
    """

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext | None,
        connect_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__([address], auto_decode=False)
        self._address = address
        self._context = context
        self._connect_s = connect_s
        self._monotonic = monotonic
        self.heard_at = monotonic()
        self.stood = False
        """Whether the connection, and TLS on it, was ever made."""
        self._is_cut = False
        self.fault: OSError | None = None

    def attempt_connection(self) -> None:
        """Connect once; stomp.py's own way hides the reason of a failure in the log, and sleeps after it.

        Raises:
            OSError: it failed, or was cut meanwhile; ssl.SSLError where TLS did.
        """
        plain = socket.create_connection(self._address, self._connect_s)
        try:
            _tune(plain)
            self.socket = self._secured(plain)
        except OSError:
            plain.close()
            raise
        if self._is_cut:
            self.socket.close()
            if not self.blocking:
                self.shutdown_queue()
            raise OSError("given up")
        self.socket.setblocking(self.blocking)
        self.current_host_and_port = self._address
        self.stood = True

    def receive(self) -> bytes:
        """What came; nothing means that the connection is over (stomp.py would spin at the end of a TLS stream)."""
        sock = self.socket
        if sock is None:
            return b""
        try:
            data = sock.recv(_RECEIVE_BYTES)
            # Linux takes quick acknowledgements back by itself; without them a batch of receipts stalls for 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as exc:
            self.fault = self.fault or exc
            data = b""
        if data:
            self.heard_at = self._monotonic()
        elif not self.blocking:
            self.shutdown_queue()
        return data

    def abort(self) -> None:
        """End the connection at once from any thread: whoever reads or writes wakes; no TLS farewell that may block."""
        self._is_cut = True
        sock = self.socket
        if sock is None:
            return  # `attempt_connection` sees it
        try:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            return  # it is over already

    def _secured(self, plain: socket.socket) -> socket.socket:
        if self._context is None:
            return plain
        tls = self._context.wrap_socket(plain, server_hostname=self._address[0])
        self.send_queue = PollableQueue()
        self.sel = selectors.DefaultSelector()
        self.sel.register(self.send_queue, selectors.EVENT_READ)
        self.sel.register(tls, selectors.EVENT_READ)
        self.blocking = False
        return tls


def connection_over(transport: StompTransport, heart_beat_s: float) -> StompConnection12:
    """A fresh STOMP connection over *wire* that offers 1.1 and 1.2, and heart-beats both ways."""
    beat_ms = round(heart_beat_s * 1000)
    connection = StompConnection12(heartbeats=(beat_ms, beat_ms), heart_beat_receive_scale=_NEVER_FIRST)
    connection.version = "1.1,1.2"
    connection.transport = transport
    transport.set_listener("protocol-listener", connection)
    return connection


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)

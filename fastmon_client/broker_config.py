"""Connection parameters of the broker, for `--transport stomp`, and the STOMP transport."""

from __future__ import annotations

import re
import selectors
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stomp.connect import StompConnection12
from stomp.transport import Transport
from stomp.utils import PollableQueue

from fastmon_client.addresses import checked_host, connect
from fastmon_client.environment import from_home, lookup, secret_source
from fastmon_client.files import read_text
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.stomp_frames import MAX_FRAME_BYTES, FrameFilter

CONNECT_S = 10.0
"""Longest time to connect, and to log in."""
HEART_BEAT_MS = 8000
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """One broker and one destination."""

    host: str
    port: int
    topic: str
    user: str = ""
    password: Callable[[], str] = field(default=lambda: "", repr=False)
    """Called for each connection; raises OSError if its file cannot be read."""
    use_tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str], topic: str) -> BrokerConfig:
        """From the testbed's environment variables.

        Raises: ValueError that names an invalid variable and the fix.
        """
        variables = {name: text for name, text in environ.items() if text}
        host = variables.get("ACTIVEMQ_HOST", "localhost")
        if re.search(r"[\s/@?#]", host):  # may contain a password: do not show it
            raise ValueError("invalid ACTIVEMQ_HOST: set a host name or an address, without user and password")
        try:
            host = checked_host(host)
        except ValueError as exc:
            raise ValueError(f"invalid ACTIVEMQ_HOST: {exc}: set a host name or an address") from None
        port = variables.get("ACTIVEMQ_PORT", "61612")
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"invalid ACTIVEMQ_PORT={port}: set a port from 1 to 65535")
        ca = lookup(variables, "ACTIVEMQ_SSL_CA_CERTS", "MQ_CAFILE")
        tls_setting = variables.get("ACTIVEMQ_USE_SSL")
        use_tls = tls_setting.lower() in _YES if tls_setting else "MQ_CAFILE" in variables
        if tls_setting and tls_setting.lower() not in (*_YES, *_NO):  # never fall back to a plaintext password
            raise ValueError(f"invalid ACTIVEMQ_USE_SSL={tls_setting}: set True or False")
        if use_tls and not ca:
            raise ValueError(f"ACTIVEMQ_USE_SSL={tls_setting} without a CA file: set ACTIVEMQ_SSL_CA_CERTS")
        password, file = secret_source(variables, "ACTIVEMQ_PASSWORD", "MQ_PASSWD")
        cert, key = (variables.get(f"ACTIVEMQ_SSL_{each}_FILE") for each in ("CERT", "KEY"))
        return cls(
            host=host,
            port=int(port),
            topic=topic,
            user=lookup(variables, "ACTIVEMQ_USER", "MQ_USER") or "",
            password=(lambda: read_text(file).strip()) if file else lambda: password or "",
            use_tls=use_tls,
            ca=str(from_home(ca)) if ca else None,
            cert=str(from_home(cert)) if cert else None,
            key=str(from_home(key)) if key else None,
        )

    @property
    def url(self) -> str:
        """For log lines and reasons."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"stomp://{host}:{self.port}{self.topic}"

    def connection(self) -> tuple[StompConnection12, StompTransport]:
        """A new, unconnected STOMP 1.1 or 1.2 connection with heart-beats both ways, and its transport."""
        # TopicStream has its own timer: stomp.py's would close a healthy link with late heart-beats.
        connection = StompConnection12(heartbeats=(HEART_BEAT_MS, HEART_BEAT_MS), heart_beat_receive_scale=100.0)
        connection.version = "1.1,1.2"
        connection.transport = transport = StompTransport(self)
        transport.set_listener("protocol-listener", connection)
        return connection, transport

    def tls(self) -> ssl.SSLContext | None:
        """A context that verifies the certificate and the host name; None without TLS.

        Raises: OSError if a file cannot be used.
        """
        if not self.use_tls:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context


class StompTransport(Transport):
    """stomp.py's transport with one connection attempt, its error as the reason, and an end at the peer's close."""

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__([(config.host, config.port)], auto_decode=False)
        self._config = config
        self._frames, self._log = FrameFilter(), LogThrottle()

    def attempt_connection(self) -> None:
        """Connect, with TLS if configured.

        Raises: OSError if there is no connection within `CONNECT_S`, or no TLS.
        """
        context = self._config.tls()
        sock = connect(self._config.host, self._config.port, CONNECT_S)
        try:
            self.socket = sock if context is None else self._wrap_tls(context, sock)
        except OSError:
            sock.close()
            raise
        self.socket.setblocking(self.blocking)
        self.current_host_and_port = (self._config.host, self._config.port)

    def _wrap_tls(self, context: ssl.SSLContext, sock: socket.socket) -> socket.socket:
        secured = context.wrap_socket(sock, server_hostname=self._config.host)
        self.send_queue, self.sel = PollableQueue(), selectors.DefaultSelector()
        for each in (self.send_queue, secured):
            self.sel.register(each, selectors.EVENT_READ)
        self.blocking = False  # as stomp.py does with TLS
        return secured

    def receive(self) -> bytes:
        """Whole frames, and line ends; empty at the end, also for TLS, where stomp.py would spin."""
        data, dropped = b"", self._frames.dropped
        try:
            while self.socket is not None and not data and (chunk := self.socket.recv(65536)):
                data = self._frames.feed(chunk)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            data = b""
        if self._frames.dropped > dropped:
            self._log.record("frame", f"message skipped: its frame is longer than {MAX_FRAME_BYTES} bytes")
        if not data and not self.blocking:
            self.shutdown_queue()
        return data

    def abort(self) -> None:
        """Close the connection at once; callable from any thread."""
        try:
            if self.socket is not None:
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        except OSError:
            return  # already closed

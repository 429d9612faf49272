"""The broker for those who sit beside it: how it is reached, and one STOMP connection to it.

Owns the socket. It must not know what a message means, nor when to connect again.
"""

from __future__ import annotations

import re
import selectors
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stomp.connect import StompConnection12
from stomp.transport import Transport
from stomp.utils import PollableQueue

CONNECT_S = 10.0
"""How long a connection, and then the answer to the login, may take."""
HEART_BEAT_MS = 8000
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """One broker and one destination of it."""

    host: str
    port: int
    topic: str
    user: str = ""
    password: Callable[[], str] = field(default=lambda: "", repr=False)
    """Asked at each connection. Raises OSError where its file cannot be read."""
    use_tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str], topic: str) -> BrokerConfig:
        """The broker that the testbed's variables name.

        Raises:
            ValueError: a variable cannot be used; names it, and the remedy.
        """
        given = {name: text for name, text in environ.items() if text}
        host = given.get("ACTIVEMQ_HOST", "localhost")
        if re.search(r"[\s/@?#]", host):  # it may hold a password, and is not to be shown
            raise ValueError("ACTIVEMQ_HOST: give a host name or an address alone, no user and no password")
        port = given.get("ACTIVEMQ_PORT", "61612")
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"ACTIVEMQ_PORT={port}: give a port, 1 to 65535")
        ca = given.get("ACTIVEMQ_SSL_CA_CERTS") or given.get("MQ_CAFILE")
        asked = given.get("ACTIVEMQ_USE_SSL")
        use_tls = asked.lower() in _YES if asked else "MQ_CAFILE" in given
        if asked and asked.lower() not in (*_YES, *_NO):  # else the password would cross the network in clear
            raise ValueError(f"ACTIVEMQ_USE_SSL={asked}: write True or False")
        if use_tls and not ca:
            raise ValueError(f"ACTIVEMQ_USE_SSL={asked} without a CA file: set ACTIVEMQ_SSL_CA_CERTS")
        file = given.get("ACTIVEMQ_PASSWORD_FILE") or given.get("MQ_PASSWD_FILE")
        known = given.get("ACTIVEMQ_PASSWORD") or given.get("MQ_PASSWD") or ""
        return cls(
            host=host,
            port=int(port),
            topic=topic,
            user=given.get("ACTIVEMQ_USER") or given.get("MQ_USER") or "",
            password=(lambda: Path(file).read_text(encoding="utf-8").strip()) if file else lambda: known,
            use_tls=use_tls,
            ca=ca,
            cert=given.get("ACTIVEMQ_SSL_CERT_FILE"),
            key=given.get("ACTIVEMQ_SSL_KEY_FILE"),
        )

    @property
    def where(self) -> str:
        """For people."""
        return f"stomp://{self.host}:{self.port}{self.topic}"

    def connection(self) -> tuple[StompConnection12, StompTransport]:
        """A fresh connection, not yet made, that offers STOMP 1.1 and 1.2 and heart-beats both ways; and its socket."""
        # Whoever reads it judges by its own timer: stomp.py's would cut a healthy link whose beats come late.
        found = StompConnection12(heartbeats=(HEART_BEAT_MS, HEART_BEAT_MS), heart_beat_receive_scale=100.0)
        found.version = "1.1,1.2"
        found.transport = made = StompTransport(self)
        made.set_listener("protocol-listener", found)
        return found, made

    def tls(self) -> ssl.SSLContext | None:
        """What checks the chain and the host name; None without TLS.

        Raises:
            OSError: a file cannot be used.
        """
        if not self.use_tls:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context


class StompTransport(Transport):
    """stomp.py's transport, which connects once and tells the reason, and ends where its peer has ended."""

    def __init__(self, monitor: BrokerConfig) -> None:
        super().__init__([(monitor.host, monitor.port)], auto_decode=False)
        self._monitor = monitor

    def attempt_connection(self) -> None:
        """Connect; nothing is sent in clear where TLS is asked for.

        Raises:
            OSError: no connection within `CONNECT_S`, or no TLS.
        """
        context = self._monitor.tls()
        made = socket.create_connection((self._monitor.host, self._monitor.port), CONNECT_S)
        try:
            self.socket = made if context is None else self._wrapped(context, made)
        except OSError:
            made.close()
            raise
        self.socket.setblocking(self.blocking)
        self.current_host_and_port = (self._monitor.host, self._monitor.port)

    def _wrapped(self, context: ssl.SSLContext, made: socket.socket) -> socket.socket:
        secured = context.wrap_socket(made, server_hostname=self._monitor.host)
        self.send_queue, self.sel = PollableQueue(), selectors.DefaultSelector()
        for each in (self.send_queue, secured):
            self.sel.register(each, selectors.EVENT_READ)
        self.blocking = False  # as stomp.py does with TLS
        return secured

    def receive(self) -> bytes:
        """What came; nothing at the end, also at that of a TLS stream, where stomp.py would spin."""
        try:
            data = b"" if self.socket is None else self.socket.recv(65536)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            data = b""
        if not data and not self.blocking:
            self.shutdown_queue()
        return data

    def cut(self) -> None:
        """End the connection at once, from any thread."""
        try:
            if self.socket is not None:
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        except OSError:
            return  # it is over already

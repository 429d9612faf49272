"""Probes of the broker for `check`, safe beside a running daemon: no client id, no durable subscription.

Each leaves nothing behind. Each raises LinkDown or LinkBlocked. This module must not know what is concluded from them.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.session import Session
from fastmon_daemon.broker.transport import StompTransport
from fastmon_daemon.broker.unacked_buffer import StorageErrorLog

PROBE_TIMEOUT_S = 5.0
"""Timeout for each response of the broker."""


def check_reachable(parameters: ConnectionParameters) -> str:
    """Connect, with TLS if configured; return a description of the connection."""
    transport = StompTransport(
        (parameters.host, parameters.port), parameters.tls_context(), PROBE_TIMEOUT_S, time.monotonic
    )
    try:
        transport.attempt_connection()
    except OSError as exc:
        raise parameters.connect_error(exc) from exc
    assert transport.socket is not None
    with transport.socket as sock:
        version = sock.version() if isinstance(sock, ssl.SSLSocket) else None
        if not transport.blocking:
            transport.shutdown_queue()  # stomp.py has one only with TLS
    return f"{version}, certificate and host name verified" if version else "plain TCP, no TLS"


def check_login(parameters: ConnectionParameters, subscribe: str = "") -> None:
    """Log in, subscribe briefly to the topic *subscribe* (if not empty), and disconnect.

    Never name a queue: this would consume the daemon's messages.
    """
    with _session(parameters, subscribe, lambda _: None):
        pass


def check_sending(parameters: ConnectionParameters) -> None:
    """Send to each announce destination, in a transaction that is aborted: nobody receives anything."""
    with _session(parameters, "", lambda _: None) as session:
        session.try_sending(parameters.announce)


def measure_round_trip(parameters: ConnectionParameters) -> tuple[float, float]:
    """Send a message to a topic that nobody else uses; return the seconds until its RECEIPT and until its arrival."""
    topic = f"/topic/fastmon.check.{uuid4().hex}"
    text, arrived = json.dumps({"fastmon_check": topic}), threading.Event()

    def accept(body: bytes) -> None:
        if body.decode(errors="replace") == text:
            arrived.set()

    with _session(parameters, topic, accept) as session:
        began = time.monotonic()
        session.announce((topic,), text, {"content-type": "application/json"})
        confirmed = time.monotonic() - began
        if not arrived.wait(PROBE_TIMEOUT_S):
            raise LinkDown(
                f"the broker confirmed a message to {topic}, but did not deliver it in {PROBE_TIMEOUT_S:g} s"
            )
        return confirmed, time.monotonic() - began


@contextmanager
def _session(parameters: ConnectionParameters, subscribe: str, accept: Callable[[bytes], None]) -> Iterator[Session]:
    own = replace(parameters, subscribe=subscribe, durable=False, connect_s=PROBE_TIMEOUT_S, receipt_s=PROBE_TIMEOUT_S)
    answered = threading.Event()
    session = Session(own, accept, time.monotonic, answered, StorageErrorLog())
    try:
        session.open()
        if not answered.wait(PROBE_TIMEOUT_S):
            raise own.timeout_error(PROBE_TIMEOUT_S)
        session.subscribe()
        yield session
    except LinkDown as exc:
        session.abort(exc)
        raise
    session.close()
    session.check_liveness()

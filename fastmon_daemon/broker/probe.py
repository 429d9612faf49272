"""The broker tried out once, beside a daemon at work: with no client id, no durable name, and nothing of its own left.

It must not know what is concluded from it.
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

PROBE_TIMEOUT_S = 5.0
"""For each answer of the broker."""


def check_reachable(parameters: ConnectionParameters) -> str:
    """Connect, with TLS where it is asked for, and say how; raises LinkDown, LinkBlocked."""
    transport = StompTransport(
        (parameters.host, parameters.port), parameters.tls_context(), PROBE_TIMEOUT_S, time.monotonic
    )
    try:
        transport.attempt_connection()
    except OSError as exc:
        raise parameters.connect_error(exc) from exc
    assert transport.socket is not None
    with transport.socket as reached:
        version = reached.version() if isinstance(reached, ssl.SSLSocket) else None
        if not transport.blocking:
            transport.shutdown_queue()  # stomp.py's, which TLS alone has
    return f"{version}, certificate and host name are right" if version else "plain TCP, no TLS"


def check_login(parameters: ConnectionParameters, subscribe: str = "") -> None:
    """Log in, subscribe for a moment to *subscribe* where it is named, and say goodbye; raises LinkDown, LinkBlocked.

    Only for topics: of a queue it would take messages that are the daemon's.
    """
    with _session(parameters, subscribe, lambda _: None):
        pass


def measure_round_trip(parameters: ConnectionParameters) -> tuple[float, float]:
    """Send a message to a topic that nobody else uses; the seconds until its RECEIPT, and until it was back.

    Raises LinkDown, LinkBlocked.
    """
    scratch = f"/topic/fastmon.check.{uuid4().hex}"
    text, came = json.dumps({"fastmon_check": scratch}), threading.Event()

    def accept(body: bytes) -> None:
        if body.decode(errors="replace") == text:
            came.set()

    with _session(parameters, scratch, accept) as session:
        begun = time.monotonic()
        session.announce((scratch,), text, {"content-type": "application/json"})
        confirmed = time.monotonic() - begun
        if not came.wait(PROBE_TIMEOUT_S):
            raise LinkDown(
                f"the broker confirmed a message to {scratch}, but did not deliver it in {PROBE_TIMEOUT_S:g} s"
            )
        return confirmed, time.monotonic() - begun


@contextmanager
def _session(parameters: ConnectionParameters, subscribe: str, accept: Callable[[bytes], None]) -> Iterator[Session]:
    own = replace(parameters, subscribe=subscribe, durable=False, connect_s=PROBE_TIMEOUT_S, receipt_s=PROBE_TIMEOUT_S)
    answered = threading.Event()
    session = Session(own, accept, time.monotonic, answered)
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

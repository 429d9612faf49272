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

from fastmon_daemon.broker.login import BrokerLogin
from fastmon_daemon.broker.session import Session
from fastmon_daemon.broker.wire import Wire
from fastmon_daemon.errors import LinkDown

PATIENCE_S = 5.0
"""For each answer of the broker."""


def reach(login: BrokerLogin) -> str:
    """Connect, with TLS where it is asked for, and say how; raises LinkDown, LinkHeld."""
    wire = Wire((login.host, login.port), login.tls_context(), PATIENCE_S, time.monotonic)
    try:
        wire.attempt_connection()
    except OSError as exc:
        raise login.fault(exc) from exc
    assert wire.socket is not None
    with wire.socket as reached:
        version = reached.version() if isinstance(reached, ssl.SSLSocket) else None
        if not wire.blocking:
            wire.shutdown_queue()  # stomp.py's, which TLS alone has
    return f"{version}, certificate and host name are right" if version else "plain TCP, no TLS"


def log_in(login: BrokerLogin, subscribe: str = "") -> None:
    """Log in, subscribe for a moment to *subscribe* where it is named, and say goodbye; raises LinkDown, LinkHeld.

    Only for topics: of a queue it would take messages that are the daemon's.
    """
    with _session(login, subscribe, lambda _: None):
        pass


def round_trip(login: BrokerLogin) -> tuple[float, float]:
    """Send a message to a topic that nobody else uses; the seconds until its RECEIPT, and until it was back.

    Raises LinkDown, LinkHeld.
    """
    scratch = f"/topic/fastmon.check.{uuid4().hex}"
    text, came = json.dumps({"fastmon_check": scratch}), threading.Event()

    def accept(body: bytes) -> None:
        if body.decode(errors="replace") == text:
            came.set()

    with _session(login, scratch, accept) as session:
        begun = time.monotonic()
        session.announce((scratch,), text, {"content-type": "application/json"})
        confirmed = time.monotonic() - begun
        if not came.wait(PATIENCE_S):
            raise LinkDown(f"the broker confirmed a message to {scratch}, but did not deliver it in {PATIENCE_S:g} s")
        return confirmed, time.monotonic() - begun


@contextmanager
def _session(login: BrokerLogin, subscribe: str, accept: Callable[[bytes], None]) -> Iterator[Session]:
    own = replace(login, subscribe=subscribe, durable=False, connect_s=PATIENCE_S, receipt_s=PATIENCE_S)
    answered = threading.Event()
    session = Session(own, accept, time.monotonic, answered)
    try:
        session.knock()
        if not answered.wait(PATIENCE_S):
            raise own.no_answer(PATIENCE_S)
        session.enter()
        yield session
    except LinkDown as exc:
        session.cut(exc)
        raise
    session.finish()
    session.watch()

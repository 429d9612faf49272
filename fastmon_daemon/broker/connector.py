"""Overlapping attempts to connect: a new one every few seconds, while earlier ones may still be answered.

An attempt that was begun while packets were lost is never answered and must not delay the next one; a broker that is
only slow answers the first. This module must not know when to connect, nor what a session does afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from loguru import logger

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.session import Session
from fastmon_daemon.broker.unacked_buffer import Accept, StorageErrorLog

OVERLAP_AFTER_S = 4.0
"""An attempt that is unanswered for this long is followed by another, in seconds."""


class Connector:
    """The attempts of one link: each runs in its own thread and is abandoned after `ConnectionParameters.connect_s`."""

    def __init__(self, parameters: ConnectionParameters, accept: Accept, monotonic: Callable[[], float]) -> None:
        self._parameters = parameters
        self._accept = accept
        self._monotonic = monotonic
        self._answered = threading.Event()
        self.storage_error_log = StorageErrorLog()
        self._pending: list[Session] = []
        self.closed = False

    def connect(self) -> Session:
        """Return a session that the broker has accepted, from this call's attempt or an earlier one.

        Raises: LinkBlocked if an operator must fix login, permissions or TLS; else LinkDown, also if unanswered so far.
        """
        too_old = self._monotonic() - self._parameters.connect_s
        found = self._first_answered()
        self._abandon([each for each in self._pending if each.begun_at < too_old])
        wait_s = min(OVERLAP_AFTER_S, self._parameters.connect_s)
        if found is None:
            self._start()
        until = self._monotonic() + wait_s
        while found is None and (left_s := until - self._monotonic()) > 0 and not self.closed:
            self._answered.wait(left_s)
            self._answered.clear()
            found = self._first_answered()
        if self.closed:
            self._abandon([*self._pending, *([found] if found else [])])
            raise LinkDown("stopped")
        if found is None:
            raise self._parameters.timeout_error(wait_s)
        return found

    def close(self) -> None:
        """Abandon all attempts and begin no other; from any thread."""
        self.closed = True
        for each in list(self._pending):  # `connect` abandons one that is begun now
            each.abort(LinkDown("stopped"))  # wakes `connect`

    def _start(self) -> None:
        session = Session(self._parameters, self._accept, self._monotonic, self._answered, self.storage_error_log)
        self._pending.append(session)
        threading.Thread(target=_open, args=(session,), name="broker-attempt", daemon=True).start()

    def _first_answered(self) -> Session | None:
        """An accepted session, abandoning all others; else a rejected one, which knows the reason; else None."""
        answered = [each for each in self._pending if each.is_answered]
        found = min(answered, key=lambda each: each.is_closed, default=None)
        if found is not None:
            self._pending.remove(found)
            self._abandon(answered if found.is_closed else self._pending)
        return found

    def _abandon(self, sessions: list[Session]) -> None:
        for each in sessions:
            each.abort(LinkDown("abandoned: another attempt was answered first, or this one was not answered in time"))
        self._pending = [each for each in self._pending if each not in sessions]


def _open(session: Session) -> None:
    try:
        session.open()
    except LinkDown as exc:
        session.abort(exc)
    except Exception as exc:  # noqa: BLE001 (the attempt must end, whatever the error)
        logger.exception("broker link: unexpected error while connecting")
        session.abort(LinkDown(f"unexpected {type(exc).__name__}: {exc}"))

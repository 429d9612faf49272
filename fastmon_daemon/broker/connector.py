"""Attempts to be let in by the broker: a new one every few seconds, while earlier ones may still be answered.

One that was begun while packets vanished is never answered, and must not delay the next; a broker that is slow, not
gone, answers the first. It must not know what a session does once it is let in, nor when to try at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from loguru import logger

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.session import Session
from fastmon_daemon.broker.unacked_buffer import Accept, LogThrottle

OVERLAP_AFTER_S = 4.0
"""So long is an attempt waited for before another is begun, in seconds."""


class Connector:
    """Those of one link, each begun in a thread of its own and given up after the login's `connect_s`."""

    def __init__(self, parameters: ConnectionParameters, accept: Accept, monotonic: Callable[[], float]) -> None:
        self._parameters = parameters
        self._accept = accept
        self._monotonic = monotonic
        self._answered = threading.Event()
        self._trouble = LogThrottle()
        self._waiting: list[Session] = []
        self.over = False
        """Whether they were ended."""

    def connect(self) -> Session:
        """The session that the broker has let in: one of an earlier call, or else one that is begun now.

        Raises:
            LinkBlocked: a person must mend login, permissions or TLS.
            LinkDown: anything else, also that there is no answer yet.
        """
        too_old = self._monotonic() - self._parameters.connect_s
        found = self._first_answered()
        self._abandon([each for each in self._waiting if each.begun_at < too_old])
        quick_s = min(OVERLAP_AFTER_S, self._parameters.connect_s)
        if found is None:
            self._start()
        until = self._monotonic() + quick_s
        while found is None and (left_s := until - self._monotonic()) > 0 and not self.over:
            self._answered.wait(left_s)
            self._answered.clear()
            found = self._first_answered()
        if self.over:
            self._abandon([*self._waiting, *([found] if found else [])])
            raise LinkDown("stopped")
        if found is None:
            raise self._parameters.timeout_error(quick_s)
        return found

    def close(self) -> None:
        """Give all up, and let no other in; from any thread."""
        self.over = True
        for each in list(self._waiting):  # one that is begun now is left by `let_in`
            each.abort(LinkDown("stopped"))  # which wakes `let_in`

    def _start(self) -> None:
        session = Session(self._parameters, self._accept, self._monotonic, self._answered, self._trouble)
        self._waiting.append(session)
        threading.Thread(target=_knock, args=(session,), name="broker-attempt", daemon=True).start()

    def _first_answered(self) -> Session | None:
        """The session that was let in, all others left; else one that was refused, and says why; else none."""
        answered = [each for each in self._waiting if each.is_answered]
        found = min(answered, key=lambda each: each.is_closed, default=None)
        if found is not None:
            self._waiting.remove(found)
            self._abandon(answered if found.is_closed else self._waiting)
        return found

    def _abandon(self, sessions: list[Session]) -> None:
        for each in sessions:
            each.abort(LinkDown("another attempt was answered, or none in time"))
        self._waiting = [each for each in self._waiting if each not in sessions]


def _knock(session: Session) -> None:
    try:
        session.open()
    except LinkDown as exc:
        session.abort(exc)
    except Exception as exc:  # noqa: BLE001 (the attempt must end, whatever it is)
        logger.exception("attempt to connect: unexpected error")
        session.abort(LinkDown(f"unexpected {type(exc).__name__}: {exc}"))

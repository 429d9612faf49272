"""The link to the broker: one thread connects, watches the connection and reconnects until it is stopped.

It must not know frames or sockets.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from loguru import logger

from fastmon_daemon.base.backoff import Backoff, retry_until_stopped
from fastmon_daemon.base.errors import LinkBlocked, LinkDown
from fastmon_daemon.broker.connector import OVERLAP_AFTER_S, Connector
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.session import Session
from fastmon_daemon.broker.unacked_buffer import Accept

WHEN_DOWN = Backoff(first_s=0.5, longest_s=5.0, shortest_s=0.5)
"""Pauses between attempts while the link is down: short, so that work resumes soon after the broker is back."""
WHEN_BLOCKED = Backoff(first_s=30.0, longest_s=30.0, shortest_s=0.5)
"""Pauses while the link is blocked: an operator must first fix a setting."""
_TYPE = re.compile(r'\{"msg_type": "([a-z_]+)",')
STABLE_AFTER_S = 30.0
"""A connection that lasted this long resets the pauses; one that was lost earlier does not."""


@dataclass(frozen=True)
class LinkStateChange:
    """The link is up, or down for *reason*; *blocked*: it stays down until an operator has fixed the reason.

    *on_trial*: messages may be sent, but the broker has confirmed none since it rejected one.
    """

    up: bool
    reason: str
    blocked: bool = False
    on_trial: bool = False


class BrokerConnection:
    """The link of this process to the message broker.

    *accept* parses the body of one message on stomp.py's thread. It returns the function that stores the message, or
    None if nothing needs to be stored. A message is acknowledged only after both have returned without an error.
    *changed* gets every change of the link's state, including the first "down", on the link's own thread, and logs it;
    with None the connection does. *stopping* ends the pauses between attempts; an established connection lives until
    `stop`. *name* begins its log lines.
    """

    def __init__(
        self,
        parameters: ConnectionParameters,
        *,
        accept: Accept,
        changed: Callable[[LinkStateChange], None] | None,
        stopping: threading.Event,
        name: str = "broker link",
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._parameters = parameters
        self._changed = changed
        self._stopping = stopping
        self._monotonic = monotonic
        self._jitter = jitter
        self._name = name
        self._thread = threading.Thread(target=self._run, name=name.replace(" ", "-"), daemon=True)
        self._session: Session | None = None
        self._connector = Connector(parameters, accept, monotonic)
        self._state = LinkStateChange(up=False, reason="")
        self._is_known = threading.Event()
        self._must_try_sending = False
        self._was_up = False
        """Whether the link was up when it was stopped."""

    @property
    def up(self) -> bool:
        """Whether the connection is open, the broker has confirmed the subscription, and takes messages."""
        return self._state.up and not self._state.on_trial

    @property
    def buffered(self) -> int:
        """Number of messages that are buffered, unacknowledged, because they cannot be stored. For any thread."""
        session = self._session
        return session.buffered if session is not None else 0

    @property
    def storage_error(self) -> str:
        """Why messages are buffered; empty while they can be stored. For any thread."""
        return self._connector.storage_error_log.latest

    def start(self) -> None:
        """Start the link's thread, which connects."""
        self._thread.start()

    def begin_stop(self) -> None:
        """Set *stopping* and send DISCONNECT; returns at once."""
        self._was_up |= self._state.up
        self._stopping.set()
        self._connector.close()  # before the session is read: one that is answered later ends itself
        session = self._session
        if session is not None:
            session.close() if self._state.up else session.abort(LinkDown("stopped"))

    def stop(self, deadline_s: float) -> bool:
        """As `begin_stop`, and end the thread within *deadline_s* seconds.

        Returns True if the broker has confirmed DISCONNECT, or if the link was not up.
        """
        self.begin_stop()
        if not self._thread.is_alive():
            return True
        session = self._session
        self._thread.join(deadline_s * 0.9)
        if self._thread.is_alive() and session is not None:
            session.abort(LinkDown("stopped before the broker confirmed DISCONNECT"))
            self._thread.join(deadline_s * 0.1)
        return not self._was_up or (session is not None and session.is_clean and not self._thread.is_alive())

    def probe(self) -> None:
        """Return if the link is up; never waits.

        Raises: LinkDown; LinkBlocked if an operator must act.
        """
        state = self._state
        if not state.up:
            raise (LinkBlocked if state.blocked else LinkDown)(state.reason or "not connected to the broker yet")

    def send(self, body: str, event_id: str) -> Future[None]:
        """Send the JSON object *body* to every announce destination; the future is done when the broker confirmed each.

        *event_id* is the same at every repetition; a broker with duplicate detection drops the repetitions. The future
        fails with LinkDown or LinkBlocked if the connection is lost before the last RECEIPT (outcome unknown).

        Raises: LinkDown, LinkBlocked if nothing can be sent.
        """
        if self._thread.is_alive():
            self._is_known.wait(OVERLAP_AFTER_S)  # at the start: the first attempt is not answered yet
        session = self._session
        self.probe()
        assert session is not None  # an up link has a session; one that ended since raises LinkDown below
        headers = {
            "persistent": "true",
            "content-type": "application/json",
            "_AMQ_DUPL_ID": event_id,
            "msg_type": _type_of(body),
        }
        return _all_of(session.send(self._parameters.announce, body, headers))

    def together(self) -> AbstractContextManager[None]:
        """What this thread sends in the context is sent at its end, in one piece."""
        return self._session.together() if self._session is not None else nullcontext()

    def announce(self, body: str, event_id: str) -> None:
        """As `send`, but return when the broker has confirmed each message, and raise what its future fails with."""
        self.send(body, event_id).result()  # the thread that watches the connection ends it if a RECEIPT is overdue

    def _run(self) -> None:
        spent_s, stable = 0.0, 0  # the number of the last attempt whose connection was stable

        def attempt() -> NoReturn:
            nonlocal spent_s
            began = self._monotonic()
            end = self._run_session()
            self._report(LinkStateChange(up=False, reason=str(end), blocked=isinstance(end, LinkBlocked)))
            spent_s = self._monotonic() - began
            raise end

        def pause_s(number: int) -> float:
            nonlocal stable
            if spent_s > STABLE_AFTER_S:
                stable = number
            backoff = WHEN_BLOCKED if self._state.blocked else WHEN_DOWN
            return max(backoff.shortest_s, backoff.pause_s(number - stable + 1, self._jitter) - spent_s)

        with suppress(LinkDown):  # the end of the last connection
            retry_until_stopped(self._stopping, pause_s=pause_s)(attempt)

    def _run_session(self) -> LinkDown:
        """Connect and watch the connection until it ends; return the reason of its end."""
        try:
            session = self._session = self._connector.connect()
            if self._connector.closed:
                raise LinkDown("stopped")
            session.subscribe()
            if self._must_try_sending:  # else the next announcement would find out, and so every half minute
                session.try_sending(self._parameters.announce)
            return session.check_liveness(partial(self._report_up, session))
        except Exception as exc:  # noqa: BLE001 (without this thread the daemon would never reconnect)
            end = exc if isinstance(exc, LinkDown) else LinkDown(f"unexpected {type(exc).__name__}: {exc}")
            if end is not exc:
                logger.exception("{}: unexpected error", self._name)
            if self._session is not None:
                self._session.abort(end)
            return end
        finally:
            self._must_try_sending |= self._session is not None and self._session.send_failed

    def _report_up(self, session: Session) -> None:
        self._must_try_sending = on_trial = session.on_trial
        reason = f"connected to the broker at {self._parameters.address}"
        self._report(LinkStateChange(up=True, reason=reason, on_trial=on_trial))

    def _report(self, change: LinkStateChange) -> None:
        before, self._state = self._state, change
        self._is_known.set()
        if change == before:
            return
        is_known = change.blocked and (before.blocked or before.on_trial)
        is_news = not (is_known or change.on_trial)
        if self._changed is not None or not is_news:
            log = logger.debug
        else:
            log = logger.info if change.up or self._stopping.is_set() else logger.warning
        log("{} {}: {}", self._name, "up" if change.up else "blocked" if change.blocked else "down", change.reason)
        if self._changed is not None:
            self._changed(change)


def _type_of(body: str) -> str:
    """The `msg_type` of a message; ours begin with it."""
    found = _TYPE.match(body)
    return found[1] if found else str(json.loads(body).get("msg_type", ""))


def _all_of(parts: list[Future[None]]) -> Future[None]:
    """A future that is done when all *parts* are, and fails with the first failure."""
    if len(parts) == 1:
        return parts[0]
    whole, missing = Future[None](), set(parts)

    def part_done(part: Future[None]) -> None:
        missing.discard(part)
        error = part.exception()
        with suppress(InvalidStateError):  # one failed before
            if error is not None:
                whole.set_exception(error)
            elif not missing:
                whole.set_result(None)

    for part in parts:
        part.add_done_callback(part_done)
    return whole

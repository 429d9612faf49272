"""The link to the broker: one thread that connects, watches, and connects again until it is told to stop.

Owns that thread and the news of the link. It must not know frames or sockets.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from fastmon_daemon.base.backoff import Backoff
from fastmon_daemon.base.errors import LinkBlocked, LinkDown
from fastmon_daemon.broker.connector import Connector
from fastmon_daemon.broker.parameters import ConnectionParameters
from fastmon_daemon.broker.session import Session
from fastmon_daemon.broker.unacked_buffer import Accept

DOWN = Backoff(first_s=0.5, longest_s=5.0, shortest_s=0.5)
"""From one attempt to the next at a link that is down: work goes on so soon after the broker is back."""
HELD = Backoff(first_s=30.0, longest_s=30.0, shortest_s=0.5)
"""The same for a link that is held: a person must mend a setting first."""
STABLE_AFTER_S = 30.0
"""A link that lived for so long was mended; one that was lost at once was not, and its pauses go on growing."""


@dataclass(frozen=True)
class LinkStateChange:
    """The link is up, or down for *reason*; *held*: it stays down until a person has mended what the reason names."""

    up: bool
    reason: str
    blocked: bool = False


class BrokerConnection:
    """The link of this process to the message broker.

    *accept* reads the body of one message, on stomp.py's thread, and gives what stores it, or None where nothing is
    to be stored; until that has returned without an error the message is not acknowledged. *changed* is told every
    change, the first "down" too, from the link's own thread. *stopping* ends every wait between attempts; an
    established link lives until `stop`.
    """

    def __init__(
        self,
        parameters: ConnectionParameters,
        *,
        accept: Accept,
        changed: Callable[[LinkStateChange], None],
        stopping: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._parameters = parameters
        self._accept = accept
        self._changed = changed
        self._stopping = stopping
        self._monotonic = monotonic
        self._jitter = jitter
        self._thread = threading.Thread(target=self._run, name="broker-link", daemon=True)
        self._session: Session | None = None
        self._attempts = Connector(parameters, accept, monotonic)
        self._told: LinkStateChange | None = None

    @property
    def up(self) -> bool:
        """Whether the broker has confirmed the subscription and the connection stands."""
        return self._told is not None and self._told.up

    @property
    def buffered(self) -> int:
        """How many messages wait unacknowledged, since they cannot be stored. Any thread may ask."""
        session = self._session
        return session.buffered if session is not None else 0

    def start(self) -> None:
        """Begin to connect, in the link's own thread."""
        self._thread.start()

    def stop(self, deadline_s: float) -> bool:
        """Say goodbye (DISCONNECT with receipt), set *stopping*, end the thread; False if that did not end clean.

        Where no link stands there is nothing to say: True. It returns within *deadline_s* seconds.
        """
        self._stopping.set()
        self._attempts.close()  # before the session is read: one that is let in later ends itself
        if not self._thread.is_alive():
            return True
        was_up, session = self.up, self._session
        if session is not None:
            session.close() if was_up else session.abort(LinkDown("stopped"))
        self._thread.join(deadline_s * 0.9)
        if self._thread.is_alive() and session is not None:
            session.abort(LinkDown("stopped before the broker confirmed the goodbye"))
            self._thread.join(deadline_s * 0.1)
        return not was_up or (session is not None and session.is_clean and not self._thread.is_alive())

    def probe(self) -> None:
        """Return where the link is up, at once in any case.

        Raises:
            LinkBlocked: it is down until a person acts.
            LinkDown: it is down.
        """
        told = self._told
        if told is None or not told.up:
            reason = told.reason if told else "the broker was not reached yet"
            raise (LinkBlocked if told and told.blocked else LinkDown)(reason)

    def announce(self, body: str, event_id: str) -> None:
        """Send the JSON object *body* to every announce destination; return when the broker has confirmed each.

        *event_id* is the same at every repetition: a broker that detects duplicates drops those.

        Raises:
            LinkBlocked: as `probe`.
            LinkDown: the link is down, or was lost before the last RECEIPT: the broker may have the message or not.
        """
        session = self._session
        self.probe()
        assert session is not None  # a link that is up has one; where it has gone since, this raises LinkDown
        headers = {
            "persistent": "true",
            "content-type": "application/json",
            "_AMQ_DUPL_ID": event_id,
            "msg_type": str(json.loads(body).get("msg_type", "")),
        }
        session.announce(self._parameters.announce, body, headers)

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began = self._monotonic()
            end = self._live_once()
            blocked = isinstance(end, LinkBlocked)
            self._tell(LinkStateChange(up=False, reason=str(end), blocked=blocked))
            spent_s = self._monotonic() - began
            attempt = 0 if spent_s > STABLE_AFTER_S else attempt + 1
            backoff = HELD if blocked else DOWN
            self._stopping.wait(max(backoff.shortest_s, backoff.pause_s(attempt + 1, self._jitter) - spent_s))

    def _live_once(self) -> LinkDown:
        try:
            session = self._session = self._attempts.connect()
            if self._attempts.over:
                raise LinkDown("stopped")
            session.subscribe()
            self._tell(LinkStateChange(up=True, reason=f"connected to the broker at {self._parameters.address}"))
            return session.check_liveness()
        except LinkDown as exc:
            if self._session is not None:
                self._session.abort(exc)
            return exc
        except Exception as exc:  # noqa: BLE001 (without this thread the daemon would be deaf for ever)
            logger.exception("broker link: unexpected error")
            if self._session is not None:
                self._session.abort(LinkDown(str(exc)))
            return LinkDown(f"unexpected {type(exc).__name__}: {exc}")

    def _tell(self, change: LinkStateChange) -> None:
        if change == self._told:
            return
        self._told = change
        say = logger.info if change.up or self._stopping.is_set() else logger.warning
        say("broker link {}: {}", "up" if change.up else "blocked" if change.blocked else "down", change.reason)
        self._changed(change)

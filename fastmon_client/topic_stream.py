"""A topic of the broker as the same generator as the monitor's stream: it brings notices, and connects by itself.

It must not know what a message means, or how it is shown.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import stomp
from stomp.exception import StompException
from stomp.utils import Frame

from fastmon_client.broker_config import CONNECT_S, HEART_BEAT_MS, BrokerConfig
from fastmon_client.intervals import PATIENCE, Intervals
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.stream import Connected, ConnectionEnded, HeartBeat, Notice, message_of, reconnecting

_WORDS_OF_A_REFUSAL = ("auth", "login", "log in", "passw", "passcode", "credential", "security", "permission")


@dataclass(frozen=True, slots=True)
class _Over:
    """The connection has ended."""

    reason: str
    refused: bool = False


class _LoggedIn:
    """The broker has taken the login; whether we may hear the topic is not known yet."""


_Arrival = Notice | _Over | _LoggedIn | None


@dataclass(slots=True, kw_only=True)
class TopicStream:
    """One subscription, not durable: what is missed is not repeated, only found in the monitor's tables."""

    config: BrokerConfig
    types: tuple[str, ...] = ()
    """The `msg_type`s that are passed on; none: all."""
    intervals: Intervals
    jitter: Callable[[], float] = random.random
    connected_once: bool = False
    _stopped: bool = False
    _arrivals: SimpleQueue[tuple[int, _Arrival]] = field(default_factory=SimpleQueue)
    _number: int = 0
    """Of the present connection: what an earlier one still brings is left out."""

    def batches(self) -> Iterator[list[Notice]]:
        """What comes, for ever, through every loss of the connection, until `stop`.

        Raises:
            Refused: before the first connection: the broker refuses the login, or a file cannot be used.
        """
        return reconnecting(self._batches_of_one, self._is_stopped_within, self.intervals, self.jitter)

    def drop(self, reason: str) -> None:
        """Give the present connection up; callable from any thread."""
        self._arrivals.put((self._number, _Over(reason)))

    def stop(self) -> None:
        """End `batches` at once; callable from any thread and from a signal handler."""
        self._stopped = True
        self._arrivals.put((0, None))

    def _is_stopped_within(self, seconds: float) -> bool:
        with suppress(Empty):
            while not self._stopped:
                self._arrivals.get(timeout=seconds)
        return self._stopped

    def _batches_of_one(self) -> Iterator[list[Notice]]:
        """What one connection brings; raises `ConnectionEnded` at its end."""
        self._number += 1
        number, (connection, socket) = self._number, self.config.connection()
        connection.set_listener("", _Listener(lambda arrival: self._arrivals.put((number, arrival)), self.types))
        try:
            password = self.config.password()
            connection.connect(self.config.user or None, password or None, wait=False)
            yield from self._until_over(number, connection)
        except OSError as exc:
            if not self.connected_once and isinstance(exc, FileNotFoundError | PermissionError):
                raise AccessDenied(f"{exc.filename}: {exc.strerror}: name a readable file") from exc
            raise ConnectionEnded(f"{self.config.where}: {exc.strerror or exc}") from exc
        except (StompException, ValueError) as exc:  # a ValueError: a host name or a password file that is none
            raise ConnectionEnded(f"{self.config.where}: {exc or type(exc).__name__}") from exc
        finally:
            socket.cut()

    def _until_over(self, number: int, connection: stomp.connect.StompConnection12) -> Iterator[list[Notice]]:
        patience_s = CONNECT_S
        while True:
            try:
                whose, arrival = self._arrivals.get(timeout=patience_s)
            except Empty:
                raise ConnectionEnded(f"{self.config.where}: nothing came for {patience_s:.0f} s") from None
            if self._stopped:
                raise ConnectionEnded("stopped")
            if whose != number or arrival is None:
                continue
            if isinstance(arrival, _LoggedIn):
                connection.subscribe(self.config.topic, id="1", ack="auto", receipt="subscribed")
                continue
            if isinstance(arrival, _Over):
                if arrival.refused and not self.connected_once:
                    raise AccessDenied(f"{arrival.reason}: set ACTIVEMQ_USER and ACTIVEMQ_PASSWORD", by_token=True)
                raise ConnectionEnded(arrival.reason)
            if isinstance(arrival, Connected):
                self.connected_once, patience_s = True, PATIENCE * HEART_BEAT_MS / 1000
            yield [arrival]


class _Listener(stomp.ConnectionListener):
    """Puts what stomp.py's thread hears into the queue, and does nothing else there."""

    def __init__(self, put: Callable[[_Arrival], None], types: tuple[str, ...]) -> None:
        self._put = put
        self._types = types

    def on_connected(self, _frame: Frame) -> None:
        """The login was taken."""
        self._put(_LoggedIn())

    def on_receipt(self, _frame: Frame) -> None:
        """The subscription stands."""
        self._put(Connected())

    def on_heartbeat(self) -> None:
        """The broker lives."""
        self._put(HeartBeat())

    def on_message(self, frame: Frame) -> None:
        """A message of the topic."""
        body: Any = frame.body
        message = message_of(body.decode(errors="replace") if isinstance(body, bytes) else str(body))
        if message is not None and (not self._types or message.get("msg_type") in self._types):
            self._put(message)

    def on_error(self, frame: Frame) -> None:
        """The broker refuses, and ends the connection."""
        body: Any = frame.body or b""
        text = frame.headers.get("message") or (body.decode(errors="replace") if isinstance(body, bytes) else body)
        refused = any(word in text.lower() for word in _WORDS_OF_A_REFUSAL)
        self._put(_Over(f"the broker says: {' '.join(text.split())[:300]}", refused=refused))

    def on_disconnected(self) -> None:
        """The connection is gone."""
        self._put(_Over("closed by the broker"))

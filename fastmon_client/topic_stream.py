"""A broker topic as the same generator as the monitor's stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty
from typing import Any

import stomp
from stomp.exception import StompException
from stomp.utils import Frame

from fastmon_client.arrivals import ArrivalQueue
from fastmon_client.broker_config import CONNECT_S, HEART_BEAT_MS, BrokerConfig
from fastmon_client.intervals import HEARTBEATS_UNTIL_DEAD, Intervals
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.reasons import reason_of
from fastmon_client.retrying import ConnectionEnded
from fastmon_client.stream import Connected, HeartBeat, Message, Notice, message_of, reconnecting

_ACCESS_WORDS = ("auth", "login", "log in", "passw", "passcode", "credential", "security", "permission")


@dataclass(frozen=True, slots=True)
class _Closed:
    """The connection ended."""

    reason: str
    is_denied: bool = False


class _LoggedIn:
    """The broker accepted the login; the subscription is still open."""


_Arrival = Notice | _Closed | _LoggedIn | None


@dataclass(slots=True, kw_only=True)
class TopicStream:
    """A non-durable subscription: missed messages are found only in the monitor's tables."""

    config: BrokerConfig
    types: tuple[str, ...] = ()
    """The `msg_type`s to pass on; empty: all."""
    intervals: Intervals
    jitter: Callable[[], float] = random.random
    connected_once: bool = False
    log: LogThrottle = field(default_factory=LogThrottle)
    _stopped: bool = False
    _arrivals: ArrivalQueue[tuple[int, _Arrival]] = field(default_factory=ArrivalQueue)
    """Bounded: while it is full, the broker's messages stay in the socket."""
    _number: int = 0
    """Of the current connection; arrivals of earlier ones are ignored."""

    def batches(self) -> Iterator[list[Notice]]:
        """Batches of notices, across reconnects, until `stop`.

        Raises: AccessDenied before the first connection, if the broker rejects the login or a file cannot be used.
        """
        try:
            yield from reconnecting(self._one_connection, self._wait_for_stop, self.intervals, self.jitter)
        finally:
            self._arrivals.close()

    def drop(self, reason: str) -> None:
        """Close the current connection; callable from any thread."""
        self._arrivals.put_at_once((self._number, _Closed(reason)))

    def stop(self) -> None:
        """End `batches`; callable from any thread and from a signal handler."""
        self._stopped = True
        self._arrivals.put_at_once((0, None))

    def _wait_for_stop(self, seconds: float) -> bool:
        with suppress(Empty):
            while not self._stopped:
                self._arrivals.get(seconds)
        return self._stopped

    def _one_connection(self) -> Iterator[list[Notice]]:
        """The batches of one connection; always raises `ConnectionEnded` at its end."""
        self._number += 1
        number, (connection, socket) = self._number, self.config.connection()
        connection.set_listener("", _Listener(partial(self._put, number), self.types, self.log))
        try:
            password = self.config.password()
            connection.connect(self.config.user or None, password or None, wait=False)
            yield from self._receive(number, connection)
        except OSError as exc:
            if not self.connected_once and isinstance(exc, FileNotFoundError | PermissionError):
                raise AccessDenied(f"{exc.filename}: {exc.strerror}: name a readable file") from exc
            reason = reason_of(exc, "the broker", plain="set ACTIVEMQ_USE_SSL=off")
            raise ConnectionEnded(f"{self.config.url}: {reason}") from exc
        except UnicodeDecodeError as exc:
            raise ConnectionEnded(f"{self.config.url}: the password file is not UTF-8 text") from exc
        except (StompException, ValueError) as exc:
            raise ConnectionEnded(f"{self.config.url}: {exc or type(exc).__name__}") from exc
        finally:
            socket.abort()

    def _put(self, number: int, arrival: _Arrival) -> None:
        """Called by stomp.py's thread."""
        if isinstance(arrival, Message):
            self._arrivals.put((number, arrival), arrival.size)
        else:
            self._arrivals.put_at_once((number, arrival))

    def _receive(self, number: int, connection: stomp.connect.StompConnection12) -> Iterator[list[Notice]]:
        timeout_s = CONNECT_S
        while True:
            try:
                (source, arrival), _size, _is_late = self._arrivals.get(timeout_s)
            except Empty:
                raise ConnectionEnded(f"{self.config.url}: no data for {timeout_s:.0f} s") from None
            if self._stopped:
                raise ConnectionEnded("stopped")
            if source != number or arrival is None:
                continue
            if isinstance(arrival, _LoggedIn):
                connection.subscribe(self.config.topic, id="1", ack="auto", receipt="subscribed")
                continue
            if isinstance(arrival, _Closed):
                if arrival.is_denied and not self.connected_once:
                    raise AccessDenied(f"{arrival.reason}: set ACTIVEMQ_USER and ACTIVEMQ_PASSWORD", by_token=True)
                raise ConnectionEnded(arrival.reason)
            if isinstance(arrival, Connected):
                self.connected_once, timeout_s = True, HEARTBEATS_UNTIL_DEAD * HEART_BEAT_MS / 1000
            yield [arrival]


class _Listener(stomp.ConnectionListener):
    """Queues the events of stomp.py's thread."""

    def __init__(self, put: Callable[[_Arrival], None], types: tuple[str, ...], log: LogThrottle) -> None:
        self._put, self._log = put, log
        self._types = types

    def on_connected(self, _frame: Frame) -> None:
        """The broker accepted the login."""
        self._put(_LoggedIn())

    def on_receipt(self, _frame: Frame) -> None:
        """The broker confirmed the subscription."""
        self._put(Connected())

    def on_heartbeat(self) -> None:
        """The broker sent a heart-beat."""
        self._put(HeartBeat())

    def on_message(self, frame: Frame) -> None:
        """The topic delivered a message."""
        body: Any = frame.body
        message = message_of(body.decode(errors="replace") if isinstance(body, bytes) else str(body), self._log)
        if message is not None and (not self._types or message.get("msg_type") in self._types):
            self._put(message)

    def on_error(self, frame: Frame) -> None:
        """The broker reported an error and closes the connection."""
        body: Any = frame.body or b""
        text = frame.headers.get("message") or (body.decode(errors="replace") if isinstance(body, bytes) else body)
        is_denied = any(word in text.lower() for word in _ACCESS_WORDS)
        self._put(_Closed(f"broker error: {' '.join(text.split())[:300]}", is_denied=is_denied))

    def on_disconnected(self) -> None:
        """The connection ended."""
        self._put(_Closed("the broker closed the connection"))

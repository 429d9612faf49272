"""The monitor's event stream as a generator that reconnects by itself. sseclient-py parses the events."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any

import requests
from sseclient import SSEClient
from tenacity import DoSleep, RetryCallState
from urllib3.exceptions import HTTPError

from fastmon_client.event_splitter import MAX_EVENT_BYTES, EventSplitter
from fastmon_client.intervals import Intervals
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.monitor_session import AccessDenied, MonitorSession, read_chunk, token_rejected
from fastmon_client.reasons import reason_of
from fastmon_client.retrying import ConnectionEnded, reconnect
from fastmon_client.tffile import cut_texts

STREAM = "/api/messages/stream/"
_CLOSED = "the monitor closed the stream"
_DECODER = json.JSONDecoder(parse_constant=lambda _nan: None)  # NaN is not JSON


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream opened."""


@dataclass(frozen=True, slots=True)
class HeartBeat:
    """A heart-beat of the stream."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream was lost or could not open; the next attempt follows in `wait_s` seconds."""

    reason: str
    wait_s: float


class Message(dict[str, Any]):
    """A JSON object of *size* bytes; `text` is its source if that was one line of strict JSON, else empty."""

    __slots__ = ("size", "text")

    def __init__(self, found: Mapping[str, Any], text: str, size: int) -> None:
        super().__init__(found)
        self.text = text
        self.size = size


Notice = dict[str, Any] | Connected | HeartBeat | Disconnected
"""One item of a stream; a dict is a message."""


@dataclass(slots=True, kw_only=True)
class Stream:
    """A subscription to `/api/messages/stream/`."""

    monitor: MonitorSession
    types: tuple[str, ...] = ()
    """The `msg_type`s to request; empty: all."""
    intervals: Intervals
    jitter: Callable[[], float] = random.random
    """Between 0 and 1."""
    connected_once: bool = False
    log: LogThrottle = field(default_factory=LogThrottle)
    _stopped: bool = False
    _server_retry_s: float = 0.0
    _dropped: str = ""
    _response: requests.Response | None = None
    _arrivals: SimpleQueue[requests.Response | Exception | None] = field(default_factory=SimpleQueue)
    """From the connecting thread; None: stopped. A queue, because a signal handler may use it but no lock."""

    def batches(self) -> Iterator[list[Notice]]:
        """Batches of notices, across reconnects, until `stop`.

        Raises: AccessDenied on 401 or 403; before the first connection on any error that an operator must fix.
        """
        return reconnecting(self._one_connection, self._wait_for_stop, self.intervals, self.jitter)

    def drop(self, reason: str) -> None:
        """Close the current connection; callable from any thread."""
        self._dropped = reason
        self._shutdown_socket()

    def stop(self) -> None:
        """End `batches`; callable from any thread and from a signal handler."""
        self._stopped = True
        self._arrivals.put(None)
        self._shutdown_socket()

    def _shutdown_socket(self) -> None:
        response = self._response
        if response is not None:
            with suppress(OSError, ValueError, RuntimeError):  # already closed
                response.raw.shutdown()

    def _wait_for_stop(self, seconds: float) -> bool:
        if not self._stopped:
            with suppress(Empty):
                self._arrivals.get(timeout=seconds)
        return self._stopped

    def _one_connection(self) -> Iterator[list[Notice]]:
        """The batches of one connection; always raises `ConnectionEnded` at its end."""
        try:
            yield from self._one_response()
            reason, retry_after_s = _CLOSED, 0.0
        except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
            reason, retry_after_s = reason_of(exc, cut=_CLOSED), _retry_after(exc)
        reason, self._dropped = self._dropped or reason, ""
        raise ConnectionEnded(reason, max(self._server_retry_s, retry_after_s))

    def _one_response(self) -> Iterator[list[Notice]]:
        response = self._connect()
        if response is None:
            return
        with response:
            self._check(response)
            self._response = response
            self.connected_once = True
            yield [Connected()]
            try:
                yield from self._batches_of(response)
            finally:
                self._response = None

    def _batches_of(self, response: requests.Response) -> Iterator[list[Notice]]:
        splitter, skipped = EventSplitter(), 0
        while not self._stopped and (chunk := read_chunk(response, 65536)):
            block = splitter.feed(chunk)
            if splitter.retry_s is not None:
                self._server_retry_s = splitter.retry_s
            if splitter.skipped > skipped:
                skipped = splitter.skipped
                self.log.record("long event", f"event skipped: longer than {MAX_EVENT_BYTES} bytes")
            events = SSEClient(iter([block])).events() if block else ()
            found = (_notice(event.event, event.data, self.log) for event in events)
            notices = [notice for notice in found if notice is not None]
            if notices or splitter.had_comment:
                yield notices or [HeartBeat()]

    def _connect(self) -> requests.Response | None:
        """The response; None if stopped. A thread sends the request, for `stop` to end the wait."""
        threading.Thread(target=self._request_response, name="connect", daemon=True).start()
        arrival = self._arrivals.get()
        if isinstance(arrival, AccessDenied) and self.connected_once:
            raise requests.ConnectionError(str(arrival)) from arrival
        if isinstance(arrival, Exception):  # after the first connection the settings are right: reconnect
            raise (None if self.connected_once else self.monitor.denial(arrival)) or arrival
        return arrival

    def _request_response(self) -> None:
        try:
            response = self._get()
        except Exception as exc:  # noqa: BLE001 (raised again by `_connect`)
            self._arrivals.put(exc)
            return
        self._arrivals.put(response)
        if self._stopped:  # `_connect` may be gone
            response.close()

    def _get(self) -> requests.Response:
        types = {"msg_types": ",".join(self.types)} if self.types else None
        with self.monitor.session() as session:
            return self.monitor.get(session, STREAM, types, "text/event-stream", self.intervals.dead_after_s)

    def _check(self, response: requests.Response) -> None:
        status, kind = response.status_code, response.headers.get("Content-Type", "")
        if status in (401, 403):
            raise token_rejected(status)
        is_page = status == 200 and kind and not kind.startswith("text/event-stream")  # no type: truncated headers
        is_elsewhere = 300 <= status < 400 or status == 404 or is_page
        if is_elsewhere and not self.connected_once:
            what = f"response is not an event stream ({status} {kind})"
            raise AccessDenied(f"{what}: check --monitor-url (SWF_MONITOR_URL): {self.monitor.url}")
        if is_elsewhere or status != 200:
            raise requests.HTTPError(f"monitor answered {status}", response=response)


def reconnecting(
    connection: Callable[[], Iterator[list[Notice]]],
    wait_for_stop: Callable[[float], bool],
    intervals: Intervals,
    jitter: Callable[[], float],
) -> Iterator[list[Notice]]:
    """The batches of one *connection* after another, until *wait_for_stop* (takes seconds) returns True.

    A connection ends by raising `ConnectionEnded`; other errors go to the caller. tenacity counts the attempts and
    chooses the pauses; they are made here, because each is told before it begins.
    """
    policy = reconnect(intervals.reconnect_s, jitter)
    policy.begin()
    state = RetryCallState(policy, fn=None, args=(), kwargs={})
    while not wait_for_stop(0.0):
        step = policy.iter(state)
        if isinstance(step, DoSleep):
            assert state.outcome is not None
            yield [Disconnected(str(state.outcome.exception()), step)]
            if wait_for_stop(step):
                return
            state.prepare_for_next_attempt()
            continue
        opened_at = math.inf
        try:
            for batch in connection():
                opened_at = min(opened_at, time.monotonic())
                yield batch
        except ConnectionEnded as exc:
            if time.monotonic() - opened_at >= intervals.stable_s:  # one that opens and ends at once is no success
                state.attempt_number = 1
            state.set_exception((ConnectionEnded, exc, exc.__traceback__))


def _notice(kind: str, data: str, log: LogThrottle) -> Notice | None:
    return HeartBeat() if kind in ("connected", "heartbeat") else message_of(data, log)


def message_of(data: str, log: LogThrottle) -> Message | None:
    """The JSON object in *data*, its texts cut; None, with a warning, if it is something else, or too long."""
    if len(data) > MAX_EVENT_BYTES:
        log.record("long event", f"event skipped: longer than {MAX_EVENT_BYTES} bytes")
        return None
    cut = None
    try:
        found, end = _DECODER.raw_decode(data) if data.startswith("{") else (None, -1)
        message = found if end == len(data) else _DECODER.decode(data)  # also strips spaces
        if isinstance(message, dict):
            cut = cut_texts(message)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        log.record("event", f"event skipped: not a JSON object: {data[:80]!r}")
        return None
    if cut:
        return Message(cut, "", len(data))
    return Message(message, data if _is_strict_json_line(data) else "", len(data))


def _is_strict_json_line(data: str) -> bool:
    """Whether *data*, a parsed object, is one line of strict JSON with a member and no spaces around."""
    # The parser rejects control characters in strings. Single characters are searched for much faster than words.
    is_line = data.isascii() and data[0] == "{" and data[-1] == "}" and len(data) > 5
    is_line = is_line and "\n" not in data and "\r" not in data
    return is_line and ("N" not in data or "NaN" not in data) and ("I" not in data or "Infinity" not in data)


def _retry_after(exc: Exception) -> float:
    """Seconds of the response's Retry-After, or 0. A date counts from the response's own Date."""
    response = getattr(exc, "response", None)
    if not isinstance(response, requests.Response):
        return 0.0
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until, now = (parsedate_to_datetime(text) for text in (value, response.headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0

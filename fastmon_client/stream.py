"""The monitor's event stream as one generator that reconnects by itself; sseclient-py parses, the rest is ours.

It must not know what a message means, or how it is shown.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any

import requests
from loguru import logger
from sseclient import SSEClient
from urllib3.exceptions import HTTPError

from fastmon_client.event_splitter import EventSplitter
from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied, MonitorSession, reason_of, refused_token

STREAM = "/api/messages/stream/"
LONGEST_WAIT_S = 30.0
LONGEST_BIDDEN_WAIT_S = 300.0
"""The most that Retry-After and `retry:` can ask for."""
_DECODER = json.JSONDecoder(parse_constant=lambda _nan: None)  # else --json would print what is no JSON


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream is open."""


@dataclass(frozen=True, slots=True)
class HeartBeat:
    """The stream lives."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream is no longer there, or could not be opened; it is tried again in `wait_s`."""

    reason: str
    wait_s: float


class Message(dict[str, Any]):
    """A JSON object with `text`, the line of plain JSON that it came as; empty where it came otherwise."""

    __slots__ = ("text",)

    def __init__(self, found: Mapping[str, Any], text: str) -> None:
        super().__init__(found)
        self.text = text


Notice = dict[str, Any] | Connected | HeartBeat | Disconnected
"""What a stream brings; a dict is a message."""


class ConnectionEnded(Exception):
    """One connection is over, or was never made; the other side asks for `retry_after_s` seconds of rest."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(slots=True, kw_only=True)
class Stream:
    """One subscription to `/api/messages/stream/`."""

    monitor: MonitorSession
    types: tuple[str, ...] = ()
    """The `msg_type`s that the server is asked for; none: all."""
    intervals: Intervals
    jitter: Callable[[], float] = random.random
    """Between 0 and 1."""
    connected_once: bool = False
    _stopped: bool = False
    _bidden_s: float = 0.0
    _dropped: str = ""
    _response: requests.Response | None = None
    _arrivals: SimpleQueue[requests.Response | Exception | None] = field(default_factory=SimpleQueue)
    """What the connecting thread brings; None when stopped. Unlike a lock, a signal handler may touch it any time."""

    def batches(self) -> Iterator[list[Notice]]:
        """What comes, as it comes, for ever, through every loss of the stream, until `stop`.

        Raises:
            Refused: 401 or 403; before the first connection also whatever else a person must mend.
        """
        return reconnecting(self._batches_of_one, self._is_stopped_within, self.intervals, self.jitter)

    def drop(self, reason: str) -> None:
        """Give the present connection up; callable from any thread."""
        self._dropped = reason
        self._shut()

    def stop(self) -> None:
        """End `batches` at once; callable from any thread and from a signal handler."""
        self._stopped = True
        self._arrivals.put(None)
        self._shut()

    def _shut(self) -> None:
        response = self._response
        if response is not None:
            with suppress(OSError, ValueError, RuntimeError):  # it has just ended by itself
                response.raw.shutdown()

    def _is_stopped_within(self, seconds: float) -> bool:
        if not self._stopped:
            with suppress(Empty):
                self._arrivals.get(timeout=seconds)
        return self._stopped

    def _batches_of_one(self) -> Iterator[list[Notice]]:
        """What one connection brings; raises `ConnectionEnded` at its end."""
        try:
            yield from self._batches_of_response()
            reason, retry_after_s = "closed by the monitor", 0.0
        except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
            reason, retry_after_s = reason_of(exc), _retry_after(exc)
        reason, self._dropped = self._dropped or reason, ""
        raise ConnectionEnded(reason, max(self._bidden_s, retry_after_s))

    def _batches_of_response(self) -> Iterator[list[Notice]]:
        response = self._connect()
        if response is None:
            return
        with response:
            self._check(response)
            self._response = response
            self.connected_once = True
            yield [Connected()]
            try:
                for block in self._blocks(response):
                    found = (_notice(event.event, event.data) for event in SSEClient(iter([block])).events())
                    yield [notice for notice in found if notice is not None]
            finally:
                self._response = None

    def _blocks(self, response: requests.Response) -> Iterator[bytes]:
        cutter = EventSplitter()
        while not self._stopped and (chunk := response.raw.read1(65536)):
            if block := cutter.feed(chunk):
                yield block
            if cutter.retry_s is not None:
                self._bidden_s = cutter.retry_s

    def _connect(self) -> requests.Response | None:
        """The response, asked for in a thread of its own so that `stop` need not wait; None when stopped."""
        threading.Thread(target=self._bring_response, name="connect", daemon=True).start()
        arrival = self._arrivals.get()
        if isinstance(arrival, AccessDenied) and self.connected_once:
            raise requests.ConnectionError(str(arrival)) from arrival
        if isinstance(arrival, Exception):  # after a first connection the setting was right, and it is tried on
            raise (None if self.connected_once else self.monitor.denial(arrival)) or arrival
        return arrival

    def _bring_response(self) -> None:
        try:
            response = self._ask()
        except Exception as exc:  # noqa: BLE001 (raised again where it is waited for)
            self._arrivals.put(exc)
            return
        self._arrivals.put(response)
        if self._stopped:  # perhaps nobody takes it any more
            response.close()

    def _ask(self) -> requests.Response:
        types = {"msg_types": ",".join(self.types)} if self.types else None
        with self.monitor.session() as session:
            return self.monitor.get(session, STREAM, types, "text/event-stream", self.intervals.patience_s)

    def _check(self, response: requests.Response) -> None:
        status, kind = response.status_code, response.headers.get("Content-Type", "")
        if status in (401, 403):
            raise refused_token(status)
        is_page = status == 200 and kind and not kind.startswith("text/event-stream")  # no type: the head was cut
        is_elsewhere = 300 <= status < 400 or status == 404 or is_page
        if is_elsewhere and not self.connected_once:
            said = f"the answer is no event stream ({status} {kind})"
            raise AccessDenied(f"{said}: is --monitor-url (SWF_MONITOR_URL) {self.monitor.url} right?")
        if is_elsewhere or status != 200:
            raise requests.HTTPError(f"the monitor said {status}", response=response)


def reconnecting(
    connection: Callable[[], Iterator[list[Notice]]],
    is_stopped_within: Callable[[float], bool],
    intervals: Intervals,
    jitter: Callable[[], float],
) -> Iterator[list[Notice]]:
    """What one *connection* after the other brings, until *is_stopped_within* (seconds, which it waits) says so.

    A connection ends by raising `ConnectionEnded`; what else it raises goes to the caller.
    """
    losses, wait_s = 0, 0.0
    while not is_stopped_within(wait_s):
        try:
            for batch in connection():
                losses = 0
                yield batch
        except ConnectionEnded as exc:
            reason, retry_after_s = exc.reason, exc.retry_after_s
        if is_stopped_within(0.0):
            return
        losses += 1
        wait_s = wait_after(losses, retry_after_s, jitter(), intervals.reconnect_s)
        yield [Disconnected(reason, wait_s)]


def wait_after(losses: int, bidden_s: float, jitter: float, least_s: float) -> float:
    """Seconds to wait: full jitter over a span that grows to 30 s, on top of what the other side asks for."""
    span_s = min(LONGEST_WAIT_S, least_s * 2.0 ** min(losses, 5)) - least_s
    return min(LONGEST_BIDDEN_WAIT_S, max(least_s, bidden_s)) + jitter * span_s


def _notice(kind: str, data: str) -> Notice | None:
    return HeartBeat() if kind in ("connected", "heartbeat") else message_of(data)


def message_of(data: str) -> Message | None:
    """The JSON object in *data*; None, with a warning, if there is none."""
    try:
        found, end = _DECODER.raw_decode(data) if data.startswith("{") else (None, -1)
        message = found if end == len(data) else _DECODER.decode(data)  # which looks for spaces round it, too
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        logger.warning("an event was skipped: it is no JSON object: {!r}", data[:80])
        return None
    return Message(message, data if _is_plain(data) else "")


def _is_plain(data: str) -> bool:
    """Whether what was read as an object is one line of strict JSON, with a member in it, and no space round it."""
    is_line = data.isascii() and data[0] == "{" and data[-1] == "}" and len(data) > 5 and "\n" not in data
    return is_line and "NaN" not in data and "Infinity" not in data


def _retry_after(exc: Exception) -> float:
    """Seconds that the monitor asks to be left alone; 0 if it does not. A date is read against the answer's own."""
    response = getattr(exc, "response", None)
    if not isinstance(response, requests.Response):
        return 0.0
    asked = response.headers.get("Retry-After", "")
    if asked.isascii() and asked.isdigit():
        return float(asked)
    try:
        until, now = (parsedate_to_datetime(text) for text in (asked, response.headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0

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
from queue import Empty, SimpleQueue
from ssl import SSLCertVerificationError
from typing import Any

import requests
from loguru import logger
from sseclient import SSEClient
from urllib3.exceptions import HTTPError

from fastmon_client.blocks import BlockCutter

LONGEST_WAIT_S = 30.0
LONGEST_BIDDEN_WAIT_S = 300.0
"""The most that Retry-After and `retry:` can ask for."""
PATIENCE = 2.5
"""Heart-beat intervals without a byte after which a stream counts as dead."""


class StreamRefused(Exception):
    """The monitor cannot be listened to until a person mends what the message names."""

    def __init__(self, message: str, *, by_token: bool = False) -> None:
        super().__init__(message)
        self.by_token = by_token
        """Whether it is the token that the monitor refuses."""


@dataclass(slots=True, kw_only=True)
class Stream:
    """One subscription to `/api/messages/stream/`."""

    url: str
    """Base URL of the monitor."""
    token: Callable[[], str] = field(repr=False)
    """Asked at each connection; raises `StreamRefused`."""
    types: tuple[str, ...] = ()
    """The `msg_type`s that the server is asked for; none: all."""
    ca: str | None = None
    """PEM file of a private CA; the monitor's certificate is checked in any case."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    heart_beat_s: float = 30.0
    jitter: Callable[[], float] = random.random
    """Between 0 and 1."""
    connected_once: bool = False
    _stopped: bool = False
    _bidden_s: float = 0.0
    _response: requests.Response | None = None
    _arrivals: SimpleQueue[requests.Response | Exception | None] = field(default_factory=SimpleQueue)
    """What the connecting thread brings; None when stopped. Unlike a lock, a signal handler may touch it any time."""

    def messages(self) -> Iterator[dict[str, Any]]:
        """Messages as they come, for ever, through every loss of the stream, until `stop`.

        Raises `StreamRefused` for 401 and 403; before the first connection also for whatever else a person must mend.
        """
        losses = 0
        while not self._stopped:
            bidden_s = 0.0
            try:
                for event in self._events():
                    losses = 0
                    message = None if event.event in ("connected", "heartbeat") else _message(event.data)
                    if message is not None:
                        yield message
                reason = "closed by the monitor"
            except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
                reason, bidden_s = _reason(exc), _retry_after(exc)
            losses += 1
            self._pause(reason, losses, bidden_s)

    def stop(self) -> None:
        """End `messages` at once; callable from any thread and from a signal handler."""
        self._stopped = True
        self._arrivals.put(None)
        response = self._response
        if response is not None:
            with suppress(OSError, ValueError, RuntimeError):  # it has just ended by itself
                response.raw.shutdown()

    def _pause(self, reason: str, losses: int, bidden_s: float) -> None:
        if self._stopped:
            return
        least = min(LONGEST_BIDDEN_WAIT_S, max(1.0, self._bidden_s, bidden_s))
        wait = least + self.jitter() * (min(LONGEST_WAIT_S, 2.0 ** min(losses, 5)) - 1)
        logger.warning("stream lost: {}; again in {:.0f} s", reason, wait)
        with suppress(Empty):
            self._arrivals.get(timeout=wait)

    def _events(self) -> Iterator[Any]:
        response = self._connect()
        if response is None:
            return
        with response:
            self._check(response)
            self._response = response
            self.connected_once = True
            logger.info("connected to {}", self.url)
            try:
                for event in SSEClient(self._blocks(response)).events():
                    if self._stopped:  # what the kernel still holds is no longer wanted
                        return
                    yield event
            finally:
                self._response = None

    def _blocks(self, response: requests.Response) -> Iterator[bytes]:
        cutter = BlockCutter()
        while not self._stopped and (chunk := response.raw.read1(65536)):
            if block := cutter.feed(chunk):
                yield block
            if cutter.retry_s is not None:
                self._bidden_s = cutter.retry_s

    def _connect(self) -> requests.Response | None:
        """The response, asked for in a thread of its own so that `stop` need not wait; None when stopped."""
        threading.Thread(target=self._bring_response, name="connect", daemon=True).start()
        arrival = self._arrivals.get()
        if isinstance(arrival, StreamRefused) and self.connected_once:
            raise requests.ConnectionError(str(arrival)) from arrival
        if isinstance(arrival, Exception):
            raise self._refusal(arrival) or arrival
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
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
        if token := self.token():
            headers["Authorization"] = f"Token {token}"
        with requests.Session() as session:
            session.trust_env = False  # a .netrc would replace the token
            session.proxies.update(self.proxies)
            return session.get(
                f"{self.url.rstrip('/')}/api/messages/stream/",
                params={"msg_types": ",".join(self.types)} if self.types else None,
                headers=headers,
                timeout=(5.0, PATIENCE * self.heart_beat_s),
                stream=True,
                allow_redirects=False,
                verify=self.ca or True,
            )

    def _refusal(self, exc: Exception) -> StreamRefused | None:
        """What ends the client, if *exc* does: after a first connection the setting was right, and it is tried on."""
        if self.connected_once:
            return None
        if any(isinstance(cause, SSLCertVerificationError) for cause in _causes(exc)):
            return StreamRefused(f"{_reason(exc)}: name the CA of the monitor's certificate in FASTMON_MONITOR_CA")
        if isinstance(exc, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
            return StreamRefused(f"--monitor-url (SWF_MONITOR_URL), or a proxy variable, is no usable URL: {self.url}")
        return None

    def _check(self, response: requests.Response) -> None:
        status, kind = response.status_code, response.headers.get("Content-Type", "")
        if status in (401, 403):
            remedy = "set SWF_API_TOKEN, or name a file in SWF_API_TOKEN_FILE"
            raise StreamRefused(f"the monitor refuses the token ({status}): {remedy}", by_token=True)
        is_page = status == 200 and kind and not kind.startswith("text/event-stream")  # no type: the head was cut
        is_elsewhere = 300 <= status < 400 or status == 404 or is_page
        if is_elsewhere and not self.connected_once:
            said = f"the answer is no event stream ({status} {kind})"
            raise StreamRefused(f"{said}: is --monitor-url (SWF_MONITOR_URL) {self.url} right?")
        if is_elsewhere or status != 200:
            raise requests.HTTPError(f"the monitor said {status}", response=response)


def _message(data: str) -> dict[str, Any] | None:
    """The JSON object in *data*; None, with a warning, if there is none."""
    try:
        message = json.loads(data, parse_constant=lambda _nan: None)  # else --json would print what is no JSON
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        logger.warning("an event was skipped: it is no JSON object: {!r}", data[:80])
        return None
    return message


def _causes(exc: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _reason(exc: Exception) -> str:
    """The innermost cause: the outer ones repeat the whole URL."""
    innermost = list(_causes(exc))[-1]
    return str(innermost) or type(innermost).__name__


def _retry_after(exc: Exception) -> float:
    """Seconds that the monitor asks to be left alone; 0 if it does not. (Its date form is rare, and not read.)"""
    response = getattr(exc, "response", None)
    asked = response.headers.get("Retry-After", "") if isinstance(response, requests.Response) else ""
    return float(asked) if asked.isascii() and asked.isdigit() else 0.0

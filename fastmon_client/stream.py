"""The monitor's event stream as one generator that reconnects by itself; sseclient-py parses, the rest is ours.

It must not know what an event means, or how it is shown.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
from loguru import logger
from sseclient import SSEClient

LONGEST_WAIT_S = 30.0
PATIENCE = 2.5
"""Heart-beat intervals without a byte after which a stream counts as dead."""
_BOM = b"\xef\xbb\xbf"
_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")


class StreamRefused(Exception):
    """The monitor answers, but refuses us: mend what the message names."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True, kw_only=True)
class Stream:
    """One subscription to `/api/messages/stream/`."""

    url: str
    """Base URL of the monitor."""
    token: Callable[[], str] = field(repr=False)
    types: tuple[str, ...] = ()
    """The `msg_type`s that the server is asked for; none: all."""
    heart_beat_s: float = 30.0
    jitter: Callable[[], float] = random.random
    stopping: threading.Event = field(default_factory=threading.Event)
    connected_once: bool = False
    _response: requests.Response | None = None

    def messages(self) -> Iterator[dict[str, Any]]:
        """Messages as they come, for ever, through every loss of the stream, until `stop`.

        Raises `StreamRefused` for 401, 403 and whatever else a person must mend.
        """
        losses = 0
        while not self.stopping.is_set():
            try:
                for event in self._events():
                    losses = 0
                    if event.event not in ("connected", "heartbeat"):
                        yield json.loads(event.data)
                reason = "closed by the monitor"
            except (requests.RequestException, OSError, ValueError) as exc:
                reason = str(exc) or type(exc).__name__
            if self.stopping.is_set():
                return
            losses += 1
            wait = max(1.0, min(LONGEST_WAIT_S, 2.0**losses) * self.jitter())
            logger.warning("stream lost: {}; again in {:.0f} s", reason, wait)
            self.stopping.wait(wait)

    def stop(self) -> None:
        """End `messages` at once; callable from any thread and from a signal handler."""
        self.stopping.set()
        response = self._response
        if response is not None:
            try:
                response.raw.shutdown()
            except (OSError, ValueError, AttributeError, RuntimeError):
                return  # it has just ended by itself

    def _events(self) -> Iterator[Any]:
        session = requests.Session()
        session.trust_env = not any(f"://{host}" in self.url for host in ("localhost", "127.", "[::1]"))
        with session, self._open(session) as response:
            self._response = response
            try:
                _check(response)
                self.connected_once = True
                logger.info("connected to {}", self.url)
                yield from SSEClient(whole_blocks(lambda: response.raw.read1(65536))).events()
            finally:
                self._response = None

    def _open(self, session: requests.Session) -> requests.Response:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if token := self.token():
            headers["Authorization"] = f"Token {token}"
        return session.get(
            f"{self.url.rstrip('/')}/api/messages/stream/",
            params={"msg_types": ",".join(self.types)} if self.types else None,
            headers=headers,
            timeout=(5.0, PATIENCE * self.heart_beat_s),
            stream=True,
            allow_redirects=False,
        )


def _check(response: requests.Response) -> None:
    status = response.status_code
    if status in (401, 403):
        raise StreamRefused(
            f"the monitor said {status}: set SWF_API_TOKEN, or name a file in SWF_API_TOKEN_FILE", status
        )
    if 300 <= status < 400 or status == 404:
        raise StreamRefused(f"the monitor said {status}: is --monitor-url (SWF_MONITOR_URL) right?", status)
    if status != 200:
        raise requests.HTTPError(f"the monitor said {status}")


def whole_blocks(read: Callable[[], bytes]) -> Iterator[bytes]:
    """The bytes that *read* gives, cut after complete events: a truncated last one is never shown."""
    kept = bytearray()
    at_start = True
    while chunk := read():
        searched = max(0, len(kept) - 3)
        kept += chunk
        if at_start and len(kept) >= 3:
            at_start = False
            if kept.startswith(_BOM):
                del kept[:3]
                searched = 0
        end = max(found + len(mark) if (found := kept.rfind(mark, searched)) >= 0 else 0 for mark in _BLANK_LINES)
        if end:
            yield bytes(kept[:end])
            del kept[:end]

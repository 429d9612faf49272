"""The server-sent events of the embedded monitor, and what its listener lets through from the topic.

Owns the clients' queues, filters and frames. It must not know the broker: the world hands every message to `deliver`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from starlette.types import Receive, Scope, Send

from fastmon_daemon.testbed.monitor.fields import holds_nul

KEPT_PER_CLIENT = 100
FILTERS = {"msg_types": "msg_type", "agents": "processed_by", "run_ids": "run_id"}
LONGEST = {"msg_type": 50, "sender": 100, "namespace": 100, "run_id": 50}
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    (b"access-control-allow-origin", b"*"),
]

Message = dict[str, Any]


def heard(body: str) -> Message | None:
    """*body* as the monitor's listener reads it; None for what is no JSON object or breaks in its database."""
    try:
        message = json.loads(body, parse_constant=_refuse_constant)
        if not isinstance(message, dict) or holds_nul(message):
            return None
    except (ValueError, RecursionError):
        return None
    return message


def is_heartbeat(message: Message) -> bool:
    """Whether the listener takes *message* for an agent's heart-beat, whatever else it is."""
    return "agent_name" in message and "status" in message


def is_relayed(message: Message) -> bool:
    """Whether the listener stores *message* and passes it on."""
    if is_heartbeat(message) or message.get("msg_type") is None:
        return False
    return all(len(str(message.get(name) or "")) <= longest for name, longest in LONGEST.items())


def relayed(message: Message, sent_at: datetime) -> Message:
    """*message* with what the relay adds; what the sender gave itself is kept."""
    added = {
        "sender_agent": message.get("sender"),
        "recipient_agent": None,
        "namespace": None,
        "queue_name": "epictopic",
        "sent_at": sent_at.astimezone(UTC).isoformat(),
    }
    return {**message, **{name: value for name, value in added.items() if name not in message}}


def frame(event: Any, data: Any) -> bytes:
    """One event on the wire."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass(eq=False)
class Client:
    """One reader of the stream: what it wants, and the events that wait for it."""

    wanted: Mapping[str, tuple[str, ...]]
    waiting: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(KEPT_PER_CLIENT))

    def offer(self, message: Message, event: bytes) -> None:
        """Keep *event* if it is wanted; when 100 wait already the newest is lost without a word."""
        if all(message.get(name) in values for name, values in self.wanted.items()) and not self.waiting.full():
            self.waiting.put_nowait(event)


class SseBroadcaster:
    """ASGI application for an authenticated GET of the stream. *heartbeat_s* is in seconds.

    *take_cut* says, once, after how many bytes an event and its connection are cut.
    """

    def __init__(self, now: Callable[[], datetime], heartbeat_s: float, take_cut: Callable[[], int | None]) -> None:
        self._now = now
        self._heartbeat_s = heartbeat_s
        self._take_cut = take_cut
        self._clients: dict[Client, None] = {}

    @property
    def clients(self) -> int:
        """How many read the stream now."""
        return len(self._clients)

    def offer(self, message: Message) -> None:
        """Relay *message* to every client that wants it."""
        full = relayed(message, self._now())
        event = frame(full["msg_type"], full)
        for client in self._clients:
            client.offer(full, event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one client until it leaves or is cut off."""
        client = Client(wanted_by(scope["query_string"].decode("latin-1")))
        self._clients[client] = None
        tasks = [
            asyncio.create_task(self._pump(client, send, scope["state"]["abort"])),
            asyncio.create_task(_gone(receive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._clients[client]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, client: Client, send: Send, abort: Callable[[], None]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await _write(send, frame("connected", {"client_id": str(uuid4()), "status": "connected"}))
        clock = asyncio.get_running_loop().time
        next_beat = clock() + self._heartbeat_s
        while True:
            try:
                async with asyncio.timeout_at(next_beat):  # wait_for of Python 3.11 may swallow a cancellation
                    event = await client.waiting.get()
                cut = self._take_cut()
                await _write(send, event[:cut])
                if cut is not None:
                    abort()
                    return
            except TimeoutError:
                next_beat = clock() + self._heartbeat_s
                await _write(send, frame("heartbeat", {"timestamp": self._now().timestamp()}))


async def _write(send: Send, event: bytes) -> None:
    await send({"type": "http.response.body", "body": event, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def wanted_by(query: str) -> dict[str, tuple[str, ...]]:
    """The filters in *query*: message field -> the values that fit."""
    asked = parse_qs(query)
    return {FILTERS[name]: tuple(asked[name][-1].split(",")) for name in FILTERS if name in asked}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

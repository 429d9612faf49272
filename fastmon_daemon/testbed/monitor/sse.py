"""The server-sent events of the embedded monitor: which messages are relayed, and the clients' filters and queues."""

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

from fastmon_daemon.testbed.monitor.fields import contains_nul

QUEUE_SIZE = 100
FILTERS = {"msg_types": "msg_type", "agents": "processed_by", "run_ids": "run_id"}
LONGEST = {"msg_type": 50, "sender": 100, "namespace": 100, "run_id": 50}
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    (b"access-control-allow-origin", b"*"),
]

Message = dict[str, Any]


def parse_message(body: str) -> Message | None:
    """Parse *body* like the monitor's listener; None if it is no JSON object or the database cannot store it."""
    try:
        message = json.loads(body, parse_constant=_reject_constant)
        if not isinstance(message, dict) or contains_nul(message):
            return None
    except (ValueError, RecursionError):
        return None
    return message


def is_heartbeat(message: Message) -> bool:
    """Whether the listener treats *message* as an agent's heart-beat, whatever its type."""
    return "agent_name" in message and "status" in message


def is_relayed(message: Message) -> bool:
    """Whether the listener stores and relays *message*."""
    if is_heartbeat(message) or message.get("msg_type") is None:
        return False
    return all(len(str(message.get(name) or "")) <= longest for name, longest in LONGEST.items())


def relayed(message: Message, sent_at: datetime) -> Message:
    """Return *message* with the fields that the relay adds, unless the sender has set them."""
    added = {
        "sender_agent": message.get("sender"),
        "recipient_agent": None,
        "namespace": None,
        "queue_name": "epictopic",
        "sent_at": sent_at.astimezone(UTC).isoformat(),
    }
    return {**message, **{name: value for name, value in added.items() if name not in message}}


def encode_event(event: Any, data: Any) -> bytes:
    """Return the bytes of one event."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass(eq=False)
class Client:
    """One client of the stream: its filters and its queue of events."""

    filters: Mapping[str, tuple[str, ...]]
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))

    def offer(self, message: Message, event: bytes) -> None:
        """Queue *event* if the filters let *message* pass; if the queue is full, the event is lost."""
        if all(message.get(name) in values for name, values in self.filters.items()) and not self.queue.full():
            self.queue.put_nowait(event)


class SseBroadcaster:
    """ASGI application for an authenticated GET of the stream. *heartbeat_s* is in seconds.

    *take_cut* returns, once, after how many bytes to cut an event and its connection.
    """

    def __init__(self, now: Callable[[], datetime], heartbeat_s: float, take_cut: Callable[[], int | None]) -> None:
        self._now = now
        self._heartbeat_s = heartbeat_s
        self._take_cut = take_cut
        self._clients: dict[Client, None] = {}

    @property
    def clients(self) -> int:
        """Number of connected clients."""
        return len(self._clients)

    def publish(self, message: Message) -> None:
        """Relay *message* to every client whose filters let it pass."""
        full = relayed(message, self._now())
        event = encode_event(full["msg_type"], full)
        for client in self._clients:
            client.offer(full, event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one client until it disconnects or is cut off."""
        client = Client(parse_filters(scope["query_string"].decode("latin-1")))
        self._clients[client] = None
        tasks = [
            asyncio.create_task(self._pump(client, send, scope["state"]["abort"])),
            asyncio.create_task(_wait_for_disconnect(receive)),
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
        await _write(send, encode_event("connected", {"client_id": str(uuid4()), "status": "connected"}))
        clock = asyncio.get_running_loop().time
        next_beat = clock() + self._heartbeat_s
        while True:
            try:
                async with asyncio.timeout_at(next_beat):  # wait_for of Python 3.11 may swallow a cancellation
                    event = await client.queue.get()
                cut = self._take_cut()
                await _write(send, event[:cut])
                if cut is not None:
                    abort()
                    return
            except TimeoutError:
                next_beat = clock() + self._heartbeat_s
                await _write(send, encode_event("heartbeat", {"timestamp": self._now().timestamp()}))


async def _write(send: Send, event: bytes) -> None:
    await send({"type": "http.response.body", "body": event, "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def parse_filters(query: str) -> dict[str, tuple[str, ...]]:
    """Parse the filters in *query*: message field -> accepted values."""
    given = parse_qs(query)
    return {FILTERS[name]: tuple(given[name][-1].split(",")) for name in FILTERS if name in given}


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

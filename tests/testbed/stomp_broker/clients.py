"""Clients of the testbed's broker, by raw sockets and by the real stomp.py, and the world they live in."""

from __future__ import annotations

import queue
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import stomp

from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread

DEADLINE_S = 15.0
TOPIC = "/topic/epictopic"
QUEUE = "/queue/work"
DLQ = "/queue/DLQ"
NAMES = ["activemq.subscriptionName", "durable-subscription-name", "durable-subscriber-name"]
LOGIN = {"login": "fastmon", "passcode": "secret"}


@dataclass
class Got:
    """A frame as the raw client read it, headers as they stood on the wire."""

    command: str
    headers: dict[str, str]
    body: str


class Raw:
    """A client that writes exactly the bytes it is told to, and reads frames by their NUL."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self._buffer = b""
        self.receipts = 0

    def write(self, text: str | bytes) -> None:
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def frame(self, command: str, body: str = "", **headers: str) -> None:
        lines = [command, *(f"{name.replace('_', '-')}:{value}" for name, value in headers.items())]
        self.write("\n".join(lines) + f"\n\n{body}\0")

    def connect(self, version: str = "1.2", **headers: str) -> Got:
        self.frame("CONNECT", **{"accept-version": version, "host": "x", **LOGIN, **headers})
        return self.read()

    def ask(self, command: str, body: str = "", **headers: str) -> list[Got]:
        """Send a frame with a receipt; the frames that came before it did."""
        self.receipts += 1
        receipt = f"r-{self.receipts}"
        self.frame(command, body, receipt=receipt, **headers)
        before: list[Got] = []
        while (got := self.read()).command != "RECEIPT":
            assert got.command != "ERROR", got
            before.append(got)
        assert got.headers["receipt-id"] == receipt
        return before

    def send(self, destination: str, body: str, **headers: str) -> list[Got]:
        return self.ask("SEND", body, destination=destination, **headers)

    def subscribe(self, destination: str, ack: str = "auto", **headers: str) -> list[Got]:
        return self.ask("SUBSCRIBE", destination=destination, ack=ack, **{"id": "0", **headers})

    def read(self) -> Got:
        while b"\0" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the broker closed")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        head, _, body = raw.decode().lstrip("\n").partition("\n\n")
        command, *lines = head.split("\n")
        return Got(command, dict(line.split(":", 1) for line in lines), body)

    def refused(self) -> Got:
        """The ERROR that comes next, behind which the broker must close."""
        got = self.read()
        assert got.command == "ERROR", got
        assert self.is_closed()
        return got

    def is_closed(self) -> bool:
        try:
            while data := self.socket.recv(65536):
                assert not data.strip(b"\n")
        except ConnectionResetError:
            pass
        return True

    def hears_only_beats(self, for_s: float = 0.3) -> bool:
        """Whether nothing but heart-beats, and in the end nothing at all, comes for a while."""
        self.socket.settimeout(for_s)
        try:
            while self.socket.recv(1) == b"\n":
                pass
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(DEADLINE_S)
        return False

    def close(self) -> None:
        self.socket.close()


@dataclass
class Ear(stomp.ConnectionListener):  # type: ignore[misc]
    """What stomp.py reports, in queues."""

    events: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)
    messages: queue.Queue[Any] = field(default_factory=queue.Queue)

    def on_connected(self, frame: Any) -> None:
        self.events.put(("connected", frame))

    def on_error(self, frame: Any) -> None:
        self.events.put(("error", frame))

    def on_receipt(self, frame: Any) -> None:
        self.events.put(("receipt", frame.headers["receipt-id"]))

    def on_message(self, frame: Any) -> None:
        self.messages.put(frame)

    def on_disconnected(self) -> None:
        self.events.put(("disconnected", None))

    def await_event(self, name: str) -> Any:
        while (event := self.events.get(timeout=DEADLINE_S))[0] != name:
            pass
        return event[1]

    def next_message(self) -> Any:
        return self.messages.get(timeout=DEADLINE_S)


class World:
    """A broker that runs, and its clients, closed at the end."""

    def __init__(self, stack: ExitStack, **options: Any) -> None:
        tls = options.pop("ssl", None)
        self._stack = stack
        self.broker = Broker(user="fastmon", password="secret", **options)
        self.thread = stack.enter_context(BrokerThread(self.broker, ssl=tls))

    def raw(self, tls: ssl.SSLContext | None = None) -> Raw:
        client = Raw(self.thread.port, tls)
        self._stack.callback(client.close)
        return client

    def client(self, version: str = "1.2", **headers: str) -> Raw:
        raw = self.raw()
        assert raw.connect(version, **headers).command == "CONNECTED"
        return raw

    def stomp(self, kind: type = stomp.Connection12, headers: dict[str, str] | None = None, **options: Any) -> Any:
        conn = kind([("127.0.0.1", self.thread.port)], reconnect_attempts_max=1, **options)
        conn.set_listener("ear", ear := Ear())
        conn.ear = ear
        conn.connect("fastmon", "secret", wait=False, headers=headers or {})
        self._stack.callback(conn.transport.disconnect_socket)
        ear.await_event("connected")
        return conn

    def until(self, condition: Callable[[], bool]) -> None:
        self.thread.wait_until(condition, DEADLINE_S)

    def depth(self, destination: str) -> int:
        return self.thread.call(lambda: self.broker.queue_depth(destination))

    def gone(self, client_id: str) -> None:
        self.until(lambda: all(session.client_id != client_id for session in self.broker.sessions))


@contextmanager
def running(**options: Any) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, **options)


def bodies(frames: list[Got]) -> list[str]:
    return [frame.body for frame in frames]

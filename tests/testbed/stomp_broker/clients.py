"""Clients of the embedded broker, with raw sockets and with stomp.py, and a broker for them."""

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
class ReceivedFrame:
    """A frame as read by the raw client; its headers are still escaped."""

    command: str
    headers: dict[str, str]
    body: str


class RawClient:
    """A client that sends exactly the given bytes, and splits what it reads at each NUL."""

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

    def connect(self, version: str = "1.2", **headers: str) -> ReceivedFrame:
        self.frame("CONNECT", **{"accept-version": version, "host": "x", **LOGIN, **headers})
        return self.read()

    def request(self, command: str, body: str = "", **headers: str) -> list[ReceivedFrame]:
        """Send a frame with a receipt; return the frames that arrive before the RECEIPT."""
        self.receipts += 1
        receipt = f"r-{self.receipts}"
        self.frame(command, body, receipt=receipt, **headers)
        before: list[ReceivedFrame] = []
        while (got := self.read()).command != "RECEIPT":
            assert got.command != "ERROR", got
            before.append(got)
        assert got.headers["receipt-id"] == receipt
        return before

    def send(self, destination: str, body: str, **headers: str) -> list[ReceivedFrame]:
        return self.request("SEND", body, destination=destination, **headers)

    def subscribe(self, destination: str, ack: str = "auto", **headers: str) -> list[ReceivedFrame]:
        return self.request("SUBSCRIBE", destination=destination, ack=ack, **{"id": "0", **headers})

    def read(self) -> ReceivedFrame:
        while b"\0" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the broker closed")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        head, _, body = raw.decode().lstrip("\n").partition("\n\n")
        command, *lines = head.split("\n")
        return ReceivedFrame(command, dict(line.split(":", 1) for line in lines), body)

    def read_error(self) -> ReceivedFrame:
        """Read an ERROR, after which the broker must close the connection."""
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

    def gets_only_heart_beats(self, for_s: float = 0.3) -> bool:
        """Whether nothing but heart-beats arrives, until for *for_s* nothing arrives at all."""
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
class Listener(stomp.ConnectionListener):  # type: ignore[misc]
    """Collects the events of stomp.py in queues."""

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


class BrokerRig:
    """A running broker and its clients, which are closed at the end."""

    def __init__(self, stack: ExitStack, **options: Any) -> None:
        tls = options.pop("ssl", None)
        self._stack = stack
        self.broker = Broker(user="fastmon", password="secret", **options)
        self.thread = stack.enter_context(BrokerThread(self.broker, ssl=tls))

    def raw(self, tls: ssl.SSLContext | None = None) -> RawClient:
        client = RawClient(self.thread.port, tls)
        self._stack.callback(client.close)
        return client

    def client(self, version: str = "1.2", **headers: str) -> RawClient:
        raw = self.raw()
        assert raw.connect(version, **headers).command == "CONNECTED"
        return raw

    def stomp(self, kind: type = stomp.Connection12, headers: dict[str, str] | None = None, **options: Any) -> Any:
        conn = kind([("127.0.0.1", self.thread.port)], reconnect_attempts_max=1, **options)
        conn.set_listener("listener", listener := Listener())
        conn.listener = listener
        conn.connect("fastmon", "secret", wait=False, headers=headers or {})
        self._stack.callback(conn.transport.disconnect_socket)
        listener.await_event("connected")
        return conn

    def wait_until(self, condition: Callable[[], bool]) -> None:
        self.thread.wait_until(condition, DEADLINE_S)

    def depth(self, destination: str) -> int:
        return self.thread.call(lambda: self.broker.queue_depth(destination))

    def wait_until_gone(self, client_id: str) -> None:
        self.wait_until(lambda: all(session.client_id != client_id for session in self.broker.sessions))


@contextmanager
def running_broker(**options: Any) -> Iterator[BrokerRig]:
    with ExitStack() as stack:
        yield BrokerRig(stack, **options)


def bodies(frames: list[ReceivedFrame]) -> list[str]:
    return [frame.body for frame in frames]

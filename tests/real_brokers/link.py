"""A stomp.py connection in which every wait has a deadline, and a client that hangs; independent of the daemon."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import stomp
from stomp.utils import Frame

from tests.real_brokers.servers import Server

DEADLINE_S = 20.0


class Rejected(Exception):
    """The broker sent an ERROR frame or closed the connection; the message is the broker's."""


class Link(stomp.ConnectionListener):
    """One connection to *server*, logged in. `received`: all MESSAGE frames in order.

    Raises: Rejected if the broker rejects the login or closes the connection during a wait; TimeoutError after 20 s;
    ConnectionError if nothing is listening or the certificate is invalid.
    """

    def __init__(
        self,
        server: Server,
        *,
        client_id: str | None = None,
        password: str | None = None,
        heart_beats: tuple[int, int] = (0, 0),
        scale: float = 1.5,
        tls: str | None = None,
    ) -> None:
        self.beats: list[float] = []
        self.last_traffic = 0.0
        self.received: list[Frame] = []
        self.greeting: dict[str, str] = {}
        self._receipts: dict[str, Frame] = {}
        self._errors: list[Frame] = []
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._ended = False
        self.heart_beat_lost = False
        address = (server.host, server.tls_ports[tls] if tls else server.port)
        self._conn = stomp.Connection12(
            [address],
            heartbeats=heart_beats,
            heart_beat_receive_scale=scale,
            reconnect_attempts_max=1,
            try_loopback_connect=False,
            timeout=DEADLINE_S,
        )
        if tls:
            self._conn.set_ssl([address], ca_certs=str(server.ca_file))
        self._conn.set_listener("link", self)
        named = {"client-id": client_id} if client_id else {}
        try:
            self._conn.connect(server.user, password or server.password, wait=False, headers=named)
        except stomp.exception.ConnectFailedException as exc:
            raise ConnectionError(f"no connection to {address[0]}:{address[1]}") from exc
        try:
            self._wait(lambda: bool(self.greeting), "CONNECTED")
        except BaseException:
            self.cut()
            raise

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.cut()

    @property
    def is_up(self) -> bool:
        return not self._ended

    @property
    def bodies(self) -> list[str]:
        return [frame.body for frame in self.received]

    def subscribe(self, destination: str, *, ack: str = "client-individual", **headers: Any) -> Link:
        """Subscribe with id 1; return when the broker has confirmed it."""
        receipt = self._next_receipt()
        self._conn.subscribe(destination, "1", ack=ack, headers={"receipt": receipt, **headers})
        self._wait(lambda: receipt in self._receipts, f"RECEIPT of SUBSCRIBE {destination}")
        return self

    def unsubscribe(self, **headers: Any) -> None:
        receipt = self._next_receipt()
        self._conn.unsubscribe("1", headers={"receipt": receipt, **headers})
        self._wait(lambda: receipt in self._receipts, "RECEIPT of UNSUBSCRIBE")

    def send(self, destination: str, body: str, **headers: Any) -> None:
        """Send; return when the broker has confirmed it."""
        receipt = self.send_unconfirmed(destination, body, **headers)
        self._wait(lambda: receipt in self._receipts, f"RECEIPT of SEND {destination}")

    def send_unconfirmed(self, destination: str, body: str, **headers: Any) -> str:
        """Send without waiting for the receipt; return the receipt's id."""
        receipt = self._next_receipt()
        self._conn.send(destination, body, headers=headers, receipt=receipt)
        return receipt

    def wait_for_receipts(self, ids: list[str]) -> None:
        self._wait(lambda: self._receipts.keys() >= set(ids), f"{len(ids)} receipts")

    def wait_for_messages(self, count: int) -> list[Frame]:
        """Wait for *count* messages and return them."""
        self._wait(lambda: len(self.received) >= count, f"{count} messages")
        return self.received[:count]

    def wait_for(self, body: str) -> None:
        """Wait for the message *body*; messages sent before it on the same topic have then arrived, too."""
        self._wait(lambda: body in self.bodies, f"message {body!r}")

    def wait_for_beats(self, count: int) -> None:
        """Wait for *count* more heart-beats; `beats` has their monotonic times."""
        wanted = len(self.beats) + count
        self._wait(lambda: len(self.beats) >= wanted, f"{count} heart-beats")

    def ack(self, frame: Frame, *, confirmed: bool = True) -> None:
        receipt = self._next_receipt() if confirmed else None
        self._conn.ack(frame.headers["ack"], receipt=receipt)
        if receipt:
            self._wait(lambda: receipt in self._receipts, "RECEIPT of ACK")

    def nack(self, frame: Frame) -> None:
        receipt = self._next_receipt()
        self._conn.nack(frame.headers["ack"], receipt=receipt)
        self._wait(lambda: receipt in self._receipts, "RECEIPT of NACK")

    def wait_until_ended(self, deadline_s: float = DEADLINE_S) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended, deadline_s):
                raise TimeoutError(f"the connection is still up after {deadline_s:.0f} s")

    def wait_for_lost_heart_beat(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait until stomp.py reports a missing heart-beat, which it does just after the disconnection."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.heart_beat_lost, deadline_s):
                raise TimeoutError(f"no heart-beat was missed within {deadline_s:.0f} s")

    def cut(self) -> None:
        """Close the socket without a DISCONNECT."""
        raw = self._conn.transport.socket
        if raw and not self._ended:
            # Otherwise stomp.py waits for the end of TLS: 60 s on Artemis.
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)
            with self._changed:  # while a thread still reads by TLS, the number of the socket must not be reused
                self._changed.wait_for(lambda: self._ended, 0.5)
            self._conn.transport.disconnect_socket()
        self.wait_until_ended()

    def on_connected(self, frame: Frame) -> None:
        self._note(lambda: self.greeting.update(frame.headers))

    def on_message(self, frame: Frame) -> None:
        self._note(lambda: self.received.append(frame))

    def on_receipt(self, frame: Frame) -> None:
        self.last_traffic = time.monotonic()
        self._note(lambda: self._receipts.update({frame.headers["receipt-id"]: frame}))

    def on_error(self, frame: Frame) -> None:
        self._note(lambda: self._errors.append(frame))

    def on_disconnected(self) -> None:
        self._note(lambda: setattr(self, "_ended", True))

    def on_heartbeat(self) -> None:
        self._note(lambda: self.beats.append(time.monotonic()))

    def on_heartbeat_timeout(self) -> None:
        self._note(lambda: setattr(self, "heart_beat_lost", True))

    def _next_receipt(self) -> str:
        return f"r{next(self._numbers)}"

    def _note(self, change: Callable[[], Any]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended or bool(self._errors), DEADLINE_S)
            if condition():
                return
            if self._errors:
                error = self._errors.pop(0)
                raise Rejected(f"{error.headers.get('message', '')}\n{error.body}")
            if self._ended:
                raise Rejected("the broker closed the connection without an ERROR")
            raise TimeoutError(f"no {what} within {DEADLINE_S:.0f} s")


class DeadClient:
    """A client that logs in, subscribes, and then neither reads nor sends: a half-open link."""

    def __init__(self, server: Server, client_id: str, beats_ms: int, subscribe: dict[str, str]) -> None:
        self._socket = socket.create_connection((server.host, server.port), timeout=DEADLINE_S)
        parameters = {"accept-version": "1.2", "host": "localhost", "login": server.user, "passcode": server.password}
        try:
            self._send("CONNECT", {**parameters, "client-id": client_id, "heart-beat": f"{beats_ms},{beats_ms}"})
            self._expect("CONNECTED")
            self._send("SUBSCRIBE", {"id": "1", "ack": "client-individual", "receipt": "subscribed", **subscribe})
            self._expect("RECEIPT")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> DeadClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def _send(self, command: str, headers: dict[str, str]) -> None:
        lines = [command, *(f"{name}:{value}" for name, value in headers.items())]
        self._socket.sendall(("\n".join(lines) + "\n\n\0").encode())

    def _expect(self, command: str) -> None:
        received = b""
        while b"\0" not in received:
            more = self._socket.recv(65536)
            if not more:
                raise Rejected(f"closed instead of {command}: {received!r}")
            received += more
        if command.encode() not in received:
            raise Rejected(f"{received!r} instead of {command}")

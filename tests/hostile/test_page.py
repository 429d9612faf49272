"""Whoever reaches the page's port without a token."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from fastmon_client.dashboard.connections import ACCEPTED_AT_ONCE, MAX_ASKERS, MAX_READERS
from tests.hostile.attack import Scene, attack
from tests.processes import DEADLINE_S, wait_until

SECRET = "a-token-that-nobody-guesses"
CONNECTIONS = 1100
FEW_DESCRIPTORS = ("sh", "-c", 'ulimit -n 1024; exec "$@"', "sh")
"""Command before the program: the usual limit, whatever it is here."""
SECONDS = 8.0


class _OwnAddress(HTTPAdapter):
    """Connects from another address than the attackers: the page closes connections of the address that has most."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, source_address=("127.0.0.2", 0))


class Page:
    """A running dashboard, with how long it took to answer at most."""

    def __init__(self, scene: Scene) -> None:
        self.process: subprocess.Popen[bytes] = scene.start(
            "dashboard", "--listen", "127.0.0.1:0", program="fastmon_client", under=FEW_DESCRIPTORS,
            FASTMON_DASHBOARD_TOKEN=SECRET,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().split()[1]
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1].rstrip("/")))
        self.slowest = 0.0
        self._headers: dict[str, str] = {}
        wait_until(lambda: "connected to" in scene.log(), "the client is connected")
        answer = self._send("POST", "login", {"token": SECRET}, allow_redirects=False)
        self._headers = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}
        self.ask()
        self.slowest = 0.0

    def ask(self) -> None:
        """The page answers who signed in before."""
        began = time.monotonic()
        assert self._send("GET", "").status_code == 200
        with self._send("GET", "events", stream=True) as page:
            assert next(page.iter_lines()) == b"event: snapshot"
        self.slowest = max(self.slowest, time.monotonic() - began)

    def _send(self, method: str, path: str, data: dict[str, str] | None = None, **options: bool) -> requests.Response:
        """One request over a connection of its own."""
        session = requests.Session()
        session.mount("http://", _OwnAddress())
        return session.request(
            method, f"{self.url}{path}", data=data, headers=self._headers, timeout=DEADLINE_S, **options
        )


@pytest.fixture
def page(scene: Scene) -> Page:
    return Page(scene)


@contextmanager
def closing_all() -> Iterator[list[socket.socket]]:
    """A list of sockets that are closed at the end."""
    found: list[socket.socket] = []
    try:
        yield found
    finally:
        for each in found:
            each.close()


def attack_while_asking(scene: Scene, page: Page, hostile: Callable[[float], None], threads: int = 4) -> None:
    """Run *hostile* (until a time) in some threads, and ask the page meanwhile."""
    until = time.monotonic() + SECONDS
    running = [threading.Thread(target=hostile, args=(until,)) for _ in range(threads)]
    limit = MAX_ASKERS + MAX_READERS + ACCEPTED_AT_ONCE + 50
    with scene.attacked(page.process, feed=False, max_descriptors=limit):
        for each in running:
            each.start()
        while time.monotonic() < until:
            page.ask()
            threading.Event().wait(0.2)
        for each in running:
            each.join()
    scene.note = f"the page answers within {page.slowest:.1f} s"
    assert "Traceback" not in scene.log()


@attack("1100 half requests to the page, opened again when they are closed", target="client")
def test_half_requests_do_not_stop_the_page(scene: Scene, page: Page) -> None:
    def hostile(until: float) -> None:
        with closing_all() as open_ones:
            while time.monotonic() < until:
                with suppress(OSError):
                    open_ones.append(socket.create_connection(page.address, timeout=0.5))
                    open_ones[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
                if len(open_ones) > CONNECTIONS // 4:
                    open_ones.pop(0).close()

    attack_while_asking(scene, page, hostile)


@attack("30 MB of headers to the page, again and again", target="client")
def test_headers_without_end_do_not_fill_the_page(scene: Scene, page: Page) -> None:
    def hostile(until: float) -> None:
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(page.address, timeout=0.5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
                for number in range(30):
                    sock.sendall(b"x: y\r\n" * 170_000 if number % 2 else b"X: " + b"x" * 1_000_000 + b"\r\n")

    attack_while_asking(scene, page, hostile, threads=2)


@attack("invalid requests and tokens to the page, as many as it takes", target="client")
def test_invalid_requests_do_not_fill_the_log(scene: Scene, page: Page) -> None:
    texts = (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + b"token=x" * 1000,
    )

    def hostile(until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            with suppress(OSError), socket.create_connection(page.address, timeout=0.5) as sock:
                sock.sendall(texts[number % len(texts)])
                sock.recv(1000)

    attack_while_asking(scene, page, hostile, threads=2)
    assert scene.cost is not None
    assert scene.cost.log_kb < 10, scene.log()[-3000:]


@attack("300 open pages that read nothing", target="client")
def test_pages_that_read_nothing_do_not_fill_the_page(scene: Scene, page: Page) -> None:
    ask = f"GET /events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode()

    def hostile(until: float) -> None:
        with closing_all() as open_ones:
            while time.monotonic() < until:
                open_ones.append(sock := socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                sock.settimeout(0.5)
                with suppress(OSError):
                    sock.connect(page.address)
                    sock.sendall(ask)
                if len(open_ones) > 300:
                    open_ones.pop(0).close()

    attack_while_asking(scene, page, hostile, threads=1)

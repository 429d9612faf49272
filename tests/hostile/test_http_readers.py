"""Whoever reaches FASTMON_HTTP."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

import requests

from tests.hostile.attack import Scene, attack
from tests.inspection.test_http_server import base_url

CONNECTIONS = 1100
SECONDS = 9.0


@attack("1100 connections to /metrics that send a byte every 1.5 s")
def test_dripping_readers_do_not_stop_the_intake(scene: Scene) -> None:
    daemon = scene.daemon(FASTMON_HTTP="0")
    base = base_url(scene)
    parts = urlsplit(base)
    address, until = (parts.hostname or "", parts.port or 0), time.monotonic() + SECONDS
    slowest = 0.0

    def drip(count: int) -> None:
        clients: dict[int, socket.socket] = {}
        while time.monotonic() < until:
            for number in range(count):
                with suppress(OSError):
                    if number not in clients:
                        clients[number] = socket.create_connection(address, timeout=0.5)
                    clients[number].sendall(b"G")
                    continue
                clients.pop(number).close() if number in clients else None
            threading.Event().wait(1.5)
        for each in clients.values():
            each.close()

    threads = [threading.Thread(target=drip, args=(CONNECTIONS // 10,)) for _ in range(10)]
    with scene.attacked(daemon):
        for each in threads:
            each.start()
        while time.monotonic() < until:
            began = time.monotonic()
            assert requests.get(f"{base}/healthz", timeout=10).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            threading.Event().wait(0.2)
        for each in threads:
            each.join()
    assert scene.cost is not None
    assert scene.cost.completed, "intake went on"
    scene.note = f"/healthz answers within {slowest:.1f} s"
    assert scene.call("inspect").returncode == 0

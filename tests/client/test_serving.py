"""The dashboard's web server ends when it is asked to, whatever the pages do."""

from __future__ import annotations

import socket
from contextlib import closing

from tests.client.dashboard_server import served
from tests.client.snapshots import snapshot


def test_a_page_that_no_longer_reads_does_not_hold_up_the_end() -> None:
    huge = {**snapshot(), "monitor": "x" * 16_000_000}
    with closing(socket.socket()) as asleep:
        asleep.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with served(lambda: huge) as dashboard:
            asleep.connect(("127.0.0.1", dashboard.port))
            asleep.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            heard = b""
            while b"event:" not in heard:  # the rest waits in the server, since nobody takes it
                heard += asleep.recv(1024)

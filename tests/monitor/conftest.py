"""A scripted monitor, plain and with TLS, and a client of it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme

from fastmon_daemon.monitor import MonitorClient
from tests.monitor.scripted_monitor import TOKEN, Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def monitor(server: Server) -> Iterator[MonitorClient]:
    monitor = MonitorClient(f"http://127.0.0.1:{server.port}/swf-monitor/", lambda: TOKEN, connections=2)
    yield monitor
    monitor.close()


@pytest.fixture
def tls_server() -> Iterator[tuple[Server, trustme.CA]]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(context)
    yield server, ca
    server.close()

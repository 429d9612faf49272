"""A scripted monitor, plain and with TLS, and a client of it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme

from fastmon_daemon.monitor import MonitorClient
from tests.monitor.scripted_monitor import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def monitor(server: Server) -> MonitorClient:
    return server.client(connections=2)


@pytest.fixture
def tls_server() -> Iterator[tuple[Server, trustme.CA]]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(context)
    yield server, ca
    server.close()

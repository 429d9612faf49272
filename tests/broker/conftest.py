"""The embedded broker, a scripted one, a private CA, and the recorder of a link."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trustme

from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.broker.links import CertificateAuthority, FakeBroker, LinkRecorder, embedded_broker


@pytest.fixture
def recorder() -> LinkRecorder:
    return LinkRecorder()


@pytest.fixture
def server() -> Iterator[BrokerThread]:
    with BrokerThread(embedded_broker()) as thread:
        yield thread


@pytest.fixture
def fake_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """The link begins another attempt when one is unanswered for 0.1 s."""
    monkeypatch.setattr("fastmon_daemon.broker.connector.OVERLAP_AFTER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        broker = FakeBroker(listening)
        yield broker
        for connection in broker.connections:
            connection.close()


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    issuer = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    issuer.cert_pem.write_to_path(str(path))
    return CertificateAuthority(issuer, path)

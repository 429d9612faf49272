"""The link to the broker over TLS: certificates of both sides, lost and silent brokers."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from fastmon_daemon.base.errors import ConfigError, LinkDown
from fastmon_daemon.testbed.stomp_broker import BrokerThread
from tests.broker.links import (
    BODY,
    DEADLINE_S,
    QUEUE,
    CertificateAuthority,
    FakeBroker,
    LinkRecorder,
    connected_link,
    embedded_broker,
    parameters,
    publish,
    running_link,
)


def tls_broker(context: ssl.SSLContext) -> BrokerThread:
    return BrokerThread(embedded_broker(), ssl=context)


def test_everything_works_over_tls_and_a_lost_broker_is_noticed(
    ca: CertificateAuthority, recorder: LinkRecorder
) -> None:
    with (
        tls_broker(ca.server_context()) as server,
        running_link(  # heart-beats so rare that they notice nothing
            parameters(server.port, subscribe=QUEUE, heart_beat_s=1000.0, **ca.parameters), recorder
        ) as link,
    ):
        recorder.wait_until_up()
        publish(server, QUEUE, "m")
        assert recorder.next_body() == b"m"
        link.announce(BODY, "id-1")
        server.stop()
        assert not recorder.next_change().up
        server.start()
        recorder.wait_until_up()
        link.announce(BODY, "id-2")
        assert link.stop(DEADLINE_S)


def test_a_broker_without_tls_at_this_port_blocks_the_link_with_the_remedy(
    ca: CertificateAuthority, recorder: LinkRecorder, fake_broker: FakeBroker
) -> None:
    with running_link(parameters(fake_broker.port, connect_s=1000.0, **ca.parameters), recorder):
        fake_broker.next_connection().sendall(b"ERROR\nmessage:what is this\n\n\0")
        change = recorder.wait_until(lambda change: change.blocked)
        assert "does not use TLS at this port: set ACTIVEMQ_PORT to its port with TLS" in change.reason


def test_a_silent_broker_is_noticed_over_tls(ca: CertificateAuthority, recorder: LinkRecorder) -> None:
    with (
        tls_broker(ca.server_context()) as server,
        connected_link(parameters(server.port, heart_beat_s=0.5, receipt_s=1000.0, **ca.parameters), recorder) as link,
    ):
        server.call(lambda: server.broker.silent(600))
        with pytest.raises(LinkDown, match="no data"):
            link.announce(BODY, "id-1")
        assert "no data" in recorder.next_change().reason
        server.call(lambda: server.broker.silent(0))
        recorder.wait_until_up()


@pytest.mark.parametrize("tls", [False, True])
def test_a_healthy_broker_with_late_heart_beats_is_not_disconnected(
    tls: bool, ca: CertificateAuthority, recorder: LinkRecorder
) -> None:
    """Artemis restarts its interval after other traffic, so that nearly two pass without a byte."""
    over = threading.Event()

    def beat_late() -> None:
        """Promise a heart-beat every 0.8 s and send one every 1.5 s."""
        connection, _ = listening.accept()
        if tls:
            connection = ca.server_context().wrap_socket(connection, server_side=True)
        with connection:
            connection.recv(4096)
            connection.sendall(b"CONNECTED\nversion:1.2\nheart-beat:800,800\n\n\0")
            while not over.wait(1.5):
                connection.sendall(b"\n")

    timing = {"heart_beat_s": 0.8, "receipt_s": 0.5}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        broker = threading.Thread(target=beat_late)
        broker.start()
        port = listening.getsockname()[1]
        with connected_link(parameters(port, subscribe="", **timing, **(ca.parameters if tls else {})), recorder):
            with pytest.raises(queue.Empty):
                recorder.changes.get(timeout=4)
            over.set()
        broker.join(DEADLINE_S)


def test_a_broker_that_promises_no_heart_beats_may_be_silent(fake_broker: FakeBroker, recorder: LinkRecorder) -> None:
    with running_link(parameters(fake_broker.port, subscribe="", heart_beat_s=0.3, receipt_s=0.5), recorder):
        connection = fake_broker.next_connection()
        connection.recv(4096)
        connection.sendall(b"CONNECTED\nversion:1.2\nheart-beat:0,300\n\n\0")
        recorder.wait_until_up()
        with pytest.raises(queue.Empty):
            recorder.changes.get(timeout=3)


def test_a_port_that_does_not_answer_in_tls_is_named_with_the_settings(
    ca: CertificateAuthority, recorder: LinkRecorder
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with running_link(parameters(port, connect_s=0.5, **ca.parameters), recorder):
            reasons = iter(lambda: recorder.next_change().reason, "")
            assert next(each for each in reasons if "does not answer in TLS: set ACTIVEMQ_PORT" in each)


@pytest.mark.parametrize("wrong", ["CA", "host"])
def test_a_wrong_certificate_blocks_the_link_before_any_login(
    wrong: str, ca: CertificateAuthority, recorder: LinkRecorder
) -> None:
    other_ca = CertificateAuthority(trustme.CA(), Path())
    context = other_ca.server_context() if wrong == "CA" else ca.server_context("broker.example.org")
    with tls_broker(context) as server, running_link(parameters(server.port, **ca.parameters), recorder):
        change = recorder.next_change()
        assert change.blocked
        assert "certificate not trusted (" in change.reason
        assert "ACTIVEMQ_SSL_CA_CERTS" in change.reason
        assert server.call(lambda: sum(server.broker.counters.received.values())) == 0


def test_a_client_certificate_is_sent_if_the_broker_requires_one(
    ca: CertificateAuthority, tmp_path: Path, recorder: LinkRecorder
) -> None:
    ours = ca.issuer.issue_cert("fastmon.example.org")
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    files = {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}
    context = ca.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    ca.issuer.configure_trust(context)
    with (
        tls_broker(context) as server,
        connected_link(parameters(server.port, **ca.parameters, **files), recorder) as link,
    ):
        link.announce(BODY, "id-1")


def test_a_missing_client_certificate_blocks_the_link_and_names_the_setting(
    ca: CertificateAuthority, recorder: LinkRecorder
) -> None:
    context = ca.server_context()
    context.verify_mode = ssl.CERT_REQUIRED  # asyncio, hence the embedded broker, would close without the alert

    def reject() -> None:
        connection, _ = listening.accept()
        with connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        strict = threading.Thread(target=reject)
        strict.start()
        with running_link(parameters(listening.getsockname()[1], **ca.parameters), recorder):
            change = recorder.next_change()
            strict.join(DEADLINE_S)
    assert change.blocked
    assert "ACTIVEMQ_SSL_CERT_FILE" in change.reason


@pytest.mark.parametrize("problem", ["no such file", "no key"])
def test_an_unusable_client_certificate_blocks_the_link(
    problem: str, ca: CertificateAuthority, tmp_path: Path, recorder: LinkRecorder, server: BrokerThread
) -> None:
    cert = tmp_path / "cert.pem"
    if problem == "no key":
        ca.issuer.issue_cert("fastmon.example.org").cert_chain_pems[0].write_to_path(str(cert))
    with running_link(parameters(server.port, cert_file=cert, **ca.parameters), recorder):
        change = recorder.next_change()
        assert change.blocked
        assert "ACTIVEMQ_SSL_CERT_FILE" in change.reason


def test_with_tls_only_a_handshake_is_sent_to_a_broker_without_tls(
    ca: CertificateAuthority, recorder: LinkRecorder
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        with running_link(parameters(port, use_ssl=True, ca_file=ca.path, connect_s=1.0), recorder):
            plain.settimeout(DEADLINE_S)
            peer, _ = plain.accept()
            with peer:
                peer.settimeout(DEADLINE_S)
                seen = b""
                while data := peer.recv(65536):
                    seen += data
    assert seen.startswith(b"\x16\x03")
    assert b"secret" not in seen


def test_an_unreadable_ca_file_blocks_the_link(server: BrokerThread, tmp_path: Path, recorder: LinkRecorder) -> None:
    with running_link(parameters(server.port, use_ssl=True, ca_file=tmp_path / "none.pem"), recorder):
        change = recorder.next_change()
        assert change.blocked
        assert "ACTIVEMQ_SSL_CA_CERTS" in change.reason


def test_tls_without_a_ca_file_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="ACTIVEMQ_SSL_CA_CERTS"):
        parameters(1, use_ssl=True)

"""The probes of the broker that `check` uses."""

from __future__ import annotations

import gc
import socket

import pytest

from fastmon_daemon.base.errors import LinkDown
from fastmon_daemon.broker import check_login, check_reachable, measure_round_trip
from fastmon_daemon.testbed.stomp_broker import BrokerThread, Frame, HookResult, Session
from tests.broker.links import TOPIC, CertificateAuthority, embedded_broker, parameters


def test_the_login_probe_has_no_client_id_and_disconnects(server: BrokerThread) -> None:
    ids: list[str | None] = []

    def note(what: str, session: Session, frame: Frame) -> HookResult:
        if what == "receive" and frame.command == "SUBSCRIBE":
            ids.append(session.client_id)
        return None

    server.broker.hook = note
    check_login(parameters(server.port, durable=True), TOPIC)
    assert ids == [None]
    assert server.call(lambda: server.broker.counters.received["DISCONNECT"]) == 1


def test_a_probe_names_the_missing_response(server: BrokerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_daemon.broker.probe.PROBE_TIMEOUT_S", 0.5)
    server.broker.hook = lambda what, _, frame: "drop" if (what, frame.command) == ("send", "MESSAGE") else None
    with pytest.raises(LinkDown, match="did not deliver it"):
        measure_round_trip(parameters(server.port))
    server.broker.hook = None
    server.wait_until(lambda: not server.broker.sessions)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(LinkDown, match="did not answer"):
        check_login(parameters(silent.getsockname()[1]))


def test_a_probe_of_a_closed_port_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(LinkDown, match=f"127.0.0.1:{port}.*refused"):
        check_reachable(parameters(port))


def test_a_tls_probe_leaves_no_socket_open(ca: CertificateAuthority) -> None:
    with BrokerThread(embedded_broker(), ssl=ca.server_context()) as server:
        assert check_reachable(parameters(server.port, **ca.parameters)).startswith("TLS")
        gc.collect()  # an open socket warns, and a warning is an error

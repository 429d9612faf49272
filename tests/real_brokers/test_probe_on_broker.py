"""The probe of `check` on each broker: address, TLS, login, subscription, and a round trip of a message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastmon_daemon.base.errors import LinkBlocked
from fastmon_daemon.broker import ConnectionParameters, check_login, check_reachable, check_sending, measure_round_trip
from tests.real_brokers.certificates import INVALID
from tests.real_brokers.conftest import Names
from tests.real_brokers.link import Link
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


def parameters_for(server: Server, topic: str, tls: str | None = None) -> ConnectionParameters:
    return ConnectionParameters(
        host=server.host, port=server.tls_ports[tls] if tls else server.port, user=server.user,
        password=lambda: server.password, subscribe=topic, announce=(topic,), durable=True, client_id="fastmon-x",
        use_ssl=tls is not None, ca_file=server.ca_file if tls else None, cert_file=None, key_file=None,
    )  # fmt: skip


@pytest.mark.parametrize("tls", [None, "good"])
def test_every_step_succeeds_and_a_message_comes_back(server: Server, names: Names, tls: str | None) -> None:
    parameters = parameters_for(server, names.topic, tls)
    assert check_reachable(parameters).startswith("TLSv1" if tls else "plain TCP")
    check_login(parameters)
    check_login(parameters, names.topic)
    confirmed, back = measure_round_trip(parameters)
    assert 0 < confirmed <= back


def test_the_probe_does_not_use_the_client_id_of_a_running_daemon(server: Server, names: Names) -> None:
    with Link(server, client_id="fastmon-x"):
        check_login(parameters_for(server, names.topic), names.topic)
        measure_round_trip(parameters_for(server, names.topic))


def test_nobody_receives_what_the_check_of_announcements_sends(server: Server, names: Names) -> None:
    with Link(server) as link:
        link.subscribe(names.topic)
        check_sending(parameters_for(server, names.topic))
        link.send(names.topic, "the next one")
        link.wait_for("the next one")
        assert link.bodies == ["the next one"]


def test_a_wrong_password_blocks_the_link(server: Server, names: Names) -> None:
    with pytest.raises(LinkBlocked, match="ACTIVEMQ_PASSWORD"):
        check_login(replace(parameters_for(server, names.topic), password=lambda: "wrong"))


@pytest.mark.parametrize("fault", INVALID)
def test_an_invalid_certificate_is_rejected_before_anything_is_sent(server: Server, names: Names, fault: str) -> None:
    with pytest.raises(LinkBlocked, match="ACTIVEMQ_SSL_CA_CERTS"):
        check_reachable(parameters_for(server, names.topic, fault))

"""`fastmon-client start --transport stomp` as a process on each broker, with and without TLS."""

from __future__ import annotations

import json

import pytest

from fastmon_daemon.testbed.monitor import MonitorThread
from tests.client.client_process import QUICK, TOKEN, Client
from tests.real_brokers.certificates import GOOD
from tests.real_brokers.conftest import Names
from tests.real_brokers.link import Link
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


def environ_of(server: Server, *, tls: bool, password: str = "") -> dict[str, str]:
    port = server.tls_port if tls else server.port
    more = {"ACTIVEMQ_USE_SSL": "True", "ACTIVEMQ_SSL_CA_CERTS": str(server.ca_file)} if tls else {}
    return {
        "ACTIVEMQ_HOST": server.host, "ACTIVEMQ_PORT": str(port), "ACTIVEMQ_USER": server.user,
        "ACTIVEMQ_PASSWORD": password or server.password, **more,
    }  # fmt: skip


def tf_file(number: int) -> str:
    return json.dumps({
        "msg_type": "tf_file_registered", "run_id": "7", "tf_file_id": str(number), "tf_filename": f"{number}.tf",
        "stf_filename": "swf.7.000001.stf",
    })  # fmt: skip


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_the_client_shows_the_messages_of_the_topic(broker: Server, names: Names, tls: bool) -> None:
    options = ("--transport", "stomp", "--topic", names.topic, "--count", "3")
    environ = environ_of(broker, tls=tls)
    with MonitorThread(TOKEN) as monitor, Client(monitor.url, *options, environ=environ, **QUICK) as client:
        client.wait_for_log("connected to stomp://")
        with Link(broker, tls=GOOD if tls else None) as link:
            link.send(names.topic, json.dumps({"msg_type": "of another kind", "run_id": "7"}))
            for number in (1, 1, 2, 3):
                link.send(names.topic, tf_file(number))
        code, lines = client.ended()
    assert code == 0
    assert [line.split()[3] for line in lines] == ["1.tf", "2.tf", "3.tf"]


def test_a_rejected_password_ends_the_client_with_a_hint(broker: Server, names: Names) -> None:
    options = ("--transport", "stomp", "--topic", names.topic)
    environ = environ_of(broker, tls=False, password="wrong-one")
    with MonitorThread(TOKEN) as monitor, Client(monitor.url, *options, environ=environ, **QUICK) as client:
        assert client.ended()[0] == 3
    assert "set ACTIVEMQ_USER and ACTIVEMQ_PASSWORD" in "".join(client.log_lines)
    assert "wrong-one" not in "".join(client.log_lines)

"""`--transport stomp`: messages from a broker topic."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from fastmon_client.broker_config import BrokerConfig
from fastmon_client.diagnostics import DiagnosticResult, Diagnostics
from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.stream import Connected, Disconnected, HeartBeat, Notice
from fastmon_client.topic_stream import TopicStream
from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread, Frame, HookResult, Session
from tests.client.client_process import QUICK, TOKEN, Client, Experiment
from tests.client.scripted_server import ScriptedServer, certified, notices_of
from tests.processes import live_testbed

TOPIC = "/topic/epictopic"


@pytest.fixture
def broker() -> Iterator[BrokerThread]:
    with BrokerThread(Broker(user="daq", password="secret-word")) as running:
        yield running


def environ(broker: BrokerThread, **changes: str) -> dict[str, str]:
    return {
        "ACTIVEMQ_HOST": "localhost", "ACTIVEMQ_PORT": str(broker.port), "ACTIVEMQ_USER": "daq",
        "ACTIVEMQ_PASSWORD": "secret-word", **changes,
    }  # fmt: skip


def topic_of(broker: BrokerThread, **changes: str) -> TopicStream:
    config = BrokerConfig.of(environ(broker, **changes), TOPIC)
    return TopicStream(
        config=config, types=("tf_file_registered",), intervals=Intervals(reconnect_s=0.1), jitter=lambda: 0.0
    )


def publish(broker: BrokerThread, *numbers: int, kind: str = "tf_file_registered") -> None:
    for number in numbers:
        body = json.dumps({"msg_type": kind, "run_id": "7", "tf_file_id": str(number), "tf_filename": f"{number}.tf"})
        broker.call(lambda body=body: broker.broker.publish(TOPIC, body))


def wait_for_notice(notices: Iterator[Notice], kind: type) -> Any:
    return next(notice for notice in notices if isinstance(notice, kind))


@contextmanager
def publishing(broker: BrokerThread, *numbers: int) -> Iterator[None]:
    """Publish repeatedly, because the subscription follows the login."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(0.05):
            publish(broker, *numbers, kind="of another kind")
            publish(broker, *numbers)

    sender = threading.Thread(target=repeat)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def message_published_until_received(notices: Iterator[Notice], broker: BrokerThread, number: int) -> dict[str, Any]:
    with publishing(broker, number):
        return next(notice for notice in notices if isinstance(notice, dict) and notice["tf_file_id"] == str(number))


def test_messages_of_the_requested_types_are_received(broker: BrokerThread) -> None:
    topic = topic_of(broker)
    notices = notices_of(topic)
    wait_for_notice(notices, Connected)
    assert message_published_until_received(notices, broker, 1)["msg_type"] == "tf_file_registered"
    topic.stop()
    assert not [notice for notice in notices if isinstance(notice, Disconnected)]


def test_topic_reconnects_after_a_broker_restart(broker: BrokerThread) -> None:
    topic = topic_of(broker)
    notices = notices_of(topic)
    wait_for_notice(notices, Connected)
    broker.stop()
    assert "the broker closed the connection" in wait_for_notice(notices, Disconnected).reason
    broker.start()
    wait_for_notice(notices, Connected)
    assert message_published_until_received(notices, broker, 2)["tf_filename"] == "2.tf"
    topic.stop()
    list(notices)


def test_rejected_login_raises_with_a_hint(broker: BrokerThread) -> None:
    with pytest.raises(AccessDenied, match="set ACTIVEMQ_USER and ACTIVEMQ_PASSWORD"):
        wait_for_notice(notices_of(topic_of(broker, ACTIVEMQ_PASSWORD="wrong")), Connected)


def test_denied_subscription_is_never_connected(broker: BrokerThread) -> None:
    def no_permission(what: str, _session: Session, frame: Frame) -> HookResult:
        return "refuse" if what == "receive" and frame.command == "SUBSCRIBE" else None

    broker.call(lambda: setattr(broker.broker, "hook", no_permission))
    topic = topic_of(broker)
    first = next(notice for notice in notices_of(topic) if not isinstance(notice, HeartBeat))
    assert isinstance(first, Disconnected)  # and never Connected
    assert "Fault at SUBSCRIBE" in first.reason
    topic.stop()


def test_unreachable_broker_is_named(broker: BrokerThread) -> None:
    broker.stop()
    lost = wait_for_notice(notices_of(topic_of(broker)), Disconnected)
    assert "connection refused" in lost.reason
    assert f"stomp://localhost:{broker.port}{TOPIC}" in lost.reason


def test_invalid_password_file_is_reported(broker: BrokerThread, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    strange = topic_of(broker, ACTIVEMQ_PASSWORD="", ACTIVEMQ_PASSWORD_FILE=str(tmp_path / "password"))
    assert "not UTF-8 text" in wait_for_notice(notices_of(strange), Disconnected).reason


def test_tls_verifies_the_certificate_and_detects_the_end(tmp_path: Path) -> None:
    context, ca = certified(tmp_path)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with BrokerThread(Broker(user="daq", password="secret-word"), ssl=context) as broker:
        files = {"ACTIVEMQ_USE_SSL": "True", "ACTIVEMQ_SSL_CA_CERTS": ca}
        topic = topic_of(broker, **files)
        notices = notices_of(topic)
        wait_for_notice(notices, Connected)
        assert message_published_until_received(notices, broker, 3)["tf_filename"] == "3.tf"
        broker.stop()
        assert wait_for_notice(notices, Disconnected).reason == "the broker closed the connection"
        topic.stop()
        list(notices)
        broker.start()
        files["ACTIVEMQ_SSL_CA_CERTS"] = str(tmp_path / "other.pem")
        strange = topic_of(broker, **files)
        assert "certificate of the broker is not trusted" in wait_for_notice(notices_of(strange), Disconnected).reason


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ACTIVEMQ_PORT": "STOMP"}, "ACTIVEMQ_PORT=STOMP: set a port"),
        ({"ACTIVEMQ_USE_SSL": "ture"}, "ACTIVEMQ_USE_SSL=ture: set True or False"),
        ({"ACTIVEMQ_USE_SSL": "on"}, "ACTIVEMQ_USE_SSL=on without a CA file"),
        ({"ACTIVEMQ_HOST": "broker..example"}, "invalid ACTIVEMQ_HOST: 'broker..example' is not a host name"),
        ({"ACTIVEMQ_HOST": "b" * 70}, "invalid ACTIVEMQ_HOST: 'b+' is not a host name"),
        ({"ACTIVEMQ_HOST": "[::1"}, "invalid ACTIVEMQ_HOST: .* is neither a host name nor an address"),
        ({"ACTIVEMQ_HOST": "host:61612"}, "invalid ACTIVEMQ_HOST: .* is neither a host name nor an address"),
        ({"ACTIVEMQ_USER": "a", "MQ_USER": "b"}, "ACTIVEMQ_USER='a' and its alias MQ_USER='b' differ"),
    ],
)
def test_invalid_setting_is_named_with_the_fix(changes: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BrokerConfig.of(changes, TOPIC)


@pytest.mark.parametrize("host", ["me:hush-hush@host", "stomp://me:hush-hush@host", "host?hush-hush"])
def test_host_with_a_password_is_rejected_and_not_shown(host: str) -> None:
    with pytest.raises(ValueError, match="invalid ACTIVEMQ_HOST: set a host name") as refusal:
        BrokerConfig.of({"ACTIVEMQ_HOST": host}, TOPIC)
    assert "hush-hush" not in str(refusal.value)


@pytest.mark.field("15")
def test_bracketed_ipv6_address_is_reached() -> None:
    config = BrokerConfig.of({"ACTIVEMQ_HOST": "[::1]", "ACTIVEMQ_PORT": "1"}, TOPIC)
    lost = wait_for_notice(notices_of(TopicStream(config=config, intervals=Intervals())), Disconnected)
    assert lost.reason == f"stomp://[::1]:1{TOPIC}: connection refused"


def test_broker_without_tls_is_named(tmp_path: Path) -> None:
    _context, ca = certified(tmp_path)

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"ERROR\n\n\0")

    with ScriptedServer(answer, waits_for_request=False) as server:
        variables = {"ACTIVEMQ_PORT": server.url.rpartition(":")[2], "ACTIVEMQ_SSL_CA_CERTS": ca}
        config = BrokerConfig.of(variables | {"ACTIVEMQ_USE_SSL": "on"}, TOPIC)
        lost = wait_for_notice(notices_of(TopicStream(config=config, intervals=Intervals())), Disconnected)
    assert lost.reason == f"{config.url}: the broker does not use TLS: set ACTIVEMQ_USE_SSL=off"


def test_client_shows_messages_of_the_topic(broker: BrokerThread) -> None:
    with (
        MonitorThread(TOKEN) as monitor,
        Client(
            monitor.url, "--transport", "stomp", "--count", "2", environ=environ(broker), **QUICK,
        ) as client,
    ):  # fmt: skip
        client.wait_for_log(f"connected to stomp://localhost:{broker.port}{TOPIC}")
        with publishing(broker, 1, 2):
            code, lines = client.ended()
    assert code == 0
    assert sorted(line.split()[3] for line in lines) == ["1.tf", "2.tf"]


@pytest.mark.field("0b")
def test_topic_without_announcements_is_an_alarm(broker: BrokerThread) -> None:
    more = ("--transport", "stomp", "--topic", "/topic/other", "--for", "1h")
    with (
        Experiment() as experiment,
        Client(experiment.monitor.url, *more, environ=environ(broker), **QUICK | {"heart_beat_s": 30.0}) as client,
    ):
        client.wait_for_log("connected to")
        experiment.publish(1)
        assert "backfilled" in client.line()
        experiment.publish(2)
        client.wait_for_log("alarm source_silent: no announcement received from /topic/other since ")
        client.signal(signal.SIGTERM)
        assert client.ended()[0] == 0


@pytest.mark.field("0b")
def test_status_says_whether_announcements_arrive_on_the_topic(broker: BrokerThread) -> None:
    with Experiment() as experiment:
        monitor = MonitorSession(url=experiment.monitor.url, token=lambda: TOKEN)

        def last_result(topic: str, listen_s: float) -> DiagnosticResult:
            return list(Diagnostics(monitor, BrokerConfig.of(environ(broker), topic), listen_s=listen_s).run())[-1]

        quiet = last_result(TOPIC, 0.1)
        with publishing(broker, 1):
            heard = last_result(TOPIC, 60.0)
        registering = threading.Thread(target=register_tf_files_until, args=(experiment, over := threading.Event()))
        registering.start()
        silent = last_result("/topic/other", 1.0)
        over.set()
        registering.join()
    assert (quiet.ok, quiet.detail) == (True, f"subscribed to {TOPIC}; no TF file was registered in 0.1 s")
    assert (heard.ok, heard.detail) == (True, f"announcements arrive on {TOPIC}")
    assert not silent.ok
    assert silent.detail.startswith("nothing received from /topic/other in 1 s, while the monitor registered ")
    assert silent.hint == "set --topic to one of the daemon's FASTMON_ANNOUNCE"


def register_tf_files_until(experiment: Experiment, over: threading.Event) -> None:
    sequence = 0
    while not over.wait(0.05):
        sequence += 1
        experiment.register_stfs(sequence)
        experiment.register_tfs(sequence)


@pytest.mark.field("0b")
def test_client_hears_the_daemon_with_the_defaults_of_both(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed:
        testbed.register(1)
        defaults = testbed.environment(FASTMON_ANNOUNCE="", FASTMON_SUBSCRIBE="")
        with Client(testbed.monitor.url, "--transport", "stomp", "--count", "7", environ=defaults) as client:
            client.wait_for_log("connected to")
            testbed.daemon(FASTMON_ANNOUNCE="", FASTMON_SUBSCRIBE="")
            testbed.announce(1)
            code, lines = client.ended(60.0)
    assert code == 0
    tf_files = [line for line in lines if ".tf " in line]
    assert len(tf_files) == 7
    assert not any("backfilled" in line for line in tf_files)

"""The daemon as a process on each broker: a whole run, outages, TLS, and 20 kills in the middle of 100 STFs."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmon_daemon.broker import BrokerConnection, ConnectionParameters, LinkStateChange
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.processes import TOKEN, Door, Living, ended, name, wait_until
from tests.real_brokers.certificates import DOUBTFUL
from tests.real_brokers.conftest import Names
from tests.real_brokers.link import DeadClient
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


class Neighbour:
    """Another agent on the same topic: sends what the DAQ sends, and hears what the daemon announces."""

    def __init__(self, server: Server, topic: str, *, tls: bool = False) -> None:
        self.heard: list[str] = []
        self._stopping = threading.Event()
        parameters = ConnectionParameters(
            host=server.host,
            port=server.tls_port if tls else server.port,
            user=server.user,
            password=lambda: server.password,
            subscribe=topic,
            announce=(topic,),
            durable=False,
            client_id="",
            use_ssl=tls,
            ca_file=server.ca_file if tls else None,
            cert_file=None,
            key_file=None,
        )
        self._broker = BrokerConnection(parameters, accept=self._accept, changed=self._changed, stopping=self._stopping)
        self._broker.start()
        self.wait_until_up()

    def wait_until_up(self) -> None:
        wait_until(lambda: self._broker.up, "the neighbour is connected")

    def _changed(self, _change: LinkStateChange) -> None:
        """The link's own log line says it all."""

    def _accept(self, body: bytes) -> None:
        message = json.loads(body)
        if message.get("msg_type") == "tf_file_registered":
            self.heard.append(message["event_id"])

    def send(self, body: str) -> None:
        self._broker.announce(body, json.dumps(random.random()))

    def stop(self) -> None:
        self._broker.stop(10.0)


@pytest.fixture
def neighbour(broker: Server, names: Names) -> Iterator[Neighbour]:
    agent = Neighbour(broker, names.topic)
    yield agent
    agent.stop()


@pytest.fixture
def world(tmp_path: Path, broker: Server, names: Names, neighbour: Neighbour) -> Iterator[Living]:
    door = Door(
        port=broker.port, publish=neighbour.send, host=broker.host, user=broker.user, password=broker.password,
        topic=names.topic,
    )  # fmt: skip
    with MonitorThread(TOKEN) as monitor, ended(Living(tmp_path, monitor, door)) as made:
        yield made
        for child in made.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait(30)


def distinct(neighbour: Neighbour) -> int:
    return len(set(neighbour.heard))


def test_a_whole_run(world: Living, neighbour: Neighbour) -> None:
    world.daemon()
    world.publish({"msg_type": "run_imminent", "run_id": "100014", "execution_id": "e-1"})
    world.publish({"msg_type": "start_run", "run_id": "100014", "execution_id": "e-1"})
    world.register(*range(1, 21))
    world.announce(*range(1, 21))
    world.publish({"msg_type": "end_run", "run_id": "100014", "execution_id": "e-1", "total_stf_files": 20})
    world.wait_for(completed=20)
    wait_until(lambda: len(neighbour.heard) >= 140, "all are heard")
    assert (len(neighbour.heard), distinct(neighbour)) == (140, 140)
    assert world.monitor.counts()["fastmon_files"] == 140


def test_kill_9_at_20_random_moments_over_100_stfs(
    world: Living, neighbour: Neighbour, broker: Server, note: Callable[[str, object], None]
) -> None:
    chance = random.Random(20)
    world.monitor.faults(latency_ms=5)
    daemon = world.daemon()
    world.register(*range(1, 101))
    for kill in range(20):
        world.announce(*range(5 * kill + 1, 5 * kill + 6))
        threading.Event().wait(chance.uniform(0.0, 0.4))
        daemon.kill()
        daemon.wait()
        daemon = world.daemon()
    world.wait_for(completed=100)
    wait_until(lambda: distinct(neighbour) == 700, f"{distinct(neighbour)} of 700 announced")
    assert world.monitor.counts()["fastmon_files"] == 700
    twice = len(neighbour.heard) - 700
    note("announced twice over 20 kills of the daemon, 100 STFs", twice)
    assert twice <= 20 * 4  # at most what was in flight at each cut: one a worker
    if broker.kind == "artemis":
        assert twice == 0  # duplicate detection


def test_messages_of_a_durable_daemon_wait_for_it_also_over_a_restart_of_the_broker(
    world: Living, neighbour: Neighbour, broker: Server
) -> None:
    daemon = world.daemon()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    world.register(1, 2, 3)
    world.announce(1, 2, 3)
    broker.stop()
    broker.start()
    neighbour.wait_until_up()
    world.daemon()
    world.wait_for(completed=3)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_broker_goes_and_comes_back(world: Living, neighbour: Neighbour, broker: Server, end: str) -> None:
    world.daemon()
    world.register(1, 2)
    world.announce(1)
    world.wait_for(completed=1)
    getattr(broker, end)()
    wait_until(lambda: "link to the broker is down" in world.log(), "the daemon notices")
    broker.start()
    neighbour.wait_until_up()
    wait_until(lambda: world.log().count("broker link up") == 2, "the daemon is back")
    world.announce(2)
    world.wait_for(completed=2)


def test_a_silent_broker_is_noticed_and_taken_up_again(world: Living, neighbour: Neighbour, broker: Server) -> None:
    world.daemon()
    broker.pause()
    wait_until(lambda: "link to the broker is down" in world.log(), "the daemon notices", deadline_s=60)
    broker.resume()
    neighbour.wait_until_up()
    wait_until(lambda: world.log().count("broker link up") == 2, "the daemon is back", deadline_s=90)
    world.register(1)
    world.announce(1)
    world.wait_for(completed=1)


def test_a_subscriber_that_never_reads_holds_nobody_up(
    world: Living, neighbour: Neighbour, broker: Server, names: Names
) -> None:
    world.daemon()
    world.register(1)
    slow = DeadClient(broker, f"{names.client_id}-slow", 0, {"destination": names.topic})
    with slow:
        for _ in range(1000):  # 8 MB: more than the sockets between broker and subscriber hold
            neighbour.send(json.dumps({"msg_type": "noise", "text": "x" * 8000}))
        world.announce(1)
        world.wait_for(completed=1)
        wait_until(lambda: distinct(neighbour) == 7, "all are heard")


def test_a_wrong_password_is_told_with_its_setting_and_the_daemon_waits(world: Living) -> None:
    daemon = world.start("run", ACTIVEMQ_PASSWORD="wrong-one")
    wait_until(lambda: "ACTIVEMQ_PASSWORD" in world.log(), "it names the setting")
    assert daemon.poll() is None
    assert "wrong-one" not in world.log()


def test_over_tls_an_stf_goes_its_whole_way(world: Living, broker: Server, names: Names) -> None:
    neighbour = Neighbour(broker, names.topic, tls=True)
    world.daemon(ACTIVEMQ_PORT=str(broker.tls_port), ACTIVEMQ_USE_SSL="true", ACTIVEMQ_SSL_CA_CERTS=str(broker.ca_file))
    world.register(1)
    neighbour.send(json.dumps({"msg_type": "stf_ready", "run_id": "100014", "filename": name(1)}))
    world.wait_for(completed=1)
    wait_until(lambda: distinct(neighbour) == 7, "all are heard over TLS")
    neighbour.stop()


@pytest.mark.parametrize("fault", DOUBTFUL)
def test_a_doubtful_certificate_is_refused_with_the_setting_to_mend(world: Living, broker: Server, fault: str) -> None:
    port = str(broker.tls_ports[fault])
    world.start("run", ACTIVEMQ_PORT=port, ACTIVEMQ_USE_SSL="true", ACTIVEMQ_SSL_CA_CERTS=str(broker.ca_file))
    wait_until(lambda: "blocked" in world.log() and "ACTIVEMQ_SSL_CA_CERTS" in world.log(), "it names the setting")
    assert "broker link up" not in world.log()


def test_tls_without_a_ca_file_is_refused_before_anything_is_sent(world: Living, broker: Server) -> None:
    told = world.call("run", ACTIVEMQ_PORT=str(broker.tls_port), ACTIVEMQ_USE_SSL="true")
    assert told.returncode == 78
    assert "ACTIVEMQ_SSL_CA_CERTS" in told.stderr

"""The daemon as a process on each broker: a complete run, outages, TLS, and 20 kills during 100 STFs."""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fastmon_daemon.broker import BrokerConnection, ConnectionParameters, LinkStateChange
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import query
from tests.processes import TOKEN, BaseTestbed, BrokerAccess, ended, name, wait_until
from tests.real_brokers.certificates import INVALID
from tests.real_brokers.conftest import Names
from tests.real_brokers.link import DeadClient
from tests.real_brokers.servers import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


class OtherAgent:
    """Another agent on the topic: sends like the DAQ, and receives the daemon's announcements."""

    def __init__(self, server: Server, topic: str, *, tls: bool = False) -> None:
        self.event_ids: list[str] = []
        self.announced: Counter[str] = Counter()
        """TF file -> how often it was announced."""
        self.statuses = 0
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
        wait_until(lambda: self._broker.up, "the other agent is connected")

    def _changed(self, _change: LinkStateChange) -> None:
        """Ignored: the link logs its changes."""

    def _accept(self, body: bytes) -> None:
        message = json.loads(body)
        if message.get("msg_type") == "tf_file_registered":
            self.event_ids.append(message["event_id"])
            self.announced[message["tf_filename"]] += 1
        self.statuses += message.get("msg_type") == "fastmon_status"

    def send(self, body: str) -> None:
        self._broker.announce(body, json.dumps(random.random()))

    def stop(self) -> None:
        self._broker.stop(10.0)


@pytest.fixture
def other_agent(broker: Server, names: Names) -> Iterator[OtherAgent]:
    agent = OtherAgent(broker, names.topic)
    yield agent
    agent.stop()


@pytest.fixture
def testbed(tmp_path: Path, broker: Server, names: Names, other_agent: OtherAgent) -> Iterator[BaseTestbed]:
    access = BrokerAccess(
        port=broker.port, publish=other_agent.send, host=broker.host, user=broker.user, password=broker.password,
        topic=names.topic,
    )  # fmt: skip
    with MonitorThread(TOKEN) as monitor, ended(BaseTestbed(tmp_path, monitor, access)) as made:
        yield made
        for child in made.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait(30)


def distinct(other_agent: OtherAgent) -> int:
    return len(set(other_agent.event_ids))


def test_a_complete_run(testbed: BaseTestbed, other_agent: OtherAgent) -> None:
    testbed.daemon()
    testbed.publish({"msg_type": "run_imminent", "run_id": "100014", "execution_id": "e-1"})
    testbed.publish({"msg_type": "start_run", "run_id": "100014", "execution_id": "e-1"})
    testbed.register(*range(1, 21))
    testbed.announce(*range(1, 21))
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "execution_id": "e-1", "total_stf_files": 20})
    testbed.wait_for(completed=20)
    wait_until(lambda: len(other_agent.event_ids) >= 140, "all are announced")
    assert (len(other_agent.event_ids), distinct(other_agent)) == (140, 140)
    assert testbed.monitor.counts()["fastmon_files"] == 140


@pytest.mark.parametrize("durable", ["off", "on"])
def test_announcements_come_back_only_to_a_durable_subscription(
    testbed: BaseTestbed, other_agent: OtherAgent, durable: str
) -> None:
    testbed.daemon(FASTMON_DURABLE=durable)
    testbed.register(1, 2)
    for number in (1, 2):  # what is ignored is counted with the next message that is stored
        testbed.announce(number)
        testbed.wait_for(completed=number)
        wait_until(lambda: len(other_agent.event_ids) >= 7, "the first is announced")
    counters = json.loads(testbed.call("inspect", "--json").stdout)["counters"]
    assert counters["stf_ready_fresh"] == 2
    ignored = counters.get("ignored_type", 0)
    if durable == "on":
        assert ignored >= 7
    else:
        wait_until(lambda: ignored <= other_agent.statuses, f"{ignored} came back, and not only our status messages")


@pytest.mark.parametrize("notify", ["stomp", "off"])
def test_a_login_that_may_not_send_receives_every_stf(testbed: BaseTestbed, broker: Server, notify: str) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker has one user; its fault refuse_send is tested in tests/service")
    testbed.daemon(ACTIVEMQ_USER=broker.reader, FASTMON_NOTIFY=notify)
    testbed.register(*range(1, 21))
    for number in range(1, 21):
        testbed.announce(number)
    if notify == "stomp":
        testbed.wait_for(tf_registered=20)
        wait_until(lambda: "link for announcements is blocked" in testbed.log(), "announcing is blocked")
    else:
        testbed.wait_for(completed=20)
    remedy = f"grant this user the right to send to {testbed.broker_access.topic}"
    wait_until(lambda: remedy in testbed.log(), "the remedy")
    assert testbed.log().count(remedy) == 1
    assert "link to the broker is down" not in testbed.log()
    assert "link to the broker is blocked" not in testbed.log()


def announcements_not_stored(database: Path) -> Counter[str]:
    """TF files that the database of a killed daemon has as registered and not as announced, each once.

    It is read from a copy, because the next daemon has to recover it.
    """
    with TemporaryDirectory() as folder:
        for file in (database, database.with_name(f"{database.name}-wal")):
            if file.exists():
                shutil.copy(file, folder)
        unannounced = "select filename from tf where registered_at is not null and announced_at is null"
        return Counter(name for (name,) in query(Path(folder) / database.name, unannounced))


def test_kill_9_at_20_random_moments_over_100_stfs(
    testbed: BaseTestbed, other_agent: OtherAgent, broker: Server, note: Callable[[str, object], None]
) -> None:
    rng, may_repeat = random.Random(20), Counter[str]()
    testbed.monitor.faults(latency_ms=5)
    daemon = testbed.daemon()
    testbed.register(*range(1, 101))
    for kill in range(20):
        testbed.announce(*range(5 * kill + 1, 5 * kill + 6))
        threading.Event().wait(rng.uniform(0.0, 0.4))
        daemon.kill()
        daemon.wait()
        may_repeat += announcements_not_stored(testbed.database)
        daemon = testbed.daemon()
    testbed.wait_for(completed=100)
    wait_until(lambda: distinct(other_agent) == 700, f"{distinct(other_agent)} of 700 announced")
    assert testbed.monitor.counts()["fastmon_files"] == 700
    twice = len(other_agent.event_ids) - 700
    note("announced twice over 20 kills of the daemon, 100 STFs", twice)
    repeated = other_agent.announced - Counter(other_agent.announced.keys())
    assert repeated.total() == twice
    assert repeated <= may_repeat, "a TF file is announced again at most once for each kill before it was stored"
    if broker.kind == "artemis":
        assert twice == 0  # duplicate detection


def test_messages_for_a_durable_daemon_survive_a_restart_of_the_broker(
    testbed: BaseTestbed, other_agent: OtherAgent, broker: Server
) -> None:
    daemon = testbed.daemon()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    testbed.register(1, 2, 3)
    testbed.announce(1, 2, 3)
    broker.stop()
    broker.start()
    other_agent.wait_until_up()
    testbed.daemon()
    testbed.wait_for(completed=3)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_daemon_reconnects_after_an_outage_of_the_broker(
    testbed: BaseTestbed, other_agent: OtherAgent, broker: Server, end: str
) -> None:
    testbed.daemon()
    testbed.register(1, 2)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    getattr(broker, end)()
    wait_until(lambda: "link to the broker is down" in testbed.log(), "the daemon notices")
    broker.start()
    other_agent.wait_until_up()
    wait_until(lambda: testbed.log().count("link to the broker is up") == 2, "the daemon is back")
    testbed.announce(2)
    testbed.wait_for(completed=2)


def test_the_daemon_reconnects_to_a_broker_that_was_silent(
    testbed: BaseTestbed, other_agent: OtherAgent, broker: Server
) -> None:
    testbed.daemon()
    broker.pause()
    wait_until(lambda: "link to the broker is down" in testbed.log(), "the daemon notices", deadline_s=60)
    broker.resume()
    other_agent.wait_until_up()
    wait_until(lambda: testbed.log().count("link to the broker is up") == 2, "the daemon is back", deadline_s=90)
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)


def test_a_subscriber_that_never_reads_delays_nobody(
    testbed: BaseTestbed, other_agent: OtherAgent, broker: Server, names: Names
) -> None:
    testbed.daemon()
    testbed.register(1)
    slow = DeadClient(broker, f"{names.client_id}-slow", 0, {"destination": names.topic})
    with slow:
        for _ in range(1000):  # 8 MB: more than the socket buffers
            other_agent.send(json.dumps({"msg_type": "noise", "text": "x" * 8000}))
        testbed.announce(1)
        testbed.wait_for(completed=1)
        wait_until(lambda: distinct(other_agent) == 7, "all are announced")


def test_a_wrong_password_is_reported_with_its_setting_and_the_daemon_keeps_running(testbed: BaseTestbed) -> None:
    daemon = testbed.start("run", ACTIVEMQ_PASSWORD="wrong-one")
    wait_until(lambda: "ACTIVEMQ_PASSWORD" in testbed.log(), "it names the setting")
    assert daemon.poll() is None
    assert "wrong-one" not in testbed.log()


def test_an_stf_is_completed_over_tls(testbed: BaseTestbed, broker: Server, names: Names) -> None:
    other_agent = OtherAgent(broker, names.topic, tls=True)
    testbed.daemon(
        ACTIVEMQ_PORT=str(broker.tls_port), ACTIVEMQ_USE_SSL="true", ACTIVEMQ_SSL_CA_CERTS=str(broker.ca_file)
    )
    testbed.register(1)
    other_agent.send(json.dumps({"msg_type": "stf_ready", "run_id": "100014", "filename": name(1)}))
    testbed.wait_for(completed=1)
    wait_until(lambda: distinct(other_agent) == 7, "all are announced over TLS")
    other_agent.stop()


@pytest.mark.parametrize("fault", INVALID)
def test_an_invalid_certificate_is_rejected_with_its_setting(testbed: BaseTestbed, broker: Server, fault: str) -> None:
    port = str(broker.tls_ports[fault])
    testbed.start("run", ACTIVEMQ_PORT=port, ACTIVEMQ_USE_SSL="true", ACTIVEMQ_SSL_CA_CERTS=str(broker.ca_file))
    wait_until(lambda: "blocked" in testbed.log() and "ACTIVEMQ_SSL_CA_CERTS" in testbed.log(), "it names the setting")
    assert "link to the broker is up" not in testbed.log()


def test_tls_without_a_ca_file_is_rejected_before_anything_is_sent(testbed: BaseTestbed, broker: Server) -> None:
    done = testbed.call("run", ACTIVEMQ_PORT=str(broker.tls_port), ACTIVEMQ_USE_SSL="true")
    assert done.returncode == 78
    assert "ACTIVEMQ_SSL_CA_CERTS" in done.stderr

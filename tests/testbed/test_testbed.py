"""The embedded testbed end to end: messages reach the monitor, and faults take effect."""

from __future__ import annotations

import json
import os
import queue
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import stomp
from sseclient import SSEClient

from fastmon_daemon.testbed.testbed import TOPIC, TestbedOptions, TestbedThread, temporary_env_file
from tests.processes import wait_until

DEADLINE_S = 20.0
ANNOUNCEMENT = {"msg_type": "tf_file_registered", "tf_file_id": "a", "run_id": "1", "status": "registered"}


class Listener(stomp.ConnectionListener):
    def __init__(self) -> None:
        self.receipts: queue.Queue[str] = queue.Queue()
        self.gone = threading.Event()

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_disconnected(self) -> None:
        self.gone.set()


class Sender:
    """A plain stomp.py client."""

    def __init__(self, environment: dict[str, str]) -> None:
        address = (environment["ACTIVEMQ_HOST"], int(environment["ACTIVEMQ_PORT"]))
        self.listener = Listener()
        self.connection = stomp.StompConnection12([address], reconnect_attempts_max=1, timeout=DEADLINE_S)
        self.connection.set_listener("listener", self.listener)
        self.connection.connect(environment["ACTIVEMQ_USER"], environment["ACTIVEMQ_PASSWORD"], wait=True)

    def send(self, message: dict[str, Any], destination: str = TOPIC) -> None:
        self.connection.send(destination, json.dumps(message), headers={"receipt": "r"})

    def deliver(self, message: dict[str, Any], destination: str = TOPIC) -> None:
        self.send(message, destination)
        assert self.listener.receipts.get(timeout=DEADLINE_S) == "r"


@pytest.fixture
def testbed() -> Iterator[TestbedThread]:
    with TestbedThread() as running:
        yield running


@pytest.fixture
def connect(testbed: TestbedThread) -> Iterator[Callable[[], Sender]]:
    senders: list[Sender] = []

    def new() -> Sender:
        senders.append(Sender(testbed.environment))
        return senders[-1]

    yield new
    for sender in senders:
        sender.connection.transport.disconnect_socket()


def delivers(connect: Callable[[], Sender]) -> bool:
    try:
        connect().deliver(ANNOUNCEMENT)
    except (stomp.exception.StompException, OSError):
        return False
    return True


def post(testbed: TestbedThread, path: str, body: object) -> requests.Response:
    headers = {"Authorization": f"Token {testbed.environment['SWF_API_TOKEN']}"}
    return requests.post(testbed.environment["SWF_MONITOR_URL"] + path, json=body, headers=headers, timeout=DEADLINE_S)


def test_a_message_on_the_topic_appears_in_the_stream(testbed, connect):
    url = f"{testbed.environment['SWF_MONITOR_URL']}/api/messages/stream/"
    headers = {"Authorization": f"Token {testbed.environment['SWF_API_TOKEN']}"}
    with requests.get(url, headers=headers, stream=True, timeout=DEADLINE_S) as response:
        events = SSEClient(response).events()
        assert next(events).event == "connected"
        connect().deliver(ANNOUNCEMENT)
        assert json.loads(next(events).data)["tf_file_id"] == "a"


def test_announcements_and_distinct_announcements_are_counted(testbed, connect):
    sender = connect()
    for _ in range(2):
        sender.deliver(ANNOUNCEMENT)
    sender.deliver(ANNOUNCEMENT | {"tf_file_id": "b"})
    counts = testbed.counts()
    assert (counts["announcements"], counts["distinct_announcements"]) == (3, 2)


def test_the_monitor_gets_only_messages_of_the_topic(testbed, connect):
    connect().deliver(ANNOUNCEMENT, "/queue/elsewhere")
    assert testbed.counts()["announcements"] == 0


def test_a_broker_outage_cuts_all_connections_and_ends_on_the_same_port(testbed, connect):
    sender = connect()
    assert post(testbed, "/_testbed/faults", {"broker_down_s": 0.2}).status_code == 200
    assert sender.listener.gone.wait(DEADLINE_S)
    wait_until(lambda: delivers(connect))


def test_clearing_the_faults_ends_a_broker_outage_at_once(testbed, connect):
    first = connect()
    testbed.faults(broker_down_s=600)
    assert first.listener.gone.wait(DEADLINE_S)
    testbed.faults()
    wait_until(lambda: delivers(connect))


def test_clearing_without_faults_cuts_no_connection(testbed, connect):
    sender = connect()
    testbed.faults()
    sender.deliver(ANNOUNCEMENT)
    assert not sender.listener.gone.is_set()


def test_a_silent_broker_answers_when_the_silence_is_over(testbed, connect):
    sender = connect()
    testbed.faults(broker_silent_s=600)
    sender.send(ANNOUNCEMENT)
    with pytest.raises(queue.Empty):
        sender.listener.receipts.get(timeout=0.3)
    testbed.faults(broker_silent_s=0)
    assert sender.listener.receipts.get(timeout=DEADLINE_S) == "r"


def test_without_receipts_a_message_still_arrives(testbed, connect):
    testbed.faults(no_receipts=True)
    sender = connect()
    sender.send(ANNOUNCEMENT)
    testbed.wait_until(lambda: testbed.testbed.monitor.counts()["announcements"] == 1)
    testbed.faults()
    sender.deliver(ANNOUNCEMENT)
    assert sender.listener.receipts.empty()


def test_messages_can_be_posted_only_if_the_endpoint_is_enabled(testbed):
    assert post(testbed, "/api/messages/", ANNOUNCEMENT).status_code == 404
    with TestbedThread(TestbedOptions(messages_endpoint=True)) as other:
        assert post(other, "/api/messages/", ANNOUNCEMENT).status_code == 201
        other.wait_until(lambda: other.testbed.monitor.counts()["announcements"] == 1)


def test_on_message_gets_every_accepted_message(connect):
    messages: list[tuple[str, str]] = []
    with TestbedThread(TestbedOptions(on_message=lambda *message: messages.append(message))) as other:
        sender = Sender(other.environment)
        sender.deliver({"a": 1}, "/queue/work")
        sender.connection.transport.disconnect_socket()
    assert messages == [("/queue/work", '{"a": 1}')]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_with_its_env_file_until_a_signal(tmp_path: Path, how):
    file = tmp_path / ".env.testbed"
    command = [sys.executable, "-m", "fastmon_daemon", "testbed", "--env-file", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    try:
        wait_until(file.exists)
        text = file.read_text()
        environment = dict(line.split("=", 1) for line in text.splitlines())
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert requests.get(f"{environment['SWF_MONITOR_URL']}/_testbed/counts", timeout=DEADLINE_S).ok
        sender = Sender(environment)
        sender.deliver(ANNOUNCEMENT)
        sender.connection.transport.disconnect_socket()
        process.send_signal(how)
        output, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert list(tmp_path.iterdir()) == []
    assert environment["SWF_MONITOR_URL"] in output
    assert environment["SWF_API_TOKEN"] not in output
    assert environment["ACTIVEMQ_PASSWORD"] not in output
    assert environment["FASTMON_NAMESPACE"] == "testbed"
    assert (environment["FASTMON_DURABLE"], environment["FASTMON_LATE_ANNOUNCE_RATE"]) == ("on", "0")
    assert "FASTMON_SELECTION_FRACTION" not in environment


def test_detached_it_is_ready_when_the_command_returns_and_ends_by_the_process_id_in_its_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastmon_daemon", "testbed", "--detach"]
    # With captured output `run` returns only when nobody holds stdout and stderr any more.
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S, check=True)
    file = tmp_path / ".env.testbed"
    environment = dict(line.split("=", 1) for line in file.read_text().splitlines())
    try:
        assert requests.get(f"{environment['SWF_MONITOR_URL']}/_testbed/counts", timeout=DEADLINE_S).ok
        assert environment["SWF_MONITOR_URL"] in done.stdout
        assert f"kill {environment['TESTBED_PID']}" in done.stdout
    finally:
        os.kill(int(environment["TESTBED_PID"]), signal.SIGTERM)
    wait_until(lambda: not file.exists())


@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_taken_port_is_named_with_a_hint(tmp_path: Path, testbed, how):
    port = testbed.environment["ACTIVEMQ_PORT"]
    command = [sys.executable, "-m", "fastmon_daemon", "testbed", "--broker-port", port, *how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert f"--broker-port {port}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_env_file_is_written_into_no_file_of_another(tmp_path: Path) -> None:
    victim, target = tmp_path / "victim", tmp_path / ".env.testbed"
    victim.write_text("precious")
    draft = tmp_path / f".env.testbed.{os.getpid()}"
    draft.symlink_to(victim)
    with pytest.raises(FileExistsError), temporary_env_file(target, {"SWF_API_TOKEN": "t"}):
        pass
    assert victim.read_text() == "precious"
    draft.unlink()
    with temporary_env_file(target, {"SWF_API_TOKEN": "t"}):
        assert target.read_text() == "SWF_API_TOKEN=t\n"
        target.unlink()
        target.symlink_to(victim)
        victim.write_text("SWF_API_TOKEN=t\n")
    assert target.is_symlink(), "it is not ours any more"

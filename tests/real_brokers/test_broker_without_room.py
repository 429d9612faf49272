"""A broker that has no room for announcements: intake goes on, the cause is told, and all are announced afterwards.

First a topic that may hold 40 kB, then a real disk that is full. The embedded broker is never full; its fault
`refuse_send` is tested in tests/service.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from fastmon_daemon.testbed.monitor import MonitorThread
from tests.outbox.test_full_disk import fill_disk
from tests.processes import TOKEN, BaseTestbed, BrokerAccess, ended, wait_until
from tests.real_brokers.certificates import Certificates
from tests.real_brokers.conftest import Names
from tests.real_brokers.link import Link, Rejected
from tests.real_brokers.servers import KINDS, Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300), pytest.mark.field("27a")]
BLOCKED = "link for announcements is blocked: "
DURABLE = {"activemq.subscriptionName": "work", "durable-subscription-name": "work"}
WHILE_FULL, LATER = range(1, 7), range(7, 9)
ALL, TF_FILES = len(WHILE_FULL) + len(LATER), 7 * (len(WHILE_FULL) + len(LATER))


@contextmanager
def agents_at(server: Server, folder: Path, topic: str) -> Iterator[BaseTestbed]:
    """A testbed whose DAQ sends messages that need no room: they are not persistent."""

    def publish(body: str) -> None:
        with Link(server) as link:
            link.send(topic, body, persistent="false")

    access = BrokerAccess(
        port=server.port, publish=publish, host=server.host, user=server.user, password=server.password, topic=topic
    )
    with MonitorThread(TOKEN) as monitor, ended(BaseTestbed(folder, monitor, access)) as testbed:
        testbed.register(*WHILE_FULL, *LATER)
        yield testbed


@pytest.fixture(autouse=True)
def _only_real_brokers(server: Server) -> None:
    if server.kind == "embedded":
        pytest.skip("the embedded broker is never full")


@pytest.fixture
def full_disk(server: Server, tmp_path: Path, certificates: Certificates) -> Iterator[tuple[Server, Path]]:
    """A broker of the same kind, and the file system of 120 MB with its data, which the test fills."""
    folder = tmp_path / server.kind
    disk = folder / "data"
    disk.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(disk)]
    mounted = shutil.which("mount") and subprocess.run(words, capture_output=True, check=False)
    if not mounted or mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode() if mounted else 'no mount'}")
    broker = KINDS[server.kind](folder, certificates)
    try:
        broker.start()
        yield broker, disk
    finally:
        broker.kill()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def announced(bodies: list[str]) -> int:
    return len({json.loads(body)["event_id"] for body in bodies if "tf_file_registered" in body})


def expect_remedy(testbed: BaseTestbed, note: Callable[[str, object], None]) -> None:
    told = [line.partition(BLOCKED)[2] for line in testbed.log().splitlines() if BLOCKED in line]
    shown = " ".join(testbed.call("inspect").stdout.split())
    note("what a broker without room says", told[0])
    for text in (*told, shown):
        assert "make room at the broker" in text
    assert shown.startswith("announcements blocked: ")
    assert "link to the broker is down" not in testbed.log()
    assert "link to the broker is blocked" not in testbed.log()


def test_a_full_topic_blocks_announcing_until_it_is_read(
    broker: Server, tmp_path: Path, names: Names, note: Callable[[str, object], None]
) -> None:
    topic = names.topic.replace("/topic/", "/topic/small.")
    slowly = {"activemq.prefetchSize": "1", "consumer-window-size": "1"}
    with agents_at(broker, tmp_path, names.topic) as testbed, Link(broker).subscribe(topic, **slowly) as reader:
        testbed.daemon(FASTMON_ANNOUNCE=topic)
        testbed.announce(*WHILE_FULL)
        wait_until(lambda: BLOCKED in testbed.log(), "announcing is blocked")
        testbed.announce(*LATER)
        wait_until(lambda: testbed.monitor.counts()["fastmon_files"] == TF_FILES, "intake and registration go on")
        expect_remedy(testbed, note)
        read = 0
        while announced(reader.bodies) < TF_FILES:
            wait_until(partial(is_longer, reader.received, read), "the link is tried again within half a minute")
            reader.ack(reader.received[read])
            read += 1
        testbed.wait_for(completed=ALL)
        twice = sum("tf_file_registered" in body for body in reader.bodies) - TF_FILES
        note(f"announced twice by a broker that had no room, of {TF_FILES}", twice)
        assert twice == 0 or broker.kind == "classic"


def is_longer(found: list[object], length: int) -> bool:
    return len(found) > length


def test_a_full_disk_blocks_announcing_until_there_is_room(
    full_disk: tuple[Server, Path], tmp_path: Path, note: Callable[[str, object], None]
) -> None:
    server, disk = full_disk
    with Link(server, client_id="farm").subscribe("/topic/announced", **DURABLE):
        pass  # what is announced meanwhile needs room
    with agents_at(server, tmp_path, "/topic/epictopic") as testbed:
        testbed.daemon(FASTMON_ANNOUNCE="/topic/announced")
        testbed.monitor.stop()
        testbed.announce(*WHILE_FULL)
        wait_until(lambda: sum(testbed.states().values()) == len(WHILE_FULL), "all are received")
        ballast = fill_disk(disk, 0)
        wait_until(partial(is_full, server), "the broker notices")
        testbed.monitor.start()
        wait_until(lambda: BLOCKED in testbed.log(), "announcing is blocked")
        if server.kind == "classic":  # Artemis refuses what anybody sends
            testbed.announce(*LATER)
        expected = TF_FILES if server.kind == "classic" else 7 * len(WHILE_FULL)
        wait_until(lambda: testbed.monitor.counts()["fastmon_files"] == expected, "intake and registration go on")
        expect_remedy(testbed, note)
        assert testbed.log().count(BLOCKED) == 1
        ballast.unlink()
        wait_until(lambda: not is_full(server), "there is room")
        testbed.announce(*LATER)
        testbed.wait_for(completed=ALL)
        with Link(server, client_id="farm").subscribe("/topic/announced", ack="auto", **DURABLE) as farm:
            wait_until(lambda: announced(farm.bodies) == TF_FILES, "all announcements arrive")


def is_full(server: Server) -> bool:
    """Whether the broker takes no message that needs room."""
    try:
        with Link(server) as link:
            link.send("/topic/announced", "{}", persistent="true")
    except Rejected:
        return True
    return False

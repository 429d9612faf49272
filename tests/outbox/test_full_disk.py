"""A full disk: injected into an engine without a network, and real, on a file system of 16 MB."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import DiskSpaceGuard, Outbox, check_database, open_outbox, shortage
from fastmon_daemon.statechart import load_statechart
from tests.builders import START, FakeTestbed, Inline, handle, named, settle
from tests.messages.test_inbound import ready
from tests.processes import LiveTestbed, live_testbed, name, wait_until

CHARTS = (load_statechart("stf"), load_statechart("run"))


@pytest.fixture
def small(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path)


def fill_database(outbox: Outbox, connection: Database) -> Callable[[], object]:
    """Let SQLite report a full disk; returns the function that ends this."""
    pages = connection.execute("pragma page_count").fetchone()[0]
    connection.execute(f"pragma max_page_count = {pages}")

    def write_until_full() -> None:
        while True:
            with outbox.transaction():
                outbox.reject("x" * 2000, "filling", START, 1_000_000)

    with pytest.raises(StorageUnavailable, match="make room"):
        write_until_full()
    return lambda: connection.execute("pragma max_page_count = 1000000")


def test_results_are_kept_while_the_disk_is_full_and_written_afterwards(small: FakeTestbed) -> None:
    outbox, connection = small.outbox_and_connection()
    names = [small.receive(outbox, n) for n in range(1, 21)]
    engine = small.engine(outbox)
    make_room = fill_database(outbox, connection)
    for _ in range(50):
        engine.tick(0)
        small.time.pass_(seconds=0.5)
    assert small.monitor.posts.total() == len(small.monitor.rows)
    make_room()
    small.time.pass_(seconds=2)
    settle(engine, ticks=2000)
    assert {named(outbox, each).state for each in names} == {"completed"}
    assert (len(small.monitor.rows), small.monitor.posts.total()) == (140, 140)
    assert (len(small.announced), len(set(small.announced))) == (140, 140)
    assert check_database(outbox.path, *CHARTS) == []
    assert "is full" in (outbox.recall("storage_fault") or "")


class DiskFillingPool(Inline):
    """A pool that keeps its first call for later, and fills the disk while the engine continues its tick."""

    def __init__(self, connection: Database) -> None:
        self._connection = connection
        self.delayed: Callable[[], object] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.delayed is not None:
            return super().submit(fn, *args, **kwargs)
        self.delayed = partial(fn, *args, **kwargs)
        self._connection.execute("pragma query_only = on")  # any write fails now
        return Future()


def test_a_disk_that_fills_up_within_a_tick_loses_no_stf_whose_call_is_in_flight(small: FakeTestbed) -> None:
    outbox, connection = small.outbox_and_connection()
    names = [small.receive(outbox, n) for n in range(1, 4)]
    pool = DiskFillingPool(connection)
    engine = small.engine(outbox, pool=pool)
    engine.tick(0)
    assert pool.delayed is not None
    pool.delayed()
    connection.execute("pragma query_only = off")
    small.time.pass_(seconds=2)
    settle(engine)
    assert {named(outbox, each).state for each in names} == {"completed"}
    assert (small.monitor.posts.total(), len(small.announced)) == (21, 21)


@pytest.mark.parametrize("nth", range(1, 13))
def test_a_disk_that_is_full_at_any_one_commit_loses_nothing_and_repeats_nothing(small: FakeTestbed, nth: int) -> None:
    outbox, connection = small.outbox_and_connection()
    stf = small.receive(outbox)
    engine = small.engine(outbox)
    for _ in range(nth):
        engine.tick(0)
    connection.execute("pragma query_only = on")  # any write fails now
    for _ in range(3):
        engine.tick(0)
        small.time.pass_(seconds=2)
    connection.execute("pragma query_only = off")
    small.time.pass_(seconds=2)
    settle(engine)
    assert named(outbox, stf).state == "completed"
    assert (small.monitor.posts.total(), len(small.announced)) == (7, 7)


def test_an_action_on_a_full_disk_fails_and_the_engine_continues(small: FakeTestbed) -> None:
    outbox, connection = small.outbox_and_connection()
    engine = small.engine(outbox)
    connection.execute("pragma query_only = on")
    answer = engine.inbox.submit(lambda box, _: box.remember("a", "b"))
    engine.tick(0)
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        answer.result(0)
    connection.execute("pragma query_only = off")
    engine.tick(0)


def test_intake_stops_while_too_little_is_free_and_checks_once_a_second(small: FakeTestbed) -> None:
    outbox = small.outbox()
    free, checked = [10_000_000], []

    def free_bytes(folder: Path) -> int:
        checked.append(folder)
        return free[0]

    guard = DiskSpaceGuard(outbox.path, 256, lambda: small.time.seconds, free_bytes)
    intake = MessageHandler(outbox.path, "torre1", "", CHARTS, refuse_if_short=guard.check)
    for _ in range(5):
        with pytest.raises(StorageUnavailable, match="10 MB free, FASTMON_MIN_FREE_MB is 256: make room"):
            handle(intake, ready())
    handle(intake, ready(namespace="other"))  # ignored: nothing to store
    assert checked == [small.folder]
    assert outbox.unfinished() == 0
    free[0] = 300_000_000
    small.time.pass_(seconds=1)
    handle(intake, ready())
    assert outbox.unfinished() == 1
    assert len(checked) == 2


def test_free_pages_inside_the_database_count_as_room(small: FakeTestbed) -> None:
    outbox = small.outbox()
    with outbox.transaction():
        for _ in range(50):
            outbox.reject("x" * 60_000, "large", small.time.at, 1000)
    assert shortage(outbox.path, 2, lambda _: 0) is not None
    with outbox.transaction():
        outbox.reject("y", "last", small.time.at, 1)
    assert shortage(outbox.path, 2, lambda _: 0) is None
    assert "inside the database" in (shortage(outbox.path, 200, lambda _: 0) or "")
    assert shortage(outbox.path, 200, lambda _: None) is None  # a file system that does not report its size


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(point)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode() if mounted else 'no mount'}")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def fill_disk(disk: Path, leave: int) -> Path:
    """Fill the disk with a file, up to *leave* bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        file.write(b"\0" * (shutil.disk_usage(disk).free - leave))
        while not leave:
            file.write(b"\0" * 4096)
    return ballast


@pytest.fixture
def testbed(disk: Path, tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        made.database = disk / "outbox.db"
        yield made


@pytest.mark.parametrize("leave", [2_000_000, 0], ids=["little room", "no room"])
def test_a_daemon_with_a_full_disk_buffers_messages_and_continues_by_itself(
    testbed: LiveTestbed, disk: Path, leave: int
) -> None:
    limits = {"FASTMON_MIN_FREE_MB": "4" if leave else "0"}
    daemon = testbed.daemon(**limits)
    numbers = iter(range(1, 101))
    testbed.register(*range(1, 101))
    testbed.announce(*(next(numbers) for _ in range(10)))
    testbed.wait_for(completed=10)
    ballast = fill_disk(disk, leave)

    def is_stopped() -> bool:
        testbed.announce(next(numbers))
        return "cannot be stored" in testbed.log()

    wait_until(is_stopped, testbed.log()[-2000:])
    last = next(numbers)
    testbed.announce(last)
    inspected = testbed.call("inspect", "--json", **limits)
    assert inspected.returncode in {0, 1}, inspected.stderr
    if leave:
        assert "MB free" in json.loads(inspected.stdout)["intake_stopped"]
        assert "FASTMON_MIN_FREE_MB is 4" in json.loads(inspected.stdout)["intake_stopped"]
        assert inspected.returncode == 1
        assert sum(testbed.states().values()) < last  # some were stored before the disk was checked
    ballast.unlink()
    testbed.wait_for(completed=last)
    wait_until(lambda: "storage recovered" in testbed.log())
    assert testbed.log().count("link to the broker is up") == 1
    assert testbed.log().count("cannot be stored") == 1
    assert testbed.monitor.counts()["fastmon_files"] == 7 * last
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert check_database(testbed.database, *CHARTS) == []
    assert names_in(testbed.database) == [name(n) for n in range(1, last + 1)]


def names_in(database: Path) -> list[str]:
    outbox = open_outbox(database)
    try:
        return [stf.filename for stf in reversed(outbox.find())]
    finally:
        outbox.close()


def test_a_start_on_a_full_disk_exits_with_75_and_changes_nothing(testbed: LiveTestbed, disk: Path) -> None:
    testbed.daemon().terminate()
    testbed.children[0].wait(30)
    before = testbed.database.read_bytes()
    ballast = fill_disk(disk, 0)
    failing = testbed.start("run")
    assert failing.wait(30) == 75
    assert "make room on its file system" in testbed.log()
    ballast.unlink()
    assert testbed.database.read_bytes() == before
    testbed.register(1)
    testbed.daemon(FASTMON_MIN_FREE_MB="0")
    testbed.announce(1)
    testbed.wait_for(completed=1)


@pytest.mark.field("27c")
@pytest.mark.parametrize("exists", [True, False])
def test_a_database_on_a_read_only_mount_is_a_setting(testbed: LiveTestbed, disk: Path, exists: bool) -> None:
    if exists:
        open_outbox(testbed.database).close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    failing = testbed.start("run")
    assert failing.wait(30) == 78
    line = f"fastmon-daemon: {testbed.database}.lock: on a read-only file system: set FASTMON_DB"
    assert testbed.log().splitlines()[-1].startswith(line)
    assert "StateDirectory=" in testbed.log()
    assert "ReadWritePaths=" in testbed.log()
    assert testbed.call("inspect", FASTMON_MIN_FREE_MB="0").returncode == (0 if exists else 3)


def test_run_once_on_a_disk_that_fills_up_exits_with_75_and_the_next_one_continues(
    testbed: LiveTestbed, disk: Path
) -> None:
    limits = {"FASTMON_MIN_FREE_MB": "0", "FASTMON_DRAIN_S": "1"}
    daemon = testbed.daemon(**limits)
    testbed.monitor.faults(latency_ms=500)
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(sampled=1)
    daemon.terminate()
    daemon.wait(30)
    seen = testbed.log().count("link for announcements is up")
    once = testbed.start("run", "--once", **limits)
    wait_until(lambda: testbed.log().count("link for announcements is up") > seen, "it is connected")
    ballast = fill_disk(disk, 0)
    assert once.wait(60) == 75
    assert "database not writable" in testbed.log()
    ballast.unlink()
    testbed.monitor.faults()
    assert testbed.call("run", "--once", **limits).returncode == 0
    assert testbed.states() == {"completed": 1}


def test_a_database_on_a_full_disk_holds_exactly_what_was_committed(disk: Path) -> None:
    testbed = FakeTestbed(disk)
    outbox = testbed.outbox()
    kept = committed_until_full(testbed, outbox)
    assert kept > 100
    assert outbox.unfinished() == kept
    assert check_database(outbox.path, *CHARTS) == []
    outbox.close()
    assert open_outbox(outbox.path).counts_by_state() == {"received": kept}


def committed_until_full(testbed: FakeTestbed, outbox: Outbox) -> int:
    for n in range(1, 100_000):
        try:
            testbed.receive(outbox, n, body=json.dumps("x" * 3000))
        except StorageUnavailable:
            return n - 1
    raise AssertionError("the disk was never full")

"""A full disk: injected into small worlds, and real, on a file system of 16 MB."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlite_utils import Database

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import DiskSpaceGuard, Outbox, check_database, open_outbox, shortage
from fastmon_daemon.statechart import load_statechart
from tests.builders import START, World, named, settle
from tests.messages.test_inbound import ready
from tests.processes import OnEmbedded, living, name, wait_until

CHARTS = (load_statechart("stf"), load_statechart("run"))


@pytest.fixture
def small(tmp_path: Path) -> World:
    return World(tmp_path)


def fill(outbox: Outbox, connection: Database) -> Callable[[], object]:
    """No page more: SQLite says that the disk is full; the function that makes room again."""
    pages = connection.execute("pragma page_count").fetchone()[0]
    connection.execute(f"pragma max_page_count = {pages}")

    def write_for_ever() -> None:
        while True:
            with outbox.transaction():
                outbox.reject("x" * 2000, "filling", START, 1_000_000)

    with pytest.raises(StorageUnavailable, match="make room"):
        write_for_ever()
    return lambda: connection.execute("pragma max_page_count = 1000000")


def test_facts_that_the_disk_does_not_take_are_kept_and_written_when_there_is_room(small: World) -> None:
    outbox, connection = small.outbox_and_connection()
    names = [small.receive(outbox, n) for n in range(1, 21)]
    engine = small.engine(outbox)
    make_room = fill(outbox, connection)
    for _ in range(50):
        engine.tick(0)
        small.time.pass_(seconds=0.5)
    assert small.monitor.posts.total() == len(small.monitor.rows)
    make_room()
    small.time.pass_(seconds=2)
    settle(engine, turns=2000)
    assert {named(outbox, each).state for each in names} == {"completed"}
    assert (len(small.monitor.rows), small.monitor.posts.total()) == (140, 140)
    assert (len(small.announced), len(set(small.announced))) == (140, 140)
    assert check_database(outbox.path, *CHARTS) == []
    assert "is full" in (outbox.recall("storage_fault") or "")


@pytest.mark.parametrize("nth", range(1, 13))
def test_a_disk_that_is_full_at_any_one_commit_costs_nothing_and_repeats_nothing(small: World, nth: int) -> None:
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


def test_an_act_on_a_full_disk_is_told_so_and_the_engine_lives(small: World) -> None:
    outbox, connection = small.outbox_and_connection()
    engine = small.engine(outbox)
    connection.execute("pragma query_only = on")
    answer = engine.inbox.submit(lambda box, _: box.remember("a", "b"))
    engine.tick(0)
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        answer.result(0)
    connection.execute("pragma query_only = off")
    engine.tick(0)


def test_the_intake_stops_while_too_little_is_free_and_looks_once_a_second(small: World) -> None:
    outbox = small.outbox()
    free, looks = [10_000_000], []

    def told(folder: Path) -> int:
        looks.append(folder)
        return free[0]

    room = DiskSpaceGuard(outbox.path, 256, lambda: small.time.seconds, told)
    intake = MessageHandler(outbox.path, "torre1", "", CHARTS, refuse_if_short=room.check)
    for _ in range(5):
        with pytest.raises(StorageUnavailable, match="10 MB free, FASTMON_MIN_FREE_MB is 256: make room"):
            intake.handle(ready())
    intake.handle(ready(namespace="other"))  # foreign: nothing to be stored
    assert looks == [small.folder]
    assert outbox.unfinished() == 0
    free[0] = 300_000_000
    small.time.pass_(seconds=1)
    intake.handle(ready())
    assert outbox.unfinished() == 1
    assert len(looks) == 2


def test_pages_that_were_freed_inside_the_database_count_as_room(small: World) -> None:
    outbox = small.outbox()
    with outbox.transaction():
        for _ in range(50):
            outbox.reject("x" * 60_000, "large", small.time.at, 1000)
    assert shortage(outbox.path, 2, lambda _: 0) is not None
    with outbox.transaction():
        outbox.reject("y", "last", small.time.at, 1)
    assert shortage(outbox.path, 2, lambda _: 0) is None
    assert "inside the database" in (shortage(outbox.path, 200, lambda _: 0) or "")
    assert shortage(outbox.path, 200, lambda _: None) is None  # a file system that does not say


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


def filled(disk: Path, leave: int) -> Path:
    """A file that leaves only so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        file.write(b"\0" * (shutil.disk_usage(disk).free - leave))
        while not leave:
            file.write(b"\0" * 4096)
    return ballast


@pytest.fixture
def world(disk: Path, tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        made.database = disk / "outbox.db"
        yield made


@pytest.mark.parametrize("leave", [2_000_000, 0], ids=["little room", "no room"])
def test_a_daemon_whose_disk_is_full_holds_messages_and_goes_on_by_itself(
    world: OnEmbedded, disk: Path, leave: int
) -> None:
    limits = {"FASTMON_MIN_FREE_MB": "4" if leave else "0"}
    daemon = world.daemon(**limits)
    numbers = iter(range(1, 101))
    world.register(*range(1, 101))
    world.announce(*(next(numbers) for _ in range(10)))
    world.wait_for(completed=10)
    ballast = filled(disk, leave)

    def is_stopped() -> bool:
        world.announce(next(numbers))
        return "cannot be stored" in world.log()

    wait_until(is_stopped, world.log()[-2000:])
    last = next(numbers)
    world.announce(last)
    told = world.call("inspect", "--json", **limits)
    assert told.returncode in {0, 1}, told.stderr
    if leave:
        assert "MB free" in json.loads(told.stdout)["intake_stopped"]
        assert "FASTMON_MIN_FREE_MB is 4" in json.loads(told.stdout)["intake_stopped"]
        assert told.returncode == 1
        assert sum(world.states().values()) < last  # some got through before the disk was looked at
    ballast.unlink()
    world.wait_for(completed=last)
    wait_until(lambda: "messages are stored again" in world.log())
    assert world.log().count("broker link up") == 1
    assert world.log().count("cannot be stored") == 1
    assert world.monitor.counts()["fastmon_files"] == 7 * last
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert check_database(world.database, *CHARTS) == []
    assert names_in(world.database) == [name(n) for n in range(1, last + 1)]


def names_in(database: Path) -> list[str]:
    outbox = open_outbox(database)
    try:
        return [stf.filename for stf in outbox.find()]
    finally:
        outbox.close()


def test_a_start_on_a_full_disk_says_so_with_75_and_changes_nothing(world: OnEmbedded, disk: Path) -> None:
    world.daemon().terminate()
    world.children[0].wait(30)
    before = world.database.read_bytes()
    ballast = filled(disk, 0)
    told = world.start("run")
    assert told.wait(30) == 75
    assert "make room on its file system" in world.log()
    ballast.unlink()
    assert world.database.read_bytes() == before
    world.register(1)
    world.daemon(FASTMON_MIN_FREE_MB="0")
    world.announce(1)
    world.wait_for(completed=1)


def test_run_once_on_a_disk_that_fills_up_ends_with_75_and_the_next_one_goes_on(world: OnEmbedded, disk: Path) -> None:
    limits = {"FASTMON_MIN_FREE_MB": "0", "FASTMON_DRAIN_S": "1"}
    daemon = world.daemon(**limits)
    world.monitor.faults(latency_ms=500)
    world.register(1)
    world.announce(1)
    world.wait_for(sampled=1)
    daemon.terminate()
    daemon.wait(30)
    once = world.start("run", "--once", **limits)
    wait_until(lambda: world.log().count("broker link up") == 2)
    ballast = filled(disk, 0)
    assert once.wait(60) == 75
    assert "database not writable" in world.log()
    ballast.unlink()
    world.monitor.faults()
    assert world.call("run", "--once", **limits).returncode == 0
    assert world.states() == {"completed": 1}


def test_a_database_that_is_filled_to_the_brim_holds_all_that_was_committed_and_nothing_else(disk: Path) -> None:
    world = World(disk)
    outbox = world.outbox()
    kept = committed_until_full(world, outbox)
    assert kept > 100
    assert outbox.unfinished() == kept
    assert check_database(outbox.path, *CHARTS) == []
    outbox.close()
    assert open_outbox(outbox.path).reports.counts_by_state() == {"received": kept}


def committed_until_full(world: World, outbox: Outbox) -> int:
    for n in range(1, 100_000):
        try:
            world.receive(outbox, n, body=json.dumps("x" * 3000))
        except StorageUnavailable:
            return n - 1
    raise AssertionError("it never got full")

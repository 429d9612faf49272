"""Calls in a row: while STFs wait for a place, a thread makes all calls of one; else they run side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastmon_daemon.base.errors import TransientError
from fastmon_daemon.base.links import ANNOUNCEMENTS
from fastmon_daemon.engine import Engine
from fastmon_daemon.engine.engine import ROW_S, SPARE_S
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import Outbox
from tests.builders import FakeMonitor, FakeTestbed, Slow, named


def at_their_second_calls(testbed: FakeTestbed, stfs: int, places: int) -> tuple[Outbox, Slow, Engine, list[str]]:
    """An engine with *places* that has just started the calls that follow the first ones of *stfs* STFs."""
    outbox, pool = testbed.outbox(), Slow()
    names = [testbed.receive(outbox, n) for n in range(1, stfs + 1)]
    engine = testbed.engine(outbox, workers=places, pool=pool)
    engine.tick(0)
    assert len(pool.waiting) == stfs
    pool.go_on()
    engine.tick(0)
    return outbox, pool, engine, names


def finish(testbed: FakeTestbed, engine: Engine, pool: Slow) -> None:
    for _ in range(100):
        pool.go_on()
        testbed.time.pass_(seconds=SPARE_S)
        engine.tick(0)
    assert not engine.busy


def rows(pool: Slow) -> list[int]:
    """How many registrations each thread makes."""
    return [len(calls) for _, (owner, calls) in pool.waiting if owner.link == "monitor"]


def test_the_calls_of_a_single_stf_run_side_by_side(testbed: FakeTestbed) -> None:
    outbox, pool, engine, names = at_their_second_calls(testbed, stfs=1, places=8)
    assert rows(pool) == [1] * 6
    assert engine.calls_in_flight()["monitor"] == 6
    finish(testbed, engine, pool)
    assert named(outbox, names[0]).state == "completed"


def test_the_calls_of_stfs_are_shared_out_among_the_places(testbed: FakeTestbed) -> None:
    outbox, pool, engine, names = at_their_second_calls(testbed, stfs=3, places=7)
    assert rows(pool) == [3, 3, 3, 3, 2, 2, 2]
    assert engine.calls_in_flight()["monitor"] == 7, "those in a row are not in flight yet"
    finish(testbed, engine, pool)
    assert {named(outbox, name).state for name in names} == {"completed"}
    assert set(testbed.monitor.posts.values()) == {1}


def test_a_fresh_stf_among_late_ones_waits_for_no_row(testbed: FakeTestbed) -> None:
    outbox, pool = testbed.outbox(), Slow()
    late = [testbed.receive(outbox, n) for n in range(1, 5)]
    testbed.time.pass_(minutes=10)
    fresh = testbed.receive(outbox, 9)
    engine = testbed.engine(outbox, workers=5, pool=pool)
    engine.tick(0)
    while named(outbox, fresh).state != "completed":
        assert set(rows(pool)) <= {1}
        pool.go_on()
        testbed.time.pass_(seconds=SPARE_S)
        engine.tick(0)
    finish(testbed, engine, pool)
    assert {named(outbox, name).state for name in late} == {"completed"}


@pytest.mark.parametrize(("places", "of_late"), [(8, 2), (4, 1), (2, 1)])
def test_while_a_fresh_stf_is_in_work_late_ones_get_a_quarter_of_the_places(
    testbed: FakeTestbed, places: int, of_late: int
) -> None:
    def in_work(link: str) -> tuple[int, int]:
        """Calls in flight of the fresh STF, and of the late ones."""
        calls = [(owner.stf.filename, len(made)) for _, (owner, made) in pool.waiting if owner.link == link]
        of_fresh = sum(count for name, count in calls if name == fresh)
        return of_fresh, sum(count for _, count in calls) - of_fresh

    outbox, pool = testbed.outbox(), Slow()
    late = [testbed.receive(outbox, n) for n in range(1, 12)]
    testbed.time.pass_(minutes=10)
    engine = testbed.engine(outbox, workers=places, pool=pool)
    engine.tick(0)
    fresh = testbed.receive(outbox, 99)
    beside, seen = [], set[int]()
    for _ in range(30):
        pool.go_on()
        testbed.time.pass_(seconds=SPARE_S)
        engine.tick(0)
        if named(outbox, fresh).state != "completed":
            beside.append(in_work("monitor")[1])
            seen.add(in_work("monitor")[0])
    assert max(beside[1:]) == of_late, "after those that were in flight when it came"
    assert max(seen) >= min(6, places - of_late)
    finish(testbed, engine, pool)
    assert {named(outbox, name).state for name in (*late, fresh)} == {"completed"}


def test_a_row_ends_at_a_failure_and_the_stf_is_tried_again(testbed: FakeTestbed) -> None:
    outbox, pool, engine, names = at_their_second_calls(testbed, stfs=1, places=1)
    assert rows(pool) == [6]
    testbed.monitor.trouble[names[0]] = TransientError("monitor said 503")
    pool.go_on()
    engine.tick(0)
    assert sum(testbed.monitor.posts.values()) == 2
    assert named(outbox, names[0]).attempts == 1
    assert engine.calls_in_flight()["monitor"] == 0
    testbed.monitor.trouble.clear()
    testbed.time.pass_(seconds=61)
    finish(testbed, engine, pool)
    assert named(outbox, names[0]).state == "completed"
    assert sorted(testbed.monitor.posts.values()) == [1] * 6 + [2]


class Distant(FakeMonitor):
    """Each answer takes half of the time that a row may take."""

    def __init__(self, testbed: FakeTestbed) -> None:
        super().__init__()
        self._testbed = testbed

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        self._testbed.time.pass_(seconds=ROW_S * 0.51)
        return super().register_tf(tf)


def test_a_row_that_takes_too_long_leaves_its_calls_to_others(testbed: FakeTestbed) -> None:
    testbed.monitor = Distant(testbed)
    outbox, pool, engine, names = at_their_second_calls(testbed, stfs=1, places=1)
    assert rows(pool) == [6]
    pool.go_on()
    assert sum(testbed.monitor.posts.values()) == 3
    engine.tick(0)
    assert rows(pool) == [4]
    finish(testbed, engine, pool)
    assert named(outbox, names[0]).state == "completed"
    assert set(testbed.monitor.posts.values()) == {1}


def test_a_stop_ends_a_row(testbed: FakeTestbed) -> None:
    outbox, pool, engine, names = at_their_second_calls(testbed, stfs=1, places=1)
    engine.stopping.set()
    pool.go_on()
    assert not engine.tick(0)
    assert sum(tf.registered_at is not None for tf in named(outbox, names[0]).tfs) == 2
    finish(testbed, testbed.engine(outbox, pool=pool), pool)
    assert named(outbox, names[0]).state == "completed"
    assert set(testbed.monitor.posts.values()) == {1}


def test_announcements_of_an_stf_are_sent_together_and_those_of_others_at_once(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    together, sent = [False], list[tuple[str, bool]]()

    @contextmanager
    def cork() -> Iterator[None]:
        together[0] = True
        yield
        together[0] = False

    def announce(_body: str, event_id: str) -> None:
        sent.append((event_id, together[0]))

    testbed.announce = announce  # type: ignore[method-assign]
    summary = BackgroundTask(ANNOUNCEMENTS, lambda: announce("", "summary"), lambda *_: None)
    engine = testbed.engine(outbox, together=cork, background_tasks=lambda *_: [summary] if not sent else [])
    for _ in range(20):
        testbed.time.pass_(seconds=SPARE_S)
        engine.tick(0)
    assert named(outbox, name).state == "completed"
    assert ("summary", False) in sent
    assert [each for _, each in sent if _ != "summary"] == [True] * 7

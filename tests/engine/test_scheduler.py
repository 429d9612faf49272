"""Fairness: a failing STF delays no other and fails after its budget; clock jumps neither delay nor flood."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base.errors import LinkDown, ParentNotRegistered, TransientError
from fastmon_daemon.engine import Engine
from fastmon_daemon.engine.engine import SPARE_S
from fastmon_daemon.engine.tasks import MOST_QUEUED
from fastmon_daemon.engine.transitions import BUDGET_S
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import Origin, Outbox
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeMonitor, FakeTestbed, Slow, named, settle, turn_until


@pytest.fixture
def lean(tmp_path: Path) -> FakeTestbed:
    """For tests with many STFs: each has one TF file."""
    return FakeTestbed(tmp_path, settings=Settings(namespace="ns", selection_fraction=1.0, tf_files_per_stf=1))


class HangingMonitor(FakeMonitor):
    """A monitor that does not answer for the STFs in `hung` until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hung: set[str] = set()
        self.go_on = threading.Event()
        self.hanging = 0

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        if tf.stf_filename in self.hung:
            self.hanging += 1
            self.go_on.wait(60)
            raise TransientError("timeout; the monitor has no such row")
        return super().register_tf(tf)


def test_stfs_that_always_time_out_take_at_most_half_of_the_workers(testbed: FakeTestbed) -> None:
    testbed.monitor = monitor = HangingMonitor()
    outbox = testbed.outbox()
    failing = [testbed.receive(outbox, n) for n in range(1, 9)]
    for name in failing:
        monitor.trouble[name] = TransientError("timeout")
    settle(testbed.engine(outbox))
    assert {named(outbox, name).attempts for name in failing} == {1}
    monitor.hung = set(failing)
    testbed.time.pass_(seconds=61)
    with ThreadPoolExecutor(4) as pool:
        engine = testbed.engine(outbox, pool=pool)
        turn_until(engine, lambda: monitor.hanging == 2, "half of the workers hang")
        fresh = [testbed.receive(outbox, n) for n in range(20, 30)]

        def are_completed() -> bool:
            testbed.time.pass_(seconds=SPARE_S)
            return {named(outbox, name).state for name in fresh} == {"completed"}

        turn_until(engine, are_completed)
        assert monitor.hanging == 2
        monitor.go_on.set()
        turn_until(engine, lambda: not engine.busy)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TransientError("500, and no such row"), "always_failing: 500, and no such row"),
        (ParentNotRegistered("no such STF"), "stf_not_registered: no such STF"),
    ],
)
def test_a_failing_stf_fails_after_its_budget_and_delays_no_other(
    lean: FakeTestbed, error: TransientError, reason: str
) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    failing = lean.receive(outbox)
    lean.monitor.trouble[failing] = error
    began = lean.time.seconds
    while named(outbox, failing).state != "failed":
        other = lean.receive(outbox, 2 + int(lean.time.seconds))
        settle(engine)
        assert named(outbox, other).state == "completed"
        lean.time.pass_(seconds=20)
    assert named(outbox, failing).last_error == reason
    assert BUDGET_S - 60 <= lean.time.seconds - began <= 2 * BUDGET_S


def test_three_of_the_newest_stfs_start_then_one_of_the_oldest(lean: FakeTestbed) -> None:
    outbox = lean.outbox()
    names = {}
    for n in range(1, 11):
        names[lean.receive(outbox, n)] = n
        lean.time.pass_(seconds=1)
    scheduler, started = lean.engine(outbox)._scheduler, dict[int, int]()
    while stf := scheduler.next(started):
        started[stf.id] = names[stf.filename]
    assert [*started.values()] == [10, 9, 8, 1, 7, 6, 5, 2, 4, 3]


def late_and_fresh(testbed: FakeTestbed, late: int) -> tuple[Outbox, Slow, Engine, list[str]]:
    """An engine with room for 7 calls at once, in the midst of the first calls of *late* late STFs."""
    outbox, pool = testbed.outbox(), Slow()
    names = [testbed.receive(outbox, n) for n in range(1, late + 1)]
    testbed.time.pass_(minutes=10)
    engine = testbed.engine(outbox, workers=7, pool=pool)
    engine.tick(0)
    return outbox, pool, engine, names


def rounds_until(testbed: FakeTestbed, engine: Engine, pool: Slow, condition: Callable[[], object]) -> int:
    """Let the calls in flight end, again and again, until *condition* is true; returns how often."""
    for rounds in itertools.count():
        if condition():
            return rounds
        assert rounds < 1000
        pool.go_on()
        testbed.time.pass_(seconds=SPARE_S)
        engine.tick(0)
    raise AssertionError


def test_a_fresh_stf_overtakes_late_ones_at_each_step(testbed: FakeTestbed) -> None:
    """The broker confirms the announcements of one STF in the time in which three are registered."""
    confirmed: list[Future[None]] = []
    rounds = itertools.count()

    def announce(_body: str, _event_id: str) -> Future[None]:
        confirmed.append(Future())
        return confirmed[-1]

    testbed.announce = announce  # type: ignore[method-assign, assignment]
    outbox, pool, engine, late = late_and_fresh(testbed, 60)

    def completed(name: str) -> bool:
        for each in confirmed[:7] if next(rounds) % 3 == 0 else ():
            confirmed.remove(each)
            each.set_result(None)
        return named(outbox, name).state == "completed"

    while sum(stf.state == "tf_registered" for stf in outbox.find()) < 15:
        rounds_until(testbed, engine, pool, functools.partial(next, iter((False, True))))
        completed(late[0])
    for n in range(200, 205):
        fresh = testbed.receive(outbox, n)
        assert rounds_until(testbed, engine, pool, functools.partial(completed, fresh)) <= 15
    assert any(completed(name) for name in late), "the late ones go on meanwhile"


def test_the_newest_stf_is_not_announced_after_others_of_the_last_minute(testbed: FakeTestbed) -> None:
    """As after a short outage: none of them is late, and the broker confirms fewer than are registered."""
    confirmed: list[Future[None]] = []

    def announce(_body: str, _event_id: str) -> Future[None]:
        confirmed.append(Future())
        return confirmed[-1]

    testbed.announce = announce  # type: ignore[method-assign, assignment]
    outbox, pool = testbed.outbox(), Slow()
    names = [testbed.receive(outbox, n) for n in range(1, 41)]
    engine = testbed.engine(outbox, workers=7, pool=pool)
    rounds_until(testbed, engine, pool, lambda: outbox.counts_by_state() == {"tf_registered": len(names)})
    testbed.time.pass_(seconds=1)
    newest = testbed.receive(outbox, 200)
    rounds_until(testbed, engine, pool, lambda: named(outbox, newest).state == "tf_registered")

    def completed() -> bool:
        for each in confirmed:
            if not each.done():
                each.set_result(None)
        return named(outbox, newest).state == "completed"

    rounds_until(testbed, engine, pool, completed)
    assert outbox.counts_by_state()["tf_registered"] > 30


def test_late_stfs_drain_while_there_are_more_fresh_ones_than_can_be_done(testbed: FakeTestbed) -> None:
    outbox, pool, engine, late = late_and_fresh(testbed, 8)
    numbers = itertools.count(100)

    def drained() -> bool:
        while len(outbox.find(["received"])) < 20:
            testbed.receive(outbox, next(numbers), born_at=testbed.time.at)
        return all(named(outbox, name).state == "completed" for name in late)

    rounds_until(testbed, engine, pool, drained)
    fresh = sum(stf.state == "completed" for stf in outbox.find()) - len(late)
    assert fresh > len(late) / 2, "three of four turns are theirs"


def test_stfs_that_go_on_faster_than_the_next_link_takes_them_wait_in_the_database(lean: FakeTestbed) -> None:
    outbox, pool = lean.outbox(), Slow()
    confirmed: list[Future[None]] = []

    def announce(_body: str, _event_id: str) -> Future[None]:
        confirmed.append(Future())
        return confirmed[-1]

    lean.announce = announce  # type: ignore[method-assign, assignment]
    names = [lean.receive(outbox, n) for n in range(1, 2 * MOST_QUEUED)]
    engine = lean.engine(outbox, workers=16, pool=pool)

    def registered() -> bool:
        return all(named(outbox, name).state == "tf_registered" for name in names)

    rounds_until(lean, engine, pool, registered)
    assert len(engine._active) <= MOST_QUEUED

    def completed() -> bool:
        for each in confirmed:
            if not each.done():
                each.set_result(None)
        return all(named(outbox, name).state == "completed" for name in names)

    rounds_until(lean, engine, pool, completed)


def test_the_backlog_drains_while_new_stfs_keep_coming(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, workers=1)
    testbed.monitor.down = True
    backlog = [testbed.receive(outbox, n) for n in range(1, 4)]
    settle(engine)
    testbed.monitor.down = False
    testbed.time.pass_(minutes=10)
    for n in itertools.count(100):
        testbed.receive(outbox, n)
        for _ in range(16):
            engine.tick(0)
        if all(named(outbox, name).state == "completed" for name in backlog):
            break
        assert n < 200
    assert outbox.counts_by_state()["completed"] > len(backlog)


def test_announcements_of_old_and_recovered_stfs_are_marked_late(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    late: dict[str, bool] = {}

    def announce(body: str, _event_id: str) -> None:
        message = json.loads(body)
        late[message["stf_filename"]] = message["late"]

    testbed.announce = announce  # type: ignore[method-assign]
    engine = testbed.engine(outbox)
    testbed.broker_is(engine, up=False)
    old = testbed.receive(outbox, 1)
    settle(engine)
    testbed.time.pass_(seconds=61)
    fresh, recovered = testbed.receive(outbox, 2), testbed.receive(outbox, 3, origin=Origin.RECOVERED)
    testbed.broker_is(engine, up=True)
    settle(engine)
    assert late == {old: True, fresh: False, recovered: True}


def test_retry_after_is_respected(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = TransientError("503", retry_after_s=300)
    for _ in range(29):
        settle(engine)
        testbed.time.pass_(seconds=10)
    assert sum(testbed.monitor.posts.values()) == 1
    testbed.time.pass_(seconds=10)
    settle(engine)
    assert sum(testbed.monitor.posts.values()) == 2


def test_an_stf_that_alone_finds_the_monitor_down_fails_and_delays_no_other(lean: FakeTestbed) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    failing = lean.receive(outbox, 1)
    lean.monitor.trouble[failing] = LinkDown("500, and the lookup failed too")
    for n in range(2, 2000):
        well = lean.receive(outbox, n)
        settle(engine)
        lean.time.pass_(seconds=61 if named(outbox, failing).attempts else 6)  # once it is an outlier it is postponed
        if named(outbox, failing).state == "failed":
            break
    settle(engine)
    assert named(outbox, failing).state == "failed"
    assert named(outbox, well).state == "completed"
    with outbox.transaction():
        actions = OperatorActions(
            load_statechart("stf"),
            MessageHandler(outbox.path, "ns", "", (load_statechart("stf"), load_statechart("run"))),
            alone=True,
        )
        actions.perform(
            ActionRequest(action="retry", by="alice", reason="fixed", stfs=(failing,)), outbox, lean.time.at
        )
    lean.monitor.down = True  # now it is down for all STFs
    settle(engine)
    assert named(outbox, failing).attempts == 0, "failures of its last life do not count in this one"


def test_an_stf_that_finds_its_link_down_a_few_times_is_no_outlier(lean: FakeTestbed) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    unlucky = lean.receive(outbox, 1)
    lean.monitor.trouble[unlucky] = LinkDown("500, and the lookup failed too")
    tries = 0
    for n in range(2, 100):
        lean.receive(outbox, n)
        settle(engine)
        lean.time.pass_(seconds=6)
        tries = lean.monitor.posts[f"{unlucky.removesuffix('.stf')}_tf_001.tf"]
        if tries >= 9:
            break
    assert tries >= 9
    assert named(outbox, unlucky).attempts == 0


def test_any_number_of_stfs_that_are_not_registered_fails(lean: FakeTestbed) -> None:
    """Unregistered STFs are not the monitor's fault."""
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    names = [lean.receive(outbox, n) for n in range(1, 5)]
    lean.monitor.trouble = dict.fromkeys(names, ParentNotRegistered("no such STF"))
    for _ in range(30):
        settle(engine)
        lean.time.pass_(minutes=1)
    assert {named(outbox, name).last_error for name in names} == {"stf_not_registered: no such STF"}


def test_an_stf_that_failed_once_does_not_wait_behind_all_others(lean: FakeTestbed) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox, workers=1)
    failing = lean.receive(outbox, 1)
    lean.monitor.trouble[failing] = TransientError("500")
    settle(engine)
    lean.monitor.trouble.clear()
    lean.time.pass_(seconds=61)
    fresh = [lean.receive(outbox, n) for n in range(2, 22)]
    for _ in range(100):
        engine.tick(0)
        if named(outbox, failing).state == "completed":
            break
    assert named(outbox, failing).state == "completed"
    assert sum(named(outbox, name).state != "completed" for name in fresh) > len(fresh) / 2


def test_an_hour_of_retry_after_fails_no_stf(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = TransientError("503", retry_after_s=300)
    for _ in range(12):
        settle(engine)
        testbed.time.pass_(seconds=301)
    del testbed.monitor.trouble[name]
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_a_monitor_that_rejects_all_registrations_for_hours_fails_no_stf(lean: FakeTestbed) -> None:
    """Its probe still works: for example, its database is read-only."""
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    names = [lean.receive(outbox, n) for n in range(1, 9)]
    lean.monitor.trouble = dict.fromkeys(names, TransientError("500, and no such row"))
    for _ in range(40):
        settle(engine)
        lean.time.pass_(minutes=4)
    assert {named(outbox, name).state for name in names} == {"sampled"}
    failing = names[0]
    for name in names[1:]:
        del lean.monitor.trouble[name]
    for n in range(30, 130):
        lean.receive(outbox, n)
        settle(engine)
        lean.time.pass_(minutes=1)
        if named(outbox, failing).state == "failed":
            break
    assert {named(outbox, name).state for name in names[1:]} == {"completed"}
    assert named(outbox, failing).state == "failed", "it failed while others were registered: its own fault"


def test_a_systemic_failure_spends_no_budget(lean: FakeTestbed) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    failing = lean.receive(outbox, 1)
    lean.monitor.trouble[failing] = TransientError("500, and no such row")
    while named(outbox, failing).spent_s < BUDGET_S - 60:  # the next pause, of a minute at most, is the last
        settle(engine)
        lean.time.pass_(minutes=1)
    others = [lean.receive(outbox, n) for n in (2, 3)]
    lean.monitor.trouble |= dict.fromkeys(others, TransientError("500, and no such row"))
    for _ in range(120):
        settle(engine)
        lean.time.pass_(minutes=1)
    assert named(outbox, failing).state == "sampled"
    spent_s = named(outbox, failing).spent_s
    for name in others:
        del lean.monitor.trouble[name]
    settle(engine)
    assert {named(outbox, name).state for name in others} == {"completed"}
    for _ in range(3):
        lean.time.pass_(minutes=1)
        settle(engine)
    assert named(outbox, failing).state == "failed", "others succeed again: its budget continues where it stopped"
    assert named(outbox, failing).last_error == "always_failing: 500, and no such row"
    assert BUDGET_S - 60 <= spent_s < BUDGET_S


# Jumps of the wall clock


def jump(testbed: FakeTestbed, **span: float) -> None:
    seconds = testbed.time.seconds
    testbed.time.pass_(**span)
    testbed.time.seconds = seconds


@pytest.mark.parametrize("hours", [-30, -1, -0.1, 0.1, 1, 30])
def test_a_clock_jump_does_not_delay_an_stf(testbed: FakeTestbed, hours: float) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    engine.tick(0)
    jump(testbed, hours=hours)
    settle(engine)
    assert named(outbox, name).state == "completed"


@pytest.mark.parametrize("hours", [-30, -1, -0.1, 0.1, 1, 30])
def test_after_a_clock_jump_a_postponed_stf_is_retried_within_the_longest_backoff(
    testbed: FakeTestbed, hours: float
) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = TransientError("500")
    settle(engine)
    testbed.monitor.trouble.clear()
    jump(testbed, hours=hours)
    testbed.time.pass_(minutes=10)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_repeated_clock_jumps_fail_no_stf_and_flood_no_link(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = TransientError("500")
    for hours in (30, -60, 1, -1, 0.1, -0.1, 30, -30):
        jump(testbed, hours=hours)
        for _ in range(10):
            settle(engine)
    stf = named(outbox, name)
    assert stf.state == "sampled"
    assert sum(testbed.monitor.posts.values()) <= 9, "at most one try per jump, after the first"
    assert stf.spent_s < BUDGET_S


@pytest.mark.parametrize("hours", [-30, 30])
def test_clock_jumps_do_not_change_the_pauses_between_probes(testbed: FakeTestbed, hours: float) -> None:
    outbox = testbed.outbox()
    probes = 0

    def probe() -> None:
        nonlocal probes
        probes += 1
        FakeMonitor.probe(testbed.monitor)

    engine = testbed.engine(outbox, probes={"monitor": probe})
    testbed.receive(outbox)
    testbed.monitor.down = True
    settle(engine)
    for _ in range(30):
        jump(testbed, hours=hours)
        settle(engine)
    assert probes == 0
    testbed.time.pass_(seconds=5)
    testbed.monitor.down = False
    settle(engine)
    assert probes == 1
    assert outbox.unfinished() == 0

"""Fairness: one sick STF delays no other, ends by its age, and a clock that jumps neither strands nor storms."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base.errors import LinkDown, ParentNotRegistered, TransientError
from fastmon_daemon.engine import BUDGET_S
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import Origin
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeMonitor, World, named, settle, turn_until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def lean(tmp_path: Path) -> World:
    """A world for many STFs: each has one TF, and nothing here depends on how many there are."""
    return World(tmp_path, settings=Settings(namespace="ns", selection_fraction=1.0, tf_files_per_stf=1))


class Hanging(FakeMonitor):
    """A monitor that does not answer for some STFs, until it is told to."""

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


def test_stfs_that_always_time_out_leave_workers_to_the_others(world: World) -> None:
    world.monitor = monitor = Hanging()
    outbox = world.outbox()
    sick = [world.receive(outbox, n) for n in range(1, 9)]
    for name in sick:
        monitor.trouble[name] = TransientError("timeout")
    settle(world.engine(outbox))
    assert {named(outbox, name).attempts for name in sick} == {1}
    monitor.hung = set(sick)
    world.time.pass_(seconds=61)
    with ThreadPoolExecutor(4) as pool:
        engine = world.engine(outbox, pool=pool)
        turn_until(engine, lambda: monitor.hanging == 2, "half of the workers hang")
        fresh = [world.receive(outbox, n) for n in range(20, 30)]
        done = {"completed"}
        turn_until(engine, lambda: {named(outbox, name).state for name in fresh} == done)
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
def test_a_sick_stf_ends_in_failed_by_its_age_and_delays_no_other(
    lean: World, error: TransientError, reason: str
) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    sick = lean.receive(outbox)
    lean.monitor.trouble[sick] = error
    began = lean.time.seconds
    while named(outbox, sick).state != "failed":
        other = lean.receive(outbox, 2 + int(lean.time.seconds))
        settle(engine)
        assert named(outbox, other).state == "completed"
        lean.time.pass_(seconds=20)
    assert named(outbox, sick).last_error == reason
    assert BUDGET_S - 60 <= lean.time.seconds - began <= 2 * BUDGET_S


def test_three_of_the_newest_stfs_are_begun_with_then_one_of_the_oldest(lean: World) -> None:
    outbox = lean.outbox()
    begun: list[str] = []

    def announce(body: str, _event_id: str) -> None:
        begun.append(json.loads(body)["stf_filename"])

    lean.announce = announce  # type: ignore[method-assign]
    names = {}
    for n in range(1, 11):
        names[lean.receive(outbox, n)] = n
        lean.time.pass_(seconds=1)
    settle(lean.engine(outbox, workers=1))
    assert [names[name] for name in dict.fromkeys(begun)] == [10, 9, 8, 1, 7, 6, 5, 2, 4, 3]


def test_the_backlog_drains_beside_fresh_stfs_that_come_without_end(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox, workers=1)
    world.monitor.down = True
    backlog = [world.receive(outbox, n) for n in range(1, 4)]
    settle(engine)
    world.monitor.down = False
    world.time.pass_(minutes=10)
    for n in itertools.count(100):
        world.receive(outbox, n)
        for _ in range(16):
            engine.tick(0)
        if all(named(outbox, name).state == "completed" for name in backlog):
            break
        assert n < 200
    assert outbox.reports.counts_by_state()["completed"] > len(backlog)


def test_announcements_are_marked_late_when_the_stf_is_old_or_was_recovered(world: World) -> None:
    outbox = world.outbox()
    told: dict[str, bool] = {}

    def announce(body: str, _event_id: str) -> None:
        message = json.loads(body)
        told[message["stf_filename"]] = message["late"]

    world.announce = announce  # type: ignore[method-assign]
    engine = world.engine(outbox)
    world.broker_is(engine, up=False)
    old = world.receive(outbox, 1)
    settle(engine)
    world.time.pass_(seconds=61)
    fresh, recovered = world.receive(outbox, 2), world.receive(outbox, 3, origin=Origin.RECOVERED)
    world.broker_is(engine, up=True)
    settle(engine)
    assert told == {old: True, fresh: False, recovered: True}


def test_a_monitor_that_asks_for_patience_is_not_asked_more_often(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = TransientError("503", retry_after_s=300)
    for _ in range(29):
        settle(engine)
        world.time.pass_(seconds=10)
    assert sum(world.monitor.posts.values()) == 1
    world.time.pass_(seconds=10)
    settle(engine)
    assert sum(world.monitor.posts.values()) == 2


def test_an_stf_for_which_alone_the_monitor_seems_down_ends_in_failed_and_holds_up_no_other(lean: World) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    sick = lean.receive(outbox, 1)
    lean.monitor.trouble[sick] = LinkDown("500, also to the question after that name")
    for n in range(2, 2000):
        well = lean.receive(outbox, n)
        settle(engine)
        lean.time.pass_(seconds=61 if named(outbox, sick).attempts else 6)  # once it is found out it has pauses
        if named(outbox, sick).state == "failed":
            break
    settle(engine)
    assert named(outbox, sick).state == "failed"
    assert named(outbox, well).state == "completed"
    with outbox.transaction():
        acts = OperatorActions(
            load_statechart("stf"),
            MessageHandler(outbox.path, "ns", "", (load_statechart("stf"), load_statechart("run"))),
            alone=True,
        )
        acts.perform(ActionRequest(action="retry", by="alice", reason="mended", stfs=(sick,)), outbox, lean.time.at)
    lean.monitor.down = True  # and now it is down for all
    settle(engine)
    assert named(outbox, sick).attempts == 0, "what was its own fault in its last life is no proof in this one"


def test_an_stf_that_meets_a_link_that_is_down_a_few_times_is_not_blamed(lean: World) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    unlucky = lean.receive(outbox, 1)
    lean.monitor.trouble[unlucky] = LinkDown("500, also to the question after that name")
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


def test_stfs_whose_parents_are_missing_end_in_failed_however_many_they_are(lean: World) -> None:
    """What nobody registers says nothing against the monitor."""
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    names = [lean.receive(outbox, n) for n in range(1, 5)]
    lean.monitor.trouble = dict.fromkeys(names, ParentNotRegistered("no such STF"))
    for _ in range(30):
        settle(engine)
        lean.time.pass_(minutes=1)
    assert {named(outbox, name).last_error for name in names} == {"stf_not_registered: no such STF"}


def test_an_stf_that_failed_once_is_not_left_behind_all_that_never_did(lean: World) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox, workers=1)
    sick = lean.receive(outbox, 1)
    lean.monitor.trouble[sick] = TransientError("500")
    settle(engine)
    lean.monitor.trouble.clear()
    lean.time.pass_(seconds=61)
    fresh = [lean.receive(outbox, n) for n in range(2, 22)]
    for _ in range(100):
        engine.tick(0)
        if named(outbox, sick).state == "completed":
            break
    assert named(outbox, sick).state == "completed"
    assert sum(named(outbox, name).state != "completed" for name in fresh) > len(fresh) / 2


def test_a_monitor_that_asks_all_for_patience_for_an_hour_fails_no_stf(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = TransientError("503", retry_after_s=300)
    for _ in range(12):
        settle(engine)
        world.time.pass_(seconds=301)
    del world.monitor.trouble[name]
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_a_monitor_that_takes_no_registration_for_hours_fails_no_stf(lean: World) -> None:
    """It reads, and so does its probe: a database that may only be read, say."""
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    names = [lean.receive(outbox, n) for n in range(1, 9)]
    lean.monitor.trouble = dict.fromkeys(names, TransientError("500, and no such row"))
    for _ in range(40):
        settle(engine)
        lean.time.pass_(minutes=4)
    assert {named(outbox, name).state for name in names} == {"sampled"}
    sick = names[0]
    for name in names[1:]:
        del lean.monitor.trouble[name]
    for n in range(30, 130):
        lean.receive(outbox, n)
        settle(engine)
        lean.time.pass_(minutes=1)
        if named(outbox, sick).state == "failed":
            break
    assert {named(outbox, name).state for name in names[1:]} == {"completed"}
    assert named(outbox, sick).state == "failed", "it fails while others are registered: its own fault"


def test_an_stf_at_the_end_of_its_budget_does_not_pay_while_it_is_one_of_many_that_fail(lean: World) -> None:
    outbox = lean.outbox()
    engine = lean.engine(outbox)
    sick = lean.receive(outbox, 1)
    lean.monitor.trouble[sick] = TransientError("500, and no such row")
    while named(outbox, sick).spent_s < BUDGET_S - 60:  # its pauses are a minute at most: the next one is the last
        settle(engine)
        lean.time.pass_(minutes=1)
    others = [lean.receive(outbox, n) for n in (2, 3)]
    lean.monitor.trouble |= dict.fromkeys(others, TransientError("500, and no such row"))
    for _ in range(120):
        settle(engine)
        lean.time.pass_(minutes=1)
    assert named(outbox, sick).state == "sampled"
    spent_s = named(outbox, sick).spent_s
    for name in others:
        del lean.monitor.trouble[name]
    settle(engine)
    assert {named(outbox, name).state for name in others} == {"completed"}
    for _ in range(3):
        lean.time.pass_(minutes=1)
        settle(engine)
    assert named(outbox, sick).state == "failed", "others work again: it pays from where it stood"
    assert named(outbox, sick).last_error == "always_failing: 500, and no such row"
    assert BUDGET_S - 60 <= spent_s < BUDGET_S


# A wall clock that jumps while the monotonic one does not


def jump(world: World, **span: float) -> None:
    seconds = world.time.seconds
    world.time.pass_(**span)
    world.time.seconds = seconds


@pytest.mark.parametrize("hours", [-30, -1, -0.1, 0.1, 1, 30])
def test_a_healthy_stf_is_not_delayed_by_a_clock_that_jumps(world: World, hours: float) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    engine.tick(0)
    jump(world, hours=hours)
    settle(engine)
    assert named(outbox, name).state == "completed"


@pytest.mark.parametrize("hours", [-30, -1, -0.1, 0.1, 1, 30])
def test_an_stf_that_was_put_off_is_tried_again_within_the_longest_backoff(world: World, hours: float) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = TransientError("500")
    settle(engine)
    world.monitor.trouble.clear()
    jump(world, hours=hours)
    world.time.pass_(minutes=10)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_a_clock_that_jumps_to_and_fro_fails_nothing_and_storms_nobody(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = TransientError("500")
    for hours in (30, -60, 1, -1, 0.1, -0.1, 30, -30):
        jump(world, hours=hours)
        for _ in range(10):
            settle(engine)
    stf = named(outbox, name)
    assert stf.state == "sampled"
    assert sum(world.monitor.posts.values()) <= 9, "one try a jump at most, beside the first"
    assert stf.spent_s < BUDGET_S


@pytest.mark.parametrize("hours", [-30, 30])
def test_probes_keep_their_pace_when_the_clock_jumps(world: World, hours: float) -> None:
    outbox = world.outbox()
    asked = 0

    def probe() -> None:
        nonlocal asked
        asked += 1
        FakeMonitor.probe(world.monitor)

    engine = world.engine(outbox, probes={"monitor": probe})
    world.receive(outbox)
    world.monitor.down = True
    settle(engine)
    for _ in range(30):
        jump(world, hours=hours)
        settle(engine)
    assert asked == 0
    world.time.pass_(seconds=5)
    world.monitor.down = False
    settle(engine)
    assert asked == 1
    assert outbox.unfinished() == 0

"""The engine, driven by hand against a small world: no threads, no sleeping."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base import failpoints
from fastmon_daemon.base.errors import FastmonError, LinkDown, ParentNotRegistered, PermanentError, TransientError
from fastmon_daemon.engine import Inbox
from fastmon_daemon.engine.engine import TICK_S
from fastmon_daemon.engine.steps import StepOutcome
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import DueQuery, NewStf, Origin, Outbox
from fastmon_daemon.statechart import MachineError, StatechartError, load_statechart
from tests.builders import START, FakeMonitor, Slow, World, named, query, settle

WAY = ["received", "sampled", "tf_registered", "notified", "completed"]


class PowerCut(BaseException):
    """The process is gone, at this very instruction."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def history(outbox: Outbox, name: str) -> list[str]:
    return [row.dest for row in outbox.reports.history(named(outbox, name).id)]


def test_an_stf_goes_its_whole_way_and_each_transition_is_in_its_history_once(world: World) -> None:
    outbox = world.outbox()
    name = world.receive(outbox, size_bytes=2_000_000_000)
    engine = world.engine(outbox)
    settle(engine)
    stf = named(outbox, name)
    assert stf.state == "completed"
    assert history(outbox, name) == WAY
    assert len(world.monitor.rows) == 7
    assert len(set(world.announced)) == len(world.announced) == 7
    for tf in stf.tfs:
        row = world.monitor.rows[tf.filename]
        assert (tf.first, tf.last, tf.size_bytes, tf.monitor_id) == (
            row.tf_first, row.tf_last, row.file_size_bytes, row.tf_file_id,
        )  # fmt: skip


def test_a_cut_of_the_power_at_every_point_costs_nothing(tmp_path: Path) -> None:
    cuts: list[str] = []
    for nth in count(1):
        folder = tmp_path / str(nth)
        world = World(folder)
        cut = run_until_cut(world, nth)
        with world_open(world) as outbox:
            name = world.receive(outbox)  # what was not acknowledged is delivered again
            settle(world.engine(outbox))
            assert named(outbox, name).state == "completed"
            assert history(outbox, name) == WAY
            assert len(world.monitor.rows) == 7
            announced = Counter(world.announced)
            assert len(announced) == 7
            assert sum(announced.values()) - 7 <= 4  # at most what was in flight: one a worker
        if cut is None:
            break
        cuts.append(cut)
    assert {"before_commit", "after_commit", "before_call", "after_call"} == set(cuts)
    assert len(cuts) >= 2 * 14  # 7 registrations and 7 announcements, before and after each


def run_until_cut(world: World, nth: int) -> str | None:
    met = count(1)

    def fuse(name: str) -> None:
        if next(met) == nth:
            raise PowerCut(name)

    with world_open(world) as outbox:
        failpoints.set_hook(fuse)
        try:
            world.receive(outbox)
            settle(world.engine(outbox))
        except PowerCut as cut:
            return str(cut)
        finally:
            failpoints.set_hook(None)
    return None


class world_open:  # noqa: N801 (used as a statement)
    """The outbox of one process."""

    def __init__(self, world: World) -> None:
        self._outbox = world.outbox()

    def __enter__(self) -> Outbox:
        return self._outbox

    def __exit__(self, *_: object) -> None:
        self._outbox.close()


def test_with_the_monitor_away_stfs_are_sampled_and_burn_no_attempt_however_long_it_lasts(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    world.monitor.down = True
    names = [world.receive(outbox, n) for n in range(1, 6)]
    for _ in range(20):
        engine.tick(0)
        world.time.pass_(minutes=10)
    assert {named(outbox, name).state for name in names} == {"sampled"}
    assert {named(outbox, name).attempts for name in names} == {0}
    assert [outage.link for outage in outbox.outages.open()] == ["monitor"]
    world.monitor.down = False
    world.time.pass_(seconds=5)
    settle(engine)
    assert {named(outbox, name).state for name in names} == {"completed"}
    assert outbox.outages.open() == []


def test_with_the_broker_away_stfs_are_registered_and_wait_for_it(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    world.broker_is(engine, up=False)
    name = world.receive(outbox)
    settle(engine)
    assert named(outbox, name).state == "tf_registered"
    world.broker_is(engine, up=True)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_an_outage_outlives_the_process_and_is_probed_at_the_next_start(world: World) -> None:
    outbox = world.outbox()
    world.monitor.down = True
    name = world.receive(outbox)
    settle(world.engine(outbox))
    assert outbox.outages.open()
    world.monitor.down = False
    again = world.engine(outbox)
    assert not again.breakers.allows_calls("monitor")
    settle(again)
    assert named(outbox, name).state == "completed"


def test_a_missing_parent_costs_one_call_and_ends_in_failed_after_its_budget(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = ParentNotRegistered("Object with stf_filename does not exist.")
    engine.tick(0)
    engine.tick(0)
    assert sum(world.monitor.posts.values()) == 1
    assert named(outbox, name).attempts == 1
    other = world.receive(outbox, 2)
    for _ in range(200):
        settle(engine)
        world.time.pass_(seconds=61)
    stf = named(outbox, name)
    assert stf.state == "failed"
    assert stf.last_error is not None
    assert stf.last_error.startswith("stf_not_registered: ")
    assert named(outbox, other).state == "completed"


def test_a_parent_that_comes_a_little_later_is_waited_for(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = ParentNotRegistered("not yet")
    settle(engine)
    del world.monitor.trouble[name]
    world.time.pass_(seconds=2)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_wrong_data_fails_at_once_with_its_reason(world: World) -> None:
    outbox = world.outbox()
    name = world.receive(outbox)
    world.monitor.trouble[name] = PermanentError("monitor said 400: too big")
    settle(world.engine(outbox))
    stf = named(outbox, name)
    assert (stf.state, stf.last_error, stf.due_at) == ("failed", "monitor said 400: too big", None)


def test_an_unexpected_error_fails_its_stf_and_stops_nobody_else(world: World) -> None:
    outbox = world.outbox()
    sick, well = world.receive(outbox, 1), world.receive(outbox, 2)
    world.monitor.trouble[sick] = ZeroDivisionError("a bug")  # type: ignore[assignment]
    settle(world.engine(outbox))
    assert named(outbox, sick).last_error == "ZeroDivisionError: a bug"
    assert named(outbox, well).state == "completed"


def test_what_another_writer_registered_is_adopted_and_marked_in_the_history(world: World) -> None:
    outbox = world.outbox()
    name = world.receive(outbox)
    settle(world.engine(outbox, links={"register_tfs": "monitor", "notify_clients": "broker"}))
    twin = World(world.folder / "twin", monitor=world.monitor)
    for tf, row in list(world.monitor.rows.items()):
        world.monitor.rows[tf] = type(row)(
            **{**{f: getattr(row, f) for f in row.__slots__}, "tf_first": 3, "tf_last": 9}
        )
    other = twin.outbox()
    twin.receive(other)
    settle(twin.engine(other))
    stf = named(other, name)
    assert {(tf.first, tf.last, tf.adopted) for tf in stf.tfs} == {(3, 9, "another range")}
    notes = [row.note for row in other.reports.history(stf.id) if row.dest == "tf_registered"]
    assert notes[0] is not None
    assert "another range" in notes[0]


def test_an_stf_that_is_not_selected_rests_and_says_why(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings = type(world.settings)(namespace="ns", selection_fraction=0.1)
    outbox = world.outbox()
    names = [world.receive(outbox, n) for n in range(1, 21)]
    settle(world.engine(outbox))
    states = Counter(named(outbox, name).state for name in names)
    assert states == {"completed": 2, "skipped": 18}
    skipped = named(outbox, names[1])
    assert skipped.due_at is None
    assert skipped.last_error == "not selected: FASTMON_SELECTION_FRACTION is 0.1"


def test_after_an_outage_fresh_stfs_are_not_queued_behind_the_backlog(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox, workers=1)
    world.monitor.down = True
    backlog = [world.receive(outbox, n) for n in range(1, 41)]
    settle(engine)
    world.monitor.down = False
    world.time.pass_(minutes=10)
    fresh = world.receive(outbox, 100)
    for turns in count(1):
        engine.tick(0)
        if named(outbox, fresh).state == "completed":
            break
        assert turns < 200
    left = sum(named(outbox, name).state != "completed" for name in backlog)
    assert left > len(backlog) / 2


def test_late_announcements_are_paced_and_fresh_ones_are_not(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox, late_rate=7.0)
    for n in range(1, 11):
        world.receive(outbox, n, origin=Origin.RECOVERED)
    for _ in range(100):
        engine.tick(0)
    assert len(world.announced) == 7
    world.receive(outbox, 50)
    for _ in range(100):
        engine.tick(0)
    assert len(world.announced) == 14
    for _ in range(30):
        world.time.pass_(seconds=1)
        for _ in range(20):
            engine.tick(0)
    assert len(world.announced) == 7 * 11


def test_a_clock_that_jumped_back_strands_nothing(world: World) -> None:
    outbox = world.outbox()
    name = world.receive(outbox)
    world.time.at = START.replace(year=2020)
    settle(world.engine(outbox))
    assert named(outbox, name).state == "completed"


@pytest.mark.parametrize("sick", [False, True])
def test_the_query_for_due_stfs_walks_its_index(world: World, sick: bool) -> None:
    outbox = world.outbox()
    due = DueQuery(now=START, far=START, retrying=sick, newest=True, limit=1, busy=(1, 2), fresh_since=START)
    plan = query(outbox.path, f"explain query plan {due.sql}", *due.arguments("received"))
    details = [row[3] for row in plan]
    assert sum("USING INDEX stf_due (state=? AND <expr>=? AND due_at" in detail for detail in details) == 1 + sick
    assert not any("TEMP B-TREE" in detail for detail in details)


@pytest.mark.parametrize(("standing", "announced"), [(7, 0), (6, 7)])
def test_what_stood_before_is_announced_unless_all_of_it_stood(world: World, standing: int, announced: int) -> None:
    outbox = world.outbox()
    name = f"swf.100014.{1:06d}.stf"
    stood = tuple(f"swf.100014.{1:06d}_tf_{n:03d}.tf" for n in range(1, standing + 1))
    world.receive(outbox, 1, preexisting=stood)
    settle(world.engine(outbox))
    assert named(outbox, name).state == "completed"
    assert len(world.announced) == announced


def test_a_transient_error_postpones_the_stf_and_counts_one_attempt(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = TransientError("monitor said 503, and has no such row")
    settle(engine)
    stf = named(outbox, name)
    assert (stf.state, stf.attempts) == ("sampled", 1)
    assert stf.last_error == "monitor said 503, and has no such row"
    assert stf.due_at is not None


def test_an_stf_without_a_sequence_number_is_announced_without_one(world: World) -> None:
    outbox = world.outbox()
    told: list[dict[str, object]] = []

    def announce(body: str, _event_id: str) -> None:
        told.append(json.loads(body))

    world.announce = announce  # type: ignore[method-assign]
    stf = NewStf(namespace="ns", run_id="100014", filename="unnumbered.stf")
    with outbox.transaction():
        outbox.receive(stf, "received", world.time.at)
    settle(world.engine(outbox))
    assert named(outbox, "unnumbered.stf").state == "completed"
    assert [message["tf_filename"] for message in told] == [f"unnumbered_tf_{n:03d}.tf" for n in range(1, 8)]
    assert {(message["stf_filename"], message["stf_sequence"], message["previous_selected"]) for message in told} == {
        ("unnumbered.stf", None, None)
    }


class Choosy(FakeMonitor):
    """A monitor that meets trouble with single TF files."""

    def __init__(self, troubles: dict[int, FastmonError]) -> None:
        super().__init__()
        self.troubles = {f"swf.100014.000001_tf_{n:03d}.tf": error for n, error in troubles.items()}

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        if tf.tf_filename in self.troubles:
            self.posts[tf.tf_filename] += 1
            raise self.troubles[tf.tf_filename]
        return super().register_tf(tf)


def test_after_one_call_of_an_stf_has_failed_none_of_its_others_goes_out(tmp_path: Path) -> None:
    world = World(tmp_path, monitor=Choosy({2: TransientError("500")}))
    outbox = world.outbox()
    name = world.receive(outbox)
    settle(world.engine(outbox, workers=1))
    assert list(world.monitor.posts.values()) == [1, 1]
    assert [tf.sequence for tf in named(outbox, name).tfs if tf.registered_at] == [1]


@pytest.mark.parametrize(("own", "links"), [(2, 3), (3, 2)])
def test_of_two_failures_at_once_the_stfs_own_counts_whichever_is_heard_first(
    tmp_path: Path, own: int, links: int
) -> None:
    world = World(tmp_path, monitor=Choosy({own: PermanentError("400: too big"), links: LinkDown("no answer")}))
    outbox, pool = world.outbox(), Slow()
    name = world.receive(outbox)
    engine = world.engine(outbox, workers=2, pool=pool)
    for _ in range(3):
        engine.tick(0)
        pool.go_on()
    engine.tick(0)
    assert named(outbox, name).last_error == "400: too big"
    assert not engine.breakers.allows_calls("monitor")


# The chart and the code


@pytest.mark.parametrize(("lacking", "extra"), [("close_stf", None), (None, "archive_stf")])
def test_an_engine_whose_steps_are_not_those_of_the_chart_is_not_made(
    world: World, lacking: str | None, extra: str | None
) -> None:
    chart = load_statechart("stf")
    names = ({*chart.steps, extra} if extra else set(chart.steps)) - {lacking}
    with pytest.raises(StatechartError, match=lacking or extra):
        world.engine(world.outbox(), steps={name: lambda _stf: [] for name in names})


def test_a_step_that_decides_what_the_chart_does_not_have_moves_nothing(world: World) -> None:
    """It is a mistake of ours, which ends the process: no row may say otherwise than the chart."""
    outbox = world.outbox()
    name = world.receive(outbox)
    steps = {step: lambda _stf: [] for step in load_statechart("stf").steps}
    for trigger in ("archive", "retry"):  # unknown, and known but not from there
        engine = world.engine(
            outbox,
            steps={**steps, "sample_tfs": lambda _stf, trigger=trigger: [lambda: StepOutcome(trigger, "why not")]},
        )
        with pytest.raises(MachineError):
            settle(engine)
        assert (named(outbox, name).state, history(outbox, name)) == ("received", ["received"])


# Its loop


class Recording(Inbox):
    """An inbox that nobody waits for, and that remembers how long he would have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def collect(self, wait_s: float) -> list[Any]:
        self.waits.append(wait_s)
        return super().collect(0)


@pytest.mark.parametrize("monitor_is_down", [False, True])
def test_an_engine_that_has_nothing_to_do_waits_for_its_inbox(world: World, monitor_is_down: bool) -> None:
    outbox, inbox = world.outbox(), Recording()
    engine = world.engine(outbox, inbox=inbox)
    world.monitor.down = monitor_is_down
    world.receive(outbox)
    settle(engine)
    inbox.waits.clear()
    for _ in range(3):
        assert not engine.tick()
    assert inbox.waits == [TICK_S] * 3
    assert TICK_S >= 0.5


def test_an_idle_engine_turns_when_somebody_wakes_it_and_no_sooner(world: World) -> None:
    inbox, settled, turned = Inbox(), threading.Event(), threading.Event()

    def live() -> None:
        with world_open(world) as outbox:
            world.receive(outbox)
            engine = world.engine(outbox, inbox=inbox)
            settle(engine)
            settled.set()
            engine.tick(600)
            turned.set()

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    assert settled.wait(60)
    assert not turned.wait(0.2)
    inbox.wake()
    assert turned.wait(60)
    thread.join(60)


def test_a_drain_writes_down_what_comes_back_and_begins_nothing_new(world: World) -> None:
    outbox, pool, other = world.outbox(), Slow(), Recorded()
    engine = world.engine(outbox, pool=pool, task_sources=[other], spare=other.spare)
    first = world.receive(outbox, 1)
    world.broker_is(engine, up=False)
    engine.tick(0)
    assert (engine.busy, other.asked) == (1, 1)
    engine.stopping.set()
    second = world.receive(outbox, 2)
    world.time.pass_(seconds=60)  # a probe of the broker's is due
    pool.go_on()
    for _ in range(5):
        assert not engine.tick(0)
    assert [tf.filename for tf in named(outbox, first).tfs if tf.registered_at] == list(world.monitor.posts)
    assert len(world.monitor.posts) == 1
    assert named(outbox, second).state == "received"
    assert (pool.waiting, engine.busy, other.asked, other.spared) == ([], 0, 1, 0)


class Recorded:
    """A source of background tasks, and what is done in spare turns: how often they were asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.spared = 0

    def tasks(self, _outbox: Outbox, _now: datetime) -> list[BackgroundTask]:
        self.asked += 1
        return []

    def spare(self, _outbox: Outbox, _now: datetime) -> None:
        self.spared += 1

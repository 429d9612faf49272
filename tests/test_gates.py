"""Gates: what a link that is down stops and what not, when it is looked at again, and what it costs nobody."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from fastmon_daemon.engine import LinkNews
from fastmon_daemon.errands import AT_ONCE
from fastmon_daemon.errors import LinkDown, LinkHeld, TransientError
from fastmon_daemon.gates import HELD_PROBE_S, MOST_PROBES, PROBE_S, SHORTEST_PAUSE_S, Gate
from fastmon_daemon.logs import Secrets
from fastmon_daemon.monitor import Monitor
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.service.logins import secret_reader
from fastmon_daemon.settings import Settings
from fastmon_daemon.steps import links_for, make_steps
from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from tests.living import wait_until
from tests.model_world import FaultyMonitor
from tests.worlds import FakeMonitor, World, named, settle


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextmanager
def said() -> Iterator[list[str]]:
    """The errors that are logged inside the block."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="ERROR", format="{message}")
    try:
        yield lines
    finally:
        logger.remove(sink)


class Slow(Executor):
    """A pool whose calls are done only when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, tuple[Any, ...]]] = []

    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        self.waiting.append((fn, args))
        return Future()

    def go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for fn, args in waiting:
            fn(*args)


# When it is looked at again


def refused_once(gate: Gate, now: float, jitter: Callable[[], float]) -> float:
    """A probe that is answered with no at once; the seconds until the next."""
    gate.probe_begins(now)
    gate.probe_ends(now, now, jitter)
    return gate.next_probe - now


@pytest.mark.parametrize(("held", "most"), [(False, [1, 2, 4, 5, 5, 5]), (True, [HELD_PROBE_S] * 6)])
def test_pauses_have_full_jitter_below_a_ceiling(held: bool, most: list[float]) -> None:
    longest, drawn, jitter = Gate("monitor"), Gate("monitor"), random.Random(7).random
    longest.shut(100.0, held, lambda: 1.0)
    drawn.shut(100.0, held, jitter)
    pauses = [longest.next_probe - 100, *(refused_once(longest, 100.0 + n, lambda: 1.0) for n in range(5))]
    assert pauses == most
    assert SHORTEST_PAUSE_S <= drawn.next_probe - 100 <= most[0]
    for n, ceiling in enumerate(most[1:]):
        assert SHORTEST_PAUSE_S <= refused_once(drawn, 100.0 + n, jitter) <= ceiling
    assert PROBE_S == 5
    assert HELD_PROBE_S <= 30


def test_a_probe_that_waits_for_its_own_deadline_does_not_delay_the_next_one() -> None:
    gate = Gate("monitor")
    gate.shut(100.0, held=False, jitter=lambda: 1.0)
    begun = []
    for now in range(100, 131):
        if gate.wants_probe(now):
            gate.probe_begins(now)
            begun.append(now)
        if now - 15 in begun:  # nothing was heard until the deadline
            gate.probe_ends(now - 15, now, jitter=lambda: 1.0)
    assert begun == [101, 106, 111, 116, 121, 126]
    assert len(gate.probing) <= MOST_PROBES


def test_calls_that_were_under_way_when_the_gate_shut_change_nothing() -> None:
    gate = Gate("monitor")
    gate.shut(100.0, held=False, jitter=lambda: 1.0)
    gate.shut(100.5, held=False, jitter=lambda: 1.0)
    gate.shut(101.9, held=False, jitter=lambda: 1.0)
    assert (gate.next_probe, gate.refusals) == (101.0, 1)


class Silent(FakeMonitor):
    """While `silent`, nobody who asks hears anything until the test lets their deadlines pass."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.asking = 0
        self.deadline = threading.Event()

    def probe(self) -> None:
        if self.silent:
            self.asking += 1
            self.deadline.wait(60)
            raise LinkDown("no answer within the deadline")
        super().probe()


def test_a_monitor_that_was_silent_is_found_to_be_back_while_earlier_probes_still_wait(tmp_path: Path) -> None:
    monitor = Silent()
    world = World(tmp_path, monitor=monitor)
    outbox = world.outbox()
    name = world.receive(outbox)
    with ThreadPoolExecutor(8) as pool:
        engine = world.engine(outbox, pool=pool)
        monitor.down = True
        wait_until(lambda: not engine.turn(0.01) and not engine.is_open("monitor"))
        monitor.down, monitor.silent = False, True
        for asking in (1, 2):
            world.time.pass_(seconds=PROBE_S)
            wait_until(lambda count=asking: engine.turn(0.01) and monitor.asking == count)
        monitor.silent = False
        world.time.pass_(seconds=PROBE_S)
        wait_until(lambda: engine.turn(0.01) and named(outbox, name).state == "completed")
        monitor.deadline.set()
        wait_until(lambda: not engine.turn(0.01))
        assert engine.is_open("monitor"), "what they say is older than the link's return"
    assert outbox.outages.open() == []


def test_a_probe_that_hangs_takes_no_worker_from_the_other_link(tmp_path: Path) -> None:
    monitor = Silent()
    world = World(tmp_path, monitor=monitor)
    outbox = world.outbox()
    ready = world.receive(outbox, 1)
    with ThreadPoolExecutor(1 + AT_ONCE) as pool:
        engine = world.engine(outbox, pool=pool, workers=1)
        world.broker_is(engine, up=False)
        wait_until(lambda: not engine.turn(0.01) and named(outbox, ready).state == "tf_registered")
        monitor.trouble[world.receive(outbox, 2)] = LinkDown("no answer")
        wait_until(lambda: not engine.turn(0.01) and not engine.is_open("monitor"))
        monitor.silent = True
        world.time.pass_(seconds=PROBE_S)
        wait_until(lambda: engine.turn(0.01) and monitor.asking == 1)
        world.broker_is(engine, up=True)
        wait_until(lambda: engine.turn(0.01) and named(outbox, ready).state == "completed")
        monitor.deadline.set()


def test_one_probe_at_a_time_finds_out_within_5_s_that_the_link_is_back(world: World) -> None:
    outbox, pool = world.outbox(), Slow()
    engine = world.engine(outbox, pool=pool)
    name = world.receive(outbox)
    world.monitor.down = True
    for _ in range(40):
        engine.turn(0)
        world.time.pass_(seconds=10)
        assert len(pool.waiting) <= 1
        if pool.waiting:
            pool.go_on()
    asked = world.time.seconds
    world.monitor.down = False
    while named(outbox, name).state == "sampled":
        world.time.pass_(seconds=0.5)
        engine.turn(0)
        pool.go_on()
        engine.turn(0)
        assert world.time.seconds - asked <= 5.5


@pytest.mark.parametrize("held", [False, True])
def test_a_late_word_that_a_link_is_down_does_not_shut_its_gate_for_ever(world: World, held: bool) -> None:
    """A call fails while its link goes; before the engine hears of it the link is back, and has said so."""
    outbox = world.outbox()
    name = world.receive(outbox)

    late = [(LinkHeld if held else LinkDown)("lost while it was under way")]

    def announce(_body: str, event_id: str) -> None:
        if late:
            engine.tell(LinkNews("broker", up=True))
            raise late.pop()
        world.announced.append(event_id)

    world.announce = announce  # type: ignore[method-assign]
    engine = world.engine(outbox)
    settle(engine)
    assert named(outbox, name).state == "tf_registered"
    world.time.pass_(seconds=30)
    settle(engine)
    assert named(outbox, name).state == "completed"


# What it stops, and what not


def test_a_shut_gate_stops_only_what_needs_its_link(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    first = world.receive(outbox, 1)
    world.broker_is(engine, up=False)
    settle(engine)
    world.monitor.down = True
    second = world.receive(outbox, 2)
    settle(engine)
    assert (named(outbox, first).state, named(outbox, second).state) == ("tf_registered", "sampled")
    world.broker_is(engine, up=True)
    settle(engine)
    assert (named(outbox, first).state, named(outbox, second).state) == ("completed", "sampled")


def test_a_monitor_that_takes_no_messages_stops_the_announcements_only_and_says_so_once(world: World) -> None:
    outbox = world.outbox()
    absent = True

    def messages() -> None:
        if absent:
            raise LinkHeld("404: this monitor takes no messages; set FASTMON_NOTIFY=stomp")

    def announce(body: str, event_id: str) -> None:
        messages()
        type(world).announce(world, body, event_id)

    world.announce = announce  # type: ignore[method-assign]
    probes = {"monitor": world.monitor.probe, "messages": messages}
    engine = world.engine(outbox, links=links_for("rest"), probes=probes)
    with said() as errors:
        names = [world.receive(outbox, n) for n in range(1, 4)]
        for _ in range(50):
            settle(engine)
            world.time.pass_(minutes=10)
        assert {named(outbox, name).state for name in names} == {"tf_registered"}
        assert {named(outbox, name).attempts for name in names} == {0}
    assert [line for line in errors if "FASTMON_NOTIFY=stomp" in line] == errors[:1]
    assert len(errors) == 1
    assert engine.is_open("monitor")
    absent = False
    world.time.pass_(seconds=30)
    settle(engine)
    assert {named(outbox, name).state for name in names} == {"completed"}


def test_an_outage_of_a_link_that_the_settings_no_longer_need_is_over(world: World) -> None:
    outbox = world.outbox()
    with outbox.transaction():
        outbox.outages.link_lost("messages", "404", world.time.at, held=True)
    world.engine(outbox)
    assert outbox.outages.open() == []


# Whose time it costs


def test_a_budget_counts_only_time_with_the_gate_open(world: World) -> None:
    outbox = world.outbox()
    engine = world.engine(outbox)
    name = world.receive(outbox)
    world.monitor.trouble[name] = TransientError("500")
    for _ in range(5):
        for _ in range(2):
            settle(engine)
            world.time.pass_(seconds=61)
        world.monitor.down = True
        for _ in range(10):
            settle(engine)
            world.time.pass_(hours=1)
        world.monitor.down = False
        settle(engine)
    assert named(outbox, name).state == "sampled"
    assert named(outbox, name).spent_s < 900
    world.monitor.trouble.clear()
    world.time.pass_(seconds=61)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_an_hour_of_too_many_requests_burns_no_attempt_of_any_stf(world: World) -> None:
    with MonitorThread("good", MonitorOptions()) as there:
        monitor = Monitor(there.url, lambda: "good", connections=1)
        settings = Settings(namespace="ns", selection_fraction=1.0)
        steps = make_steps(settings, "a", monitor, world.announce, world.time.clock())
        outbox = world.outbox()
        engine = world.engine(outbox, steps=steps, probes={"monitor": monitor.probe})
        there.faults(error_rate=1, error_status=429)
        names = [world.receive(outbox, n) for n in range(1, 4)]
        for _ in range(60):
            settle(engine)
            world.time.pass_(minutes=1)
        assert [(named(outbox, name).state, named(outbox, name).attempts) for name in names] == [("sampled", 0)] * 3
        [outage] = outbox.outages.open()
        assert "429" in outage.reason
        there.faults()
        settle(engine)
        assert outbox.outages.open() == []
        monitor.close()


# What a person must mend


def test_what_a_person_must_mend_is_said_also_where_the_link_was_down_before(world: World) -> None:
    outbox = world.outbox()
    world.monitor = monitor = FaultyMonitor()
    engine = world.engine(outbox)
    monitor.down = True
    world.receive(outbox)
    with said() as errors:
        settle(engine)
        monitor.down, monitor.held = False, True
        for _ in range(5):
            world.time.pass_(seconds=30)
            settle(engine)
    assert [line.strip() for line in errors] == [
        "link to the monitor is down: monitor unreachable",
        "link to the monitor is held: 401: set SWF_API_TOKEN",
    ]
    assert [(outage.held, outage.ended_at) for outage in outbox.outages.open()] == [(True, None)]


def test_a_token_that_is_mended_in_its_file_is_taken_up_without_a_restart(world: World) -> None:
    token = world.folder / "token"
    token.write_text("revoked")
    read = secret_reader({"SWF_API_TOKEN_FILE": str(token)}, "SWF_API_TOKEN", "revoked", Secrets())
    with MonitorThread("good", MonitorOptions()) as there:
        monitor = Monitor(there.url, read, connections=1)
        settings = Settings(namespace="ns", selection_fraction=1.0)
        steps = make_steps(settings, "a", monitor, world.announce, world.time.clock())
        outbox = world.outbox()
        engine = world.engine(outbox, steps=steps, probes={"monitor": monitor.probe})
        name = world.receive(outbox)
        settle(engine)
        assert [outage.held for outage in outbox.outages.open()] == [True]
        assert "SWF_API_TOKEN" in outbox.outages.open()[0].reason
        token.write_text("good\n")
        world.time.pass_(seconds=HELD_PROBE_S)
        settle(engine)
        assert outbox.outages.open() == []
        assert named(outbox, name).last_error is not None  # its parent is not there: that is its own affair now
        monitor.close()


def test_an_outage_is_remembered_with_its_window(world: World) -> None:
    outbox: Outbox = world.outbox()
    engine = world.engine(outbox)
    world.receive(outbox)
    world.monitor.down = True
    settle(engine)
    world.time.pass_(hours=2)
    world.monitor.down = False
    settle(engine)
    [outage] = outbox.reports.outages.latest(open_only=False, limit=10)
    assert outage.ended_at is not None
    assert outage.began_at < outage.ended_at

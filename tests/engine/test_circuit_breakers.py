"""Gates: what a link that is down stops and what not, when it is looked at again, and what it costs nobody."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from loguru import logger

from fastmon_daemon.base.errors import LinkBlocked, LinkDown, TransientError
from fastmon_daemon.base.links import links_for
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.base.rate_limit import TokenBucket
from fastmon_daemon.engine import LinkEvent
from fastmon_daemon.engine.circuit_breakers import (
    MAX_BLOCKED_PROBE_INTERVAL_S,
    MAX_PROBE_INTERVAL_S,
    SHORTEST_PROBE_PAUSE_S,
    CircuitBreaker,
)
from fastmon_daemon.engine.concurrency_limits import PROBES_PER_LINK
from fastmon_daemon.engine.steps import make_steps
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.service.clients import secret_reader
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from tests.builders import Silent, Slow, World, named, settle, turn_until
from tests.engine.model_world import FaultyMonitor


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


# When it is looked at again


def gate_of(jitter: Callable[[], float] = lambda: 1.0) -> CircuitBreaker:
    return CircuitBreaker("monitor", PROBES_PER_LINK, jitter)


def refused_once(breaker: CircuitBreaker, now: float) -> float:
    """A probe that is answered with no at once; the seconds until the next."""
    breaker.probe_started(now)
    breaker.probe_finished(now, now)
    return breaker.next_probe - now


@pytest.mark.parametrize(("blocked", "most"), [(False, [1, 2, 4, 5, 5, 5]), (True, [MAX_BLOCKED_PROBE_INTERVAL_S] * 6)])
def test_pauses_have_full_jitter_below_a_ceiling(blocked: bool, most: list[float]) -> None:
    longest, drawn, shortest = gate_of(), gate_of(random.Random(7).random), gate_of(lambda: 0.0)
    for breaker in (longest, drawn, shortest):
        breaker.trip(100.0, blocked)
    pauses = [longest.next_probe - 100, *(refused_once(longest, 100.0 + n) for n in range(5))]
    assert pauses == most
    assert SHORTEST_PROBE_PAUSE_S <= drawn.next_probe - 100 <= most[0]
    for n, ceiling in enumerate(most[1:]):
        assert SHORTEST_PROBE_PAUSE_S <= refused_once(drawn, 100.0 + n) <= ceiling
        assert refused_once(shortest, 100.0 + n) == pytest.approx(SHORTEST_PROBE_PAUSE_S)
    assert MAX_PROBE_INTERVAL_S == 5
    assert MAX_BLOCKED_PROBE_INTERVAL_S <= 30


def test_a_probe_that_waits_for_its_own_deadline_does_not_delay_the_next_one() -> None:
    breaker = gate_of()
    breaker.trip(100.0, blocked=False)
    begun = []
    for now in range(100, 131):
        if breaker.probe_is_due(now):
            breaker.probe_started(now)
            begun.append(now)
        if now - 15 in begun:  # nothing was heard until the deadline
            breaker.probe_finished(now - 15, now)
    assert begun == [101, 106, 111, 116, 121, 126]
    assert len(breaker.probing) <= PROBES_PER_LINK


def test_of_probes_that_are_never_answered_only_so_many_are_under_way() -> None:
    breaker, begun = gate_of(), []
    breaker.trip(100.0, blocked=False)
    for now in range(100, 200):
        if breaker.probe_is_due(now):
            breaker.probe_started(now)
            begun.append(now)
    assert len(begun) == PROBES_PER_LINK
    breaker.probe_finished(begun[0], 200.0)
    assert breaker.probe_is_due(200.0), "one has come to its end: there is room for the next"


def test_the_pauses_of_the_next_outage_begin_anew() -> None:
    breaker = gate_of()
    breaker.trip(100.0, blocked=False)
    assert [refused_once(breaker, 100.0 + n) for n in range(4)] == [2, 4, 5, 5]
    breaker.reset(200.0)
    breaker.trip(300.0, blocked=False)
    assert breaker.next_probe == 301


def test_a_pace_saves_nothing_up_and_its_debt_is_paid_first() -> None:
    now = 1000.0
    pace = TokenBucket(7, lambda: now)
    now += 3600
    assert pace.take(6)
    assert pace.take(7), "what is left suffices to begin"
    assert not pace.take(1)
    now += 0.8
    assert not pace.is_ready
    now += 0.2
    assert pace.is_ready


def test_calls_that_were_under_way_when_the_gate_shut_change_nothing() -> None:
    breaker = gate_of()
    breaker.trip(100.0, blocked=False)
    breaker.trip(100.5, blocked=False)
    breaker.trip(101.9, blocked=False)
    assert (breaker.next_probe, breaker.failures) == (101.0, 1)


def test_a_monitor_that_was_silent_is_found_to_be_back_while_earlier_probes_still_wait(tmp_path: Path) -> None:
    monitor = Silent()
    world = World(tmp_path, monitor=monitor)
    outbox = world.outbox()
    name = world.receive(outbox)
    with ThreadPoolExecutor(8) as pool:
        engine = world.engine(outbox, pool=pool)
        monitor.down = True
        turn_until(engine, lambda: not engine.busy and not engine.breakers.allows_calls("monitor"))
        monitor.down, monitor.silent = False, True
        for asking in (1, 2):
            world.time.pass_(seconds=MAX_PROBE_INTERVAL_S)
            turn_until(engine, lambda count=asking: monitor.asking == count)  # type: ignore[misc]
        monitor.silent = False
        world.time.pass_(seconds=MAX_PROBE_INTERVAL_S)
        turn_until(engine, lambda: named(outbox, name).state == "completed")
        monitor.deadline.set()
        turn_until(engine, lambda: not engine.busy)
        assert engine.breakers.allows_calls("monitor"), "what they say is older than the link's return"
    assert outbox.outages.open() == []


def test_one_probe_at_a_time_finds_out_within_5_s_that_the_link_is_back(world: World) -> None:
    outbox, pool = world.outbox(), Slow()
    engine = world.engine(outbox, pool=pool)
    name = world.receive(outbox)
    world.monitor.down = True
    for _ in range(40):
        engine.tick(0)
        world.time.pass_(seconds=10)
        assert len(pool.waiting) <= 1
        if pool.waiting:
            pool.go_on()
    asked = world.time.seconds
    world.monitor.down = False
    while named(outbox, name).state == "sampled":
        world.time.pass_(seconds=0.5)
        engine.tick(0)
        pool.go_on()
        engine.tick(0)
        assert world.time.seconds - asked <= 5.5


@pytest.mark.parametrize("blocked", [False, True])
def test_a_late_word_that_a_link_is_down_does_not_shut_its_gate_for_ever(world: World, blocked: bool) -> None:
    """A call fails while its link goes; before the engine hears of it the link is back, and has said so."""
    outbox = world.outbox()
    name = world.receive(outbox)

    late = [(LinkBlocked if blocked else LinkDown)("lost while it was under way")]

    def announce(_body: str, event_id: str) -> None:
        if late:
            engine.inbox.report_link(LinkEvent("broker", up=True))
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
            raise LinkBlocked("404: this monitor takes no messages; set FASTMON_NOTIFY=stomp")

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
    assert engine.breakers.allows_calls("monitor")
    absent = False
    world.time.pass_(seconds=30)
    settle(engine)
    assert {named(outbox, name).state for name in names} == {"completed"}


def test_an_outage_of_a_link_that_the_settings_no_longer_need_is_over(world: World) -> None:
    outbox = world.outbox()
    with outbox.transaction():
        outbox.outages.link_lost("messages", "404", world.time.at, blocked=True)
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
        monitor = MonitorClient(there.url, lambda: "good", connections=1)
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
        monitor.down, monitor.blocked = False, True
        for _ in range(5):
            world.time.pass_(seconds=30)
            settle(engine)
    assert [line.strip() for line in errors] == [
        "link to the monitor is down: monitor unreachable",
        "link to the monitor is blocked: 401: set SWF_API_TOKEN",
    ]
    assert [(outage.blocked, outage.ended_at) for outage in outbox.outages.open()] == [(True, None)]


def test_what_a_person_must_mend_is_not_said_as_an_error_again_after_a_restart(world: World) -> None:
    outbox = world.outbox()
    world.monitor = monitor = FaultyMonitor()
    monitor.blocked = True
    world.receive(outbox)
    settle(world.engine(outbox))
    with said() as errors:
        again = world.engine(outbox)
        for _ in range(3):
            settle(again)
            world.time.pass_(seconds=MAX_BLOCKED_PROBE_INTERVAL_S)
    assert errors == []
    assert [(outage.blocked, outage.ended_at) for outage in outbox.outages.open()] == [(True, None)]


def test_a_token_that_is_mended_in_its_file_is_taken_up_without_a_restart(world: World) -> None:
    token = world.folder / "token"
    token.write_text("revoked")
    read = secret_reader({"SWF_API_TOKEN_FILE": str(token)}, "SWF_API_TOKEN", "revoked", SecretRedactor())
    with MonitorThread("good", MonitorOptions()) as there:
        monitor = MonitorClient(there.url, read, connections=1)
        settings = Settings(namespace="ns", selection_fraction=1.0)
        steps = make_steps(settings, "a", monitor, world.announce, world.time.clock())
        outbox = world.outbox()
        engine = world.engine(outbox, steps=steps, probes={"monitor": monitor.probe})
        name = world.receive(outbox)
        settle(engine)
        assert [outage.blocked for outage in outbox.outages.open()] == [True]
        assert "SWF_API_TOKEN" in outbox.outages.open()[0].reason
        token.write_text("good\n")
        world.time.pass_(seconds=MAX_BLOCKED_PROBE_INTERVAL_S)
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

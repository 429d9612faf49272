"""Circuit breakers: when links are probed, which STFs wait for them, and which failures count as attempts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, TransientError
from fastmon_daemon.base.links import ANNOUNCEMENTS, links_for, remedy_if_down
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
from fastmon_daemon.service.clients import SecretReader
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from tests.builders import FakeTestbed, Silent, Slow, logged, named, settle, turn_until
from tests.engine.model_world import FaultyMonitor

# Probes


def new_breaker(jitter: Callable[[], float] = lambda: 1.0) -> CircuitBreaker:
    return CircuitBreaker("monitor", PROBES_PER_LINK, jitter)


def fail_probe(breaker: CircuitBreaker, now: float) -> float:
    """Fail a probe at once; return the seconds until the next."""
    breaker.probe_started(now)
    breaker.probe_finished(now, now)
    return breaker.next_probe - now


@pytest.mark.parametrize(
    ("blocked", "ceilings"), [(False, [1, 2, 4, 5, 5, 5]), (True, 6 * [MAX_BLOCKED_PROBE_INTERVAL_S])]
)
def test_pauses_have_full_jitter_below_a_ceiling(blocked: bool, ceilings: list[float]) -> None:
    longest, drawn, shortest = new_breaker(), new_breaker(random.Random(7).random), new_breaker(lambda: 0.0)
    for breaker in (longest, drawn, shortest):
        breaker.trip(100.0, blocked)
    pauses = [longest.next_probe - 100, *(fail_probe(longest, 100.0 + n) for n in range(5))]
    assert pauses == ceilings
    assert SHORTEST_PROBE_PAUSE_S <= drawn.next_probe - 100 <= ceilings[0]
    for n, ceiling in enumerate(ceilings[1:]):
        assert SHORTEST_PROBE_PAUSE_S <= fail_probe(drawn, 100.0 + n) <= ceiling
        assert fail_probe(shortest, 100.0 + n) == pytest.approx(SHORTEST_PROBE_PAUSE_S)
    assert MAX_PROBE_INTERVAL_S == 5
    assert MAX_BLOCKED_PROBE_INTERVAL_S <= 30


def test_a_probe_that_hangs_until_its_deadline_does_not_delay_the_next() -> None:
    breaker = new_breaker()
    breaker.trip(100.0, blocked=False)
    started = []
    for now in range(100, 131):
        if breaker.probe_is_due(now):
            breaker.probe_started(now)
            started.append(now)
        if now - 15 in started:  # it times out
            breaker.probe_finished(now - 15, now)
    assert started == [101, 106, 111, 116, 121, 126]
    assert len(breaker.probing) <= PROBES_PER_LINK


def test_the_number_of_unanswered_probes_is_limited() -> None:
    breaker, started = new_breaker(), []
    breaker.trip(100.0, blocked=False)
    for now in range(100, 200):
        if breaker.probe_is_due(now):
            breaker.probe_started(now)
            started.append(now)
    assert len(started) == PROBES_PER_LINK
    breaker.probe_finished(started[0], 200.0)
    assert breaker.probe_is_due(200.0), "one has ended: there is room for the next"


def test_the_next_outage_starts_with_short_pauses() -> None:
    breaker = new_breaker()
    breaker.trip(100.0, blocked=False)
    assert [fail_probe(breaker, 100.0 + n) for n in range(4)] == [2, 4, 5, 5]
    breaker.reset(200.0)
    breaker.trip(300.0, blocked=False)
    assert breaker.next_probe == 301


@pytest.mark.field("6")
def test_a_link_that_somebody_found_down_is_probed_at_most_every_five_seconds(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    asked: list[str] = []

    def probe() -> None:
        asked.append("monitor")
        testbed.monitor.probe()

    engine = testbed.engine(outbox, probes={"monitor": probe})
    settle(engine)
    assert asked == []
    for _ in range(10):  # it was a hiccup: the link stays up
        engine.breakers.suspect("monitor")
        engine.breakers.suspect("unknown")
        settle(engine)
        testbed.time.pass_(seconds=1)
    assert len(asked) == 2
    assert engine.breakers.allows_calls("monitor")
    testbed.monitor.down = True
    testbed.time.pass_(seconds=5)
    engine.breakers.suspect("monitor")
    settle(engine)
    assert not engine.breakers.allows_calls("monitor")
    assert [outage.link for outage in outbox.outages.open()] == ["monitor"]


def test_the_time_of_the_first_probe_is_known_from_the_beginning_of_an_outage(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    with outbox.transaction():
        engine.breakers.link_changed(LinkEvent("monitor", up=False, reason="connection refused"))
    (outage,) = outbox.outages.open()
    now = testbed.time.at
    assert outage.next_probe_at
    assert now < parse_timestamp(outage.next_probe_at) <= now + timedelta(seconds=5)


def test_a_token_bucket_saves_no_tokens_and_waits_off_its_debt() -> None:
    now = 1000.0
    bucket = TokenBucket(7, lambda: now)
    now += 3600
    assert bucket.take(6)
    assert bucket.take(7), "the rest is enough to start"
    assert not bucket.take(1)
    now += 0.8
    assert not bucket.is_ready
    now += 0.2
    assert bucket.is_ready


def test_failures_of_calls_in_flight_do_not_trip_the_breaker_again() -> None:
    breaker = new_breaker()
    breaker.trip(100.0, blocked=False)
    breaker.trip(100.5, blocked=False)
    breaker.trip(101.9, blocked=False)
    assert (breaker.next_probe, breaker.failures) == (101.0, 1)


def test_a_monitor_is_up_again_while_earlier_probes_still_hang(tmp_path: Path) -> None:
    monitor = Silent()
    testbed = FakeTestbed(tmp_path, monitor=monitor)
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    with ThreadPoolExecutor(8) as pool:
        engine = testbed.engine(outbox, pool=pool)
        monitor.down = True
        turn_until(engine, lambda: not engine.busy and not engine.breakers.allows_calls("monitor"))
        monitor.down, monitor.silent = False, True
        for asking in (1, 2):
            testbed.time.pass_(seconds=MAX_PROBE_INTERVAL_S)
            turn_until(engine, lambda count=asking: monitor.asking == count)  # type: ignore[misc]
        monitor.silent = False
        testbed.time.pass_(seconds=MAX_PROBE_INTERVAL_S)
        turn_until(engine, lambda: named(outbox, name).state == "completed")
        monitor.deadline.set()
        turn_until(engine, lambda: not engine.busy)
        assert engine.breakers.allows_calls("monitor"), "the old probes started before the link came back"
    assert outbox.outages.open() == []


def test_one_probe_at_a_time_detects_within_5_s_that_the_link_is_up(testbed: FakeTestbed) -> None:
    outbox, pool = testbed.outbox(), Slow()
    engine = testbed.engine(outbox, pool=pool)
    name = testbed.receive(outbox)
    testbed.monitor.down = True
    for _ in range(40):
        engine.tick(0)
        testbed.time.pass_(seconds=10)
        assert len(pool.waiting) <= 1
        if pool.waiting:
            pool.go_on()
    up_since = testbed.time.seconds
    testbed.monitor.down = False
    while named(outbox, name).state == "sampled":
        testbed.time.pass_(seconds=0.5)
        engine.tick(0)
        pool.go_on()
        engine.tick(0)
        assert testbed.time.seconds - up_since <= 5.5


@pytest.mark.parametrize("blocked", [False, True])
def test_a_late_report_that_a_link_is_down_does_not_trip_its_breaker_for_ever(
    testbed: FakeTestbed, blocked: bool
) -> None:
    """A call fails with its link, but the engine gets the report that the link is up before the failure."""
    outbox = testbed.outbox()
    name = testbed.receive(outbox)

    late = [(LinkBlocked if blocked else LinkDown)("link lost during the call")]

    def announce(_body: str, event_id: str) -> None:
        if late:
            engine.inbox.report_link(LinkEvent("announcements", up=True))
            raise late.pop()
        testbed.announced.append(event_id)

    testbed.announce = announce  # type: ignore[method-assign]
    engine = testbed.engine(outbox)
    settle(engine)
    assert named(outbox, name).state == "tf_registered"
    testbed.time.pass_(seconds=30)
    settle(engine)
    assert named(outbox, name).state == "completed"


# What a tripped breaker stops


def test_a_tripped_breaker_stops_only_stfs_that_need_its_link(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    first = testbed.receive(outbox, 1)
    testbed.broker_is(engine, up=False)
    settle(engine)
    testbed.monitor.down = True
    second = testbed.receive(outbox, 2)
    settle(engine)
    assert (named(outbox, first).state, named(outbox, second).state) == ("tf_registered", "sampled")
    testbed.broker_is(engine, up=True)
    settle(engine)
    assert (named(outbox, first).state, named(outbox, second).state) == ("completed", "sampled")


def test_a_monitor_that_accepts_no_messages_stops_only_announcements_and_is_logged_once(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    unsupported = True

    def messages() -> None:
        if unsupported:
            raise LinkBlocked("404: this monitor accepts no messages: set FASTMON_NOTIFY=stomp")

    def announce(body: str, event_id: str) -> None:
        messages()
        type(testbed).announce(testbed, body, event_id)

    testbed.announce = announce  # type: ignore[method-assign]
    probes = {"monitor": testbed.monitor.probe, "messages": messages}
    engine = testbed.engine(outbox, links=links_for("rest"), probes=probes)
    with logged("ERROR") as errors:
        names = [testbed.receive(outbox, n) for n in range(1, 4)]
        for _ in range(50):
            settle(engine)
            testbed.time.pass_(minutes=10)
        assert {named(outbox, name).state for name in names} == {"tf_registered"}
        assert {named(outbox, name).attempts for name in names} == {0}
    assert [line for line in errors if "FASTMON_NOTIFY=stomp" in line] == errors[:1]
    assert len(errors) == 1
    assert engine.breakers.allows_calls("monitor")
    unsupported = False
    testbed.time.pass_(seconds=30)
    settle(engine)
    assert {named(outbox, name).state for name in names} == {"completed"}


def test_the_outage_of_a_link_that_is_not_needed_any_more_ends(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    with outbox.transaction():
        outbox.outages.link_lost("messages", "404", testbed.time.at, blocked=True)
    testbed.engine(outbox)
    assert outbox.outages.open() == []


# Budgets and attempts


def test_an_outage_spends_no_budget(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = TransientError("500")
    for _ in range(5):
        for _ in range(2):
            settle(engine)
            testbed.time.pass_(seconds=61)
        testbed.monitor.down = True
        for _ in range(10):
            settle(engine)
            testbed.time.pass_(hours=1)
        testbed.monitor.down = False
        settle(engine)
    assert named(outbox, name).state == "sampled"
    assert named(outbox, name).spent_s < 900
    testbed.monitor.trouble.clear()
    testbed.time.pass_(seconds=61)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_an_hour_of_429_counts_no_attempt(testbed: FakeTestbed) -> None:
    with MonitorThread("good", MonitorOptions()) as server:
        monitor = MonitorClient(server.url, lambda: "good", connections=1)
        settings = Settings(namespace="ns", selection_fraction=1.0)
        steps = make_steps(settings, "a", monitor, testbed.announce, testbed.time.clock())
        outbox = testbed.outbox()
        engine = testbed.engine(outbox, steps=steps, probes={"monitor": monitor.probe})
        server.faults(error_rate=1, error_status=429)
        names = [testbed.receive(outbox, n) for n in range(1, 4)]
        for _ in range(60):
            settle(engine)
            testbed.time.pass_(minutes=1)
        assert [(named(outbox, name).state, named(outbox, name).attempts) for name in names] == [("sampled", 0)] * 3
        [outage] = outbox.outages.open()
        assert "429" in outage.reason
        server.faults()
        settle(engine)
        assert outbox.outages.open() == []
        monitor.close()


# Blocked links and outages


def test_a_link_that_was_down_and_becomes_blocked_is_logged_again(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    testbed.monitor = monitor = FaultyMonitor()
    engine = testbed.engine(outbox)
    monitor.down = True
    testbed.receive(outbox)
    with logged("ERROR") as errors:
        settle(engine)
        monitor.down, monitor.blocked = False, True
        for _ in range(5):
            testbed.time.pass_(seconds=30)
            settle(engine)
    assert [line.strip() for line in errors] == [
        f"link to the monitor is down: monitor unreachable: {remedy_if_down('monitor', '')}",
        "link to the monitor is blocked: 401: set SWF_API_TOKEN",
    ]
    assert [(outage.blocked, outage.ended_at) for outage in outbox.outages.open()] == [(True, None)]


@pytest.mark.field("27a")
def test_a_link_on_trial_is_told_as_up_only_when_a_call_succeeded(testbed: FakeTestbed) -> None:
    """Classic with a full disk rejects each announcement, but nothing before it."""
    outbox = testbed.outbox()
    breakers = testbed.breakers(outbox)

    def report(**event: Any) -> None:
        with outbox.transaction():
            breakers.link_changed(LinkEvent(ANNOUNCEMENTS, **event))

    with logged("INFO") as lines:
        report(up=True)
        for _ in range(3):
            report(up=False, blocked=True, reason="No space left on device")
            assert not breakers.allows_calls(ANNOUNCEMENTS)
            testbed.time.pass_(seconds=30)
            report(up=True, on_trial=True)
            assert breakers.allows_calls(ANNOUNCEMENTS)
            [outage] = outbox.outages.latest(10)
            assert (outage.blocked, outage.ended_at) == (True, None)
        report(up=True)
    [outage] = outbox.outages.latest(10)
    assert outage.ended_at is not None
    told = [re.findall(r"announcements is (\w+)", line) for line in lines]
    assert told == [["up"], ["blocked"], ["up"]]


@pytest.mark.field("19")
@pytest.mark.parametrize(
    ("reason", "remedy"),
    [("connection refused", "start the broker"), ("Too many open files", "(ulimit -n; LimitNOFILE=")],
)
def test_the_remedy_of_a_link_that_is_down_fits_its_reason(testbed: FakeTestbed, reason: str, remedy: str) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    engine.inbox.report_link(LinkEvent("broker", up=False, reason=reason))
    with logged("ERROR") as errors:
        settle(engine)
    (line,) = errors
    assert line.startswith(f"link to the broker is down: {reason}: ")
    assert remedy in line
    assert ("start the broker" in line) == (remedy == "start the broker")


def test_a_blocked_link_is_not_logged_as_an_error_again_after_a_restart(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    testbed.monitor = monitor = FaultyMonitor()
    monitor.blocked = True
    testbed.receive(outbox)
    settle(testbed.engine(outbox))
    with logged("ERROR") as errors:
        again = testbed.engine(outbox)
        for _ in range(3):
            settle(again)
            testbed.time.pass_(seconds=MAX_BLOCKED_PROBE_INTERVAL_S)
    assert errors == []
    assert [(outage.blocked, outage.ended_at) for outage in outbox.outages.open()] == [(True, None)]


def test_a_token_that_is_fixed_in_its_file_is_used_without_a_restart(testbed: FakeTestbed) -> None:
    token = testbed.folder / "token"
    token.write_text("revoked")
    read = SecretReader({"SWF_API_TOKEN_FILE": str(token)}, "SWF_API_TOKEN", "revoked", SecretRedactor())
    with MonitorThread("good", MonitorOptions()) as server:
        monitor = MonitorClient(server.url, read, connections=1)
        settings = Settings(namespace="ns", selection_fraction=1.0)
        steps = make_steps(settings, "a", monitor, testbed.announce, testbed.time.clock())
        outbox = testbed.outbox()
        engine = testbed.engine(outbox, steps=steps, probes={"monitor": monitor.probe})
        name = testbed.receive(outbox)
        settle(engine)
        assert [outage.blocked for outage in outbox.outages.open()] == [True]
        assert "SWF_API_TOKEN" in outbox.outages.open()[0].reason
        token.write_text("good\n")
        testbed.time.pass_(seconds=MAX_BLOCKED_PROBE_INTERVAL_S)
        settle(engine)
        assert outbox.outages.open() == []
        assert named(outbox, name).last_error is not None  # the STF is not registered: its own fault
        monitor.close()


def test_an_outage_is_stored_with_its_window(testbed: FakeTestbed) -> None:
    outbox: Outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    testbed.receive(outbox)
    testbed.monitor.down = True
    settle(engine)
    testbed.time.pass_(hours=2)
    testbed.monitor.down = False
    settle(engine)
    [outage] = outbox.outages.latest(10)
    assert outage.ended_at is not None
    assert outage.began_at < outage.ended_at


def test_the_end_of_an_outage_is_logged_with_how_often_it_was_tried(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    with closing(testbed.outbox()) as outbox, logged() as lines:
        engine = testbed.engine(outbox)
        testbed.monitor.down = True
        testbed.receive(outbox)
        settle(engine)
        for _ in range(5):
            testbed.time.pass_(seconds=MAX_PROBE_INTERVAL_S + 1)
            settle(engine)
        testbed.monitor.down = False
        testbed.time.pass_(seconds=MAX_PROBE_INTERVAL_S + 1)
        settle(engine)
    said = [line.rstrip() for line in lines if "link to the monitor" in line]
    assert len(said) == 2
    assert said[0].startswith("link to the monitor is down: ")
    assert re.fullmatch(r"link to the monitor is up \([5-7] probes failed\)", said[1]), said

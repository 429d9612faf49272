"""Which results share a transaction, and how long they wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base import failpoints
from fastmon_daemon.base.errors import DaemonStops, StorageUnavailable, TransientError
from fastmon_daemon.engine import Engine
from fastmon_daemon.engine.engine import GROUP_S, MAX_CLAIMS, SPARE_S
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, Slow, named, settle


@contextmanager
def commits() -> Iterator[list[str]]:
    """The commits inside the block."""
    found: list[str] = []
    failpoints.set_hook(lambda name: found.append(name) if name == "before_commit" else None)
    try:
        yield found
    finally:
        failpoints.set_hook(None)


def registered(outbox: Outbox, name: str) -> int:
    return sum(tf.registered_at is not None for tf in named(outbox, name).tfs)


def test_an_stf_alone_takes_a_transaction_for_each_state_that_others_may_rely_on(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, workers=8)
    name = testbed.receive(outbox)
    with commits() as found:
        settle(engine)
    assert named(outbox, name).state == "completed"
    assert len(found) == 3, "sampled; registered; announced and completed"


def test_stfs_in_a_row_share_their_transactions(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, workers=8)
    names = [testbed.receive(outbox, n) for n in range(1, 41)]
    with commits() as found:
        settle(engine)
    assert {named(outbox, name).state for name in names} == {"completed"}
    assert len(found) <= len(names)


def slow_engine(testbed: FakeTestbed) -> tuple[Outbox, Slow, Engine]:
    outbox, pool = testbed.outbox(), Slow()
    return outbox, pool, testbed.engine(outbox, workers=16, pool=pool)


def answer(pool: Slow, count: int) -> None:
    """Let *count* of the calls in flight come back."""
    pool.waiting, kept = pool.waiting[:count], pool.waiting[count:]
    pool.go_on()
    pool.waiting += kept


def test_a_result_for_which_no_stf_waits_is_stored_a_moment_later(testbed: FakeTestbed) -> None:
    outbox, pool, engine = slow_engine(testbed)
    name = testbed.receive(outbox)
    engine.tick(0)
    answer(pool, 1)
    engine.tick(0)
    assert len(pool.waiting) == 6, "the others start before the first is stored"
    assert registered(outbox, name) == 0
    testbed.time.pass_(seconds=SPARE_S)
    engine.tick(0)
    assert registered(outbox, name) == 1


def test_an_stf_that_goes_on_waits_a_few_milliseconds_for_others(testbed: FakeTestbed) -> None:
    outbox, pool, engine = slow_engine(testbed)
    one, other = testbed.receive(outbox, 1), testbed.receive(outbox, 2)
    engine.tick(0)
    answer(pool, 2)
    engine.tick(0)
    answer(pool, 6)
    engine.tick(0)
    assert named(outbox, other).state == named(outbox, one).state == "sampled"
    testbed.time.pass_(seconds=GROUP_S)
    engine.tick(0)
    assert {named(outbox, other).state, named(outbox, one).state} == {"sampled", "tf_registered"}
    answer(pool, 100)
    engine.tick(0)
    assert {named(outbox, other).state, named(outbox, one).state} == {"tf_registered", "completed"}, "nothing in flight"


def test_a_failure_is_stored_at_once(testbed: FakeTestbed) -> None:
    outbox, pool, engine = slow_engine(testbed)
    good, bad = testbed.receive(outbox, 1), testbed.receive(outbox, 2)
    testbed.monitor.trouble[bad] = TransientError("500, and no such row")
    engine.tick(0)
    pool.waiting.sort(key=lambda call: call[1][0].stf.filename != bad)
    answer(pool, 1)
    engine.tick(0)
    assert (named(outbox, good).attempts, named(outbox, bad).attempts) == (0, 1)


def test_a_drain_stores_at_once(testbed: FakeTestbed) -> None:
    outbox, pool, engine = slow_engine(testbed)
    names = [testbed.receive(outbox, n) for n in (1, 2)]
    engine.tick(0)
    answer(pool, 1)
    engine.stopping.set()
    engine.tick(0)
    assert sum(registered(outbox, name) for name in names) == 1


def test_a_failed_action_undoes_only_what_it_wrote_itself(testbed: FakeTestbed) -> None:
    outbox, pool, engine = slow_engine(testbed)
    name = testbed.receive(outbox)
    engine.tick(0)
    answer(pool, 1)

    def write(value: str) -> Any:
        def action(outbox: Outbox, _now: datetime) -> str:
            outbox.remember(value, value)
            if value == "bad":
                raise ValueError("no")
            return value

        return action

    answers = [engine.inbox.submit(write(value)) for value in ("one", "bad", "two")]
    with commits() as found:
        engine.tick(0)
        testbed.time.pass_(seconds=GROUP_S)
        engine.tick(0)
    assert len(found) == 1
    assert (answers[0].result(0), answers[2].result(0)) == ("one", "two")
    with pytest.raises(ValueError, match="no"):
        answers[1].result(0)
    assert [outbox.recall(value) for value in ("one", "bad", "two")] == ["one", None, "two"]
    assert registered(outbox, name) == 1


def test_actions_that_may_wait_share_a_transaction_while_nothing_is_in_flight(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)

    def submit(key: str, **options: bool) -> Future[Any]:
        return engine.inbox.submit(lambda outbox, _now: outbox.remember(key, key), **options)

    with commits() as found:
        first = submit("one", may_wait=True)
        engine.tick(0)
        testbed.time.pass_(seconds=SPARE_S / 2)
        second = submit("two", may_wait=True)
        engine.tick(0)
        assert (first.done(), second.done(), found) == (False, False, [])
        testbed.time.pass_(seconds=SPARE_S / 2)
        engine.tick(0)
        assert (first.done(), second.done(), len(found)) == (True, True, 1)
        submit("three", may_wait=True)
        urgent = submit("four")
        engine.tick(0)
        assert (urgent.done(), len(found)) == (True, 2)


def test_an_action_whose_transaction_is_not_committed_fails(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    outbox, db = testbed.outbox_and_connection()
    engine = testbed.engine(outbox)
    answered = engine.inbox.submit(lambda outbox, _now: outbox.remember("key", "value"))
    db.execute("pragma query_only = on")
    engine.tick(0)
    assert answered.exception(0) is not None
    assert engine.fault
    db.execute("pragma query_only = off")
    assert outbox.recall("key") is None


def test_an_action_that_meets_an_unwritable_database_fails_as_if_it_were_alone(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    outbox, db = testbed.outbox_and_connection()
    engine = testbed.engine(outbox)

    def write(outbox: Outbox, _now: datetime) -> None:
        db.execute("pragma query_only = on")
        try:
            outbox.remember("key", "value")
        finally:
            db.execute("pragma query_only = off")

    answered = engine.inbox.submit(write)
    other = engine.inbox.submit(lambda outbox, _now: outbox.remember("other", "value"))
    engine.tick(0)
    assert isinstance(answered.exception(0), StorageUnavailable)
    assert (other.exception(0), outbox.recall("key"), outbox.recall("other")) == (None, None, "value")


def test_thousands_of_skipped_stfs_do_not_make_one_transaction(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path, settings=Settings(namespace="ns", selection_fraction=0.0))
    outbox = testbed.outbox()
    for n in range(1, MAX_CLAIMS + 3):
        testbed.receive(outbox, n)
    engine = testbed.engine(outbox)
    engine.tick(0)
    assert outbox.counts_by_state() == {"received": 2, "skipped": MAX_CLAIMS}
    engine.tick(60)
    assert outbox.counts_by_state() == {"skipped": MAX_CLAIMS + 2}


def test_results_that_arrive_while_the_database_is_not_writable_do_not_make_the_loop_spin(tmp_path: Path) -> None:
    testbed, pool, waits = FakeTestbed(tmp_path), Slow(), list[float]()
    outbox, db = testbed.outbox_and_connection()
    engine = testbed.engine(outbox, workers=16, pool=pool)
    testbed.receive(outbox)
    engine.tick(0)
    answer(pool, 1)
    engine.tick(0)
    db.execute("pragma query_only = on")
    answer(pool, 1)
    testbed.time.pass_(seconds=SPARE_S)
    engine.tick(0)
    assert engine.fault
    answer(pool, 5)
    engine.tick(0)
    collect = engine.inbox.collect
    engine.inbox.collect = lambda wait_s: waits.append(wait_s) or collect(0)  # type: ignore[method-assign,func-returns-value]
    engine.tick()
    assert waits == [pytest.approx(1.0)]


def stored_by(engine: Engine, outbox: Outbox) -> MessageHandler:
    """A handler whose messages the engine's thread stores."""
    charts = load_statechart("stf"), load_statechart("run")
    return MessageHandler(outbox.path, "ns", "me", charts, submit=engine.inbox.submit)


def begin(handler: MessageHandler, sequence: int) -> Future[Any]:
    store = handler.prepare(
        f'{{"msg_type": "stf_ready", "namespace": "ns", "run_id": 100014, "filename": "swf.100014.{sequence:06d}.stf"}}'
    )
    assert store is not None
    return store()


def test_messages_that_arrive_together_and_the_start_of_their_stfs_share_a_transaction(testbed: FakeTestbed) -> None:
    outbox, _, engine = slow_engine(testbed)
    handler = stored_by(engine, outbox)
    begun = [begin(handler, n) for n in range(1, 6)]
    assert not any(each.done() for each in begun)
    with commits() as found:
        engine.tick(0)
    assert all(each.done() for each in begun)
    assert len(found) == 1
    assert {stf.state for stf in outbox.find()} == {"sampled"}
    assert handler.runs.get("ns", "100014").is_stored


def test_messages_whose_transaction_fails_are_not_stored_and_what_they_count_is_kept(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    handler = stored_by(engine, outbox)
    assert handler.prepare('{"msg_type": "another"}') is None
    begun = [begin(handler, n) for n in (1, 2)]

    def full(name: str) -> None:
        if name == "before_commit":
            raise StorageUnavailable("disk full")

    failpoints.set_hook(full)
    engine.tick(0)
    failpoints.set_hook(None)
    assert [type(each.exception()) for each in begun] == [StorageUnavailable] * 2
    assert not handler.runs.get("ns", "100014").is_stored
    assert outbox.find() == []
    begin(handler, 1)
    engine.tick(0)
    assert [stf.filename for stf in outbox.find()] == ["swf.100014.000001.stf"]
    assert outbox.counters()["ignored_type"] == 1


def test_after_the_last_tick_a_message_is_left_to_the_next_process(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    handler = stored_by(engine, outbox)
    waiting = begin(handler, 1)
    engine.inbox.close()
    assert [type(each.exception()) for each in (waiting, begin(handler, 2))] == [DaemonStops] * 2
    engine.tick(0)
    assert outbox.find() == []

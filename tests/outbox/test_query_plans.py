"""No statement on the path of an STF, beside it, or behind `inspect` reads the STFs that wait."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlite_utils import Database

from fastmon_daemon.base.errors import TransientError
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.presence.assessment import assessment_rule, take_snapshot
from fastmon_daemon.settings import Settings
from tests.builders import START, FakeTestbed, settle

LONG_TABLES = "stf|tf|history|pruned|file_seen"
OWED = re.compile(r"SCAN history USING( COVERING)? INDEX history_owed")
"""The index has only the transitions that are pending."""


@contextmanager
def statements(db: Database) -> Iterator[set[str]]:
    """The statements that run on the connection inside the block."""
    found: set[str] = set()
    db.conn.set_trace_callback(found.add)
    try:
        yield found
    finally:
        db.conn.set_trace_callback(None)


def slow_steps(db: Database, statement: str) -> list[str]:
    """The steps of a statement that read a whole table that may be long, or sort."""
    if not re.match(r"\s*(select|insert|update|delete|with)", statement):
        return []
    steps = [row[3] for row in db.execute(f"explain query plan {statement}").fetchall()]
    is_long = any(re.match(rf"(SCAN|SEARCH) ({LONG_TABLES})\b", step) for step in steps)
    scans = [step for step in steps if re.match(rf"SCAN ({LONG_TABLES})\b", step) and not OWED.match(step)]
    return scans + [step for step in steps if is_long and "TEMP B-TREE" in step]


def process(outbox: Outbox, testbed: FakeTestbed) -> None:
    """STFs that are completed, retried, postponed, late, and due while others are limited."""
    engine = testbed.engine(outbox, late_rate=7.0)
    failing = testbed.receive(outbox, 1)
    testbed.monitor.trouble[failing] = TransientError("500, and no such row")
    for n in range(2, 6):
        testbed.receive(outbox, n, born_at=START - timedelta(hours=n))
    for _ in range(40):
        engine.tick(0)
    testbed.monitor.trouble.clear()
    for _ in range(20):
        testbed.time.pass_(seconds=61)
        engine.tick(0)
    settle(engine)


def report(outbox: Outbox, testbed: FakeTestbed) -> None:
    """The reads and writes of the stage reporter."""
    process(outbox, testbed)
    stfs, _ = outbox.stages.pending(0, 200)
    pending = outbox.stages.report(stfs[0])
    assert pending is not None
    with outbox.transaction():
        outbox.stages.set_workflow(stfs[0], "workflow")
        outbox.stages.set_stage(stfs[0], "stage")
        outbox.stages.mark_reported(stfs[0], pending.pending[-1], START)
    outbox.stages.count_pending()


def assess(outbox: Outbox, testbed: FakeTestbed) -> None:
    """What heart-beat, status, `/metrics` and `inspect` ask, while STFs wait and one failed."""
    process(outbox, testbed)
    with outbox.transaction():
        outbox.runs.record_message("ns", 100014, "ended", START, None)
    testbed.receive(outbox, 9)
    rule, now = assessment_rule(lambda name: getattr(Settings(namespace="ns"), name)), START + timedelta(days=1)
    take_snapshot(outbox, rule, now, daemon_runs=True, process=None)
    inspector = Inspector(outbox, InspectionContext(rule=rule, now=now, daemon=1))
    assert inspector.overview()["stuck_count"] == 1


def compare(outbox: Outbox, testbed: FakeTestbed) -> None:
    """What a poll of a run asks, and the engine when its answer has come."""
    process(outbox, testbed)
    states = ["received", "completed"]
    for n in range(30):  # the traced statements contain the names
        assert outbox.runs.unknown_names("ns", "100014", [f"{n}.stf"]) == {f"{n}.stf"}
    assert len(outbox.runs.unlisted_names("ns", "100014", states, testbed.time.at, ())) == 5


@pytest.mark.parametrize("work", [process, report, assess, compare])
def test_no_statement_scans_or_sorts_what_waits(tmp_path: Path, work: Callable[[Outbox, FakeTestbed], None]) -> None:
    testbed = FakeTestbed(tmp_path)
    outbox, db = testbed.outbox_and_connection()
    with statements(db) as found:
        work(outbox, testbed)
    assert len(found) > 50
    assert {statement: steps for statement in found if (steps := slow_steps(db, statement))} == {}


def test_the_rule_finds_a_scan_and_a_sort(tmp_path: Path) -> None:
    _, db = FakeTestbed(tmp_path).outbox_and_connection()
    assert slow_steps(db, "select * from stf where origin = 'file'")
    assert slow_steps(db, "select * from history where reported_at is null order by note")
    assert not slow_steps(db, "select * from stf where id = 1")


def test_what_is_done_is_found_without_reading_finalized_stfs(tmp_path: Path) -> None:
    """It reads the index of those that wait, four times a minute: their rows only if there is one."""
    testbed = FakeTestbed(tmp_path)
    outbox, db = testbed.outbox_and_connection()
    with statements(db) as found:
        outbox.done_before(START)
    (plan,) = ([row[3] for row in db.execute(f"explain query plan {each}").fetchall()] for each in found)
    assert [re.sub("^(SCAN|SEARCH) ", "", step) for step in plan] == [
        "stf USING INTEGER PRIMARY KEY (rowid=?)", "SCALAR SUBQUERY 1", "stf USING COVERING INDEX stf_due"
    ]  # fmt: skip

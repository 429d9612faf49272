"""Retention: complete runs are pruned after some days in small batches, and no pruned STF counts as new again."""

from __future__ import annotations

import json
from concurrent.futures import Executor, Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.cli import cli
from fastmon_daemon.engine import Engine, LinkEvent
from fastmon_daemon.messages import RunEvent, parse
from fastmon_daemon.outbox import NewStf, Outbox, ReceiveOutcome, check_database
from fastmon_daemon.outbox.pruner import BATCH_SIZE, Pruner
from fastmon_daemon.reconciler.verdict import judge
from fastmon_daemon.runs.run_events import record_run_event
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, named, query, settle

CHARTS = (load_statechart("stf"), load_statechart("run"))
RUN = "100014"


@pytest.fixture
def testbed(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path)


def engine(testbed: FakeTestbed, outbox: Outbox, keep_days: float = 7) -> Engine:
    return testbed.engine(outbox, spare=Pruner(keep_days, *CHARTS).prune)


def complete(testbed: FakeTestbed, outbox: Outbox, stfs: int, state: str = "complete") -> list[str]:
    """A run with *stfs* finished STFs that ended now."""
    names = [testbed.receive(outbox, n) for n in range(1, stfs + 1)]
    settle(engine(testbed, outbox), ticks=2000)
    with outbox.transaction():
        outbox.runs.record_message("ns", RUN, state, testbed.time.at, None)
        row = outbox.runs.get("ns", RUN)
        assert row is not None
        outbox.runs.expect(row, stfs, "end_run")
        outbox.runs.set_state(row, state, ended_at=testbed.time.at)
    return names


def tick(testbed: FakeTestbed, driven: Engine, count: int = 20) -> None:
    for _ in range(count):
        driven.tick(0)
        testbed.time.pass_(minutes=2)


def stf_count(outbox: Outbox) -> int:
    return sum(outbox.counts_by_state().values())


def test_a_complete_run_is_pruned_after_keep_days_and_keeps_its_names_and_counts(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    names = complete(testbed, outbox, 10)
    driven = engine(testbed, outbox)
    testbed.time.pass_(days=6, hours=23)
    tick(testbed, driven)
    assert stf_count(outbox) == 10
    testbed.time.pass_(hours=2)
    tick(testbed, driven)
    assert stf_count(outbox) == 0
    for table in ("tf", "history"):
        assert query(outbox.path, f"select count(*) from {table}") == [(0,)]
    row = outbox.runs.get("ns", RUN)
    assert row is not None
    assert (row.state, row.expected) == ("complete", 10)
    assert outbox.runs.unknown_names("ns", RUN, [*names, "other.stf"]) == {"other.stf"}
    (pruned,) = outbox.retention.runs()
    assert (pruned.states, pruned.tf_files) == ({"completed": 10}, 70)
    assert check_database(outbox.path, *CHARTS) == []


def test_a_redelivered_pruned_stf_is_known_and_not_processed_again(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = complete(testbed, outbox, 1)[0]
    driven = engine(testbed, outbox)
    testbed.time.pass_(days=8)
    tick(testbed, driven)
    new = NewStf(namespace="ns", run_id=RUN, filename=name)
    with outbox.transaction():
        assert outbox.receive(new, "received", testbed.time.at) is ReceiveOutcome.KNOWN
    tick(testbed, driven)
    assert stf_count(outbox) == 0
    assert testbed.monitor.posts.total() == 7
    other = NewStf(namespace="ns", run_id="100015", filename=name)
    with outbox.transaction():
        assert outbox.receive(other, "received", testbed.time.at) is ReceiveOutcome.FRESH


def test_a_run_with_a_failed_or_unfinished_stf_is_not_pruned(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    testbed.monitor.trouble["swf.100014.000002.stf"] = PermanentError("monitor said 400")
    names = complete(testbed, outbox, 3)
    assert named(outbox, names[1]).state == "failed"
    driven = engine(testbed, outbox)
    testbed.time.pass_(days=8)
    tick(testbed, driven)
    assert stf_count(outbox) == 3
    with outbox.transaction():
        outbox.move(named(outbox, names[1]), "discard", "discarded", testbed.time.at, finalized=True)
    tick(testbed, driven)
    assert stf_count(outbox) == 0
    assert outbox.retention.runs()[0].states == {"completed": 2, "discarded": 1}


@pytest.mark.parametrize(("state", "keep_days"), [("ended", 7), ("running", 7), ("complete", 0)])
def test_an_incomplete_run_is_never_pruned_and_keep_days_0_prunes_none(
    testbed: FakeTestbed, state: str, keep_days: float
) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, 1, state)
    testbed.time.pass_(days=1000)
    tick(testbed, engine(testbed, outbox, keep_days))
    assert stf_count(outbox) == 1


def test_each_tick_prunes_one_batch_and_pruning_continues_after_a_restart(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, BATCH_SIZE + 5)
    testbed.time.pass_(days=8)
    engine(testbed, outbox).tick(0)
    assert stf_count(outbox) == 5
    outbox.close()
    outbox = testbed.outbox()
    engine(testbed, outbox).tick(0)
    assert stf_count(outbox) == 0
    assert outbox.retention.runs()[0].states == {"completed": BATCH_SIZE + 5}


def test_a_run_that_begins_again_while_it_is_pruned_is_kept(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, BATCH_SIZE + 5)
    testbed.time.pass_(days=8)
    driven = engine(testbed, outbox)
    driven.tick(0)
    assert stf_count(outbox) == 5
    with outbox.transaction():
        outbox.delete_run(RUN, "ns", 100)
    complete(testbed, outbox, 5, "running")
    tick(testbed, driven)
    assert stf_count(outbox) == 5


def test_pruning_stops_when_an_stf_of_the_run_fails_meanwhile(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, BATCH_SIZE + 5)
    testbed.time.pass_(days=8)
    driven = engine(testbed, outbox)
    driven.tick(0)
    late = testbed.receive(outbox, 99)
    testbed.monitor.trouble[late] = PermanentError("monitor said 400")
    tick(testbed, driven)
    assert stf_count(outbox) == 6


def test_old_runs_are_looked_for_once_a_minute_and_directly_after_a_pruned_run(testbed: FakeTestbed) -> None:
    outbox, connection = testbed.outbox_and_connection()
    complete(testbed, outbox, 3)
    driven = engine(testbed, outbox, keep_days=1)
    testbed.time.pass_(days=1, seconds=-30)
    driven.tick(0)  # not old yet
    testbed.time.pass_(seconds=59)
    driven.tick(0)
    assert stf_count(outbox) == 3
    with outbox.transaction():
        outbox.runs.record_message("ns", "100015", "complete", testbed.time.at - timedelta(days=2), None)
        outbox.receive(NewStf(namespace="ns", run_id="100015", filename="a.stf"), "completed", testbed.time.at)
        connection.execute("update stf set due_at = null")
    testbed.time.pass_(seconds=1)
    driven.tick(0)
    driven.tick(0)
    assert stf_count(outbox) == 0


def test_a_pruned_run_that_expects_more_stfs_is_not_complete_any_more(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, 10)
    row = outbox.runs.get("ns", RUN)
    assert row is not None
    with outbox.transaction():
        outbox.runs.save_verdict(row, judge(outbox.runs, row, CHARTS, testbed.time.at).as_json())
    testbed.time.pass_(days=8)
    tick(testbed, engine(testbed, outbox))
    assert judge(outbox.runs, row, CHARTS, testbed.time.at).complete
    event = parse(json.dumps({"msg_type": "end_run", "run_id": RUN, "total_stf_files": 12}), namespace="ns")
    assert isinstance(event, RunEvent)
    with outbox.transaction():
        row = record_run_event(outbox, CHARTS[1], event, "ns", testbed.time.at)
    verdict = judge(outbox.runs, row, CHARTS, testbed.time.at)
    assert (verdict.complete, verdict.state, verdict.expected, verdict.completed, verdict.missing) == (
        False,
        "ended",
        12,
        10,
        2,
    )


def test_nothing_is_pruned_while_work_is_in_flight(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, 3)
    testbed.time.pass_(days=8)
    driven = engine(testbed, outbox)
    with outbox.transaction():
        outbox.receive(NewStf(namespace="ns", run_id="2", filename="swf.2.000001.stf"), "received", testbed.time.at)
    driven.tick(0)
    assert stf_count(outbox) == 4
    settle(driven)
    driven.tick(0)
    assert stf_count(outbox) == 1


def test_a_probe_without_an_answer_does_not_stop_pruning(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, 3)
    testbed.time.pass_(days=8)
    driven = testbed.engine(outbox, pool=UnansweringPool(), spare=Pruner(7, *CHARTS).prune)
    driven.inbox.report_link(LinkEvent("monitor", up=False, reason="no answer"))
    driven.tick(0)
    testbed.time.pass_(seconds=10)
    driven.tick(0)
    assert driven.busy == 1
    driven.tick(0)
    assert stf_count(outbox) == 0


class UnansweringPool(Executor):
    """A pool whose calls never end."""

    def submit(self, *_args: Any, **_kwargs: Any) -> Future[Any]:
        return Future()


def test_free_pages_are_used_again(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    complete(testbed, outbox, 30)
    testbed.time.pass_(days=8)
    tick(testbed, engine(testbed, outbox))
    pages, free = (query(outbox.path, f"pragma {what}")[0][0] for what in ("page_count", "freelist_count"))
    assert free > 0
    for n in range(1000, 1010):
        testbed.receive(outbox, n, body="x" * 3000)
    assert query(outbox.path, "pragma page_count")[0][0] == pages
    assert query(outbox.path, "pragma freelist_count")[0][0] < free


def test_inspect_reports_a_pruned_run_and_delete_run_deletes_its_names(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = complete(testbed, outbox, 2)[0]
    testbed.time.pass_(days=8)
    tick(testbed, engine(testbed, outbox))
    inspected = CliRunner().invoke(cli, ["inspect", "--db", str(outbox.path), "--json"])
    assert json.loads(inspected.stdout)["runs"][0]["pruned"]["states"] == {"completed": 2}
    assert ": 2 completed, 14 TF files" in CliRunner().invoke(cli, ["inspect", "--db", str(outbox.path)]).stdout
    inspected = CliRunner().invoke(cli, ["inspect", "--db", str(outbox.path), name])
    assert inspected.exit_code == 3
    assert "was pruned with run" in inspected.output
    with outbox.transaction():
        outbox.delete_run(RUN, "ns", 100)
        assert outbox.receive(NewStf(namespace="ns", run_id=RUN, filename=name), "received", testbed.time.at) is (
            ReceiveOutcome.FRESH
        )


def test_a_run_that_is_not_claimed_is_pruned_after_its_last_message(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    with outbox.transaction():
        outbox.runs.record_message("ns", RUN, "running", testbed.time.at, None, claims=False)
    driven = engine(testbed, outbox)
    settle(driven)
    testbed.time.pass_(days=6)
    tick(testbed, driven)
    assert stf_count(outbox) == 1
    testbed.time.pass_(days=2)
    tick(testbed, driven)
    assert stf_count(outbox) == 0
    row = outbox.runs.get("ns", RUN)
    assert row is not None
    assert outbox.runs.unknown_names("ns", RUN, [name]) == set()

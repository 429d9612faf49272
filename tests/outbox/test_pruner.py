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
from tests.builders import World, named, query, settle

CHARTS = (load_statechart("stf"), load_statechart("run"))
RUN = "100014"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def engine(world: World, outbox: Outbox, keep_days: float = 7) -> Engine:
    return world.engine(outbox, spare=Pruner(keep_days, *CHARTS).prune)


def complete(world: World, outbox: Outbox, stfs: int, state: str = "complete") -> list[str]:
    """A run with *stfs* finished STFs that ended now."""
    names = [world.receive(outbox, n) for n in range(1, stfs + 1)]
    settle(engine(world, outbox), ticks=2000)
    with outbox.transaction():
        outbox.runs.record_message("ns", RUN, state, world.time.at, None)
        row = outbox.runs.get("ns", RUN)
        assert row is not None
        outbox.runs.expect(row, stfs, "end_run")
        outbox.runs.set_state(row, state, ended_at=world.time.at)
    return names


def tick(world: World, driven: Engine, count: int = 20) -> None:
    for _ in range(count):
        driven.tick(0)
        world.time.pass_(minutes=2)


def stf_count(outbox: Outbox) -> int:
    return sum(outbox.reports.counts_by_state().values())


def test_a_complete_run_is_pruned_after_keep_days_and_keeps_its_names_and_counts(world: World) -> None:
    outbox = world.outbox()
    names = complete(world, outbox, 10)
    driven = engine(world, outbox)
    world.time.pass_(days=6, hours=23)
    tick(world, driven)
    assert stf_count(outbox) == 10
    world.time.pass_(hours=2)
    tick(world, driven)
    assert stf_count(outbox) == 0
    for table in ("tf", "history"):
        assert query(outbox.path, f"select count(*) from {table}") == [(0,)]
    row = outbox.runs.get("ns", RUN)
    assert row is not None
    assert (row.state, row.expected) == ("complete", 10)
    assert outbox.runs.known_names(row) == set(names)
    (pruned,) = outbox.reports.pruned_runs()
    assert (pruned.states, pruned.tf_files) == ({"completed": 10}, 70)
    assert check_database(outbox.path, *CHARTS) == []


def test_a_redelivered_pruned_stf_is_known_and_not_processed_again(world: World) -> None:
    outbox = world.outbox()
    name = complete(world, outbox, 1)[0]
    driven = engine(world, outbox)
    world.time.pass_(days=8)
    tick(world, driven)
    new = NewStf(namespace="ns", run_id=RUN, filename=name)
    with outbox.transaction():
        assert outbox.receive(new, "received", world.time.at) is ReceiveOutcome.KNOWN
    tick(world, driven)
    assert stf_count(outbox) == 0
    assert world.monitor.posts.total() == 7
    other = NewStf(namespace="ns", run_id="100015", filename=name)
    with outbox.transaction():
        assert outbox.receive(other, "received", world.time.at) is ReceiveOutcome.FRESH


def test_a_run_with_a_failed_or_unfinished_stf_is_not_pruned(world: World) -> None:
    outbox = world.outbox()
    world.monitor.trouble["swf.100014.000002.stf"] = PermanentError("monitor said 400")
    names = complete(world, outbox, 3)
    assert named(outbox, names[1]).state == "failed"
    driven = engine(world, outbox)
    world.time.pass_(days=8)
    tick(world, driven)
    assert stf_count(outbox) == 3
    with outbox.transaction():
        outbox.move(named(outbox, names[1]), "discard", "discarded", world.time.at, finalized=True)
    tick(world, driven)
    assert stf_count(outbox) == 0
    assert outbox.reports.pruned_runs()[0].states == {"completed": 2, "discarded": 1}


@pytest.mark.parametrize(("state", "keep_days"), [("ended", 7), ("running", 7), ("complete", 0)])
def test_an_incomplete_run_is_never_pruned_and_keep_days_0_prunes_none(
    world: World, state: str, keep_days: float
) -> None:
    outbox = world.outbox()
    complete(world, outbox, 1, state)
    world.time.pass_(days=1000)
    tick(world, engine(world, outbox, keep_days))
    assert stf_count(outbox) == 1


def test_each_tick_prunes_one_batch_and_pruning_continues_after_a_restart(world: World) -> None:
    outbox = world.outbox()
    complete(world, outbox, BATCH_SIZE + 5)
    world.time.pass_(days=8)
    engine(world, outbox).tick(0)
    assert stf_count(outbox) == 5
    outbox.close()
    outbox = world.outbox()
    engine(world, outbox).tick(0)
    assert stf_count(outbox) == 0
    assert outbox.reports.pruned_runs()[0].states == {"completed": BATCH_SIZE + 5}


def test_a_run_that_begins_again_while_it_is_pruned_is_kept(world: World) -> None:
    outbox = world.outbox()
    complete(world, outbox, BATCH_SIZE + 5)
    world.time.pass_(days=8)
    driven = engine(world, outbox)
    driven.tick(0)
    assert stf_count(outbox) == 5
    with outbox.transaction():
        outbox.delete_stfs(RUN, "ns", 100)
        outbox.delete_run(RUN, "ns")
    complete(world, outbox, 5, "running")
    tick(world, driven)
    assert stf_count(outbox) == 5


def test_pruning_stops_when_an_stf_of_the_run_fails_meanwhile(world: World) -> None:
    outbox = world.outbox()
    complete(world, outbox, BATCH_SIZE + 5)
    world.time.pass_(days=8)
    driven = engine(world, outbox)
    driven.tick(0)
    late = world.receive(outbox, 99)
    world.monitor.trouble[late] = PermanentError("monitor said 400")
    tick(world, driven)
    assert stf_count(outbox) == 6


def test_old_runs_are_looked_for_once_a_minute_and_directly_after_a_pruned_run(world: World) -> None:
    outbox, connection = world.outbox_and_connection()
    complete(world, outbox, 3)
    driven = engine(world, outbox, keep_days=1)
    world.time.pass_(days=1, seconds=-30)
    driven.tick(0)  # not old yet
    world.time.pass_(seconds=59)
    driven.tick(0)
    assert stf_count(outbox) == 3
    with outbox.transaction():
        outbox.runs.record_message("ns", "100015", "complete", world.time.at - timedelta(days=2), None)
        outbox.receive(NewStf(namespace="ns", run_id="100015", filename="a.stf"), "completed", world.time.at)
        connection.execute("update stf set due_at = null")
    world.time.pass_(seconds=1)
    driven.tick(0)
    driven.tick(0)
    assert stf_count(outbox) == 0


def test_a_pruned_run_that_expects_more_stfs_is_not_complete_any_more(world: World) -> None:
    outbox = world.outbox()
    complete(world, outbox, 10)
    row = outbox.runs.get("ns", RUN)
    assert row is not None
    with outbox.transaction():
        outbox.runs.save_verdict(row, judge(outbox.reports.by_run, row, CHARTS, world.time.at).as_json())
    world.time.pass_(days=8)
    tick(world, engine(world, outbox))
    assert judge(outbox.reports.by_run, row, CHARTS, world.time.at).complete
    event = parse(json.dumps({"msg_type": "end_run", "run_id": RUN, "total_stf_files": 12}), namespace="ns")
    assert isinstance(event, RunEvent)
    with outbox.transaction():
        row = record_run_event(outbox, CHARTS[1], event, "ns", world.time.at)
    verdict = judge(outbox.reports.by_run, row, CHARTS, world.time.at)
    assert (verdict.complete, verdict.state, verdict.expected, verdict.completed, verdict.missing) == (
        False,
        "ended",
        12,
        10,
        2,
    )


def test_nothing_is_pruned_while_work_is_in_flight(world: World) -> None:
    outbox = world.outbox()
    complete(world, outbox, 3)
    world.time.pass_(days=8)
    driven = engine(world, outbox)
    with outbox.transaction():
        outbox.receive(NewStf(namespace="ns", run_id="2", filename="swf.2.000001.stf"), "received", world.time.at)
    driven.tick(0)
    assert stf_count(outbox) == 4
    settle(driven)
    driven.tick(0)
    assert stf_count(outbox) == 1


def test_a_probe_without_an_answer_does_not_stop_pruning(world: World) -> None:
    outbox = world.outbox()
    complete(world, outbox, 3)
    world.time.pass_(days=8)
    driven = world.engine(outbox, pool=UnansweringPool(), spare=Pruner(7, *CHARTS).prune)
    driven.inbox.report_link(LinkEvent("monitor", up=False, reason="no answer"))
    driven.tick(0)
    world.time.pass_(seconds=10)
    driven.tick(0)
    assert driven.busy == 1
    driven.tick(0)
    assert stf_count(outbox) == 0


class UnansweringPool(Executor):
    """A pool whose calls never end."""

    def submit(self, *_args: Any, **_kwargs: Any) -> Future[Any]:
        return Future()


def test_free_pages_are_used_again(world: World) -> None:
    outbox = world.outbox()
    complete(world, outbox, 30)
    world.time.pass_(days=8)
    tick(world, engine(world, outbox))
    pages, free = (query(outbox.path, f"pragma {what}")[0][0] for what in ("page_count", "freelist_count"))
    assert free > 0
    for n in range(1000, 1010):
        world.receive(outbox, n, body="x" * 3000)
    assert query(outbox.path, "pragma page_count")[0][0] == pages
    assert query(outbox.path, "pragma freelist_count")[0][0] < free


def test_inspect_reports_a_pruned_run_and_delete_run_deletes_its_names(world: World) -> None:
    outbox = world.outbox()
    name = complete(world, outbox, 2)[0]
    world.time.pass_(days=8)
    tick(world, engine(world, outbox))
    inspected = CliRunner().invoke(cli, ["inspect", "--db", str(outbox.path), "--json"])
    assert json.loads(inspected.stdout)["runs"][0]["pruned"]["states"] == {"completed": 2}
    assert ": 2 completed, 14 TF files" in CliRunner().invoke(cli, ["inspect", "--db", str(outbox.path)]).stdout
    inspected = CliRunner().invoke(cli, ["inspect", "--db", str(outbox.path), name])
    assert inspected.exit_code == 2
    assert "was pruned with run" in inspected.output
    with outbox.transaction():
        outbox.delete_run(RUN, "ns")
        assert outbox.receive(NewStf(namespace="ns", run_id=RUN, filename=name), "received", world.time.at) is (
            ReceiveOutcome.FRESH
        )

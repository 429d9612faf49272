"""Stages whose ids were lost: one read of the monitor's tables finds them all, rarely and within a bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmon_daemon.presence import lost_ids
from tests.builders import logged, named, query, settle
from tests.presence.stage_bench import Bench, bench_with

TABLES = ("GET /api/workflows/", "GET /api/workflow-stages/")


def reads(bench: Bench) -> tuple[int, ...]:
    """How often each table was read, but for the reads of the test itself."""
    return tuple(bench.calls(call) - bench.own_reads[call] for call in TABLES)


def process(bench: Bench, *sequences: int) -> None:
    for n in sequences:
        bench.testbed.receive(bench.outbox, n)
    settle(bench.engine)
    bench.testbed.time.pass_(seconds=5)  # coalesced: one update for each STF


def all_complete(bench: Bench, count: int) -> None:
    assert [row["status"] for row in bench.rows("workflow-stages")] == ["fastmon_complete"] * count
    assert len(bench.rows("workflows")) == count
    assert (bench.pending(), bench.counters().get("stages_unreportable", 0)) == (0, 0)


@pytest.mark.field("7")
@pytest.mark.parametrize("endpoint", ["/api/workflows/", "/api/workflow-stages/"])
def test_an_answer_of_500_to_a_call_that_was_executed_loses_no_stage(bench: Bench, endpoint: str) -> None:
    process(bench, 1)
    bench.monitor.faults(error_after_commit_rate=1, endpoints=[endpoint])
    bench.round()
    assert bench.pending() == 5
    bench.monitor.faults()
    bench.round()
    all_complete(bench, 1)


@pytest.mark.field("7")
def test_a_new_database_finds_all_stages_of_the_old_one_with_one_read_of_each_table(
    bench: Bench, tmp_path: Path
) -> None:
    process(bench, *range(1, 31))
    bench.round()
    new = bench_with(tmp_path / "new", bench.monitor)
    process(new, *range(1, 32))  # one is really new
    new.round()
    assert reads(new) == (1, 1)
    all_complete(new, 31)


def test_a_workflow_of_another_agent_that_the_stf_record_does_not_name_is_found(bench: Bench) -> None:
    process(bench, 1)
    theirs = bench.workflow(bench.outbox.find()[0].filename)
    bench.round()
    all_complete(bench, 1)
    assert bench.stage()["workflow"] == theirs


def test_a_stage_whose_id_was_lost_in_a_crash_is_found(bench: Bench) -> None:
    process(bench, 1)
    bench.round()
    # As if the process had been killed before it stored the answer.
    query(bench.outbox.path, "update stf set stage_id = null")
    query(bench.outbox.path, "update history set reported_at = null")
    bench.stages = bench.reporter()
    bench.round()
    assert reads(bench) == (0, 1)
    all_complete(bench, 1)


@pytest.mark.field("7")
def test_the_tables_are_read_at_most_every_ten_minutes(bench: Bench) -> None:
    for n in range(1, 4):
        process(bench, n)
        bench.workflow(f"swf.100014.{n:06d}.stf")
        bench.round()  # takes two minutes
    assert (reads(bench)[0], bench.pending()) == (1, 10)
    bench.testbed.time.pass_(minutes=10)
    bench.round()
    assert reads(bench)[0] == 2
    all_complete(bench, 3)


def test_a_lookup_that_fails_is_repeated_with_growing_pauses_and_loses_nothing(bench: Bench) -> None:
    process(bench, 1)
    bench.workflow(bench.outbox.find()[0].filename)
    bench.client.tables_fail = True
    for _ in range(2):
        bench.round()
        bench.testbed.time.pass_(minutes=10)
    bench.client.tables_fail = False
    bench.round()  # the second pause is twenty minutes
    assert (reads(bench)[0], bench.pending()) == (0, 5)
    bench.testbed.time.pass_(minutes=10)
    bench.round()
    all_complete(bench, 1)


@pytest.mark.field("7")
def test_beyond_the_bound_of_rows_an_stf_is_left_and_that_is_said_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(bench, 1, 2, 3)
    for n in (3, 2, 1):  # the newest come first
        bench.workflow(f"swf.100014.{n:06d}.stf", minute=n)
    monkeypatch.setattr(lost_ids, "MAX_ROWS", 2)
    with logged("WARNING") as lines:
        bench.round()
        process(bench, 4)
        bench.workflow("swf.100014.000004.stf", minute=4)
        bench.testbed.time.pass_(minutes=30)
        bench.round()
    assert {row["status"] for row in bench.rows("workflow-stages")} == {"fastmon_complete"}
    assert (bench.pending(), bench.counters()["stages_unreportable"], reads(bench)[0]) == (0, 2, 1)
    left = [line for line in lines if "stage not reportable" in line]
    assert all("newest 2 rows" in line for line in left)
    assert [line.split(":")[0] for line in left] == ["swf.100014.000001.stf", "swf.100014.000004.stf"]


def test_a_workflow_of_another_run_with_the_same_name_is_not_ours(bench: Bench) -> None:
    process(bench, 1)
    name = bench.outbox.find()[0].filename
    bench.workflow(name, run_id="100013")
    bench.round()
    assert bench.rows("workflow-stages") == []
    keys = bench.outbox.stages.keys(named(bench.outbox, name).id)
    assert keys.unreportable == "the monitor has a workflow of this name for run 100013"
    bench.round()
    assert (bench.pending(), bench.counters()["stages_unreportable"]) == (0, 1)


def test_a_run_is_the_same_with_leading_zeros(bench: Bench) -> None:
    process(bench, 1)
    bench.workflow(bench.outbox.find()[0].filename, run_id="0100014")
    bench.round()
    all_complete(bench, 1)

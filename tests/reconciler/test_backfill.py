"""How missed STFs are stored: lookups of their TF files, and an operator's `reconcile`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastmon_daemon.base.errors import LinkDown, TransientError
from fastmon_daemon.outbox import Origin
from fastmon_daemon.runs.poll_state import ReconcilerIntervals
from tests.builders import handle, logged, settle
from tests.reconciler.harness import Harness, file_name


def lose_the_database(harness: Harness) -> None:
    harness.live_outbox.close()
    for path in harness.folder.glob("outbox.db*"):
        path.unlink()
    harness.announced.clear()
    harness.start()


def test_preexisting_tf_files_are_not_announced_again(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    harness.tick()
    assert len(harness.announced) == 7
    lose_the_database(harness)
    harness.process("end_run", total_stf_files=2)
    harness.pass_time(8)
    assert harness.row.state == "complete"
    assert [tf.monitor_id for tf in harness.stf(1).tfs] == [
        harness.monitor.rows[tf.filename].tf_file_id for tf in harness.stf(1).tfs
    ]
    assert len(harness.announced) == 7, "only those of the second STF"
    tfs = harness.verdict.tf_files
    assert (tfs.drawn, tfs.registered, tfs.announced, tfs.preexisting) == (14, 14, 7, 7)


def test_tf_files_registered_before_a_kill_are_announced_after_it(harness: Harness) -> None:
    harness.register(1)
    harness.broker_is(harness.live_engine, up=False)
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(8)
    assert (harness.stf(1).state, len(harness.monitor.rows)) == ("tf_registered", 7)
    harness.start()
    harness.broker_is(harness.live_engine, up=True)
    harness.pass_time(40)
    assert (harness.row.state, len(harness.announced)) == ("complete", 7)


def test_if_some_tf_files_are_missing_at_the_monitor_all_are_announced(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    del harness.monitor.rows["swf.100014.000001_tf_004.tf"]
    lose_the_database(harness)
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(8)
    assert harness.row.state == "complete"
    assert len(harness.announced) == 7


def test_many_lookups_do_not_starve_a_single_worker(tmp_path: Path) -> None:
    harness = Harness(tmp_path, workers=1, intervals=ReconcilerIntervals(lookups_per_s=0))
    harness.register(*range(1, 101))
    harness.process("end_run", total_stf_files=100)
    harness.pass_time(5)
    harness.tick(30)
    assert harness.verdict.completed > 0
    assert len(harness.monitor.lookups) < 100


def test_the_engine_is_not_idle_before_the_stfs_of_a_poll_are_processed(harness: Harness) -> None:
    """Otherwise `run --once` would end too early."""
    harness.register(1, 2)
    handle(harness.handler, json.dumps({"msg_type": "stf_ready", "namespace": "ns", "run_id": "100014"}))
    settle(harness.live_engine)
    assert [harness.stf(n).state for n in (1, 2)] == ["completed", "completed"]


def test_an_stf_whose_lookups_fail_is_stored_anyway_and_delays_no_other(harness: Harness) -> None:
    harness.register(1, 2, 3)
    harness.monitor.lookup_trouble[file_name(1)] = TransientError("500")
    harness.process("end_run", total_stf_files=3)
    harness.pass_time(10)
    assert harness.row.state == "complete"
    assert harness.monitor.lookups.count(file_name(1)) == 3


def test_lookups_of_one_stf_without_answer_trip_no_breaker(harness: Harness) -> None:
    harness.monitor.lookup_trouble[file_name(1)] = LinkDown("500")
    harness.register(1, 2)
    harness.stf_ready(3)
    harness.pass_time(90)
    assert (harness.stf(1).state, harness.stf(2).state) == ("completed", "completed")
    assert harness.monitor.lookups.count(file_name(1)) == 3
    assert harness.live_engine.breakers.allows_calls("monitor")


def test_stfs_that_are_not_selected_are_stored_without_a_lookup(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.settings = type(harness.settings)(namespace="ns", selection_fraction=0.01)
    harness.start()
    harness.register(*range(1, 601))
    harness.process("end_run", total_stf_files=600)
    harness.pass_time(8)
    harness.tick(100)
    harness.pass_time(5)
    assert (harness.verdict.skipped, harness.verdict.completed) == (594, 6)
    assert harness.row.state == "complete"
    assert len(harness.monitor.lookups) == 6


def test_more_missed_stfs_than_fit_the_memory_are_recovered_poll_by_poll(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmon_daemon.reconciler.backfill.MAX_QUEUED", 5)
    harness.register(*range(1, 13))
    harness.process("end_run", total_stf_files=12)
    queued = []
    for _ in range(12):
        harness.pass_time(10)
        harness.tick(5)
        queued.append(sum(run.recovering_count for run in harness.runs.all()))
    assert max(queued) <= 5
    assert harness.verdict.completed == 12
    assert harness.row.state == "complete"


def test_an_operator_is_told_of_missed_stfs_that_are_left_to_the_next_poll(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmon_daemon.reconciler.backfill.MAX_QUEUED", 2)
    harness.register(1, 2, 3)
    found = harness.live_engine.inbox.submit(harness.reconcile("alice"))
    with logged("WARNING") as lines:
        harness.tick()
    assert (found.result(0).monitor_count, len(found.result(0).recovered)) == (3, 2)
    assert "run 100014: 1 further STFs are left to the next poll" in lines[0]
    harness.pass_time(60)
    harness.tick(5)
    assert harness.verdict.completed == 3


def test_an_operator_reconciles_an_unknown_run(harness: Harness) -> None:
    harness.register(1, 2)
    found = harness.live_engine.inbox.submit(harness.reconcile("alice"))
    harness.tick()
    assert (found.result(0).monitor_count, found.result(0).known) == (2, 0)
    assert (harness.stf(1).state, harness.stf(2).state, harness.row.state) == ("completed", "completed", "running")
    assert harness.first_note(1) == "recovered: no message received, reconciled by alice"


@pytest.mark.field("12")
def test_an_stf_is_recovered_even_if_its_row_cannot_be_read_completely(harness: Harness) -> None:
    harness.register(1, 2)
    bad = replace(harness.monitor.stfs[file_name(1)], created_at=None, unreadable=("created_at",))
    harness.monitor.stfs[file_name(1)] = bad
    with logged("WARNING") as lines:
        harness.process("end_run", total_stf_files=2)
        harness.pass_time(20)
    assert harness.row.state == "complete"
    assert harness.stf(1).origin is Origin.RECOVERED
    assert lines == [f"{file_name(1)}: the monitor's row was read without created_at\n"]

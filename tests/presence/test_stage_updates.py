"""Which updates of stages and workflows the monitor gets: each transition at once, or several in one when behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.presence.stages import BEHIND_AFTER, BEHIND_TRANSITIONS
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import named, settle
from tests.presence.stage_bench import Bench, act, bench_with

LIFE = ["received", "sampled", "tf_registered", "notified", "completed"]
STATUSES = ["fastmon_received", *["fastmon_processing"] * 3, "fastmon_complete"]


def updates(bench: Bench) -> tuple[int, int]:
    """Numbers of single and coalesced updates, as counted."""
    counters = bench.counters()
    return counters.get("stage_updates_single", 0), counters.get("stage_updates_coalesced", 0)


@pytest.mark.field("0a")
def test_each_transition_is_an_update_of_its_own_in_order_as_of_its_time(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    assert bench.stages_sent() == list(zip(STATUSES, LIFE, strict=True))
    history = bench.outbox.history(named(bench.outbox, name).id)
    for n, (sent, row) in enumerate(zip(bench.client.stages, history, strict=True), 1):
        metadata = sent["stage_metadata"]
        assert (metadata["state"], metadata["since"]) == (row.dest, row.at)
        assert [each["to"] for each in metadata["transitions"]] == LIFE[:n]
        assert (metadata["tf_files"], metadata["sample"] is None) == ((0, True) if n == 1 else (7, False))
        assert (sent["completed_at"] is None, sent["output_message"] is None) == (
            (True, True) if n < 5 else (False,) * 2
        )
    assert bench.calls("POST /api/workflow-stages/") == 1
    assert (updates(bench), bench.pending()) == ((5, 0), 0)


@pytest.mark.field("0a")
def test_a_slow_stf_is_told_state_by_state(bench: Bench) -> None:
    bench.testbed.monitor.down = True
    bench.testbed.receive(bench.outbox)
    bench.round()
    assert (bench.stages_sent(), bench.pending()) == ([], 0), "an STF that waits is not told"
    settle(bench.engine)
    bench.round()
    assert bench.stages_sent() == [("fastmon_processing", "sampled")]
    bench.testbed.monitor.down = False
    bench.testbed.time.pass_(minutes=1)
    settle(bench.engine)
    bench.round()
    assert bench.stages_sent() == list(zip(STATUSES, LIFE, strict=True))[1:]
    assert [each["to"] for each in bench.client.stages[-1]["stage_metadata"]["transitions"]] == LIFE


@pytest.mark.field("0a")
def test_transitions_that_waited_too_long_share_an_update_that_lists_each_with_its_time(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    bench.testbed.time.pass_(seconds=0.5)
    settle(bench.engine)
    bench.testbed.time.pass_(seconds=BEHIND_AFTER.total_seconds())
    bench.round()
    history = bench.outbox.history(named(bench.outbox, name).id)
    reported = bench.stage()["stage_metadata"]["transitions"]
    assert [(row["to"], row["at"]) for row in reported] == [(row.dest, row.at) for row in history]
    assert bench.stages_sent() == [("fastmon_complete", "completed")]
    assert (updates(bench), bench.pending()) == ((0, 1), 0)


@pytest.mark.field("0a", "5")
def test_an_stf_that_is_done_at_once_costs_three_calls(bench: Bench) -> None:
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.testbed.time.pass_(seconds=5)
    bench.round()
    requests = {call: count for call, count in bench.monitor.counts()["requests"].items() if "/api/" in call}
    calls = ("GET /api/stf-files/", "POST /api/workflows/", "POST /api/workflow-stages/")
    assert requests == dict.fromkeys(calls, 1)
    assert bench.rows("workflows")[0]["current_status"] == "fastmon_complete"


@pytest.mark.field("0a")
def test_in_a_backlog_the_updates_of_an_stf_are_coalesced_and_none_is_lost(bench: Bench) -> None:
    count = BEHIND_TRANSITIONS // 5 + 1
    names = {bench.testbed.receive(bench.outbox, n) for n in range(1, count + 1)}
    settle(bench.engine)
    bench.round()
    assert updates(bench) == (0, count)
    workflows = {row["workflow_id"]: row["filename"] for row in bench.rows("workflows")}
    stages = bench.rows("workflow-stages")
    assert {workflows[row["workflow"]] for row in stages} == names
    for row in stages:
        assert [each["to"] for each in row["stage_metadata"]["transitions"]] == LIFE
    bench.testbed.receive(bench.outbox, count + 1)  # the reporter has caught up
    settle(bench.engine)
    bench.round()
    assert updates(bench) == (5, count)


def test_what_a_failing_monitor_does_not_take_is_told_later_in_order_and_whole(bench: Bench) -> None:
    bench.monitor.faults(error_rate=1, endpoints=["/api/workflow-stages/"])
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    assert bench.pending() == 5
    assert bench.rows("workflows")[0]["current_status"] == "fastmon_received"
    bench.monitor.faults()
    bench.round()
    assert [row["to"] for row in bench.stage()["stage_metadata"]["transitions"]] == LIFE
    assert (bench.stage()["status"], bench.pending()) == ("fastmon_complete", 0)
    assert bench.rows("workflows")[0]["current_status"] == "fastmon_complete"
    assert updates(bench) == (0, 1)  # what was not taken does not count


def test_after_an_outage_of_any_length_reports_go_on_within_five_seconds(bench: Bench) -> None:
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.monitor.stop()
    for _ in range(20):
        bench.round()
    bench.stages.tick()
    bench.monitor.start()
    bench.testbed.time.pass_(seconds=5)
    bench.stages.tick()
    assert (bench.pending(), updates(bench)) == (0, (0, 1))


@pytest.mark.field("0a")
def test_an_stf_that_is_skipped_is_told_only_if_it_is_included(tmp_path: Path, monitor: MonitorThread) -> None:
    bench = bench_with(tmp_path, monitor, selection_fraction=0.5)
    for n in range(1, 5):
        bench.testbed.receive(bench.outbox, n)
    settle(bench.engine)
    bench.round()
    skipped = [stf.filename for stf in bench.outbox.find() if stf.state == "skipped"]
    told = {row["filename"] for row in bench.rows("workflows")}
    assert (len(skipped), len(told), set(skipped) & told, bench.pending()) == (2, 2, set(), 0)
    act(bench, "include", skipped[0])
    told_before = len(bench.stages_sent())
    settle(bench.engine)
    bench.round()
    assert bench.stages_sent()[told_before] == ("fastmon_received", "received")
    assert len(bench.rows("workflow-stages")) == 3
    assert {row["status"] for row in bench.rows("workflow-stages")} == {"fastmon_complete"}


def test_an_stf_that_failed_and_was_discarded_in_an_outage_is_told(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    bench.testbed.monitor.trouble[name] = PermanentError("wrong size")
    settle(bench.engine)
    act(bench, "discard", name)
    bench.testbed.time.pass_(minutes=2)
    bench.round()
    stage = bench.stage()
    assert (stage["status"], stage["failure_reason"]) == ("failed", "wrong size")
    assert [row["to"] for row in stage["stage_metadata"]["transitions"]][-2:] == ["failed", "discarded"]


def workflow(bench: Bench) -> dict[str, Any]:
    (row,) = bench.rows("workflows")
    return row


@pytest.mark.field("5")
def test_the_workflow_follows_the_stage_with_one_call_for_each_status(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox, execution_id="ex-1")
    registered = bench.register_stf(name)
    settle(bench.engine)
    bench.round()
    sent = [row["current_status"] for row in bench.client.workflows]
    assert sent == ["fastmon_received", "fastmon_processing", "fastmon_complete"]
    row = workflow(bench)
    assert (row["current_status"], row["current_agent"], row["failed_at"]) == ("fastmon_complete", "fastmon", None)
    assert (row["namespace"], row["run_id"], row["execution_id"]) == ("ns", "100014", "ex-1")
    assert row["file_id"] == registered["file_id"]


@pytest.mark.field("5")
def test_the_workflow_of_a_failed_stf_says_when_and_why_until_it_is_retried(bench: Bench) -> None:
    name = bench.testbed.receive(bench.outbox)
    bench.testbed.monitor.trouble[name] = PermanentError("wrong size")
    settle(bench.engine)
    bench.round()
    row = workflow(bench)
    assert (row["current_status"], row["failure_reason"]) == ("failed", "wrong size")
    assert row["failed_at"] == bench.stage()["failed_at"] is not None
    del bench.testbed.monitor.trouble[name]
    act(bench, "retry", name)
    bench.round()
    row = workflow(bench)
    assert (row["current_status"], row["failed_at"], row["failure_reason"]) == ("fastmon_received", None, None)
    bench.testbed.monitor.trouble[name] = PermanentError("still wrong")
    settle(bench.engine)
    bench.testbed.time.pass_(minutes=1)
    bench.round()
    assert workflow(bench)["failure_reason"] == "still wrong"


@pytest.mark.field("5")
def test_a_file_id_that_was_unknown_at_first_is_filled_in_at_the_end(bench: Bench) -> None:
    bench.testbed.monitor.down = True
    name = bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    assert workflow(bench)["file_id"] is None
    registered = bench.register_stf(name)
    bench.testbed.monitor.down = False
    bench.testbed.time.pass_(minutes=1)
    settle(bench.engine)
    bench.round()
    assert workflow(bench)["file_id"] == registered["file_id"]
    assert bench.calls("GET /api/stf-files/") == 2


def test_the_file_id_in_a_row_that_the_reconciler_found_is_used(bench: Bench) -> None:
    file_id = "c1a8eec4-76a4-43e6-b994-59f7ab400530"
    bench.testbed.receive(bench.outbox, body=f'{{"file_id": "{file_id}"}}')
    settle(bench.engine)
    bench.round()
    assert workflow(bench)["file_id"] == file_id


def test_the_workflow_in_the_stf_record_of_the_monitor_is_used_and_follows(bench: Bench) -> None:
    theirs = bench.workflow("another name")
    name = bench.testbed.receive(bench.outbox)
    registered = bench.register_stf(name, workflow_id=theirs)
    settle(bench.engine)
    bench.round()
    assert bench.stage()["workflow"] == theirs
    row = workflow(bench)
    assert (row["current_status"], row["current_agent"]) == ("fastmon_complete", "fastmon")
    assert row["file_id"] == registered["file_id"]


def test_the_workflow_of_another_run_in_the_stf_record_is_left_alone(bench: Bench) -> None:
    theirs = bench.workflow("another name", run_id="100013")
    name = bench.testbed.receive(bench.outbox)
    bench.register_stf(name, workflow_id=theirs)
    settle(bench.engine)
    for _ in range(2):
        bench.round()
    assert (workflow(bench)["current_status"], bench.rows("workflow-stages")) == ("generated", [])
    keys = bench.outbox.stages.keys(named(bench.outbox, name).id)
    assert keys.unreportable == "the monitor's row of this name names a workflow of run 100013"
    assert (bench.pending(), bench.counters()["stages_unreportable"]) == (0, 1)


@pytest.mark.field("5")
def test_workflow_fields_missing_in_the_message_are_filled_in_and_listed(bench: Bench) -> None:
    body = (
        '{"state": "physics", "substate": "standby", "start": "2026-11-21T19:59:00+00:00", "end": "yesterday \\u0000"}'
    )
    bench.testbed.receive(bench.outbox, body=body)
    settle(bench.engine)
    bench.round()
    row = workflow(bench)
    assert row["stf_metadata"]["filled_in"] == ["daq_state", "generated_time", "stf_end_time"]
    assert (row["daq_state"], row["daq_substate"]) == ("run", "standby")
    assert bench.pending() == 0


@pytest.mark.parametrize("gone", ["workflow-stages", "workflows"])
def test_a_stage_that_the_monitor_has_no_more_is_created_again(bench: Bench, gone: str) -> None:
    bench.testbed.monitor.down = True
    bench.testbed.receive(bench.outbox)
    settle(bench.engine)
    bench.round()
    (row,) = bench.rows(gone)
    bench.delete(gone, row["stage_id" if gone == "workflow-stages" else "workflow_id"])
    bench.testbed.monitor.down = False
    bench.testbed.time.pass_(minutes=1)
    settle(bench.engine)
    for _ in range(2):
        bench.round()
    assert (bench.stage()["status"], workflow(bench)["current_status"]) == ("fastmon_complete",) * 2
    assert (bench.pending(), bench.counters().get("stages_unreportable", 0)) == (0, 0)

"""Presence of a daemon process: agent name, heart-beats, stages, log lines and status messages."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base.errors import TransientError
from fastmon_daemon.presence.periodic_worker import BestEffortCall
from tests.builders import HandClock, logged
from tests.processes import TOKEN, LiveTestbed, live_testbed, name, wait_until

OPTIONAL_CALLS = ["/api/workflow", "/api/systemagents/", "/api/logs/", "/api/subscribers/", "/api/namespaces/"]


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def status_messages(testbed: LiveTestbed) -> list[dict[str, Any]]:
    messages = [json.loads(body) for body in testbed.heard]
    return [message for message in messages if message["msg_type"] == "fastmon_status"]


def agent(testbed: LiveTestbed) -> dict[str, Any]:
    rows = testbed.rows("systemagents")
    return rows[0] if rows else {}


def stop(daemon: subprocess.Popen[bytes]) -> int:
    daemon.send_signal(signal.SIGTERM)
    return daemon.wait(30)


def all_complete(testbed: LiveTestbed, count: int) -> bool:
    return [row["status"] for row in testbed.rows("workflow-stages")] == ["fastmon_complete"] * count


def test_fifty_stfs_have_fifty_complete_stages_at_few_extra_calls(testbed: LiveTestbed) -> None:
    testbed.register(*range(1, 51))
    before = sum(testbed.monitor.counts()["requests"].values())
    daemon = testbed.daemon()
    wait_until(lambda: agent(testbed).get("operational_state") == "READY", "READY")
    testbed.publish({"msg_type": "start_run", "run_id": "100014", "execution_id": "ex-1"})
    testbed.announce(*range(1, 51))
    wait_until(lambda: agent(testbed)["operational_state"] == "PROCESSING", "PROCESSING")
    testbed.wait_for(completed=50)
    wait_until(lambda: all_complete(testbed, 50), "fifty stages are complete")
    assert stop(daemon) == 0
    check_stages(testbed)
    check_exit(testbed, "fastmon-agent-", 50)
    lines = [row for row in testbed.rows("logs") if "notified -> completed" in row["message"]]
    assert {(row["extra_data"]["run_id"], row["extra_data"]["execution_id"]) for row in lines} == {("100014", "ex-1")}
    by_this_test = ("GET /api/workflow-stages/", "GET /api/systemagents/", "GET /api/logs/")
    requests = testbed.monitor.counts()["requests"]
    calls = sum(requests.values()) - before - sum(requests.get(each, 0) for each in by_this_test)
    print(f"HTTP calls per completed STF: {calls / 50:.2f}, 7 of them for its TF files: {requests}")
    assert calls / 50 <= 7 + 5


def check_stages(testbed: LiveTestbed) -> None:
    workflows = {row["workflow_id"]: row for row in testbed.rows("workflows")}
    stages = testbed.rows("workflow-stages")
    assert {workflows[row["workflow"]]["filename"] for row in stages} == {name(n) for n in range(1, 51)}
    for row in stages:
        assert row["received_at"] <= row["started_at"] <= row["completed_at"]
        assert row["processing_time_seconds"] >= 0
        assert row["output_message"]["count"] == 7
        assert row["input_message"]["filename"] == workflows[row["workflow"]]["filename"]
        assert [each["to"] for each in row["stage_metadata"]["transitions"]] == [
            "received", "sampled", "tf_registered", "notified", "completed",
        ]  # fmt: skip


def check_exit(testbed: LiveTestbed, begin: str, completed: int) -> None:
    row = agent(testbed)
    assert row["instance_name"].startswith(begin)
    assert (row["status"], row["operational_state"]) == ("EXITED", "EXITED")
    assert (row["agent_type"], row["namespace"]) == ("fastmon", "ns")
    assert (row["current_stf_count"], row["total_stf_processed"]) == (0, completed)
    assert f"{completed} completed" in row["description"]
    assert [message["status"] for message in status_messages(testbed)] == ["started", "stopped"]
    for message in status_messages(testbed):
        assert not {"agent_name", "run_id"} & message.keys()


def test_a_restart_is_the_same_agent_and_one_subscriber(testbed: LiveTestbed) -> None:
    for _ in range(2):
        daemon = testbed.daemon()
        wait_until(lambda: agent(testbed).get("operational_state") == "READY", "READY")
        wait_until(lambda: testbed.rows("subscribers"), "it is registered")
        assert stop(daemon) == 0
        wait_until(lambda: agent(testbed)["status"] == "EXITED", "the last heart-beat")
    assert len(testbed.rows("systemagents")) == len(testbed.rows("subscribers")) == 1
    assert testbed.monitor.counts()["requests"]["POST /api/state/next-agent-id/"] == 1


def test_status_messages_go_by_rest_if_announcements_do(tmp_path: Path) -> None:
    published: list[dict[str, Any]] = []
    with live_testbed(tmp_path, publish=published.append) as testbed:
        daemon = testbed.daemon(FASTMON_NOTIFY="rest")
        wait_until(lambda: published, "a status message")
        assert stop(daemon) == 0
        assert {message["msg_type"] for message in published} == {"fastmon_status"}
        assert [message["status"] for message in published] in (
            ["started"],
            ["started", "stopped"],
        )  # has 1 s
        assert testbed.heard == []


def test_with_stages_off_none_are_reported(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(FASTMON_STAGES="off")
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    assert stop(daemon) == 0
    assert testbed.call("run", "--once", FASTMON_STAGES="off").returncode == 0
    assert (testbed.rows("workflows"), testbed.rows("workflow-stages")) == ([], [])
    assert "Traceback" not in testbed.log()


def test_optional_calls_that_hang_delay_no_stf_and_are_made_later(testbed: LiveTestbed) -> None:
    testbed.monitor.faults(hang_s=600, endpoints=OPTIONAL_CALLS)
    daemon = testbed.daemon()
    testbed.register(*range(1, 6))
    testbed.announce(*range(1, 6))
    testbed.wait_for(completed=5)
    assert "link to the monitor" not in testbed.log()
    assert stop(daemon) == 0
    testbed.monitor.faults()
    testbed.daemon()
    wait_until(lambda: all_complete(testbed, 5), "pending reports are sent")


def test_a_monitor_without_the_optional_calls_gets_tf_files_and_causes_one_warning_each(testbed: LiveTestbed) -> None:
    testbed.monitor.faults(error_rate=1, error_status=404, endpoints=OPTIONAL_CALLS)
    testbed.daemon()
    testbed.register(1, 2)
    testbed.announce(1, 2)
    testbed.wait_for(completed=2)
    for what in ("heart-beat", "workflow stages", "log lines"):
        wait_until(lambda what=what: f"{what}: not sent to the monitor" in testbed.log(), what)
        assert testbed.log().count(f"{what}: not sent to the monitor, it has no such call") == 1
    assert "link to the monitor" not in testbed.log()


def test_without_a_monitor_at_the_first_start_the_name_is_made_of_the_instance_and_stays(testbed: LiveTestbed) -> None:
    testbed.monitor.stop()
    daemon = testbed.daemon()
    assert "made without the monitor" in testbed.log()
    testbed.monitor.start()
    wait_until(lambda: agent(testbed).get("status") == "OK", "a heart-beat")
    first = agent(testbed)["instance_name"]
    assert stop(daemon) == 0
    testbed.daemon(FASTMON_STAGES="off", FASTMON_REST_LOGGING="off")
    wait_until(lambda: agent(testbed).get("operational_state") == "READY", "the same agent")
    assert [row["instance_name"] for row in testbed.rows("systemagents")] == [first]
    assert TOKEN not in json.dumps([testbed.rows("logs"), testbed.rows("systemagents"), testbed.heard])


def test_a_secret_that_changed_in_its_file_is_in_no_log(testbed: LiveTestbed) -> None:
    token = testbed.folder / "token"
    token.write_text(TOKEN)
    testbed.daemon(SWF_API_TOKEN="", SWF_API_TOKEN_FILE=str(token), SWF_LOG_LEVEL="DEBUG")
    token.write_text("rotated-token")
    testbed.announce(1)
    wait_until(lambda: "link to the monitor is blocked" in testbed.log(), "the new token was read and rejected")
    testbed.publish({"msg_type": "stf_ready", "run_id": "100014", "filename": "told.rotated-token.000002.stf"})
    wait_until(lambda: "told.***.000002.stf: received" in testbed.log(), "the line")
    token.write_text(TOKEN)
    wait_until(lambda: "told.***.000002.stf: received" in json.dumps(testbed.rows("logs")), "the line at the monitor")
    assert "rotated-token" not in testbed.log() + json.dumps([testbed.rows("logs"), testbed.rows("systemagents")])


def test_a_call_that_is_accepted_again_says_how_often_it_failed() -> None:
    time = HandClock()
    call = BestEffortCall("heart-beat", time.clock().monotonic)

    def reject() -> None:
        raise TransientError("busy")

    with logged() as lines:
        for _ in range(4):
            time.pass_(hours=1)
            call.attempt(reject)
        time.pass_(hours=1)
        call.attempt(lambda: None)
    assert len(lines) == 2
    assert lines[-1] == "heart-beat: the monitor accepts it again, after 4 failures\n"

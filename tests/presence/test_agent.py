"""Presence of a daemon process: agent name, heart-beats, stages, log lines and status messages."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import TOKEN, OnEmbedded, living, name, wait_until

OPTIONAL_CALLS = ["/api/workflow", "/api/systemagents/", "/api/logs/", "/api/subscribers/", "/api/namespaces/"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        yield made


def status_messages(world: OnEmbedded) -> list[dict[str, Any]]:
    messages = [json.loads(body) for body in world.heard]
    return [message for message in messages if message["msg_type"] == "fastmon_status"]


def agent(world: OnEmbedded) -> dict[str, Any]:
    rows = world.rows("systemagents")
    return rows[0] if rows else {}


def stop(daemon: subprocess.Popen[bytes]) -> int:
    daemon.send_signal(signal.SIGTERM)
    return daemon.wait(30)


def all_complete(world: OnEmbedded, count: int) -> bool:
    return [row["status"] for row in world.rows("workflow-stages")] == ["fastmon_complete"] * count


def test_fifty_stfs_have_fifty_complete_stages_at_few_extra_calls(world: OnEmbedded) -> None:
    world.register(*range(1, 51))
    before = sum(world.monitor.counts()["requests"].values())
    daemon = world.daemon()
    wait_until(lambda: agent(world).get("operational_state") == "READY", "READY")
    world.publish({"msg_type": "start_run", "run_id": "100014", "execution_id": "ex-1"})
    world.announce(*range(1, 51))
    wait_until(lambda: agent(world)["operational_state"] == "PROCESSING", "PROCESSING")
    world.wait_for(completed=50)
    wait_until(lambda: all_complete(world, 50), "fifty stages are complete")
    assert stop(daemon) == 0
    check_stages(world)
    check_exit(world, "fastmon-agent-", 50)
    lines = [row for row in world.rows("logs") if "received -> sampled" in row["message"]]
    assert {(row["extra_data"]["run_id"], row["extra_data"]["execution_id"]) for row in lines} == {("100014", "ex-1")}
    by_this_test = ("GET /api/workflow-stages/", "GET /api/systemagents/", "GET /api/logs/")
    requests = world.monitor.counts()["requests"]
    calls = sum(requests.values()) - before - sum(requests.get(each, 0) for each in by_this_test)
    print(f"HTTP calls per completed STF: {calls / 50:.2f}, 7 of them for its TF files: {requests}")
    assert calls / 50 <= 7 + 5


def check_stages(world: OnEmbedded) -> None:
    workflows = {row["workflow_id"]: row for row in world.rows("workflows")}
    stages = world.rows("workflow-stages")
    assert {workflows[row["workflow"]]["filename"] for row in stages} == {name(n) for n in range(1, 51)}
    for row in stages:
        assert row["received_at"] <= row["started_at"] <= row["completed_at"]
        assert row["processing_time_seconds"] >= 0
        assert row["output_message"]["count"] == 7
        assert row["input_message"]["filename"] == workflows[row["workflow"]]["filename"]
        assert [each["to"] for each in row["stage_metadata"]["transitions"]] == [
            "received", "sampled", "tf_registered", "notified", "completed",
        ]  # fmt: skip


def check_exit(world: OnEmbedded, begin: str, completed: int) -> None:
    row = agent(world)
    assert row["instance_name"].startswith(begin)
    assert (row["status"], row["operational_state"]) == ("EXITED", "EXITED")
    assert (row["agent_type"], row["namespace"]) == ("fastmon", "ns")
    assert (row["current_stf_count"], row["total_stf_processed"]) == (0, completed)
    assert f"{completed} completed" in row["description"]
    assert [message["status"] for message in status_messages(world)] == ["started", "stopped"]
    for message in status_messages(world):
        assert not {"agent_name", "run_id"} & message.keys()


def test_a_restart_is_the_same_agent_and_one_subscriber(world: OnEmbedded) -> None:
    for _ in range(2):
        daemon = world.daemon()
        wait_until(lambda: agent(world).get("operational_state") == "READY", "READY")
        wait_until(lambda: world.rows("subscribers"), "it is registered")
        assert stop(daemon) == 0
        wait_until(lambda: agent(world)["status"] == "EXITED", "the last heart-beat")
    assert len(world.rows("systemagents")) == len(world.rows("subscribers")) == 1
    assert world.monitor.counts()["requests"]["POST /api/state/next-agent-id/"] == 1


def test_status_messages_go_by_rest_if_announcements_do(tmp_path: Path) -> None:
    published: list[dict[str, Any]] = []
    with living(tmp_path, publish=published.append) as world:
        daemon = world.daemon(FASTMON_NOTIFY="rest")
        wait_until(lambda: published, "a status message")
        assert stop(daemon) == 0
        assert {message["msg_type"] for message in published} == {"fastmon_status"}
        assert [message["status"] for message in published] in (
            ["started"],
            ["started", "stopped"],
        )  # has 1 s
        assert world.heard == []


def test_with_stages_off_none_are_reported(world: OnEmbedded) -> None:
    daemon = world.daemon(FASTMON_STAGES="off")
    world.register(1)
    world.announce(1)
    world.wait_for(completed=1)
    assert stop(daemon) == 0
    assert world.call("run", "--once", FASTMON_STAGES="off").returncode == 0
    assert (world.rows("workflows"), world.rows("workflow-stages")) == ([], [])
    assert "Traceback" not in world.log()


def test_optional_calls_that_hang_delay_no_stf_and_are_made_later(world: OnEmbedded) -> None:
    world.monitor.faults(hang_s=600, endpoints=OPTIONAL_CALLS)
    daemon = world.daemon()
    world.register(*range(1, 6))
    world.announce(*range(1, 6))
    world.wait_for(completed=5)
    assert "link to the monitor" not in world.log()
    assert stop(daemon) == 0
    world.monitor.faults()
    world.daemon()
    wait_until(lambda: all_complete(world, 5), "pending reports are sent")


def test_a_monitor_without_the_optional_calls_gets_tf_files_and_causes_one_warning_each(world: OnEmbedded) -> None:
    world.monitor.faults(error_rate=1, error_status=404, endpoints=OPTIONAL_CALLS)
    world.daemon()
    world.register(1, 2)
    world.announce(1, 2)
    world.wait_for(completed=2)
    for what in ("heart-beat", "workflow stages", "log lines"):
        wait_until(lambda what=what: f"{what}: not sent to the monitor" in world.log(), what)
        assert world.log().count(f"{what}: not sent to the monitor, it has no such call") == 1
    assert "link to the monitor" not in world.log()


def test_without_a_monitor_at_the_first_start_the_name_is_made_of_the_instance_and_stays(world: OnEmbedded) -> None:
    world.monitor.stop()
    daemon = world.daemon()
    assert "agent name: the monitor assigned no number" in world.log()
    world.monitor.start()
    wait_until(lambda: agent(world).get("status") == "OK", "a heart-beat")
    first = agent(world)["instance_name"]
    assert stop(daemon) == 0
    world.daemon(FASTMON_STAGES="off", FASTMON_REST_LOGGING="off")
    wait_until(lambda: agent(world).get("operational_state") == "READY", "the same agent")
    assert [row["instance_name"] for row in world.rows("systemagents")] == [first]
    assert TOKEN not in json.dumps([world.rows("logs"), world.rows("systemagents"), world.heard])


def test_a_secret_that_changed_in_its_file_is_in_no_log(world: OnEmbedded) -> None:
    token = world.folder / "token"
    token.write_text(TOKEN)
    world.daemon(SWF_API_TOKEN="", SWF_API_TOKEN_FILE=str(token))
    token.write_text("rotated-token")
    world.announce(1)
    wait_until(lambda: "link to the monitor is blocked" in world.log(), "the new token was read and rejected")
    world.publish({"msg_type": "stf_ready", "run_id": "100014", "filename": "told.rotated-token.000002.stf"})
    wait_until(lambda: "told.***.000002.stf: received" in world.log(), "the line")
    token.write_text(TOKEN)
    wait_until(lambda: "told.***.000002.stf: received" in json.dumps(world.rows("logs")), "the line at the monitor")
    assert "rotated-token" not in world.log() + json.dumps([world.rows("logs"), world.rows("systemagents")])

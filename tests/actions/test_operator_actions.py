"""Operator actions: through the socket of a running daemon, and without a daemon by taking the database lock."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.actions.control_socket import ControlServer, send_request, socket_path
from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import MalformedMessage, PermanentError, StorageError, TransientError
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, named, settle
from tests.processes import LiveTestbed, live_testbed, name, wait_until

CHARTS = (load_statechart("stf"), load_statechart("run"))


@pytest.fixture
def small(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path)


def actions_for(testbed: FakeTestbed) -> OperatorActions:
    return OperatorActions(CHARTS[0], MessageHandler(testbed.folder / "outbox.db", "ns", "", CHARTS), alone=True)


def receive_failed(testbed: FakeTestbed, outbox: Outbox, sequence: int = 1) -> str:
    stf = testbed.receive(outbox, sequence)
    testbed.monitor.trouble[stf] = PermanentError("monitor said 400")
    settle(testbed.engine(outbox))
    assert named(outbox, stf).state == "failed"
    return stf


def test_a_retried_stf_begins_its_next_life_with_the_same_sample(small: FakeTestbed) -> None:
    outbox = small.outbox()
    stf = receive_failed(small, outbox)
    before = named(outbox, stf).tfs
    with outbox.transaction():
        result = actions_for(small).perform(
            ActionRequest(action="retry", by="alice", reason="fixed", stfs=(stf,)), outbox, small.time.at
        )
    assert result.done == [stf]
    del small.monitor.trouble[stf]
    settle(small.engine(outbox))
    after = named(outbox, stf)
    assert (after.state, after.life) == ("completed", 2)
    assert [(tf.first, tf.last) for tf in after.tfs] == [(tf.first, tf.last) for tf in before]
    row = next(row for row in outbox.history(after.id) if row.trigger == "retry")
    assert (row.life, row.note) == (2, "by alice: fixed")


def test_a_discarded_stf_is_finalized(small: FakeTestbed) -> None:
    outbox = small.outbox()
    stf = receive_failed(small, outbox)
    with outbox.transaction():
        actions_for(small).perform(
            ActionRequest(action="discard", by="bob", reason="file is gone", stfs=(stf,)), outbox, small.time.at
        )
    assert (named(outbox, stf).state, named(outbox, stf).due_at) == ("discarded", None)


def test_an_included_stf_is_processed_though_it_was_not_selected(small: FakeTestbed) -> None:
    small.settings = type(small.settings)(namespace="ns", selection_fraction=0.0)
    outbox = small.outbox()
    stf = small.receive(outbox)
    settle(small.engine(outbox))
    assert named(outbox, stf).state == "skipped"
    with outbox.transaction():
        actions_for(small).perform(ActionRequest(action="include", by="bob", stfs=(stf,)), outbox, small.time.at)
    settle(small.engine(outbox))
    assert named(outbox, stf).state == "completed"


@pytest.mark.parametrize("action", ["retry", "discard", "include"])
def test_an_action_that_the_chart_forbids_is_rejected_with_the_reason(small: FakeTestbed, action: str) -> None:
    outbox = small.outbox()
    stf = small.receive(outbox)
    settle(small.engine(outbox))
    with outbox.transaction():
        result = actions_for(small).perform(
            ActionRequest(action=action, by="bob", stfs=(stf, "no.stf")), outbox, small.time.at
        )
    assert result.rejected == {stf: f"{action} is not possible in state completed", "no.stf": "no such STF"}
    assert named(outbox, stf).life == 1


def test_a_replayed_message_is_stored_and_one_still_malformed_stays_with_its_reason(small: FakeTestbed) -> None:
    outbox = small.outbox()
    with outbox.transaction():
        outbox.reject('{"msg_type": "stf_ready", "run_id": "7", "filename": "a.stf"}', "a bug", small.time.at, 10)
        outbox.reject("not JSON", "not JSON", small.time.at, 10)
        outbox.reject("x" * 70_000, "too long", small.time.at, 10)
    with outbox.transaction():
        result = actions_for(small).perform(
            ActionRequest(action="replay", by="bob", ids=(1, 2, 3)), outbox, small.time.at
        )
    assert result.done == ["1"]
    assert result.rejected["2"].startswith("not JSON")
    assert result.rejected["3"] == "only the beginning of its body was stored"
    replayed = named(outbox, "a.stf")
    assert replayed.state == "received"
    assert [row.note for row in outbox.history(replayed.id)] == ["message, replayed by bob"]
    assert outbox.rejected_count() == 2


def test_a_run_is_purged_only_if_finished_unless_requested_otherwise(small: FakeTestbed) -> None:
    outbox = small.outbox()
    small.receive(outbox)
    with outbox.transaction():
        kept = actions_for(small).perform(ActionRequest(action="purge", by="bob", run="100014"), outbox, small.time.at)
        gone = actions_for(small).perform(
            ActionRequest(action="purge", by="bob", run="100014", include_unfinished=True), outbox, small.time.at
        )
    assert kept.rejected == {"100014": "1 of its STFs are unfinished: add --include-unfinished"}
    assert gone.done == ["100014"]
    assert outbox.recall("purged:100014") == f"{format_timestamp(small.time.at)} by bob"
    assert outbox.counts_by_state() == {}


def test_a_malformed_request_is_rejected() -> None:
    with pytest.raises(MalformedMessage):
        ActionRequest.parse({"action": "retry"})
    with pytest.raises(MalformedMessage):
        ActionRequest.parse({"action": "retry", "by": "bob", "more": 1})
    with pytest.raises(MalformedMessage):
        ActionRequest.parse({"action": "retry", "by": "bob", "stfs": [{"a": 1}]})
    with pytest.raises(MalformedMessage):
        ActionRequest.parse({"action": "replay", "by": "bob", "ids": ["1"]})


def test_the_socket_belongs_to_its_owner_and_answers_any_input(tmp_path: Path) -> None:
    database = tmp_path / ("long-name-" * 20) / "outbox.db"
    database.parent.mkdir()
    with ControlServer(database, lambda request: {"echo": request["x"]}):
        assert socket_path(database).stat().st_mode & 0o777 == 0o600
        assert send_request(database, {"x": 7}) == {"echo": 7}
        with pytest.raises(PermanentError, match="unexpected KeyError"):
            send_request(database, {})
        for garbage in (b"not JSON\n", b"[1]\n", b"\xff\n", b"\n"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(f"/proc/self/fd/{_folder(database)}/{socket_path(database).name}")
                client.sendall(garbage)
                assert "error" in json.loads(client.makefile().readline())
    assert not socket_path(database).exists()
    with pytest.raises(TransientError, match="does not answer"):
        send_request(database, {"x": 7})


def _folder(database: Path) -> int:
    return os.open(database.parent, os.O_PATH)


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    database = tmp_path / "outbox.db"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path(database)))
    with ControlServer(database, lambda _: {"alive": True}):
        assert send_request(database, {}) == {"alive": True}


def test_what_is_wrong_with_a_request_is_said_as_it_is_and_a_bug_as_unexpected(tmp_path: Path) -> None:
    said: list[Exception] = [PermanentError("no run 7"), TransientError("try again"), ZeroDivisionError("oops")]

    def fail(_request: dict[str, Any]) -> dict[str, Any]:
        raise said.pop(0)

    with ControlServer(tmp_path / "outbox.db", fail):
        for expected in ("no run 7", "try again", "unexpected ZeroDivisionError: oops"):
            with pytest.raises(PermanentError) as caught:
                send_request(tmp_path / "outbox.db", {})
            assert str(caught.value) == expected


def test_a_busy_daemon_says_so_and_a_database_name_too_long_is_an_error(tmp_path: Path) -> None:
    def busy(_: dict[str, Any]) -> dict[str, Any]:
        raise TimeoutError

    with ControlServer(tmp_path / "outbox.db", busy), pytest.raises(TransientError, match="busy and may still do it"):
        send_request(tmp_path / "outbox.db", {})
    with pytest.raises(StorageError, match="shorter file name"), ControlServer(tmp_path / ("d" * 100), busy):
        pass


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def fail_one(testbed: LiveTestbed) -> None:
    """Register a TF file under that name for another STF: a conflict that needs an operator."""
    testbed.register(1, 50)
    testbed.post("fastmon-files/", {"stf_file": name(50), "tf_filename": "swf.100014.000001_tf_001.tf"})
    testbed.announce(1)
    wait_until(lambda: testbed.states().get("failed") == 1, f"one fails: {testbed.states()} {testbed.log()[-2000:]}")


def test_a_running_daemon_retries_a_failed_stf_while_it_processes_a_backlog(testbed: LiveTestbed) -> None:
    testbed.daemon(FASTMON_RECONCILE="off")  # it would recover STF 50 on a slow machine
    fail_one(testbed)
    testbed.register(*range(2, 32))
    testbed.monitor.faults(latency_ms=20)
    testbed.announce(*range(2, 32))
    command = testbed.call("retry", name(1), "--reason", "tried again", "--json")
    assert (command.returncode, json.loads(command.stdout)) == (0, {"done": [name(1)], "rejected": {}})
    wait_until(lambda: testbed.states() == {"completed": 30, "failed": 1}, "the backlog is done, and it failed again")
    shown = json.loads(testbed.call("inspect", name(1), "--json").stdout)
    notes = [row["note"] for row in shown["stfs"][0]["history"]]
    assert any("tried again" in (note or "") for note in notes)
    assert testbed.call("discard", name(1), "--reason", "two owners").returncode == 0
    assert testbed.states() == {"completed": 30, "discarded": 1}


def test_a_run_that_a_daemon_is_processing_is_not_purged(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon()
    testbed.register(*range(1, 11))
    testbed.monitor.stop()
    testbed.announce(*range(1, 11))
    testbed.wait_for(sampled=10)
    command = testbed.call("purge", "--run", "100014", "--include-unfinished", "--yes")
    assert command.returncode == 1
    assert "stop the daemon, then try again" in command.stderr
    testbed.monitor.start()
    testbed.wait_for(completed=10)
    assert testbed.call("purge", "--run", "100014", "--yes").returncode == 0
    assert (testbed.states(), daemon.poll()) == ({}, None)


def test_two_commands_at_once_perform_an_action_once(testbed: LiveTestbed) -> None:
    testbed.daemon()
    fail_one(testbed)
    both = [testbed.start("discard", name(1), "--reason", "two owners") for _ in range(2)]
    assert sorted(child.wait(30) for child in both) == [0, 1]
    assert testbed.states() == {"discarded": 1}


def test_without_a_daemon_the_command_performs_the_action(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon()
    fail_one(testbed)
    daemon.terminate()
    daemon.wait(30)
    lines = [json.loads(line) for line in testbed.call("export").stdout.splitlines()]
    assert [(line["kind"], line["filename"]) for line in lines] == [("failed", name(1))]
    assert testbed.call("retry", "--all-failed").returncode == 2
    assert testbed.call("retry", "--all-failed", "--yes").returncode == 0
    assert testbed.states() == {"received": 1}
    assert testbed.call("retry", name(1)).returncode == 1


def test_an_action_without_a_database_exits_with_3(testbed: LiveTestbed) -> None:
    command = testbed.call("retry", name(1))
    assert command.returncode == 3
    assert "no such database" in command.stderr

"""Actions on many STFs, in batches so that the engine goes on; and names that exist in several runs or namespaces."""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastmon_daemon.actions.control_socket import ControlServer, send_request
from fastmon_daemon.actions.operator_actions import BATCH_SIZE, ActionRequest, ActionResult, OperatorActions, in_batches
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.cli import cli
from fastmon_daemon.commands.action_commands import describe_selection
from fastmon_daemon.commands.common import current_user
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import DatabaseLock, NewStf, Outbox
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, named

CHARTS = (load_statechart("stf"), load_statechart("run"))
MANY = BATCH_SIZE + 100


@pytest.fixture
def testbed(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path)


@pytest.fixture
def outbox(testbed: FakeTestbed) -> Outbox:
    return testbed.outbox()


def receive_failed(testbed: FakeTestbed, outbox: Outbox, count: int, namespace: str = "ns") -> None:
    with outbox.transaction():
        for n in range(1, count + 1):
            new = NewStf(namespace=namespace, run_id="7", filename=f"{n}.stf", sequence=n)
            outbox.receive(new, "received", testbed.time.at)
        for stf in outbox.find(namespace=namespace):
            outbox.move(stf, "fail", "failed", testbed.time.at, finalized=True, note="a bug")


def batches(testbed: FakeTestbed, outbox: Outbox, request: ActionRequest) -> list[ActionResult]:
    actions = OperatorActions(CHARTS[0], MessageHandler(outbox.path, "ns", "", CHARTS), alone=True)

    def perform(batch: ActionRequest) -> ActionResult:
        with outbox.transaction():
            return actions.perform(batch, outbox, testbed.time.at)

    return list(in_batches(request, perform))


def test_all_are_retried_in_batches_each_once_and_each_in_the_result(testbed: FakeTestbed, outbox: Outbox) -> None:
    receive_failed(testbed, outbox, MANY)
    request = ActionRequest(action="retry", by="bob", all=True, before=format_timestamp(testbed.time.at))
    done = batches(testbed, outbox, request)
    assert [len(each.done) for each in done] == [BATCH_SIZE, 100]
    assert {name for each in done for name in each.done} == {f"7/{n}.stf" for n in range(1, MANY + 1)}
    assert outbox.counts_by_state() == {"received": MANY}


def test_an_stf_that_fails_again_meanwhile_is_not_retried_twice(testbed: FakeTestbed, outbox: Outbox) -> None:
    receive_failed(testbed, outbox, 3)
    request = ActionRequest(action="retry", by="bob", all=True, before=format_timestamp(testbed.time.at))
    batches(testbed, outbox, request)
    testbed.time.pass_(seconds=1)
    with outbox.transaction():
        outbox.move(named(outbox, "1.stf"), "fail", "failed", testbed.time.at, finalized=True)
    assert batches(testbed, outbox, request)[0].done == []
    assert named(outbox, "1.stf").life == 2


def test_many_names_are_processed_in_batches(testbed: FakeTestbed, outbox: Outbox) -> None:
    receive_failed(testbed, outbox, MANY)
    names = tuple(f"{n}.stf" for n in range(1, MANY + 1))
    done = batches(testbed, outbox, ActionRequest(action="discard", by="bob", stfs=names))
    assert [len(each.done) for each in done] == [BATCH_SIZE, 100]


def reject(testbed: FakeTestbed, outbox: Outbox, bodies: list[str]) -> None:
    with outbox.transaction():
        for body in bodies:
            outbox.reject(body, "a bug", testbed.time.at, len(bodies))


def test_many_messages_are_replayed_in_batches(testbed: FakeTestbed, outbox: Outbox) -> None:
    reject(testbed, outbox, [f'{{"msg_type": "stf_ready", "run_id": "7", "filename": "{n}.stf"}}' for n in range(MANY)])
    numbers = tuple(outbox.rejected_ids())
    done = batches(testbed, outbox, ActionRequest(action="replay", by="bob", ids=numbers))
    assert [len(each.done) for each in done] == [BATCH_SIZE, 100]
    assert outbox.counts_by_state() == {"received": MANY}


def test_all_messages_are_replayed_once_and_those_still_malformed_are_named(
    testbed: FakeTestbed, outbox: Outbox
) -> None:
    good = '{"msg_type": "stf_ready", "run_id": "7", "filename": "1.stf"}'
    reject(testbed, outbox, [*["not JSON"] * BATCH_SIZE, good])
    outbox.close()
    command = ["replay", "--all", "--yes", "--json", "--db", str(outbox.path)]
    shown = CliRunner().invoke(cli, command, env={"FASTMON_NAMESPACE": "ns"})
    assert shown.exit_code == 1
    result = json.loads(shown.stdout)
    assert (result["done"], len(result["rejected"])) == ([str(BATCH_SIZE + 1)], BATCH_SIZE)
    assert "no such rejected message" not in shown.output


def test_what_was_done_before_the_daemon_became_too_busy_is_printed_as_json(
    outbox: Outbox,
) -> None:
    outbox.close()
    answers = iter([asdict(ActionResult(done=["7/1.stf"], more=True)), {"error": "the daemon is busy", "busy": True}])
    with DatabaseLock(outbox.path), ControlServer(outbox.path, lambda _: next(answers)):
        shown = CliRunner().invoke(cli, ["retry", "--all-failed", "--yes", "--json", "--db", str(outbox.path)])
    assert (shown.exit_code, json.loads(shown.stdout)) == (75, {"done": ["7/1.stf"], "rejected": {}})


def test_a_run_is_purged_in_batches_and_only_in_its_namespace(testbed: FakeTestbed, outbox: Outbox) -> None:
    receive_failed(testbed, outbox, MANY)
    receive_failed(testbed, outbox, 1, namespace="other")
    (ambiguous,) = batches(testbed, outbox, ActionRequest(action="purge", by="bob", run="7"))
    assert ambiguous.rejected == {"7": "the run exists in the namespaces ns, other: add --namespace"}
    done = batches(testbed, outbox, ActionRequest(action="purge", by="bob", run="7", namespace="ns"))
    assert [(each.done, each.more) for each in done] == [([], True), (["7"], False)]
    assert [stf.namespace for stf in outbox.find()] == ["other"]


def test_an_stf_of_two_namespaces_needs_its_namespace(testbed: FakeTestbed, outbox: Outbox) -> None:
    receive_failed(testbed, outbox, 1)
    receive_failed(testbed, outbox, 1, namespace="other")
    outbox.close()
    shown = CliRunner().invoke(cli, ["retry", "1.stf", "--db", str(testbed.folder / "outbox.db")])
    assert shown.exit_code == 1
    assert "the STF exists in the namespaces ns, other: add --namespace" in shown.output
    shown = CliRunner().invoke(
        cli, ["retry", "1.stf", "--namespace", "other", "--db", str(testbed.folder / "outbox.db")]
    )
    assert (shown.exit_code, shown.stdout) == (0, "retry: 1.stf\n")
    shown = CliRunner().invoke(
        cli, ["purge", "--run", "7", "--namespace", "ns", "--yes", "--db", str(testbed.folder / "outbox.db")]
    )
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ActionRequest(action="retry", by="bob", all=True), "3 STFs"),
        (ActionRequest(action="retry", by="bob", all=True, run="8"), "0 STFs"),
        (ActionRequest(action="discard", by="bob", stfs=("1.stf", "2.stf")), "2 STFs"),
        (ActionRequest(action="purge", by="bob", run="7"), "run 7 with 3 STFs"),
        (ActionRequest(action="replay", by="bob", ids=(1,)), "1 rejected message"),
    ],
)
def test_the_confirmation_says_how_many_are_affected(
    testbed: FakeTestbed, outbox: Outbox, request_: ActionRequest, words: str
) -> None:
    receive_failed(testbed, outbox, 3)
    with outbox.transaction():
        outbox.reject("x", "not JSON", testbed.time.at, 10)
    assert describe_selection(request_, outbox.path) == words


def test_an_action_is_recorded_as_that_of_the_user_whom_the_kernel_names(outbox: Outbox) -> None:
    seen: list[dict[str, Any]] = []

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        seen.append(request)
        return {}

    with ControlServer(outbox.path, handle):
        send_request(outbox.path, {"action": "retry", "by": "the director"})
        send_request(outbox.path, {"action": "state"})
    assert seen == [{"action": "retry", "by": pwd.getpwuid(os.getuid()).pw_name}, {"action": "state"}]
    assert current_user() == pwd.getpwuid(os.getuid()).pw_name

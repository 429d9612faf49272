"""Acts on many STFs: in portions, so that the engine works on; and which STF is meant, where a name is in several."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmon_daemon.actions.control_socket import ControlServer
from fastmon_daemon.actions.operator_actions import BATCH_SIZE, ActionRequest, ActionResult, OperatorActions, in_batches
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.cli import cli
from fastmon_daemon.commands.action_commands import describe_selection
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import DatabaseLock, NewStf, Outbox
from fastmon_daemon.statechart import load_statechart
from tests.builders import World, named

CHARTS = (load_statechart("stf"), load_statechart("run"))
MANY = BATCH_SIZE + 100


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def outbox(world: World) -> Outbox:
    return world.outbox()


def failed(world: World, outbox: Outbox, count: int, namespace: str = "ns") -> None:
    with outbox.transaction():
        for n in range(1, count + 1):
            new = NewStf(namespace=namespace, run_id="7", filename=f"{n}.stf", sequence=n)
            outbox.receive(new, "received", world.time.at)
        for stf in outbox.find(namespace=namespace):
            outbox.move(stf, "fail", "failed", world.time.at, rests=True, note="a bug")


def portions(world: World, outbox: Outbox, request: ActionRequest) -> list[ActionResult]:
    acts = OperatorActions(CHARTS[0], MessageHandler(outbox.path, "ns", "", CHARTS), alone=True)

    def do(portion: ActionRequest) -> ActionResult:
        with outbox.transaction():
            return acts.perform(portion, outbox, world.time.at)

    return list(in_batches(request, do))


def test_all_are_retried_in_portions_each_once_and_each_in_the_outcome(world: World, outbox: Outbox) -> None:
    failed(world, outbox, MANY)
    request = ActionRequest(action="retry", by="bob", all=True, before=format_timestamp(world.time.at))
    done = portions(world, outbox, request)
    assert [len(each.done) for each in done] == [BATCH_SIZE, 100]
    assert {name for each in done for name in each.done} == {f"7/{n}.stf" for n in range(1, MANY + 1)}
    assert outbox.reports.counts_by_state() == {"received": MANY}


def test_one_that_fails_again_meanwhile_is_not_retried_a_second_time(world: World, outbox: Outbox) -> None:
    failed(world, outbox, 3)
    request = ActionRequest(action="retry", by="bob", all=True, before=format_timestamp(world.time.at))
    portions(world, outbox, request)
    world.time.pass_(seconds=1)
    with outbox.transaction():
        outbox.move(named(outbox, "1.stf"), "fail", "failed", world.time.at, rests=True)
    assert portions(world, outbox, request)[0].done == []
    assert named(outbox, "1.stf").life == 2


def test_many_names_are_acted_on_in_portions(world: World, outbox: Outbox) -> None:
    failed(world, outbox, MANY)
    names = tuple(f"{n}.stf" for n in range(1, MANY + 1))
    done = portions(world, outbox, ActionRequest(action="discard", by="bob", stfs=names))
    assert [len(each.done) for each in done] == [BATCH_SIZE, 100]


def refuse(world: World, outbox: Outbox, bodies: list[str]) -> None:
    with outbox.transaction():
        for body in bodies:
            outbox.reject(body, "a bug", world.time.at, len(bodies))


def test_many_messages_are_released_in_portions(world: World, outbox: Outbox) -> None:
    refuse(world, outbox, [f'{{"msg_type": "stf_ready", "run_id": "7", "filename": "{n}.stf"}}' for n in range(MANY)])
    numbers = tuple(outbox.reports.rejected_ids())
    done = portions(world, outbox, ActionRequest(action="replay", by="bob", ids=numbers))
    assert [len(each.done) for each in done] == [BATCH_SIZE, 100]
    assert outbox.reports.counts_by_state() == {"received": MANY}


def test_all_messages_are_released_once_each_and_those_that_are_still_bad_are_named(
    world: World, outbox: Outbox
) -> None:
    good = '{"msg_type": "stf_ready", "run_id": "7", "filename": "1.stf"}'
    refuse(world, outbox, [*["not JSON"] * BATCH_SIZE, good])
    outbox.close()
    command = ["replay", "--all", "--yes", "--json", "--db", str(outbox.path)]
    told = CliRunner().invoke(cli, command, env={"FASTMON_NAMESPACE": "ns"})
    assert told.exit_code == 1
    outcome = json.loads(told.stdout)
    assert (outcome["done"], len(outcome["rejected"])) == ([str(BATCH_SIZE + 1)], BATCH_SIZE)
    assert "no such rejected message" not in told.output


def test_what_was_done_before_the_daemon_was_too_busy_is_told_as_json_where_that_is_asked_for(
    outbox: Outbox,
) -> None:
    outbox.close()
    answers = iter([asdict(ActionResult(done=["7/1.stf"], more=True)), {"error": "the daemon is busy", "busy": True}])
    with DatabaseLock(outbox.path), ControlServer(outbox.path, lambda _: next(answers)):
        told = CliRunner().invoke(cli, ["retry", "--all-failed", "--yes", "--json", "--db", str(outbox.path)])
    assert (told.exit_code, json.loads(told.stdout)) == (75, {"done": ["7/1.stf"], "rejected": {}})


def test_a_run_is_forgotten_in_portions_and_only_in_its_namespace(world: World, outbox: Outbox) -> None:
    failed(world, outbox, MANY)
    failed(world, outbox, 1, namespace="other")
    (refused,) = portions(world, outbox, ActionRequest(action="purge", by="bob", run="7"))
    assert refused.rejected == {"7": "it is in the namespaces ns, other: say which with --namespace"}
    done = portions(world, outbox, ActionRequest(action="purge", by="bob", run="7", namespace="ns"))
    assert [(each.done, each.more) for each in done] == [([], True), (["7"], False)]
    assert [stf.namespace for stf in outbox.find()] == ["other"]


def test_an_stf_of_two_namespaces_needs_its_namespace(world: World, outbox: Outbox) -> None:
    failed(world, outbox, 1)
    failed(world, outbox, 1, namespace="other")
    outbox.close()
    told = CliRunner().invoke(cli, ["retry", "1.stf", "--db", str(world.folder / "outbox.db")])
    assert told.exit_code == 1
    assert "it is in the namespaces ns, other: say which with --namespace" in told.output
    told = CliRunner().invoke(cli, ["retry", "1.stf", "--namespace", "other", "--db", str(world.folder / "outbox.db")])
    assert (told.exit_code, told.stdout) == (0, "retry: 1.stf\n")
    told = CliRunner().invoke(
        cli, ["purge", "--run", "7", "--namespace", "ns", "--yes", "--db", str(world.folder / "outbox.db")]
    )
    assert told.exit_code == 0, told.output


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (ActionRequest(action="retry", by="bob", all=True), "3 STFs"),
        (ActionRequest(action="retry", by="bob", all=True, run="8"), "0 STFs"),
        (ActionRequest(action="discard", by="bob", stfs=("1.stf", "2.stf")), "2 STFs"),
        (ActionRequest(action="purge", by="bob", run="7"), "run 7 with 3 STFs"),
        (ActionRequest(action="replay", by="bob", ids=(1,)), "1 rejected message"),
    ],
)
def test_who_is_asked_to_confirm_is_told_how_many_it_is_about(
    world: World, outbox: Outbox, asked: ActionRequest, words: str
) -> None:
    failed(world, outbox, 3)
    with outbox.transaction():
        outbox.reject("x", "not JSON", world.time.at, 10)
    assert describe_selection(asked, outbox.path) == words

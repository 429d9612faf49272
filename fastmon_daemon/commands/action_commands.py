"""`retry`, `discard`, `include`, `replay` and `purge`: what an operator does to STFs, rejected messages and runs.

Each is done over the control socket when the daemon runs, else with the lock taken and by ourselves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from fastmon_daemon.actions.control_socket import send_request
from fastmon_daemon.actions.operator_actions import ActionRequest, ActionResult, OperatorActions, in_batches
from fastmon_daemon.base.clock import format_timestamp, utcnow
from fastmon_daemon.base.errors import PermanentError, TransientError
from fastmon_daemon.commands.formatting import escape_controls
from fastmon_daemon.commands.startup import current_user, existing_database, load_settings
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import DatabaseLock, open_for_reading, open_outbox, owner_of
from fastmon_daemon.statechart import load_statechart

BUSY = 75

F = TypeVar("F", bound=Callable[..., Any])


def action_options(command: F) -> F:
    """The options that every act has."""
    command = click.option("--json", "as_json", is_flag=True, help="The outcome as one JSON object: done, rejected.")(
        command
    )
    command = click.option("--yes", is_flag=True, help="Do not ask, also for more than one.")(command)
    return click.option(
        "--db", type=click.Path(path_type=Path, dir_okay=False), help="Database file; looked for as the daemon does."
    )(command)


_named_stfs = click.argument("stf", nargs=-1, required=True)
_run = click.option("--run", help="The run, where the name is in several.")
_namespace = click.option("--namespace", help="The namespace, where the run is in several.")
_reason = click.option("--reason", default="", help="Why; it stands in the history.")


@click.command()
@click.argument("stf", nargs=-1)
@click.option("--all-failed", is_flag=True, help="All failed STFs.")
@click.option("--run", help="Only STFs of this run.")
@_reason
@_namespace
@action_options
def retry(stf: tuple[str, ...], all_failed: bool, **options: Any) -> None:
    """Process failed STFs again, each with the sample that it has. More than one asks first.

    Exit codes: 0 done, 1 something was not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    if bool(stf) == all_failed:
        raise click.UsageError("name STFs, or say --all-failed")
    perform("retry", several=all_failed or len(stf) > 1, stfs=stf, all=all_failed, **options)


@click.command()
@_named_stfs
@click.option("--reason", required=True, help="Why; it stands in the history.")
@_run
@_namespace
@action_options
def discard(stf: tuple[str, ...], **options: Any) -> None:
    """Give failed STFs up for good. More than one asks first.

    Exit codes: 0 done, 1 something was not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    perform("discard", several=len(stf) > 1, stfs=stf, **options)


@click.command()
@_named_stfs
@_reason
@_run
@_namespace
@action_options
def include(stf: tuple[str, ...], **options: Any) -> None:
    """Process STFs that were skipped because they were not selected. More than one asks first.

    Exit codes: 0 done, 1 something was not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    perform("include", several=len(stf) > 1, stfs=stf, **options)


@click.command()
@click.argument("number", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All rejected messages.")
@action_options
def replay(number: tuple[int, ...], everything: bool, **options: Any) -> None:
    """Parse rejected messages again, by their NUMBER in `inspect --rejected`; those that can be taken now are taken.

    Exit codes: 0 done, 1 something was not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    if bool(number) == everything:
        raise click.UsageError("give numbers, or say --all")
    perform("replay", several=everything or len(number) > 1, ids=number, all=everything, **options)


@click.command()
@click.option("--run", required=True, help="The run.")
@click.option("--include-unfinished", is_flag=True, help="Also if some of its STFs are unfinished.")
@_namespace
@action_options
def purge(**options: Any) -> None:
    """Drop all that is known of a run: for a monitor that was reset and counts its runs anew. It asks first.

    Exit codes: 0 done, 1 not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    perform("purge", several=True, **options)


def perform(act: str, *, several: bool, db: Path | None, yes: bool, as_json: bool, **wished: Any) -> None:
    """Do it, say what was done, and exit: 0 done, 1 something was not done, 2 not confirmed, 75 the daemon is busy.

    *wished* are the fields of the `ActionRequest`.
    """
    request = ActionRequest(action=act, by=current_user(), **wished)
    path = existing_database(db)
    if request.action == "replay" and request.all:
        with closing(open_for_reading(path)) as reports:
            request = replace(request, ids=tuple(reports.rejected_ids()))
    if several and not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError(f"{request.action} of more than one: add --yes")
        click.confirm(f"{request.action} of {_how_many(request, path)} in {path}: go on?", abort=True, err=True)
    request = replace(request, before=format_timestamp(utcnow()))
    total = ActionResult()
    try:
        alive = owner_of(path) is not None
        for outcome in in_batches(request, partial(_asked, path)) if alive else _by_ourselves(request, path):
            total.merge(outcome)
    except TransientError as exc:
        _say(request, total, as_json=as_json)
        click.echo(f"fastmon-daemon: {exc}", err=True)
        sys.exit(BUSY)
    _say(request, total, as_json=as_json)
    sys.exit(1 if total.rejected else 0)


def _how_many(request: ActionRequest, path: Path) -> str:
    """What it is about, in words; counted without a lock."""
    with closing(open_for_reading(path)) as reports:
        if request.action == "replay":
            return f"{len(request.ids)} rejected messages"
        if request.action == "purge":
            count = reports.count_stfs(None, request.run, request.namespace)
            return f"run {escape_controls(request.run)} with {count} STFs"
        if not request.all:
            return f"{len(request.stfs)} STFs"
        chart = load_statechart("stf")
        states = (state for state in chart.states if chart.may(state, request.action))
        return f"{sum(reports.count_stfs(state, request.run, request.namespace) for state in states)} STFs"


def _asked(path: Path, request: ActionRequest) -> ActionResult:
    answer = send_request(path, request.as_dict())
    if "error" in answer:
        raise PermanentError(str(answer["error"]))
    return ActionResult(**answer)


def _say(request: ActionRequest, outcome: ActionResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"done": outcome.done, "rejected": outcome.rejected}))
    else:
        for name in outcome.done:
            click.echo(f"{request.action}: {escape_controls(name)}")
    for name, why in outcome.rejected.items():
        click.echo(f"fastmon-daemon: {escape_controls(name)}: {why}", err=True)


def _by_ourselves(request: ActionRequest, path: Path) -> Iterator[ActionResult]:
    namespace = ""
    if request.action == "replay":  # only a message that is taken in must be ours
        namespace = load_settings().namespace
    charts = (load_statechart("stf"), load_statechart("run"))
    acts = OperatorActions(charts[0], MessageHandler(path, namespace, "", charts), alone=True)
    with DatabaseLock(path), closing(open_outbox(path)) as outbox:

        def do(portion: ActionRequest) -> ActionResult:
            with outbox.transaction():
                return acts.perform(portion, outbox, utcnow())

        yield from in_batches(request, do)

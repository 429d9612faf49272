"""`retry`, `discard`, `include`, `replay` and `purge`: actions of an operator on STFs, rejected messages and runs.

A running daemon performs them over its control socket; without one, the command locks the database and does so itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from fastmon_daemon.actions.control_socket import send_request
from fastmon_daemon.actions.operator_actions import ActionRequest, ActionResult, OperatorActions, in_batches
from fastmon_daemon.base.clock import format_timestamp, utcnow
from fastmon_daemon.base.errors import TransientError
from fastmon_daemon.base.text import count_of, escape_controls
from fastmon_daemon.commands.common import (
    EXIT_TRY_AGAIN,
    F,
    current_user,
    db_option,
    json_option,
    load_settings,
    namespace_option,
    require_database,
)
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.messages import run_identity
from fastmon_daemon.outbox import DatabaseLock, open_for_reading, open_outbox, owner_of
from fastmon_daemon.statechart import load_statechart

_EXIT_CODES = "Exit codes: 0 done, 1 not done or only in part, 2 usage error, 3 no database, 75 daemon busy."
_json = json_option("done, rejected")
_stfs = click.argument("stf", nargs=-1, required=True)
_run = click.option(
    "--run", type=run_identity, metavar="RUN", help="Run of the STFs, if a name exists in several runs."
)
_reason = click.option("--reason", default="", help="Reason, recorded in the history.")


def action_options(command: F) -> F:
    """Add the options that all actions have."""
    return db_option(click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(_json(command)))


@click.command(epilog=_EXIT_CODES)
@click.argument("stf", nargs=-1)
@click.option("--all-failed", is_flag=True, help="Select all failed STFs.")
@click.option("--run", type=run_identity, metavar="RUN", help="Select only STFs of RUN.")
@_reason
@namespace_option
@action_options
def retry(stf: tuple[str, ...], all_failed: bool, **options: Any) -> None:
    """Process failed STFs again.

    Each STF keeps its sample. Asks for confirmation if several STFs are selected.
    """
    if bool(stf) == all_failed:
        raise click.UsageError("give either STF names or --all-failed")
    perform("retry", several=all_failed or len(stf) > 1, stfs=stf, all=all_failed, **options)


@click.command(epilog=_EXIT_CODES)
@_stfs
@click.option("--reason", required=True, help="Reason, recorded in the history.")
@_run
@namespace_option
@action_options
def discard(stf: tuple[str, ...], **options: Any) -> None:
    """Permanently discard failed STFs.

    Asks for confirmation if several STFs are selected.
    """
    perform("discard", several=len(stf) > 1, stfs=stf, **options)


@click.command(epilog=_EXIT_CODES)
@_stfs
@_reason
@_run
@namespace_option
@action_options
def include(stf: tuple[str, ...], **options: Any) -> None:
    """Process STFs that sampling skipped.

    Asks for confirmation if several STFs are selected.
    """
    perform("include", several=len(stf) > 1, stfs=stf, **options)


@click.command(epilog=_EXIT_CODES)
@click.argument("number", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="Select all rejected messages.")
@action_options
def replay(number: tuple[int, ...], everything: bool, **options: Any) -> None:
    """Parse rejected messages again.

    NUMBER is the number of a message in `fastmon-daemon inspect --rejected`. Messages that are valid now are processed;
    the others stay rejected. Asks for confirmation if several messages are selected.
    """
    if bool(number) == everything:
        raise click.UsageError("give either message numbers or --all")
    perform("replay", several=everything or len(number) > 1, ids=number, all=everything, **options)


@click.command(epilog=_EXIT_CODES)
@click.option("--run", type=run_identity, metavar="RUN", required=True, help="Run to delete.")
@click.option("--include-unfinished", is_flag=True, help="Delete the run even if some of its STFs are unfinished.")
@namespace_option
@action_options
def purge(**options: Any) -> None:
    """Delete all records of a run.

    Use this after a reset of the monitor that restarted its run numbers. Always asks for confirmation.
    """
    perform("purge", several=True, **options)


def perform(action: str, *, several: bool, db: Path | None, yes: bool, as_json: bool, **fields: Any) -> None:
    """Confirm and perform an action, print its result, and exit.

    *fields* are those of the `ActionRequest`; *several* asks for confirmation.
    """
    request = ActionRequest(action=action, by=current_user(), **fields)
    path = require_database(db)
    if request.action == "replay" and request.all:
        with closing(open_for_reading(path)) as reports:
            request = replace(request, ids=tuple(reports.rejected_ids()))
    if several and not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError(
                f"nothing done: would {action} {describe_selection(request, path)} in {path}, "
                "but cannot ask for confirmation without a terminal: add --yes"
            )
        click.confirm(f"{action} {describe_selection(request, path)} in {path}?", abort=True, err=True)
    request = replace(request, before=format_timestamp(utcnow()))
    total, busy = ActionResult(), None

    def send(batch: ActionRequest) -> ActionResult:
        return ActionResult(**send_request(path, asdict(batch)))

    try:
        daemon_runs = owner_of(path) is not None
        for result in in_batches(request, send) if daemon_runs else _perform_offline(request, path):
            total.done += result.done
            total.rejected |= result.rejected
    except TransientError as exc:
        busy = exc
    _print_result(request, total, as_json=as_json)
    if busy:
        click.echo(f"fastmon-daemon: {escape_controls(busy)}", err=True)
        sys.exit(EXIT_TRY_AGAIN)
    sys.exit(1 if total.rejected else 0)


def describe_selection(request: ActionRequest, path: Path) -> str:
    """Return in words what a request selects, counted without a lock."""
    with closing(open_for_reading(path)) as reports:
        if request.action == "replay":
            return count_of(len(request.ids), "rejected message")
        if request.action == "purge":
            stfs = count_of(reports.count_stfs(run=request.run, namespace=request.namespace), "STF")
            return f"run {escape_controls(request.run)} with {stfs}"
        if not request.all:
            return count_of(len(request.stfs), "STF")
        chart = load_statechart("stf")
        states = [state for state in chart.states if chart.may(state, request.action)]
        return count_of(reports.count_stfs(states, run=request.run, namespace=request.namespace), "STF")


def _print_result(request: ActionRequest, result: ActionResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"done": result.done, "rejected": result.rejected}))
    else:
        for name in result.done:
            click.echo(f"{request.action}: {escape_controls(name)}")
    for name, reason in result.rejected.items():
        click.echo(f"fastmon-daemon: {escape_controls(name)}: {escape_controls(reason)}", err=True)


def _perform_offline(request: ActionRequest, path: Path) -> Iterator[ActionResult]:
    namespace = load_settings().namespace if request.action == "replay" else ""  # only messages are filtered by it
    charts = (load_statechart("stf"), load_statechart("run"))
    actions = OperatorActions(charts[0], MessageHandler(path, namespace, "", charts), alone=True)
    with DatabaseLock(path), closing(open_outbox(path)) as outbox:

        def perform_batch(batch: ActionRequest) -> ActionResult:
            with outbox.transaction():
                return actions.perform(batch, outbox, utcnow())

        yield from in_batches(request, perform_batch)

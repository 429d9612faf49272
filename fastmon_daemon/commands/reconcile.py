"""`fastmon-daemon reconcile`: a person has a run looked at now, heard of or not."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from fastmon_daemon.actions.control_socket import send_request
from fastmon_daemon.actions.operator_actions import RECONCILE, ActionRequest, run_number_to_reconcile
from fastmon_daemon.base.errors import PermanentError, TransientError
from fastmon_daemon.commands.action_commands import BUSY
from fastmon_daemon.commands.formatting import escape_controls
from fastmon_daemon.commands.startup import current_user, existing_database, load_process, report_progress
from fastmon_daemon.outbox import owner_of
from fastmon_daemon.service import reconcile_offline


@click.command()
@click.option("--run", required=True, metavar="N", help="The run's number.")
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="Database file; as the daemon's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: run, named, known, taken_in (names).")
def reconcile(run: str, db: Path | None, as_json: bool) -> None:
    """Ask the monitor which STFs a run has, and take in those that we do not know, marked as recovered.

    A running daemon does it, also for a run that it never heard of; without one they are taken in by this command, and
    processed when a daemon runs. `verdict N --wait SECONDS` tells when all is done.

    A run of which no message ever came is taken in by this command only, as the monitor does not say whose it is: a
    minute after each start, and each return of the broker, the daemon's log names such runs ("nothing was ever heard").

    Exit codes: 0 done, 1 the monitor knows no such run, or refuses, 2 usage, 3 no database, 75 try again.
    """
    request = ActionRequest(action=RECONCILE, by=current_user(), run=run)
    run_number_to_reconcile(request)
    path = existing_database(db)
    try:
        with report_progress(f"the monitor's list of run {escape_controls(run)}"):
            alive = owner_of(path) is not None
            if alive:
                outcome = send_request(path, request.as_dict(), timeout_s=None)
            else:
                outcome = asdict(reconcile_offline(load_process(path, log_level="WARNING"), request))
    except TransientError as exc:
        click.echo(f"fastmon-daemon: {exc}", err=True)
        sys.exit(BUSY)
    if "error" in outcome:
        raise PermanentError(str(outcome["error"]))
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        taken = outcome["taken_in"]
        listed, known = outcome["monitor_count"], outcome["known"]
        told = f"{listed} listed by the monitor, {known} known before, {len(taken)} missed and taken in now"
        click.echo(f"run {escape_controls(run)}: {told}")
        for name in taken:
            click.echo(escape_controls(name))
    if not outcome["monitor_count"]:
        click.echo(f"fastmon-daemon: the monitor names no STF of run {escape_controls(run)}", err=True)
    sys.exit(0 if outcome["monitor_count"] else 1)

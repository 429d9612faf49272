"""`fastmon-daemon reconcile`: recover the missed STFs of a run now, even if the run is unknown."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from fastmon_daemon.actions.control_socket import send_request
from fastmon_daemon.actions.operator_actions import RECONCILE, ActionRequest, run_number_to_reconcile
from fastmon_daemon.base.errors import TransientError
from fastmon_daemon.base.text import count_of, escape_controls
from fastmon_daemon.commands.common import (
    EXIT_TRY_AGAIN,
    CommandError,
    current_user,
    db_option,
    json_option,
    load_context,
    report_progress,
    require_database,
)
from fastmon_daemon.commands.formatting import format_names
from fastmon_daemon.messages import run_identity
from fastmon_daemon.outbox import owner_of
from fastmon_daemon.service import reconcile_offline


@click.command(
    epilog="Exit codes: 0 done, 1 run unknown to the monitor or request rejected, 2 usage error, 3 no database, "
    "75 try again later, 78 invalid settings."
)
@click.option("--run", type=run_identity, required=True, metavar="N", help="Run number.")
@db_option
@json_option("run, monitor_count, known, recovered")
def reconcile(run: str, db: Path | None, as_json: bool) -> None:
    """Recover STFs of a run that the daemon missed.

    Requests the list of the run's STFs from the monitor, and stores those that are not in the database as recovered. If
    a daemon is running, it stores and processes them; otherwise this command stores them, and the next daemon processes
    them. To wait for the result, use `fastmon-daemon verdict N --wait SECONDS`.

    The daemon recovers missed STFs by itself, but not those of a run whose namespace is unclear: no message with the
    daemon's namespace came, or the run has TF files of another namespace. (The monitor does not tell the namespace of a
    run.) The daemon logs such runs; this command claims one for the daemon's namespace, from now on.
    """
    request = ActionRequest(action=RECONCILE, by=current_user(), run=run)
    run_number_to_reconcile(request)
    path = require_database(db)
    try:
        with report_progress(f"the STF list of run {escape_controls(run)} from the monitor"):
            if owner_of(path) is not None:
                result = send_request(path, asdict(request), timeout_s=None)
            else:
                result = asdict(reconcile_offline(load_context(path, log_level="WARNING"), request))
    except TransientError as exc:
        raise CommandError(str(exc), EXIT_TRY_AGAIN) from exc
    listed, recovered = result["monitor_count"], result["recovered"]
    if as_json:
        click.echo(json.dumps(result))
    else:
        counts = f"{result['known']} already known, {len(recovered)} recovered"
        click.echo(f"run {escape_controls(run)}: {count_of(listed, 'STF')} listed by the monitor, {counts}")
        if recovered:
            click.echo(f"recovered: {escape_controls(format_names(recovered))}")
    if not listed:
        click.echo(f"fastmon-daemon: run {escape_controls(run)}: the monitor lists no STFs", err=True)
    sys.exit(0 if listed else 1)

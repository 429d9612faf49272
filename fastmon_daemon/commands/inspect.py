"""`fastmon-daemon inspect`: show STFs, runs and links, and which STFs are stuck and why. Read-only."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live

from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.base.links import links_for
from fastmon_daemon.commands.common import db_option, find_database, json_option, load_settings_with_errors
from fastmon_daemon.commands.formatting import console
from fastmon_daemon.commands.inspect_tables import render_inspection
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector, View, with_metadata
from fastmon_daemon.messages import run_identity
from fastmon_daemon.outbox import OutboxReader, open_for_reading, owner_of, shortage
from fastmon_daemon.presence.stuck import StuckRule
from fastmon_daemon.statechart import load_statechart

_DEFAULT_LIMIT = 20
_STATES = load_statechart("stf").states


@click.command(
    epilog="Exit codes: 0 nothing is stuck, 1 an STF is stuck or the disk is full, 2 usage error, 3 no database, "
    "78 invalid settings."
)
@click.argument("stf", required=False)
@db_option
@click.option(
    "--state", metavar="STATE", type=click.Choice(_STATES), help=f"List the STFs in STATE: {', '.join(_STATES)}."
)
@click.option("--run", type=run_identity, metavar="RUN", help="List the STFs of RUN.")
@click.option("--rejected", is_flag=True, help="List rejected messages.")
@click.option("--all", "everything", is_flag=True, help=f"List all entries, not only the first {_DEFAULT_LIMIT}.")
@json_option()
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value="2",
    metavar="[SECONDS]",
    help="Refresh every SECONDS (default 2) until Ctrl-C.",
)
@click.pass_context
def inspect(
    ctx: click.Context,
    *,
    stf: str | None,
    db: Path | None,
    state: str | None,
    run: str | None,
    rejected: bool,
    everything: bool,
    as_json: bool,
    watch: float | None,
) -> None:
    """Show STFs, runs and links, and which STFs are stuck and why.

    With STF, show the full history of that STF instead.

    An STF is stuck if it has failed, or if it has been in its state for more than FASTMON_STUCK_AFTER seconds (default
    60) and is not waiting for a link that is down. Without a running daemon, every unfinished STF is stuck.

    \b
    JSON keys, always:
      database, chosen_by, at, daemon (process id or null), stuck_after_s,
      stuck_count, intake_stopped (reason or null)
    Overview:
      states, stuck, oldest, links, rejected_count, runs, stages, counters
    With --state or --run, also:
      stf_count, stfs
    With --rejected:
      rejected_count, rejected (id, at, reason, bytes, body)
    With STF:
      stfs
    Each STF:
      stf, run, namespace, state, since, stuck, why, attempts, last_error,
      next, next_try_at
    Each STF, with STF, also:
      sequence, size_bytes, checksum, tf_count, execution_id, origin,
      included, life, received_at, born_at, remark, plan, stage, tfs, history
    Each run:
      namespace, run, run_id, state, execution_id, expected, expected_by,
      known, missing, monitor_count, absent, last_sequence, nameless,
      last_message_at, ended_at, ended_by, poll_at, polls, reconcile_error,
      summary_at, claimed, other_namespace, pruned
    """
    if (stf is not None and (state or rejected)) or (rejected and (state or run)):
        raise click.UsageError("STF, --state and --rejected cannot be combined, nor --rejected and --run")
    limit = -1 if everything else _DEFAULT_LIMIT
    path, source = find_database(db)
    settings = load_settings_with_errors()

    def read() -> View:
        with closing(open_for_reading(path)) as reports:
            context = InspectionContext(
                stuck=StuckRule(
                    chart=load_statechart("stf"),
                    links=links_for(settings.value("notify")),
                    stuck_after_s=settings.value("stuck_after_s"),
                ),
                now=utcnow(),
                daemon=owner_of(path),
            )
            inspector = Inspector(reports, context)
            if rejected:
                view = inspector.rejected(limit)
            elif stf is not None:
                view = _read_stf(inspector, reports, stf, run, f"{path} ({source})")
            else:
                view = inspector.overview(state=state, run=run, limit=limit)
                if run is not None and not view["runs"] and not any(view["states"].values()):
                    raise click.UsageError(f"no run {run!r} in {path} ({source})")
            intake_stopped = shortage(path, settings.value("min_free_mb"))
            return {**with_metadata(view, context, (str(path), source)), "intake_stopped": intake_stopped}

    ctx.exit(_show(read, as_json, watch))


def _read_stf(inspector: Inspector, reports: OutboxReader, name: str, run: str | None, database: str) -> View:
    view = inspector.stf_details(name, run)
    if not view["stfs"]:
        for pruned_run, at in reports.retention.find(name):
            raise click.UsageError(f"STF {name!r} was pruned with run {pruned_run} at {at}")
        where = f" of run {run!r}" if run else ""
        raise click.UsageError(f"no STF {name!r}{where} in {database}")
    return view


def _show(read: Callable[[], View], as_json: bool, interval_s: float | None) -> int:
    """Print the view, with *interval_s* repeatedly until Ctrl-C; return the exit code of the last one."""
    out = console()
    view = read()
    full_screen = interval_s is not None and out.is_terminal and not as_json
    screen = Live(console=out, auto_refresh=False, screen=True) if full_screen else nullcontext()
    try:
        with screen as live:
            while True:
                if live:
                    live.update(Group(*render_inspection(view)), refresh=True)
                else:
                    _print(view, out, as_json)
                if interval_s is None:
                    break
                if not live and not as_json:
                    click.echo("-" * 80)
                threading.Event().wait(interval_s)
                view = read()
    except KeyboardInterrupt:
        if interval_s is None:
            raise
    return 1 if view["stuck_count"] or view["intake_stopped"] else 0


def _print(view: View, out: Console, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    for part in render_inspection(view):
        out.print(part)
    sys.stdout.flush()

"""`fastmon-daemon inspect`: show STFs, runs and links, and which STFs are stuck and why. Read-only."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fastmon_daemon.base.output import drop_output
from fastmon_daemon.base.suggest import how_runs_are_named
from fastmon_daemon.commands.common import (
    EXIT_NOT_FOUND,
    CommandError,
    db_option,
    find_database,
    inspection_context,
    json_option,
    load_settings_with_errors,
)
from fastmon_daemon.commands.formatting import output_width, print_lines
from fastmon_daemon.commands.inspect_tables import RATE_BIN_S, RATE_BINS, render_inspection, render_screen
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector, View, near_name, with_metadata
from fastmon_daemon.messages import run_identity
from fastmon_daemon.outbox import OutboxReader, open_for_reading
from fastmon_daemon.presence.assessment import Problem
from fastmon_daemon.statechart import load_statechart

_DEFAULT_LIMIT = 20
_STATES = load_statechart("stf").states


@click.command(
    epilog="Exit codes: 0 nothing is wrong with the data, 1 an STF is stuck or missing in a run that ended, or the "
    "daemon cannot store or process STFs, 2 usage error, 3 no such STF, run or database, 78 invalid settings."
)
@click.argument("stf", required=False)
@db_option
@click.option(
    "--state",
    "state_filter",
    metavar="STATE",
    type=click.Choice(_STATES),
    help=f"List the STFs in STATE: {', '.join(_STATES)}.",
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
    state_filter: str | None,
    run: str | None,
    rejected: bool,
    everything: bool,
    as_json: bool,
    watch: float | None,
) -> None:
    """Show STFs, runs and links, and which STFs are stuck and why.

    With STF, show the full history of that STF instead.

    The first line is the verdict: all well, or what is wrong, since when, and what to do. The daemon's heart-beat,
    /healthz and /metrics begin with the same line. A link that is down is no fault of the data: the exit code is 0.

    An STF is stuck if it has failed, or if it has been in its state for more than FASTMON_STUCK_AFTER seconds (as the
    running daemon has it; default 60) and is not waiting for a link that is down. Without a running daemon, every
    unfinished STF is stuck.

    \b
    JSON keys, always:
      verdict (one line), problems (kind, name, reason, since, remedy),
      database, chosen_by, at, daemon (process id or null), stuck_after_s,
      stuck_count, intake_stopped (reason or null)
    Overview:
      states, stuck, oldest, links, rejected_count, runs, stages, counters
    With --state or --run, also:
      stf_count, stfs
    With --rejected:
      rejected_count, rejected (id, at, reason, bytes, body, is_whole)
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
      known, missing, monitor_count, absent, unlisted, last_sequence,
      nameless, last_message_at, ended_at, ended_by, poll_at, polls,
      reconcile_error, summary_at, claimed, other_namespace, pruned
    """
    if (stf is not None and (state_filter or rejected)) or (rejected and (state_filter or run)):
        raise click.UsageError("STF, --state and --rejected cannot be combined, nor --rejected and --run")
    limit = -1 if everything else _DEFAULT_LIMIT
    path, source = find_database(db)
    settings = load_settings_with_errors()

    def read() -> View:
        with closing(open_for_reading(path)) as reports:
            context = inspection_context(path, settings)
            inspector = Inspector(reports, context)
            if rejected:
                view = inspector.rejected(limit)
            elif stf is not None:
                view = _read_stf(inspector, reports, stf, run, f"{path} ({source})")
            else:
                view = inspector.overview(state=state_filter, run=run, limit=limit)
                if run is not None and not view["runs"] and not any(view["states"].values()):
                    raise _not_found(f"no run {run!r} in {path} ({source}){how_runs_are_named(run)}")
            view = with_metadata(view, inspector, context, (str(path), source))
            if watch is not None and not as_json and "states" in view:
                view["rates"] = _rates(reports, context)
            return view

    ctx.exit(_show(read, as_json, watch, whole=not (stf or state_filter or run)))


def _rates(reports: OutboxReader, context: InspectionContext) -> View:
    """Return the numbers of STFs received and completed in each period of the last five minutes."""
    completed = context.stuck.chart.success_state
    received, done = reports.periods.rates(completed, context.now, RATE_BINS, RATE_BIN_S)
    return {"received": received, "completed": done}


def _read_stf(inspector: Inspector, reports: OutboxReader, name: str, run: str | None, database: str) -> View:
    view = inspector.stf_details(name, run)
    if not view["stfs"]:
        for pruned_run, at in reports.retention.find(name):
            raise _not_found(f"STF {name!r} was pruned with run {pruned_run} at {at}")
        where = f" of run {run!r}" if run else ""
        raise _not_found(f"no STF {name!r}{where} in {database}{near_name(reports, name)}")
    return view


def _not_found(message: str) -> CommandError:
    return CommandError(message, EXIT_NOT_FOUND)


def _show(read: Callable[[], View], as_json: bool, interval_s: float | None, *, whole: bool) -> int:
    """Print the view, with *interval_s* repeatedly until Ctrl-C; return the exit code of the last one.

    *whole*: the view is that of the whole database, and so is the exit code.
    """
    view = read()
    full_screen = interval_s is not None and sys.stdout.isatty() and not as_json
    screen = Live(console=Console(highlight=False), auto_refresh=False, screen=True) if full_screen else nullcontext()
    try:
        with screen as live:
            while True:
                if live:
                    lines = render_screen(view, *live.console.size)
                    live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
                else:
                    _print(view, as_json)
                if interval_s is None:
                    break
                if not live and not as_json:
                    click.echo("-" * 80)
                    sys.stdout.flush()
                threading.Event().wait(interval_s)
                view = read()
    except KeyboardInterrupt:
        if interval_s is None:
            raise
        drop_output()
    concerns_data = any(Problem(**each).concerns_data for each in view["problems"])
    return 1 if view["stuck_count"] or view["intake_stopped"] or (whole and concerns_data) else 0


def _print(view: View, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(view, indent=2))
    else:
        print_lines(render_inspection(view, output_width()))

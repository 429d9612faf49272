"""`fastmon-daemon inspect`: what stands in the outbox, what is stuck and why. It reads, never writes.

This module owns the words of the command line and the way to the screen; what is said stands in `findings`, how it
looks in `tables`.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live

from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.base.links import links_for
from fastmon_daemon.commands.formatting import console, render_inspection
from fastmon_daemon.commands.startup import every_setting, found_database
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector, StfFilter, View, with_metadata
from fastmon_daemon.outbox import open_for_reading, owner_of, shortage
from fastmon_daemon.presence.stuck import StuckRule
from fastmon_daemon.settings import LoadResult
from fastmon_daemon.statechart import load_statechart

_SCREENFUL = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions:
    """What the command line asks."""

    name: str | None
    rejected: bool
    wanted: StfFilter


@click.command(epilog="Exit codes: 0 nothing is stuck, 1 something is or the disk is full, 2 usage, 3 no database.")
@click.argument("stf", required=False)
@click.option("--db", type=click.Path(path_type=Path), help="The database to read; looked for as the daemon does.")
@click.option(
    "--state", type=click.Choice(load_statechart("stf").states), help="Only STFs in this state, and list them."
)
@click.option("--run", help="Only STFs of this run, and list them.")
@click.option("--rejected", is_flag=True, help="List the messages that could not be taken.")
@click.option("--all", "everything", is_flag=True, help=f"List all, not only {_SCREENFUL}.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value="2",
    metavar="[SECONDS]",
    help="Look again every SECONDS (2) until Ctrl-C.",
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
    """Show the STFs by state, what is stuck and why, both links; or the whole life of one STF.

    An STF is stuck when it failed, or has been longer in its state than FASTMON_STUCK_AFTER seconds (60) and does not
    merely wait for a link that is down. Without a running daemon every unfinished STF is stuck.

    \b
    Keys of --json, always: database, chosen_by, at, daemon (process id or null), stuck_after_s, stuck_count,
    intake_stopped (why nothing more is stored, or null)
    Overview:        states, stuck, oldest, links, rejected_count, runs, stages, counters
    --state, --run:  also stf_count, stfs
    --rejected:      rejected_count, rejected (id, at, reason, bytes, body)
    STF:             stfs
    Of each STF: stf, run, namespace, state, since, stuck, why, attempts, last_error, next, next_try_at
    Of an STF by name also: sequence, size_bytes, checksum, tf_count, execution_id, origin, included, life,
    received_at, born_at, remark, plan, stage, tfs, history
    Of each run: namespace, run, run_id, state, execution_id, expected, expected_by, known, missing, monitor_count,
    absent, last_sequence, nameless, last_message_at, ended_at, ended_by, poll_at, polls, reconcile_error, summary_at
    """
    if (stf is not None and (state or rejected)) or (rejected and (state or run)):
        raise click.UsageError("STF, --state and --rejected cannot be combined, nor --rejected and --run")
    wanted = StfFilter(state=state, run=run, limit=-1 if everything else _SCREENFUL)
    question = InspectOptions(name=stf, rejected=rejected, wanted=wanted)
    path, chosen_by = found_database(db)
    reading = every_setting()

    def look() -> View:
        return _look(question, path, chosen_by, reading)

    ctx.exit(_show(look, as_json, watch))


def _look(question: InspectOptions, path: Path, chosen_by: str, reading: LoadResult) -> View:
    with closing(open_for_reading(path)) as reports:
        rules = InspectionContext(
            stuck=StuckRule(
                chart=load_statechart("stf"),
                links=links_for(reading.value("notify")),
                stuck_after_s=reading.value("stuck_after_s"),
            ),
            now=utcnow(),
            daemon=owner_of(path),
        )
        inspector, wanted = Inspector(reports, rules), question.wanted
        if question.rejected:
            view = inspector.rejected(wanted.limit)
        elif question.name is not None:
            view = inspector.stf_details(question.name, wanted.run)
            if not view["stfs"]:
                for run, at in reports.pruned_stf(question.name):
                    raise click.UsageError(f"{question.name!r} of run {run} was pruned with its run at {at}")
                where = f" of run {wanted.run!r}" if wanted.run else ""
                raise click.UsageError(f"no STF is called {question.name!r}{where} in {path} ({chosen_by})")
        else:
            view = inspector.overview(wanted)
            if wanted.run is not None and not view["runs"] and not any(view["states"].values()):
                raise click.UsageError(f"--run {wanted.run!r}: no such run in {path} ({chosen_by})")
        stopped = shortage(path, reading.value("min_free_mb"))
        return {**with_metadata(view, rules, (str(path), chosen_by)), "intake_stopped": stopped}


def _show(look: Callable[[], View], as_json: bool, watch: float | None) -> int:
    """Show a view, or one after another until Ctrl-C; returns the exit code of the last."""
    out = console()
    view = look()
    if watch is None:
        _print(view, out, as_json)
        return _exit_code(view)
    try:
        if out.is_terminal and not as_json:
            with Live(Group(*render_inspection(view)), console=out, auto_refresh=False, screen=True) as live:
                while True:
                    live.update(Group(*render_inspection(view)), refresh=True)
                    threading.Event().wait(watch)
                    view = look()
        while True:
            _print(view, out, as_json)
            if not as_json:
                click.echo("-" * 80)
            threading.Event().wait(watch)
            view = look()
    except KeyboardInterrupt:
        return _exit_code(view)


def _print(view: View, out: Console, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    for part in render_inspection(view):
        out.print(part)
    sys.stdout.flush()


def _exit_code(view: View) -> int:
    return 1 if view["stuck_count"] or view["intake_stopped"] else 0

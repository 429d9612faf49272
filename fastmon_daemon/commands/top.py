"""`fastmon-daemon top`: the whole screen, refreshed; `inspect --watch` of everything."""

from __future__ import annotations

from pathlib import Path

import click

from fastmon_daemon.commands.common import db_option
from fastmon_daemon.commands.inspect import inspect


@click.command(
    epilog="Exit codes: 0 nothing is wrong with the data, 1 something is, 2 usage error, 3 no database, "
    "78 invalid settings."
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Refresh every SECONDS.",
)
@db_option
@click.pass_context
def top(ctx: click.Context, every: float, db: Path | None) -> None:
    """Show the state of the daemon on the whole screen, until Ctrl-C.

    The screen has the verdict, links, calls in flight, STFs by state, rates of the last five minutes, runs, the oldest
    STF, and what is stuck. `inspect --watch` shows the same.
    """
    ctx.invoke(inspect, db=db, watch=every)

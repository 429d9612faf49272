"""`fastmon-daemon diagram`: draw a statechart, optionally with the number of STFs or runs in each state."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TextIO, get_args

import click

from fastmon_daemon.commands.common import db_option, find_database
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.statechart import StatechartName, load_statechart
from fastmon_daemon.statechart.diagram import Format, render

_CHARTS, _FORMATS = click.Choice(get_args(StatechartName)), click.Choice(get_args(Format))


@click.command(
    epilog="Exit codes: 0 done, 1 the extra svg is missing (--format svg), 2 usage error, 3 no database (--live)."
)
@click.option("--chart", "name", type=_CHARTS, default="stf", show_default=True, help="Statechart to draw.")
@click.option("--format", "form", type=_FORMATS, default="mermaid", show_default=True, help="Output format.")
@click.option("--live", is_flag=True, help="Show the number of STFs (or runs) in each state.")
@db_option
@click.option(
    "--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="Output file; - is stdout."
)
def diagram(name: StatechartName, form: Format, live: bool, db: Path | None, output: TextIO) -> None:
    """Draw the statechart of STFs or of runs.

    Each arrow names its trigger and, in parentheses, who decides it; a step needs no decision. In dot, steps are bold
    and actions of an operator are dashed.
    """
    if db is not None and not live:
        raise click.UsageError("--db needs --live")
    counts = _counts(name, db) if live else None
    output.write(render(load_statechart(name), form, counts))


def _counts(name: StatechartName, db: Path | None) -> dict[str, int]:
    path, source = find_database(db)
    with closing(open_for_reading(path)) as reports:
        click.echo(f"database: {path} ({source})", err=True)
        return reports.counts_by_state() if name == "stf" else reports.runs.counts()

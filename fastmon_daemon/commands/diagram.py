"""`fastmon-daemon diagram`: a chart as a picture, where wanted with the numbers of now in its states."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TextIO, get_args

import click

from fastmon_daemon.commands.startup import found_database
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.statechart import StatechartName, load_statechart
from fastmon_daemon.statechart.diagram import Format, render


@click.command()
@click.option(
    "--chart",
    "name",
    type=click.Choice(get_args(StatechartName)),
    default="stf",
    show_default=True,
    help="Which chart.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Format)),
    default="mermaid",
    show_default=True,
    help="Which language.",
)
@click.option("--live", is_flag=True, help="Write into each state how many STFs (or runs) are in it now.")
@click.option("--db", type=click.Path(path_type=Path), help="The database of --live; looked for as the daemon does.")
@click.option("--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="A file; else stdout.")
def diagram(name: StatechartName, form: Format, live: bool, db: Path | None, output: TextIO) -> None:
    """Draw the life of an STF, or of a run, as its chart has it.

    Thick arrows are steps, thin ones decisions of a program, dashed ones acts of a person.
    """
    if db is not None and not live:
        raise click.UsageError(f"--db {str(db)!r} is read for --live only: add --live, or leave it out")
    counts = _counts(name, db) if live else None
    output.write(render(load_statechart(name), form, counts))


def _counts(name: StatechartName, db: Path | None) -> dict[str, int]:
    path, chosen_by = found_database(db)
    with closing(open_for_reading(path)) as reports:
        click.echo(f"database: {path} ({chosen_by})", err=True)
        return reports.counts_by_state() if name == "stf" else reports.run_counts()

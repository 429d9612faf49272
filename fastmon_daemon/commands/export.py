"""`fastmon-daemon export`: failed STFs and rejected messages as JSON lines."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from fastmon_daemon.commands.startup import existing_database
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.statechart import load_statechart


@click.command()
@click.option("--only", type=click.Choice(["failed", "rejected"]), help="Only these.")
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="Database file; as the daemon's.")
def export(only: str | None, db: Path | None) -> None:
    """Write failed STFs (whole, with TF files and history) and rejected messages, one JSON object a line. Reads only.

    Exit codes: 0 done, 2 usage, 3 no database.
    """
    chart = load_statechart("stf")
    with closing(open_for_reading(existing_database(db))) as reports:
        if only != "rejected":
            for state in (state for state in chart.states if chart.may(state, "retry")):
                for stf in reports.list_stfs(state=state, limit=-1):
                    history = [asdict(row) for row in reports.history(stf.id)]
                    click.echo(json.dumps({"kind": "failed", **asdict(stf), "history": history}))
        if only != "failed":
            for row in reports.rejected(-1):
                click.echo(json.dumps({"kind": "rejected", **asdict(row)}))

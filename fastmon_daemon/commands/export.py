"""`fastmon-daemon export`: print failed STFs and rejected messages as JSON lines."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from fastmon_daemon.commands.common import db_option, require_database
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.statechart import load_statechart


@click.command(epilog="Exit codes: 0 done, 2 usage error, 3 no database.")
@click.option("--only", type=click.Choice(["failed", "rejected"]), help="Print only these.")
@db_option
def export(only: str | None, db: Path | None) -> None:
    """Print failed STFs and rejected messages as JSON lines.

    Failed STFs include their TF files and history. The database is opened read-only.
    """
    chart = load_statechart("stf")
    with closing(open_for_reading(require_database(db))) as reports:
        if only != "rejected":
            for state in (state for state in chart.states if chart.may(state, "retry")):
                for stf in reports.find([state]):
                    history = [asdict(row) for row in reports.history(stf.id)]
                    click.echo(json.dumps({"kind": "failed", **asdict(stf), "history": history}))
        if only != "failed":
            for row in reports.rejected():
                click.echo(json.dumps({"kind": "rejected", **asdict(row)}))

"""`fastmon-daemon forget`: a whole run is dropped."""

from __future__ import annotations

from pathlib import Path

import click

from fastmon_daemon.acts import Wish
from fastmon_daemon.commands.acting import common, perform, person


@click.command()
@click.option("--run", required=True, help="The run.")
@click.option("--unfinished-too", is_flag=True, help="Also if some of its STFs are unfinished.")
@click.option("--namespace", help="The namespace, where the run is in several.")
@common
def forget(run: str, namespace: str | None, unfinished_too: bool, db: Path | None, yes: bool, as_json: bool) -> None:
    """Drop all that is known of a run: for a monitor that was reset and counts its runs anew. It asks first.

    Exit codes: 0 done, 1 not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    wish = Wish(act="forget", by=person(), run=run, namespace=namespace, unfinished_too=unfinished_too)
    perform(wish, db, yes=yes, as_json=as_json, several=True)

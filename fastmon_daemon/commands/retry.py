"""`fastmon-daemon retry`: failed STFs begin their next life."""

from __future__ import annotations

from pathlib import Path

import click

from fastmon_daemon.acts import Wish
from fastmon_daemon.commands.acting import common, perform, person


@click.command()
@click.argument("stf", nargs=-1)
@click.option("--all-failed", is_flag=True, help="All failed STFs.")
@click.option("--run", help="Only STFs of this run.")
@click.option("--reason", default="", help="Why; it stands in the history.")
@click.option("--namespace", help="The namespace, where the run is in several.")
@common
def retry(
    stf: tuple[str, ...],
    all_failed: bool,
    run: str | None,
    namespace: str | None,
    reason: str,
    db: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Process failed STFs again, each with the sample that it has. More than one asks first.

    Exit codes: 0 done, 1 something was not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    if bool(stf) == all_failed:
        raise click.UsageError("name STFs, or say --all-failed")
    wish = Wish(act="retry", by=person(), reason=reason, stfs=stf, run=run, namespace=namespace, all=all_failed)
    perform(wish, db, yes=yes, as_json=as_json, several=all_failed or len(stf) > 1)

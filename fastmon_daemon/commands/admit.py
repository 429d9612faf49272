"""`fastmon-daemon admit`: STFs that were not selected are processed after all."""

from __future__ import annotations

from pathlib import Path

import click

from fastmon_daemon.acts import Wish
from fastmon_daemon.commands.acting import common, perform, person


@click.command()
@click.argument("stf", nargs=-1, required=True)
@click.option("--reason", default="", help="Why; it stands in the history.")
@click.option("--run", help="The run, where the name is in several.")
@click.option("--namespace", help="The namespace, where the run is in several.")
@common
def admit(
    stf: tuple[str, ...], reason: str, run: str | None, namespace: str | None, db: Path | None, yes: bool, as_json: bool
) -> None:
    """Process STFs that were skipped because they were not selected. More than one asks first.

    Exit codes: 0 done, 1 something was not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    wish = Wish(act="admit", by=person(), reason=reason, stfs=stf, run=run, namespace=namespace)
    perform(wish, db, yes=yes, as_json=as_json, several=len(stf) > 1)

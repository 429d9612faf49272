"""`fastmon-daemon release`: refused messages are parsed again."""

from __future__ import annotations

from pathlib import Path

import click

from fastmon_daemon.acts import Wish
from fastmon_daemon.commands.acting import common, perform, person


@click.command()
@click.argument("number", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All refused messages.")
@common
def release(number: tuple[int, ...], everything: bool, db: Path | None, yes: bool, as_json: bool) -> None:
    """Parse refused messages again, by their NUMBER in `inspect --refused`; those that can be taken now are taken.

    Exit codes: 0 done, 1 something was not done, 2 usage, 3 no database, 75 the daemon is busy.
    """
    if bool(number) == everything:
        raise click.UsageError("give numbers, or say --all")
    wish = Wish(act="release", by=person(), ids=number, all=everything)
    perform(wish, db, yes=yes, as_json=as_json, several=everything or len(number) > 1)

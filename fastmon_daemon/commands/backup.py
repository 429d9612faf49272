"""`fastmon-daemon backup`: a copy of the database, also while the daemon works."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from fastmon_daemon.commands.formatting import escape_controls
from fastmon_daemon.commands.startup import PROGRESS_AFTER_S, existing_database
from fastmon_daemon.outbox import back_up

_LINE_EVERY_S = 1.0


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="Database file; as the daemon's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: database, backup, bytes, stfs.")
def backup(file: Path, db: Path | None, as_json: bool) -> None:
    """Copy the database to FILE, which must not exist. A running daemon goes on meanwhile; the copy is checked.

    To go on from a backup, stop the daemon, move its database away with -wal and -shm, and copy FILE to its place.
    Exit codes: 0 done, 1 not done, 2 usage, 3 no database, 75 the disk is full.
    """
    path = existing_database(db)
    made = back_up(path, file, _Progress())
    if as_json:
        click.echo(json.dumps({"database": str(path), "backup": str(file), **asdict(made)}))
    else:
        megabytes = made.bytes / 1_000_000
        click.echo(f"{escape_controls(file)}: {megabytes:.1f} MB, {made.stfs} STFs of {escape_controls(path)}, checked")


class _Progress:
    """A line on stderr now and then, where it takes long enough to wonder."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._say_at = monotonic() + PROGRESS_AFTER_S

    def __call__(self, done: int, total: int) -> None:
        if self._monotonic() >= self._say_at:
            self._say_at = self._monotonic() + _LINE_EVERY_S
            click.echo(f"copied {done} of {total} pages ({100 * done // max(total, 1)} %)", err=True)

"""`fastmon-daemon backup`: copy the database, also while a daemon uses it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from fastmon_daemon.base.text import count_of, escape_controls
from fastmon_daemon.commands.common import PROGRESS_AFTER_S, db_option, json_option, require_database
from fastmon_daemon.outbox import back_up

_PROGRESS_EVERY_S = 1.0


@click.command(epilog="Exit codes: 0 done, 1 backup failed, 2 usage error, 3 no database, 75 disk full.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@db_option
@json_option("database, backup, bytes, stfs")
def backup(file: Path, db: Path | None, as_json: bool) -> None:
    """Copy the database to FILE and verify the copy.

    FILE must not exist. A running daemon is not disturbed.

    To restore: stop the daemon, move the database and its -wal and -shm files away, and copy FILE to the path of the
    database.
    """
    path = require_database(db)
    result = back_up(path, file, _Progress())
    if as_json:
        click.echo(json.dumps({"database": str(path), "backup": str(file), **asdict(result)}))
    else:
        content = f"{result.bytes / 1_000_000:.1f} MB, {count_of(result.stfs, 'STF')} from {escape_controls(path)}"
        click.echo(f"{escape_controls(file)}: {content}, verified")


class _Progress:
    """Prints the progress of a long copy to stderr, once a second."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._print_at = monotonic() + PROGRESS_AFTER_S

    def __call__(self, done: int, total: int) -> None:
        if self._monotonic() >= self._print_at:
            self._print_at = self._monotonic() + _PROGRESS_EVERY_S
            click.echo(f"copied {done} of {total} pages ({100 * done // max(total, 1)} %)", err=True)

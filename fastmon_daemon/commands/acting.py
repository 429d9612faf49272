"""How an act is done: over the control socket when the daemon runs, else with the lock taken and by ourselves."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from fastmon_daemon.acts import Acts, Wish
from fastmon_daemon.clock import utcnow
from fastmon_daemon.commands.tables import visible
from fastmon_daemon.control import ask
from fastmon_daemon.errors import PermanentError, StorageError, TransientError
from fastmon_daemon.intake import Intake
from fastmon_daemon.lifecycle import load_chart
from fastmon_daemon.outbox import Lock, open_outbox, owner_of
from fastmon_daemon.settings import Settings, database_to_read, read_environment

BUSY = 75

F = TypeVar("F", bound=Callable[..., Any])


def common(command: F) -> F:
    """The options that every act has."""
    command = click.option("--json", "as_json", is_flag=True, help="The outcome as one JSON object: done, refused.")(
        command
    )
    command = click.option("--yes", is_flag=True, help="Do not ask, also for more than one.")(command)
    return click.option(
        "--db", type=click.Path(path_type=Path, dir_okay=False), help="Database file; looked for as the daemon does."
    )(command)


def database(db: Path | None) -> Path:
    """The database that is meant. Raises `StorageError` where there is none."""
    values = read_environment(os.environ, working_folder=Path.cwd(), home=Path.home())
    path, _ = database_to_read(db, values, Path.home())
    if not path.is_file():
        raise StorageError(f"{path}: no such database: start fastmon-daemon, or name it with FASTMON_DB")
    return path


def person() -> str:
    """Who is at the terminal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user id {os.getuid()}"


def perform(wish: Wish, db: Path | None, *, yes: bool, as_json: bool, several: bool) -> None:
    """Do it, say what was done, and exit: 0 done, 1 something was not done, 2 not confirmed, 75 the daemon is busy."""
    path = database(db)
    if several and not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError(f"{wish.act} of more than one: add --yes")
        click.confirm(f"{wish.act} of more than one in {path}: go on?", abort=True, err=True)
    try:
        outcome = ask(path, wish.as_dict()) if owner_of(path) is not None else _by_ourselves(wish, path)
    except TransientError as exc:
        click.echo(f"fastmon-daemon: {exc}", err=True)
        sys.exit(BUSY)
    if "error" in outcome:
        raise PermanentError(str(outcome["error"]))
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        for name in outcome["done"]:
            click.echo(f"{wish.act}: {visible(name)}")
    for name, why in outcome["refused"].items():
        click.echo(f"fastmon-daemon: {visible(name)}: {why}", err=True)
    sys.exit(1 if outcome["refused"] else 0)


def _by_ourselves(wish: Wish, path: Path) -> dict[str, Any]:
    namespace = ""
    if wish.act == "release":  # only a message that is taken in must be ours
        namespace = Settings.load(os.environ, working_folder=Path.cwd(), home=Path.home()).namespace
    charts = (load_chart("stf"), load_chart("run"))
    acts = Acts(charts[0], Intake(path, namespace, "", charts), alone=True)
    with Lock(path):
        outbox = open_outbox(path)
        try:
            with outbox.transaction():
                return asdict(acts.do(wish, outbox, utcnow()))
        finally:
            outbox.close()

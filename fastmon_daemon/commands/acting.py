"""How an act is done: over the control socket when the daemon runs, else with the lock taken and by ourselves."""

from __future__ import annotations

import getpass
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from fastmon_daemon.acts import Acts, Outcome, Wish, in_portions
from fastmon_daemon.clock import stamp, utcnow
from fastmon_daemon.commands.tables import visible
from fastmon_daemon.control import ask
from fastmon_daemon.errors import PermanentError, StorageError, TransientError
from fastmon_daemon.intake import Intake
from fastmon_daemon.lifecycle import load_chart
from fastmon_daemon.outbox import Lock, open_for_reading, open_outbox, owner_of
from fastmon_daemon.settings import Settings, database_to_read, read_environment

BUSY = 75
PROGRESS_AFTER_S = 2.0
PROGRESS_EVERY_S = 5.0

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


@contextmanager
def saying_so(what: str) -> Iterator[None]:
    """Tell people now and then that they wait for *what*, where it takes long enough to wonder."""
    done, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        pause_s = PROGRESS_AFTER_S
        while not done.wait(pause_s):
            click.echo(f"waiting for {what}, {time.monotonic() - begun:.0f} s so far", err=True)
            pause_s = PROGRESS_EVERY_S

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def perform(wish: Wish, db: Path | None, *, yes: bool, as_json: bool, several: bool) -> None:
    """Do it, say what was done, and exit: 0 done, 1 something was not done, 2 not confirmed, 75 the daemon is busy."""
    path = database(db)
    if wish.act == "release" and wish.all:
        with closing(open_for_reading(path)) as reports:
            wish = replace(wish, ids=tuple(reports.refused_numbers()))
    if several and not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError(f"{wish.act} of more than one: add --yes")
        click.confirm(f"{wish.act} of {_how_many(wish, path)} in {path}: go on?", abort=True, err=True)
    wish = replace(wish, before=stamp(utcnow()))
    total = Outcome()
    try:
        alive = owner_of(path) is not None
        for outcome in in_portions(wish, partial(_asked, path)) if alive else _by_ourselves(wish, path):
            total.add(outcome)
    except TransientError as exc:
        _say(wish, total, as_json=as_json)
        click.echo(f"fastmon-daemon: {exc}", err=True)
        sys.exit(BUSY)
    _say(wish, total, as_json=as_json)
    sys.exit(1 if total.refused else 0)


def _how_many(wish: Wish, path: Path) -> str:
    """What it is about, in words; counted without a lock."""
    with closing(open_for_reading(path)) as reports:
        if wish.act == "release":
            return f"{len(wish.ids)} refused messages"
        if wish.act == "forget":
            return f"run {visible(wish.run)} with {reports.count_stfs(None, wish.run, wish.namespace)} STFs"
        if not wish.all:
            return f"{len(wish.stfs)} STFs"
        chart = load_chart("stf")
        states = (state for state in chart.states if chart.may(state, wish.act))
        return f"{sum(reports.count_stfs(state, wish.run, wish.namespace) for state in states)} STFs"


def _asked(path: Path, wish: Wish) -> Outcome:
    answer = ask(path, wish.as_dict())
    if "error" in answer:
        raise PermanentError(str(answer["error"]))
    return Outcome(**answer)


def _say(wish: Wish, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"done": outcome.done, "refused": outcome.refused}))
    else:
        for name in outcome.done:
            click.echo(f"{wish.act}: {visible(name)}")
    for name, why in outcome.refused.items():
        click.echo(f"fastmon-daemon: {visible(name)}: {why}", err=True)


def _by_ourselves(wish: Wish, path: Path) -> Iterator[Outcome]:
    namespace = ""
    if wish.act == "release":  # only a message that is taken in must be ours
        namespace = Settings.load(os.environ, working_folder=Path.cwd(), home=Path.home()).namespace
    charts = (load_chart("stf"), load_chart("run"))
    acts = Acts(charts[0], Intake(path, namespace, "", charts), alone=True)
    with Lock(path), closing(open_outbox(path)) as outbox:

        def do(portion: Wish) -> Outcome:
            with outbox.transaction():
                return acts.do(portion, outbox, utcnow())

        yield from in_portions(wish, do)

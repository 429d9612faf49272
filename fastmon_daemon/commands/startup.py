"""What a command takes from the process that it runs in: settings, the database that is meant, where log lines go.

This module owns the working folder, the home folder and the environment, so that all commands read the same.
"""

from __future__ import annotations

import getpass
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastmon_daemon.base import logs
from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.settings import (
    LoadResult,
    Settings,
    all_settings,
    database_to_read,
    database_to_write,
    read_environment,
    read_settings,
)

if TYPE_CHECKING:
    from fastmon_daemon.service import ProcessContext

PROGRESS_AFTER_S = 2.0
PROGRESS_EVERY_S = 5.0


def variables() -> Mapping[str, str]:
    """Return the environment with what the `.env` files add to it."""
    return read_environment(os.environ, **_folders())


def every_setting() -> LoadResult:
    """Return every setting, or what is wrong about it."""
    return read_settings(all_settings(), os.environ, **_folders())


def load_settings(**changes: str | None) -> Settings:
    """Return the settings; those of *changes* that are not None win over the environment. Raises `ConfigError`."""
    return Settings.load(_environ(changes), **_folders())


def load_process(
    db: Path | None = None, *, log_level: str | None = None, journal: bool = False, **changes: str | None
) -> ProcessContext:
    """Return the settings and the database of the daemon, and send log lines to stderr from now on.

    *db* is the option's; *log_level* wins over SWF_LOG_LEVEL; with *journal* the lines are the journal's where it
    reads them; *changes* are those of `load_settings`. Raises `ConfigError`.
    """
    from fastmon_daemon.service import ProcessContext  # heavy, and of no use to those that only read a database

    settings = load_settings(**changes)
    values = read_environment(_environ(changes), **_folders())
    secrets = logs.SecretRedactor(settings.monitor_token, settings.broker_password)
    logs.configure(log_level or settings.log_level, secrets, journal=journal and "JOURNAL_STREAM" in values)
    path, rule = database_to_write(db, values, Path.home())
    return ProcessContext(
        settings=settings, values=values, database=path.absolute(), database_rule=rule, secrets=secrets
    )


def found_database(db: Path | None) -> tuple[Path, str]:
    """Return the database to read, there or not, and the rule that chose it; *db* is the option's."""
    return database_to_read(db, variables(), Path.home())


def existing_database(db: Path | None) -> Path:
    """Return the database that is meant. Raises `StorageError` where there is none."""
    path, _ = found_database(db)
    if not path.is_file():
        raise StorageError(f"{path}: no such database: start fastmon-daemon, or name it with FASTMON_DB")
    return path


def current_user() -> str:
    """Return the name of the user whose process this is."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user id {os.getuid()}"


@contextmanager
def report_progress(what: str) -> Iterator[None]:
    """Say on stderr now and then that *what* is waited for, where it takes long enough to wonder."""
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


def _environ(changes: Mapping[str, str | None]) -> dict[str, str]:
    return {**os.environ, **{name: text for name, text in changes.items() if text is not None}}


def _folders() -> dict[str, Path]:
    return {"working_folder": Path.cwd(), "home": Path.home()}

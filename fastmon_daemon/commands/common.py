"""What the commands share: options, settings and database of this process, progress messages.

Only this module reads the environment, the working folder and the home folder.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from fastmon_daemon.base import logs
from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.base.users import user_name
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
    from fastmon_daemon.inspection.inspector import InspectionContext
    from fastmon_daemon.service import ProcessContext

EXIT_TRY_AGAIN = 75
EXIT_NOT_FOUND = 3
"""No such run, STF or database."""
PROGRESS_AFTER_S = 2.0
PROGRESS_EVERY_S = 5.0

F = TypeVar("F", bound=Callable[..., Any])


db_option = click.option(
    "--db",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),
    help="Database file; overrides FASTMON_DB.",
)

namespace_option = click.option(
    "--namespace", metavar="NAMESPACE", help="Namespace of the run, if it exists in several namespaces."
)


class CommandError(click.ClickException):
    """An error that a command reports with an exit code of its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error as one line, like all others."""
        click.echo(f"fastmon-daemon: {escape_controls(self.message)}", file=file, err=True)


def json_option(keys: str = "") -> Callable[[F], F]:
    """Return the option `--json`; *keys* are those of its object, if they are few."""
    help_text = f"Print one JSON object with the keys {keys}." if keys else "Print one JSON object."
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def rate_option(default_hz: float) -> Callable[[F], F]:
    """Return the option `--rate` of the simulated DAQ."""
    rates = click.FloatRange(min=0, min_open=True)
    return click.option(
        "--rate", type=rates, default=default_hz, show_default=True, metavar="HZ", help="STFs per second."
    )


def read_variables() -> Mapping[str, str]:
    """Return the environment merged with the `.env` files."""
    return read_environment(os.environ, **_folders())


def load_settings_with_errors() -> LoadResult:
    """Return all settings; invalid ones are in its *errors*."""
    return read_settings(all_settings(), os.environ, **_folders())


def load_settings(**overrides: str | None) -> Settings:
    """Return the settings; *overrides* that are not None replace environment variables. Raises: ConfigError."""
    return Settings.load(_environ(overrides), **_folders())


def load_context(
    db: Path | None = None, *, log_level: str | None = None, of_daemon: bool = False, **overrides: str | None
) -> ProcessContext:
    """Return the settings and the database of a daemon, and start logging to stderr.

    *db* is the value of `--db`; *log_level* overrides SWF_LOG_LEVEL; *of_daemon*: in the format that the settings
    choose, else as text; *overrides* as in `load_settings`. Raises: ConfigError.
    """
    from fastmon_daemon.service import ProcessContext  # slow to import, and most commands only read a database

    settings = load_settings(**overrides)
    values = read_environment(_environ(overrides), **_folders())
    secrets = logs.SecretRedactor(settings.monitor_token, settings.broker_password, settings.http_token)
    form = logs.choose_format(settings.log_format if of_daemon else "text", values)

    def set_log_level(level: str) -> None:
        logs.configure(level, secrets, form)

    def read_again() -> Settings:
        new = load_settings(**overrides)
        for secret in (new.monitor_token, new.broker_password, new.http_token):
            secrets.add(secret)
        return new

    set_log_level(log_level or settings.log_level)
    path, rule = database_to_write(db, values, _home())
    return ProcessContext(
        settings=settings,
        values=values,
        database=_absolute(path),
        database_rule=rule,
        secrets=secrets,
        read_settings=read_again,
        set_log_level=set_log_level,
    )


def find_database(db: Path | None) -> tuple[Path, str]:
    """Return the database to read, which may not exist, and the source of its path; *db* is the value of `--db`."""
    path, source = database_to_read(db, read_variables(), _home())
    return _absolute(path), source


def database_for_daemon() -> tuple[Path, str]:
    """Return the database that `run` would use, and the source of its path."""
    path, source = database_to_write(None, read_variables(), _home())
    return _absolute(path), source


def require_database(db: Path | None) -> Path:
    """Return the existing database to use; *db* is the value of `--db`.

    Raises: StorageError if there is none, or this user may not read it.
    """
    from fastmon_daemon.outbox import check_exists  # slow to import

    path, _ = find_database(db)
    check_exists(path)
    return path


def inspection_context(database: Path, settings: LoadResult) -> InspectionContext:
    """Return what the views of *database* depend on now: the settings of its daemon, or else *settings*."""
    from fastmon_daemon.actions.daemon_state import ask_daemon
    from fastmon_daemon.inspection.inspector import InspectionContext
    from fastmon_daemon.outbox import owner_of
    from fastmon_daemon.presence.assessment import assessment_rule

    daemon = owner_of(database)
    state = ask_daemon(database) if daemon is not None else None
    value = partial(state.value, otherwise=settings.value) if state else settings.value
    return InspectionContext(
        rule=assessment_rule(value), now=utcnow(), daemon=daemon, process=state.process if state else None
    )


def current_user() -> str:
    """Return the name of the user who runs this process, by the kernel's word and not by that of the environment."""
    return user_name(os.getuid())


@contextmanager
def report_progress(what: str) -> Iterator[None]:
    """Print to stderr every few seconds that the block is waiting for *what*."""
    done, started = threading.Event(), time.monotonic()

    def report() -> None:
        pause_s = PROGRESS_AFTER_S
        while not done.wait(pause_s):
            click.echo(f"waiting for {what} ({time.monotonic() - started:.0f} s)", err=True)
            pause_s = PROGRESS_EVERY_S

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def _environ(overrides: Mapping[str, str | None]) -> dict[str, str]:
    return {**os.environ, **{name: text for name, text in overrides.items() if text is not None}}


def _folders() -> dict[str, Path | None]:
    return {"working_folder": _working_folder(), "home": _home()}


def _home() -> Path | None:
    """Return the home folder; None if HOME is not set and the user is not in the list of users."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _working_folder() -> Path | None:
    """Return the working folder; None if it was deleted, or its path may not be read."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _absolute(path: Path) -> Path:
    folder = _working_folder()
    if folder is None and not path.is_absolute():
        raise ConfigError(f"{path}: the working folder does not exist any more: use an absolute path")
    return (folder or Path("/")) / path

"""The path of the database file: from `--db` or FASTMON_DB, else in the first usable state folder."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings.environment import from_home

SYSTEM_STATE_FOLDER = Path("/var/lib/fastmon-daemon")
DATABASE_NAME = "outbox.db"


def database_to_write(
    option: Path | None, environ: Mapping[str, str], home: Path | None, system_folder: Path = SYSTEM_STATE_FOLDER
) -> tuple[Path, str]:
    """Return the database file of a daemon, and the source of that path (to show to users).

    *option* is the value of `--db`; *environ* is the result of `read_environment`; *home* is None if there is none.
    Raises: ConfigError if no place is left without a home folder.
    """
    for path, source in _candidates(option, environ, home, system_folder):
        if path.parent != system_folder or os.access(system_folder, os.W_OK | os.X_OK):
            return path, source
    raise ConfigError("there is no home folder for the database: set FASTMON_DB, or HOME")


def database_to_read(
    option: Path | None, environ: Mapping[str, str], home: Path | None, system_folder: Path = SYSTEM_STATE_FOLDER
) -> tuple[Path, str]:
    """Return the first candidate that exists, else `database_to_write`; arguments and result are the same.

    One that may exist in a folder of another user comes after those that can be seen.
    """
    hidden: list[tuple[Path, str]] = []
    for path, source in _candidates(option, environ, home, system_folder):
        try:
            path.stat()
        except PermissionError:
            hidden.append((path, source))
        except OSError:
            continue
        else:
            return path, source
    return hidden[0] if hidden else database_to_write(option, environ, home, system_folder)


def _candidates(
    option: Path | None, environ: Mapping[str, str], home: Path | None, system_folder: Path
) -> Iterator[tuple[Path, str]]:
    if option is not None:
        yield option, "--db"
        return
    if setting := environ.get("FASTMON_DB"):
        try:
            yield from_home(Path(setting), home), "FASTMON_DB"
        except ValueError as error:
            raise ConfigError(f"FASTMON_DB={setting!r}: {error}") from None
        return
    if state_folder := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        yield Path(state_folder, DATABASE_NAME), "$STATE_DIRECTORY"
    yield system_folder / DATABASE_NAME, str(system_folder)
    if state_home := environ.get("XDG_STATE_HOME"):
        yield Path(state_home, "fastmon-daemon", DATABASE_NAME), "$XDG_STATE_HOME"
    elif home is not None:
        yield home / ".local/state/fastmon-daemon" / DATABASE_NAME, "~/.local/state"

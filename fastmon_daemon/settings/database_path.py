"""The path of the database file: from `--db` or FASTMON_DB, else in the first usable state folder."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastmon_daemon.base.errors import ConfigError, StorageError
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
    Raises: StorageError if several instances of the unit's template have a database, and nothing chooses one.
    """
    hidden: list[tuple[Path, str]] = []
    for candidate in _candidates(option, environ, home, system_folder):
        of_unit = candidate[1] == str(system_folder)
        found: list[tuple[Path, str]] = []
        for each in (candidate, *(_instances(system_folder) if of_unit else ())):
            try:
                each[0].stat()
            except PermissionError:
                hidden.append(each)
            except OSError:
                continue
            else:
                found.append(each)
        if len(found) > 1 and candidate not in found:
            paths = ", ".join(str(path) for path, _ in found)
            raise StorageError(f"several daemons have a database: {paths}: choose one with --db or FASTMON_DB")
        if found:
            return found[0]
    return hidden[0] if hidden else database_to_write(option, environ, home, system_folder)


def _instances(system_folder: Path) -> Iterator[tuple[Path, str]]:
    """Where the instances of `fastmon-daemon@.service` have their databases."""
    try:
        folders = sorted(system_folder.iterdir())
    except OSError:
        return
    for folder in folders:
        yield folder / DATABASE_NAME, f"instance {folder.name}"


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

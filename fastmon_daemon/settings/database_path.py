"""Where the database file is: the one asked for, else the first state folder that applies.

This module owns the order of the candidates. It must not know what the file holds, nor open it.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastmon_daemon.settings.environment import from_home

SYSTEM_STATE_FOLDER = Path("/var/lib/fastmon-daemon")
DATABASE_NAME = "outbox.db"


def database_to_write(
    asked: Path | None, environ: Mapping[str, str], home: Path, system_folder: Path = SYSTEM_STATE_FOLDER
) -> tuple[Path, str]:
    """Return the database file of the daemon and the rule that chose it, for people to read.

    `asked` is an option's or `Settings.db`; `environ` is what `read_environment` returned.
    """
    return next(
        (path, rule)
        for path, rule in _candidates(asked, environ, home, system_folder)
        if path.parent != system_folder or os.access(system_folder, os.W_OK | os.X_OK)
    )


def database_to_read(
    asked: Path | None, environ: Mapping[str, str], home: Path, system_folder: Path = SYSTEM_STATE_FOLDER
) -> tuple[Path, str]:
    """Return the first database that exists, else the one to write; one that was asked for by name is final."""
    for path, rule in _candidates(asked, environ, home, system_folder):
        if os.access(path, os.F_OK):
            return path, rule
    return database_to_write(asked, environ, home, system_folder)


def _candidates(
    asked: Path | None, environ: Mapping[str, str], home: Path, system_folder: Path
) -> Iterator[tuple[Path, str]]:
    if asked is not None:
        yield asked, "asked for"
        return
    if named := environ.get("FASTMON_DB"):
        yield from_home(Path(named), home), "FASTMON_DB"
        return
    if state_folder := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        yield Path(state_folder, DATABASE_NAME), "$STATE_DIRECTORY"
    yield system_folder / DATABASE_NAME, str(system_folder)
    rule = "$XDG_STATE_HOME" if environ.get("XDG_STATE_HOME") else "~/.local/state"
    user_folder = Path(environ.get("XDG_STATE_HOME") or home / ".local/state")
    yield user_folder / "fastmon-daemon" / DATABASE_NAME, rule

"""`fastmon-daemon files`: write out what an installation needs beside the program."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.commands.common import CommandError

_PACKAGED = Path(__file__).parents[1] / "files"
"""In an installed package; else the files are in the repository."""
_REPOSITORY = Path(__file__).parents[2]
_FOLDERS = ("systemd", "deploy")
_SETTINGS = ".env.example"
_PROGRAMS = ("fastmon-daemon", "fastmon-client")
_USUAL = "/usr/local/bin"
"""Where the units expect the programs."""


@click.command(epilog="Exit codes: 0 written, 1 not written, 2 usage error.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def files(folder: Path) -> None:
    """Write what an installation needs to FOLDER.

    These are the systemd units, the supervisord section, .env.example, alerts, and a dashboard for Grafana. Units name
    the programs of this installation. Existing files are not overwritten.
    """
    source = _PACKAGED if _PACKAGED.is_dir() else _REPOSITORY
    wanted = [(path, folder / path.relative_to(source)) for path in _all_files(source)]
    if existing := [str(target) for _, target in wanted if target.exists()]:
        raise CommandError(f"{existing[0]}: file exists and is not overwritten: choose another folder", 1)
    try:
        for path, target in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_with_programs(path.read_text(encoding="utf-8")), encoding="utf-8")
            click.echo(escape_controls(str(target)))
    except OSError as exc:
        raise CommandError(f"{exc.filename}: cannot be written: {exc.strerror}", 1) from exc


def _all_files(source: Path) -> Iterator[Path]:
    yield source / _SETTINGS
    for name in _FOLDERS:
        yield from (path for path in sorted((source / name).rglob("*")) if path.is_file())


def _with_programs(text: str) -> str:
    """Return *text* with the paths of our programs where they are."""
    for name in _PROGRAMS:
        if found := shutil.which(name, path=str(Path(sys.argv[0]).absolute().parent)) or shutil.which(name):
            text = text.replace(f"{_USUAL}/{name}", found)
    return text

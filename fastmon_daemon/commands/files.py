"""`fastmon-daemon files`: write out what an installation needs beside the program."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.commands.common import CommandError

_PACKAGED = Path(__file__).parents[1] / "files"
"""In an installed package; else the files are in the repository."""
SOURCE = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2]
_FOLDERS = ("systemd", "deploy", "man", "docs/schemas")
_RUNBOOK = "docs/runbook.md"
_SETTINGS = ".env.example"
_PROGRAMS = ("fastmon-daemon", "fastmon-client")
_USUAL = "/usr/local/bin"
"""Where the units expect the programs."""
_RUNBOOK_URL = "https://docs.example/fastmon/runbook.html"
"""In the alerts, for the address at which an operator serves the runbook."""


def _address(_ctx: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"https?://[^\s#\"']+", text):
        raise click.BadParameter(f"{text!r}: expected http(s)://HOST/PATH without #")
    return text


@click.command(epilog="Exit codes: 0 written, 1 not written, 2 usage error.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--runbook-url",
    metavar="URL",
    callback=_address,
    help="Address at which you serve docs/runbook.md: the alerts link to it.",
)
def files(folder: Path, runbook_url: str | None) -> None:
    """Write what an installation needs to FOLDER.

    These are the systemd units, the supervisord section, .env.example, alerts with their runbook, a dashboard for
    Grafana, the manual pages, and the JSON Schemas of the messages. Units name the programs of this installation.
    Existing files are not overwritten.
    """
    wanted = [(path, folder / path.relative_to(SOURCE)) for path in _all_files()]
    changes = _installed_programs() | ({_RUNBOOK_URL: runbook_url} if runbook_url else {})
    try:
        for _, target in wanted:
            if os.path.lexists(target):  # also a link that leads nowhere
                raise FileExistsError(errno.EEXIST, "", str(target))
        for path, target in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            text = _replace(path.read_text(encoding="utf-8"), changes)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
            click.echo(escape_controls(str(target)))
        if not runbook_url:
            click.echo(f"the alerts link to {_RUNBOOK_URL}, an example: --runbook-url replaces it", err=True)
    except FileExistsError as exc:
        raise CommandError(f"{exc.filename}: file exists and is not overwritten: choose another folder", 1) from exc
    except OSError as exc:
        raise CommandError(f"{exc.filename}: cannot be written: {exc.strerror}", 1) from exc


def _all_files() -> Iterator[Path]:
    yield from (SOURCE / _SETTINGS, SOURCE / _RUNBOOK)
    for name in _FOLDERS:
        yield from (path for path in sorted((SOURCE / name).rglob("*")) if path.is_file())


def _installed_programs() -> dict[str, str]:
    """Return the path of each program in the units -> where this installation has it."""
    beside_us = str(Path(sys.argv[0]).absolute().parent)
    found = {name: shutil.which(name, path=beside_us) or shutil.which(name) for name in _PROGRAMS}
    return {f"{_USUAL}/{name}": path for name, path in found.items() if path}


def _replace(text: str, changes: Mapping[str, str]) -> str:
    for usual, wanted in changes.items():
        text = text.replace(usual, wanted)
    return text

"""`fastmon-daemon schema`: print the JSON Schema of a message."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fastmon_daemon.commands.files import SOURCE

_FOLDER = SOURCE / "docs" / "schemas"
_NAMES = sorted(path.stem for path in _FOLDER.glob("*.json"))


@click.command(epilog="Exit codes: 0 printed, 2 usage error.")
@click.argument("name", type=click.Choice(_NAMES), required=False, metavar="[NAME]")
@click.option("--list", "is_list", is_flag=True, help="List the messages that have a schema.")
def schema(name: str | None, is_list: bool) -> None:
    """Print the JSON Schema (2020-12) of the message NAME.

    docs/messages.md explains the fields; `files` writes all schemas to a folder.
    """
    if is_list == (name is not None):
        raise click.UsageError("give either the name of a message or --list")
    if name is not None:
        click.echo(_path(name).read_text(encoding="utf-8"), nl=False)
        return
    width = max(map(len, _NAMES))
    for each in _NAMES:
        click.echo(f"{each:<{width}}  {json.loads(_path(each).read_text(encoding='utf-8'))['title']}")


def _path(name: str) -> Path:
    return _FOLDER / f"{name}.json"

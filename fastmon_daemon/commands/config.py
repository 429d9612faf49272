"""`fastmon-daemon config`: every setting with its value, source and meaning, and the database that they lead to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fastmon_daemon.commands.formatting import console, escape_controls, table
from fastmon_daemon.commands.startup import every_setting, variables
from fastmon_daemon.outbox import owner_of
from fastmon_daemon.settings import (
    LoadResult,
    Setting,
    all_settings,
    database_to_write,
)

View = dict[str, Any]


@click.command(epilog="Exit codes: 0 the daemon would start with these, 78 a setting is wrong or missing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_context
def config(ctx: click.Context, as_json: bool) -> None:
    """Show every setting: value, where it came from, meaning; and the database that `run` would open.

    Secrets are not shown, only whether they are set. What is wrong is told for each setting, and the others are shown
    all the same. FASTMON_ names that mean nothing are warned of.

    \b
    Keys of --json: settings, unknown, database (path, rule, exists, daemon: process id or null)
    Of each setting: name, aliases, value (a secret's is null), set, source, secret, meaning, error
    """
    reading = every_setting()
    view = {
        "settings": [_told(name, setting, reading) for name, setting in all_settings()],
        "unknown": list(reading.unknown),
        "database": _database(variables()),
    }
    click.echo(json.dumps(view, indent=2)) if as_json else _print(view)
    for name in reading.unknown:
        click.echo(f"fastmon-daemon: {escape_controls(name)}: no such setting, ignored; correct or unset it", err=True)
    for error in reading.errors.values():
        click.echo(f"fastmon-daemon: {escape_controls(error)}", err=True)
    ctx.exit(78 if reading.errors else 0)


def _told(name: str, setting: Setting, reading: LoadResult) -> View:
    error = reading.errors.get(name)
    value, source = reading.values[name], reading.sources[name]
    written = setting.default if source == "default" else as_written(value)
    return {
        "name": setting.names[0],
        "aliases": list(setting.names[1:]),
        "value": None if setting.secret or error else written,
        "set": source != "default",
        "source": source,
        "secret": setting.secret,
        "meaning": setting.meaning,
        "error": str(error) if error else None,
    }


def as_written(value: object) -> str:
    """*value* as one would write it in the environment; nothing is the empty string."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple) and type(value) is tuple:
        return ",".join(map(str, value))
    return f"{value:.15g}" if isinstance(value, float) else "" if value is None else str(value)


def _database(values: Mapping[str, str]) -> View:
    path, rule = database_to_write(None, values, Path.home())
    return {"path": str(path.absolute()), "rule": rule, "exists": path.exists(), "daemon": owner_of(path)}


def _print(view: View) -> None:
    rows = ((each["name"], _value(each), each["source"], each["meaning"]) for each in view["settings"])
    out = console()
    out.print(table("settings", ("setting", "value", "source", "meaning"), rows))
    database = view["database"]
    state = "not made yet" if not database["exists"] else "no daemon is running"
    daemon = state if database["daemon"] is None else f"daemon: process {database['daemon']}"
    out.print(f"database: {escape_controls(database['path'])} ({escape_controls(database['rule'])}); {daemon}")


def _value(told: View) -> str:
    if told["error"]:
        return "wrong" if told["set"] else "missing"
    if told["secret"]:
        return "set, not shown" if told["set"] else "not set"
    return told["value"] or "-"

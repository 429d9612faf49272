"""`fastmon-daemon config`: show all settings and the database that a daemon would use."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.commands.common import database_for_daemon, json_option, load_settings_with_errors
from fastmon_daemon.commands.formatting import output_width, print_lines, table, wrap
from fastmon_daemon.outbox import owner_of
from fastmon_daemon.settings import LoadResult, Setting, all_settings, describe_unknown, written

View = dict[str, Any]


@click.command(epilog="Exit codes: 0 all settings valid, 2 usage error, 78 invalid or missing settings.")
@click.option("--changed", is_flag=True, help="Show only the settings that are set.")
@json_option()
@click.pass_context
def config(ctx: click.Context, changed: bool, as_json: bool) -> None:
    """Show all settings and where their values come from.

    Prints value, source and meaning of each setting, and the database that `run` would use. Secrets are not shown. All
    invalid settings and unknown FASTMON_ variables are reported.

    \b
    JSON keys:
      settings, unknown,
      database (path, rule, exists, daemon: process id or null)
    Each setting:
      name, aliases, value (null for secrets), set, source, secret, meaning,
      error
    """
    loaded = load_settings_with_errors()
    settings = [_setting_view(name, setting, loaded) for name, setting in all_settings()]
    view = {
        "settings": [each for each in settings if each["set"] or each["error"] or not changed],
        "unknown": list(loaded.unknown),
        "database": _database_view(),
    }
    click.echo(json.dumps(view, indent=2)) if as_json else _print(view)
    for warning in loaded.exposed:
        click.echo(f"fastmon-daemon: {escape_controls(warning)}", err=True)
    for name in loaded.unknown:
        click.echo(f"fastmon-daemon: {escape_controls(describe_unknown(name))}", err=True)
    for error in loaded.errors.values():
        click.echo(f"fastmon-daemon: {escape_controls(error)}", err=True)
    ctx.exit(78 if loaded.errors else 0)


def _setting_view(name: str, setting: Setting, loaded: LoadResult) -> View:
    error = loaded.errors.get(name)
    value, source = loaded.values[name], loaded.sources[name]
    text = setting.default if source == "default" else written(value)
    return {
        "name": setting.names[0],
        "aliases": list(setting.names[1:]),
        "value": None if setting.secret or error else text,
        "set": source != "default",
        "source": source,
        "secret": setting.secret,
        "meaning": setting.meaning,
        "error": str(error) if error else None,
    }


def _database_view() -> View:
    path, rule = database_for_daemon()
    return {"path": str(path), "rule": rule, "exists": os.access(path, os.F_OK), "daemon": owner_of(path)}


def _print(view: View) -> None:
    rows = ((each["name"], _value(each), each["source"], each["meaning"]) for each in view["settings"])
    print_lines(table("settings", ("setting", "value", "source", "meaning"), rows, output_width()))
    database = view["database"]
    state = "does not exist yet" if not database["exists"] else "no daemon is running"
    daemon = state if database["daemon"] is None else f"daemon: process {database['daemon']}"
    path = f"{escape_controls(database['path'])} ({escape_controls(database['rule'])})"
    print_lines(wrap(f"database: {path}; {daemon}", output_width()))


def _value(setting: View) -> str:
    if setting["error"]:
        return "invalid" if setting["set"] else "missing"
    if setting["secret"]:
        return "set, not shown" if setting["set"] else "not set"
    return setting["value"] or "-"

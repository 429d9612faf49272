"""`fastmon-daemon reload`: make the running daemon read its settings again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fastmon_daemon.actions.control_socket import send_request
from fastmon_daemon.base.errors import ConfigError, TransientError
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.commands.common import (
    EXIT_TRY_AGAIN,
    CommandError,
    current_user,
    db_option,
    json_option,
    require_database,
)
from fastmon_daemon.outbox import owner_of


@click.command(
    epilog="Exit codes: 0 done, 1 no daemon is running, 2 usage error, 3 no database, 75 try again later, "
    "78 invalid settings: nothing is changed."
)
@db_option
@json_option("changed (setting -> old and new value), needs_restart (settings)")
def reload(db: Path | None, as_json: bool) -> None:
    """Make the running daemon read its settings again.

    These change while it runs: FASTMON_SELECTION_FRACTION (from the next run on), FASTMON_LATE_ANNOUNCE_RATE,
    FASTMON_WORKERS, FASTMON_KEEP_DAYS and SWF_LOG_LEVEL. Other changed settings are named, because they need a restart.
    If a setting is invalid, nothing is changed.

    The daemon reads its `.env` files; its environment is the one it was started with, and overrides them. SIGHUP does
    the same, unless the daemon runs in a terminal.
    """
    path = require_database(db)
    if owner_of(path) is None:
        raise CommandError(f"{path}: no daemon is running: the next start reads the settings", 1)
    try:
        result = send_request(path, {"action": "reload", "by": current_user()})
    except TransientError as exc:
        raise CommandError(str(exc), EXIT_TRY_AGAIN) from exc
    if result["invalid"]:
        raise ConfigError(f"nothing is changed: {result['invalid']}")
    if as_json:
        click.echo(json.dumps({name: result[name] for name in ("changed", "needs_restart")}))
        return
    for line in result["lines"]:
        click.echo(escape_controls(line))
    if not result["lines"]:
        click.echo("no setting that may change while the daemon runs has changed")
    for name in result["needs_restart"]:
        click.echo(f"{name}: changed, but needs a restart")

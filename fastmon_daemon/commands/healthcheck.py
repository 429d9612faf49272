"""`fastmon-daemon healthcheck`: whether the daemon is alive, or ready, for containers and scripts."""

from __future__ import annotations

import json
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import click

from fastmon_daemon.actions.daemon_state import DaemonState, ask_daemon
from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.commands.common import (
    db_option,
    json_option,
    load_settings_with_errors,
    require_database,
)
from fastmon_daemon.inspection.inspector import NO_DAEMON
from fastmon_daemon.inspection.liveness import describe_stall
from fastmon_daemon.outbox import open_for_reading, owner_of
from fastmon_daemon.presence.assessment import assess, assessment_rule, take_snapshot

_POLL_S = 0.2
"""A daemon that has not begun can wake nobody: it is looked for."""


@click.command(epilog="Exit codes: 0 alive (--ready: ready), 1 not, 2 usage error, 3 no database, 78 invalid settings.")
@db_option
@click.option("--ready", is_flag=True, help="Check that STFs can be stored and processed now, with all links up.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait up to SECONDS until it is, also for its start.",
)
@json_option("ok, found (one line), parts (with --ready: part -> what is wrong, or an empty text)")
@click.pass_context
def healthcheck(ctx: click.Context, db: Path | None, *, ready: bool, wait: float, as_json: bool) -> None:
    """Check that the daemon is alive: for containers and scripts.

    It is alive if its engine's loop turns. Asks over the control socket, so that it needs no port. A daemon that is
    not alive must be restarted; one that is alive but not ready becomes ready by itself. /livez and /readyz answer
    the same over HTTP.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            result = _look(db, ready=ready)
        except StorageError:  # no database yet
            if time.monotonic() >= deadline:
                raise
        else:
            if result["ok"] or time.monotonic() >= deadline:
                break
        time.sleep(_POLL_S)
    click.echo(json.dumps(result) if as_json else escape_controls(str(result["found"])))
    ctx.exit(0 if result["ok"] else 1)


def _look(db: Path | None, *, ready: bool) -> dict[str, Any]:
    path = require_database(db)
    is_running = owner_of(path) is not None
    state = ask_daemon(path) if is_running else None
    wrong = _why_not_alive(state) if is_running else NO_DAEMON
    parts = _readiness(path, state) if ready and state and not wrong else {}
    wrong = wrong or next(filter(None, parts.values()), "")
    return {"ok": not wrong, "found": wrong or ("ready" if ready else "alive"), "parts": parts}


def _why_not_alive(state: DaemonState | None) -> str:
    """Return why the daemon is not alive as far as is known, or an empty text."""
    if state is None:
        return "the daemon cannot be asked: it is starting, or runs as another user"
    if state.process.stalled_s is not None:
        return describe_stall(state.process.stalled_s)
    return f"daemon silent: {state.process.silent}" if state.process.silent else ""


def _readiness(path: Path, state: DaemonState) -> dict[str, str]:
    rule = assessment_rule(partial(state.value, otherwise=load_settings_with_errors().value))
    with closing(open_for_reading(path)) as reports:
        found = assess(take_snapshot(reports, rule, utcnow(), daemon_runs=True, process=state.process))
    return found.readiness(rule.stuck.needed_links)

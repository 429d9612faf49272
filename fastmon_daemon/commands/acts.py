"""`fastmon-daemon acts`: what operators did, by whom, when and why. Read-only."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.commands.common import db_option, json_option, require_database
from fastmon_daemon.commands.formatting import Since, format_when, output_width, print_lines, since_option, table
from fastmon_daemon.outbox import Act, open_for_reading

HEADS = ("when", "who", "act", "on", "changed", "reason")


@click.command(epilog="Exit codes: 0 shown, 2 usage error, 3 no database.")
@since_option(default=None, help_text="Show only acts within this time. Default: all.")
@db_option
@json_option("acts (action, who, reason, subject, count, requested_at, at), the latest first")
def acts(since: Since | None, db: Path | None, as_json: bool) -> None:
    """List what operators did: by whom, when, and why.

    Acts are retry, discard, include, replay, purge, reconcile and reload. The last 10 000 are kept, without those that
    failed or changed nothing.
    """
    with closing(open_for_reading(require_database(db))) as reports:
        found = reports.acts.since(since.at(utcnow()) if since else "")
    if as_json:
        click.echo(json.dumps({"acts": [asdict(act) for act in found]}))
    elif found:
        print_lines(table(f"acts: {len(found)}", HEADS, act_rows(found, utcnow()), output_width()))
    else:
        click.echo("no acts")


def act_rows(acts: Iterable[Act], now: datetime) -> list[tuple[object, ...]]:
    """Return the rows of a table with `HEADS`."""
    return [
        (format_when(act.at, now), act.who, act.action, act.subject or None, act.count, act.reason or None)
        for act in acts
    ]

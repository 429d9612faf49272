"""`fastmon-daemon check`: check configuration and connectivity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.checks import CheckResult, CheckStatus, all_checks, run_checks
from fastmon_daemon.commands.common import db_option, json_option, load_context, load_settings_with_errors
from fastmon_daemon.settings import all_settings


@click.command(epilog="Exit codes: 0 no errors, 1 errors found, 2 usage error, 78 invalid settings.")
@db_option
@json_option()
@click.pass_context
def check(ctx: click.Context, db: Path | None, as_json: bool) -> None:
    """Check configuration and connectivity.

    Checks settings, database, broker and monitor, and prints one line per check, with a hint if something must be
    fixed. Each check has a time limit.

    It is safe to run beside a working daemon: it uses no lock, no client id and no durable subscription. It sends
    only to a scratch topic, or in a transaction that it aborts, so nobody receives anything.

    \b
    JSON keys:
      checks (check, status, found, hint)
    Status:
      ok, warning, error, skipped
    """
    loaded = load_settings_with_errors()
    if loaded.errors:
        names = {field: setting.names[0] for field, setting in all_settings()}
        invalid = ((names[field], CheckResult(CheckStatus.ERROR, str(exc))) for field, exc in loaded.errors.items())
        _print_results(invalid, as_json)
        ctx.exit(78)
    checks = all_checks(load_context(db, log_level="CRITICAL"))
    ctx.exit(1 if CheckStatus.ERROR in _print_results(run_checks(checks, _report_wait), as_json) else 0)


def _report_wait(name: str, timeout_s: float) -> None:
    click.echo(f"fastmon-daemon: {name}: still running (limit {timeout_s:g} s)", err=True)


def _print_results(results: Iterator[tuple[str, CheckResult]], as_json: bool) -> set[CheckStatus]:
    """Print each result when it is ready, or all as JSON at the end; return the statuses."""
    printed = []
    for name, result in results:
        printed.append({"check": name, **asdict(result)})
        if not as_json:
            hint = f" -> {escape_controls(result.hint)}" if result.hint else ""
            click.echo(f"{result.status:<8} {name:<16} {escape_controls(result.found)}{hint}")
    if as_json:
        click.echo(json.dumps({"checks": printed}, indent=2))
    return {each["status"] for each in printed}

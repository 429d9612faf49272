"""`fastmon-daemon check`: everything tried once, a line each with what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from fastmon_daemon.checks import CheckResult, CheckStatus, all_checks, run_checks
from fastmon_daemon.commands.formatting import escape_controls
from fastmon_daemon.commands.startup import every_setting, load_process
from fastmon_daemon.settings import LoadResult, all_settings


@click.command(epilog="Exit codes: 0 all is well or may be, 1 something is wrong, 78 configuration.")
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="Database file, instead of FASTMON_DB.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end instead of lines.")
@click.pass_context
def check(ctx: click.Context, db: Path | None, as_json: bool) -> None:
    """Try everything once: settings, database, broker, monitor; a line each, with the remedy where one is needed.

    It may run beside a daemon at work: it takes no lock, no client id and no durable subscription, and sends only to
    a topic of its own. Each try ends within its time.

    \b
    Keys of --json: checks, of each: check, outcome (ok, warning, wrong, skipped), found, remedy
    """
    reading = every_setting()
    if reading.errors:
        _show(((name, line) for name, line in _wrong_settings(reading)), as_json)
        ctx.exit(78)
    checks = all_checks(load_process(db, log_level="CRITICAL"))
    ctx.exit(1 if CheckStatus.ERROR in _show(run_checks(checks, _waiting), as_json) else 0)


def _wrong_settings(reading: LoadResult) -> Iterator[tuple[str, CheckResult]]:
    setting = dict(all_settings())
    return (
        (setting[name].names[0], CheckResult(CheckStatus.ERROR, str(error))) for name, error in reading.errors.items()
    )


def _waiting(name: str, patience_s: float) -> None:
    click.echo(f"fastmon-daemon: {name}: waiting, {patience_s:g} s at the longest", err=True)


def _show(lines: Iterator[tuple[str, CheckResult]], as_json: bool) -> set[CheckStatus]:
    """Show each line as it comes, or all as JSON; the outcomes that there were."""
    told = []
    for name, line in lines:
        told.append({"check": name, "outcome": str(line.outcome), "found": line.found, "remedy": line.hint})
        if not as_json:
            remedy = f" -> {escape_controls(line.hint)}" if line.hint else ""
            click.echo(f"{line.outcome:<8} {name:<16} {escape_controls(line.found)}{remedy}")
    if as_json:
        click.echo(json.dumps({"checks": told}, indent=2))
    return {CheckStatus(each["outcome"]) for each in told}

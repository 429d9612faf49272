"""`fastmon-daemon verdict`: what became of a run, and what is missing. It reads, never writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
from rich.console import RenderableType
from rich.text import Text

from fastmon_daemon.base.clock import parse_timestamp, utcnow
from fastmon_daemon.commands.formatting import console, escape_controls, format_when, table
from fastmon_daemon.commands.startup import PROGRESS_AFTER_S, PROGRESS_EVERY_S, found_database
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Outage, open_for_reading
from fastmon_daemon.reconciler.verdict import Verdict, judge
from fastmon_daemon.statechart import load_statechart

UNKNOWN = 3
_POLL_S = 0.5


@click.command(epilog="Exit codes: 0 the run is complete, 1 it is not (yet), 2 usage, 3 no such run, or no database.")
@click.argument("run")
@click.option("--namespace", help="The run's namespace, where the number is in several.")
@click.option("--wait", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Wait so long for it.")
@click.option("--json", "as_json", is_flag=True, help="The verdict as one JSON object.")
@click.option("--db", type=click.Path(path_type=Path), help="The database to read; looked for as the daemon does.")
@click.pass_context
def verdict(
    ctx: click.Context, *, run: str, namespace: str | None, wait: float, as_json: bool, db: Path | None
) -> None:
    """Say of RUN how many STFs were expected, came, were recovered, skipped, completed, failed, and which are missing.

    A run is complete when it has ended, it is known how many STFs it had, and every one is here, at rest, and not
    failed. That holds also while no daemon runs.

    \b
    Keys of --json: namespace, run, state, complete, why_not, expected, expected_by (end_run or monitor), named,
    received, recovered, skipped, completed, failed, discarded, unfinished, missing, missing_sequences,
    missing_names, tf_files (drawn, registered, announced, stood), latencies (source, dest, count, p50_s, p95_s,
    max_s), outages (link, began_at, ended_at, reason, held), heard_at, ended_at, ended_by, reconcile_error
    """
    path, chosen_by = found_database(db)
    found = _waited(lambda: look(path, run, namespace), wait)
    if found is None:
        where = f" of namespace {escape_controls(namespace)}" if namespace else ""
        click.echo(
            f"fastmon-daemon: {path} ({chosen_by}): nothing was heard of a run {escape_controls(run)}{where}", err=True
        )
        ctx.exit(UNKNOWN)
    if as_json:
        click.echo(found.as_json())
    else:
        out = console()
        for part in _shown(found):
            out.print(part)
    ctx.exit(0 if found.complete else 1)


def look(path: Path, run: str, namespace: str | None) -> Verdict | None:
    """The verdict of a run as it is now; None where nothing was heard of it."""
    with closing(open_for_reading(path)) as reports:
        rows = reports.by_run.find(run, namespace)
        if len(rows) > 1:
            names = ", ".join(escape_controls(row.namespace) for row in rows)
            raise click.UsageError(f"run {run!r} is in the namespaces {names}: say which with --namespace")
        return (
            judge(reports.by_run, rows[0], (load_statechart("stf"), load_statechart("run")), utcnow()) if rows else None
        )


def _waited(ask: Callable[[], Verdict | None], wait_s: float) -> Verdict | None:
    """What *ask* says when the run is complete, or after *wait_s*; after 2 s people are told how it stands."""
    pause = threading.Event()
    begun = time.monotonic()
    tell_at = begun + PROGRESS_AFTER_S
    while True:
        asked_at = time.monotonic()
        found, now = ask(), time.monotonic()
        if (found and found.complete) or now - begun >= wait_s:
            return found
        if now >= tell_at:
            tell_at = now + PROGRESS_EVERY_S
            how = f"{'; '.join(found.incomplete_reasons)} ({found.line})" if found else "nothing was heard of it yet"
            click.echo(f"waiting, {wait_s - (now - begun):.0f} s left: {how}", err=True)
        pause_s = max(_POLL_S, 3 * (now - asked_at))  # a long run is no load then
        pause.wait(min(pause_s, wait_s - (now - begun)))


def _shown(found: Verdict) -> Iterator[RenderableType]:
    title = f"run {found.run} (namespace {found.namespace}): {'complete' if found.complete else 'not complete'}"
    names = ("received", "recovered", "skipped", "completed", "failed", "discarded", "unfinished", "missing")
    by = f" (says {found.expected_by})" if found.expected_by else ""
    tfs = found.tf_files
    stood = f", {tfs.preexisting} stood before" if tfs.preexisting else ""
    facts = {
        "state": found.state,
        "not complete": "; ".join(found.incomplete_reasons) or None,
        "ended": found.ended_at and f"{format_when(found.ended_at, utcnow())}: {found.ended_by}",
        "expected": "unknown" if found.expected is None else f"{found.expected}{by}",
        **{name: getattr(found, name) for name in names},
        "missing numbers": found.missing_sequences or None,
        "missing names": ", ".join(found.missing_names) or None,
        "TF files": f"{tfs.registered} of {tfs.drawn} registered, {tfs.announced} announced{stood}",
        "last look failed": found.reconcile_error,
    }
    yield table(title, ("", ""), ((key, value) for key, value in facts.items() if value is not None))
    rows = (
        (f"{each.source or 'born'} -> {each.dest}", each.count, *map(_seconds, (each.p50_s, each.p95_s, each.max_s)))
        for each in found.latencies
    )
    yield table("latency", ("arrow", "STFs", "p50", "p95", "max"), rows)
    if not found.outages:
        yield Text("no outage overlaps the run")
        return
    outages = (
        (
            "no daemon" if each.link == DAEMON_DOWNTIME else each.link,
            each.began_at,
            each.ended_at,
            _lasted(each),
            each.reason,
        )
        for each in found.outages
    )
    yield table("outages", ("of", "from", "to", "lasted", "reason"), outages)


def _seconds(value: float) -> str:
    return f"{value:.3f} s"


def _lasted(outage: Outage) -> str:
    end = parse_timestamp(outage.ended_at) if outage.ended_at else utcnow()
    return f"{(end - parse_timestamp(outage.began_at)).total_seconds():.0f} s{'' if outage.ended_at else ' so far'}"

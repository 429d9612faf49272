"""`fastmon-daemon verdict`: report whether a run is complete, and which STFs are missing. Read-only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click

from fastmon_daemon.base.clock import parse_timestamp, utcnow
from fastmon_daemon.base.suggest import how_runs_are_named
from fastmon_daemon.base.text import escape_controls
from fastmon_daemon.commands.common import (
    PROGRESS_AFTER_S,
    PROGRESS_EVERY_S,
    CommandError,
    db_option,
    find_database,
    json_option,
    namespace_option,
)
from fastmon_daemon.commands.formatting import Unbroken, format_names, format_when, output_width, print_lines, table
from fastmon_daemon.messages import run_identity
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Outage, open_for_reading
from fastmon_daemon.reconciler.verdict import Verdict, judge
from fastmon_daemon.statechart import load_statechart

_EXIT_NO_RUN = 3
_POLL_S = 0.5


@click.command(epilog="Exit codes: 0 run complete, 1 run not complete, 2 usage error, 3 no such run or no database.")
@click.argument("run", type=run_identity)
@namespace_option
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Wait up to SECONDS for completion."
)
@json_option()
@db_option
@click.pass_context
def verdict(
    ctx: click.Context, *, run: str, namespace: str | None, wait: float, as_json: bool, db: Path | None
) -> None:
    """Report whether a run is complete and which STFs are missing.

    Prints how many STFs of RUN were expected, received, recovered, skipped, completed and failed, with latencies and
    outages. Works with or without a running daemon.

    A run is complete if it has ended, its number of STFs is known, and every STF has been received and has finished
    without failure. A run that is not claimed (no message with our namespace named it) is never complete: only its
    announced STFs are counted.

    \b
    JSON keys:
      namespace, run, state, complete, incomplete_reasons, expected,
      expected_by (end_run or monitor), monitor_count, received, recovered,
      elsewhere, elsewhere_unfinished (STFs of other daemons of the queue),
      skipped, completed, failed, discarded, unfinished, missing,
      missing_sequences, missing_names, last_message_at, ended_at, ended_by,
      reconcile_error,
      tf_files (drawn, registered, announced, preexisting),
      latencies (source, dest, count, p50_s, p95_s, max_s),
      outages (link, began_at, ended_at, reason, blocked, next_probe_at)
    """
    path, source = find_database(db)
    found = _wait_until_complete(lambda: read_verdict(path, run, namespace), wait)
    if found is None:
        where = f" in namespace {namespace}" if namespace else ""
        raise CommandError(f"{path} ({source}): no run {run}{where}{how_runs_are_named(run)}", _EXIT_NO_RUN)
    if as_json:
        click.echo(found.as_json())
    else:
        print_lines(_render(found, output_width()))
    ctx.exit(0 if found.complete else 1)


def read_verdict(path: Path, run: str, namespace: str | None) -> Verdict | None:
    """Return the current verdict of a run; None if the database does not contain it."""
    with closing(open_for_reading(path)) as reports:
        rows = reports.runs.find(run, namespace)
        if len(rows) > 1:
            names = ", ".join(escape_controls(row.namespace) for row in rows)
            raise click.UsageError(f"run {run!r} exists in the namespaces {names}: select one with --namespace")
        charts = (load_statechart("stf"), load_statechart("run"))
        return judge(reports.runs, rows[0], charts, utcnow()) if rows else None


def _wait_until_complete(read: Callable[[], Verdict | None], timeout_s: float) -> Verdict | None:
    """Return the verdict when the run is complete, or after *timeout_s*; print progress to stderr."""
    pause = threading.Event()
    started = time.monotonic()
    report_at = started + PROGRESS_AFTER_S
    while True:
        read_at = time.monotonic()
        found, now = read(), time.monotonic()
        if (found and found.complete) or now - started >= timeout_s:
            return found
        if now >= report_at:
            report_at = now + PROGRESS_EVERY_S
            status = f"{'; '.join(found.incomplete_reasons)} ({found.line})" if found else "no such run yet"
            click.echo(f"waiting, {timeout_s - (now - started):.0f} s left: {status}", err=True)
        pause_s = max(_POLL_S, 3 * (now - read_at))  # the verdict of a long run takes a while: limit the load
        pause.wait(min(pause_s, timeout_s - (now - started)))


def _render(found: Verdict, width: int | None) -> Iterator[str]:
    now = utcnow()
    title = f"run {found.run} (namespace {found.namespace}): {'complete' if found.complete else 'not complete'}"
    by = f" (from {found.expected_by})" if found.expected_by else ""
    tfs = found.tf_files
    preexisting = f", {tfs.preexisting} preexisting" if tfs.preexisting else ""
    facts = {
        "state": found.state,
        "not complete": "; ".join(found.incomplete_reasons) or None,
        "ended": found.ended_at and f"{format_when(found.ended_at, now)}: {found.ended_by}",
        "expected": "unknown" if found.expected is None else f"{found.expected}{by}",
        **found.counts(),
        "missing sequence numbers": found.missing_sequences or None,
        "missing names": format_names(found.missing_names) or None,
        "TF files": f"{tfs.registered} of {tfs.drawn} registered, {tfs.announced} announced{preexisting}",
        "poll error": found.reconcile_error,
    }
    known = ((key, value) for key, value in facts.items() if value is not None)
    yield from table(title, ("", ""), known, width)
    rows = (
        (f"{each.source or 'created'} -> {each.dest}", each.count,
         *(f"{seconds:.3f} s" for seconds in (each.p50_s, each.p95_s, each.max_s)))
        for each in found.latencies
    )  # fmt: skip
    yield from table("latencies", ("transition", "STFs", "p50", "p95", "max"), rows, width)
    if not found.outages:
        yield "no outages during the run"
        return
    outages = (
        ("(daemon down)" if each.link == DAEMON_DOWNTIME else each.link, format_when(each.began_at, now),
         format_when(each.ended_at, now), Unbroken(_duration(each)), each.reason)
        for each in found.outages
    )  # fmt: skip
    yield from table("outages", ("link", "from", "to", "duration", "reason"), outages, width)


def _duration(outage: Outage) -> str:
    end = parse_timestamp(outage.ended_at) if outage.ended_at else utcnow()
    return f"{(end - parse_timestamp(outage.began_at)).total_seconds():.0f} s{'' if outage.ended_at else ' so far'}"

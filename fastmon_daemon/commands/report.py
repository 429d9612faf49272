"""`fastmon-daemon report`: what the next shift must know of this daemon. Read-only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.text import count_of, escape_controls
from fastmon_daemon.commands.acts import HEADS, act_rows
from fastmon_daemon.commands.common import (
    db_option,
    inspection_context,
    json_option,
    load_settings_with_errors,
    require_database,
)
from fastmon_daemon.commands.formatting import (
    Since,
    format_names,
    format_when,
    output_width,
    print_lines,
    since_option,
    table,
    wrap,
)
from fastmon_daemon.commands.inspect_tables import render_verdict
from fastmon_daemon.inspection.inspector import NO_DAEMON, InspectionContext, Inspector
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Act, Outage, OutboxReader, open_for_reading
from fastmon_daemon.presence.assessment import Assessment
from fastmon_daemon.reconciler.verdict import judge

_MOST = 10
"""Rows of errors, slow STFs and stuck STFs."""

Table = tuple[str, tuple[str, ...], Sequence[Sequence[object]]]
"""Title, heads and rows."""


@click.command(epilog="Exit codes: 0 reported, 2 usage error, 3 no database, 78 invalid settings.")
@since_option(default="8h", help_text="Report what happened within this time.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a logbook.")
@json_option()
@db_option
def report(since: Since, markdown: bool, as_json: bool, db: Path | None) -> None:
    """Report what the next shift must know of this daemon.

    The report has what is open, runs with their verdicts, outages, recovered STFs, the most frequent errors, the
    longest latencies, and acts of operators. Works with or without a running daemon. `fastmon-client report` writes
    the shift report, of all daemons.

    \b
    JSON keys:
      since, until, verdict (one line), problems (as of inspect: what is open),
      stuck_count, stuck (as of inspect, at most 10), received, completed,
      runs (as of verdict), outages (link, began_at, ended_at, reason, blocked),
      recovered (run, stf, at), failures (reason, count, last_at), errors
      (same keys; last_at: when the newest such STF entered its state),
      slowest (run, stf, seconds, at), acts (as of acts)
    """
    if markdown and as_json:
        raise click.UsageError("--markdown and --json cannot be combined")
    path = require_database(db)
    with closing(open_for_reading(path)) as reports:
        context = inspection_context(path, load_settings_with_errors())
        now = context.now
        view = _read(reports, context, since.at(now))
    if as_json:
        click.echo(json.dumps(view, indent=2))
    else:
        print_lines(_markdown(view, now) if markdown else _text(view, now, output_width()))


def _read(reports: OutboxReader, context: InspectionContext, since: str) -> dict[str, Any]:
    now, inspector, charts = context.now, Inspector(reports, context), (context.stuck.chart, context.rule.run_chart)
    overview, found, until = inspector.overview(limit=_MOST), inspector.assessment(), format_timestamp(now)
    done, failed, complete = charts[0].success_state, context.stuck.failed, charts[1].leads_to("complete_run")
    runs = [
        row for row in reports.runs.latest()
        if row.last_message_at >= since or (row.ended_at or "") >= since or (row.claimed and row.state not in complete)
    ]  # fmt: skip
    return {
        "since": since,
        "until": until,
        "verdict": found.line,
        "problems": [asdict(problem) for problem in found.problems],
        "stuck_count": overview["stuck_count"],
        "stuck": overview["stuck"],
        "received": reports.periods.received(since),
        "completed": reports.periods.entered(done, since),
        "runs": [asdict(judge(reports.runs, row, charts, now)) for row in runs],
        "outages": [asdict(outage) for outage in (*reports.outages.between(since, until), *_downtime(found))],
        "recovered": [asdict(each) for each in reports.periods.recovered(since)],
        "failures": [asdict(each) for each in reports.periods.failures(failed, since, _MOST)],
        "errors": [asdict(each) for each in reports.periods.errors(_MOST)],
        "slowest": [asdict(each) for each in reports.periods.slowest([done], since, _MOST)],
        "acts": [asdict(act) for act in reports.acts.since(since)],
    }


def _downtime(found: Assessment) -> Iterator[Outage]:
    """Yield the downtime that lasts: only the next daemon stores it."""
    for each in found.problems:
        if each.kind == "no daemon" and each.since:
            yield Outage(link=DAEMON_DOWNTIME, began_at=each.since, ended_at=None, reason=each.name, blocked=False,
                         next_probe_at=None)  # fmt: skip


def _tables(view: dict[str, Any], now: datetime) -> Iterator[Table]:
    """Yield the parts of the report that have rows."""
    when = partial(format_when, now=now)
    open_ = [(each["name"], when(each["since"]), each["reason"], each["remedy"]) for each in view["problems"]]
    yield "open", ("what", "since", "reason", "remedy"), open_
    stuck = [(each["stf"], each["run"], each["state"], when(each["since"]), each["why"]) for each in view["stuck"]]
    yield f"stuck: {view['stuck_count']}", ("STF", "run", "state", "since", "reason"), stuck
    others = ("elsewhere",) if any(run["elsewhere"] for run in view["runs"]) else ()
    counts = ("expected", "received", "recovered", *others, "completed", "failed", "missing")
    runs = [
        (run["run"], "complete" if run["complete"] else run["state"], *(run[name] for name in counts),
         "; ".join(run["incomplete_reasons"]) or None)
        for run in view["runs"]
    ]  # fmt: skip
    yield f"runs: {len(runs)}", ("run", "verdict", *counts, "not complete"), runs
    is_watched = all(each["kind"] != "no daemon" for each in view["problems"])
    not_ended = "not ended" if is_watched else f"unknown: {NO_DAEMON}"
    outages = [
        ("(daemon down)" if each["link"] == DAEMON_DOWNTIME else each["link"], when(each["began_at"]),
         when(each["ended_at"]) if each["ended_at"] else "not ended" if each["link"] == DAEMON_DOWNTIME else not_ended,
         each["reason"])
        for each in view["outages"]
    ]  # fmt: skip
    yield f"outages: {len(outages)}", ("link", "from", "to", "reason"), outages
    by_run = groupby(sorted(view["recovered"], key=lambda each: str(each["run"])), key=lambda each: str(each["run"]))
    recovered = [(run, format_names(each["stf"] for each in group)) for run, group in by_run]
    yield f"recovered STFs: {len(view['recovered'])}", ("run", "STFs"), recovered
    for title, name, head in (
        ("failures", "failures", "last"), ("errors of STFs that are tried again", "errors", "newest waits since"),
    ):  # fmt: skip
        yield title, ("STFs", head, "reason"), [(e["count"], when(e["last_at"]), e["reason"]) for e in view[name]]
    slowest = [(f"{each['seconds']:.1f} s", each["run"], each["stf"], when(each["at"])) for each in view["slowest"]]
    yield "longest from receipt to completion", ("time", "run", "STF", "completed"), slowest
    acts = act_rows([Act(**each) for each in view["acts"]], now)
    yield f"acts of operators: {len(acts)}", HEADS, acts


def _summary(view: dict[str, Any], now: datetime) -> str:
    counts = f"{count_of(view['received'], 'STF')} received, {view['completed']} completed"
    return f"since {format_when(view['since'], now)}: {counts}"


def _text(view: dict[str, Any], now: datetime, width: int | None) -> Iterator[str]:
    yield from render_verdict(view, now, width)
    yield from wrap(_summary(view, now), width)
    nothing = []
    for title, heads, rows in _tables(view, now):
        if title == "open":
            continue  # the first lines
        if rows:
            yield from table(title, heads, rows, width)
        else:
            nothing.append(title.partition(":")[0])
    if nothing:
        yield from wrap(f"none: {', '.join(nothing)}", width)


def _markdown(view: dict[str, Any], now: datetime) -> Iterator[str]:
    yield from ("# fastmon-daemon report", "", f"**{_cell(view['verdict'])}**", "", _summary(view, now))
    for title, heads, rows in _tables(view, now):
        yield from ("", f"## {title[0].upper()}{title[1:]}", "")
        if rows:
            yield _row(heads)
            yield _row(["---"] * len(heads))
            yield from map(_row, rows)
        else:
            yield "None."


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join('-' if cell is None else _cell(cell) for cell in cells)} |"


def _cell(value: object) -> str:
    """Return a text that cannot end its cell, nor be markup."""
    text = escape_controls(str(value)).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;").replace("[", "\\[").replace("`", "\\`").replace("*", "\\*").replace("_", "\\_")

"""`fastmon-client report`: reads, and writes the report to a file or to standard output."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fastmon_client.journal_file import Journaled, read_journal
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.report.model import Facts, Report, make_report
from fastmon_client.report.reading import Progress, Reading
from fastmon_client.session import now
from fastmon_client.shifts import Window
from fastmon_client.shutdown import AUTHENTICATION, ERROR, UNREACHABLE
from fastmon_client.summary import SummaryUnavailable


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What the shifter gives."""

    window: Window
    shifter: str
    notes: tuple[str, ...]
    state_dir: Path | None


def report_of(monitor: MonitorSession, options: ReportOptions, tell: Callable[[str], None]) -> tuple[Report, str]:
    """The report, and why the monitor's tables could not be read; *tell* is told what is done when it lasts.

    Raises: click.UsageError if the state folder cannot be read; SummaryUnavailable if there is nothing to report:
    the token is rejected, or without a state folder the monitor does not answer.
    """
    journal, summaries = journal_in(options.state_dir)
    tables, failure = Tables(monitor), ""
    reading = Reading(tables, monitor.url, Progress(tell), summaries)
    try:
        reading.read(options.window)
    except AccessDenied as exc:
        raise SummaryUnavailable(str(exc), AUTHENTICATION if exc.by_token else ERROR) from exc
    except MonitorUnavailable as exc:
        failure = str(exc)
        if journal is None:
            raise SummaryUnavailable(failure, UNREACHABLE) from exc
        reading.problems.append(f"runs and daemons: not known: {failure}")
    finally:
        tables.close()
    facts = Facts(
        at=now(), window=options.window, monitor=monitor.url, shifter=options.shifter,
        notes=options.notes, runs=reading.runs, runs_omitted=reading.runs_omitted, daemons=reading.daemons,
        journal=journal, summaries=summaries, problems=reading.problems,
    )  # fmt: skip
    return make_report(facts), failure


def write_file(path: Path, text: str) -> None:
    """Write *text* to *path*: a file has the old content or the new one; a device gets it. Raises: OSError."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    whole = path.resolve()  # of a symbolic link the target
    beside = whole.with_name(f".{whole.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(whole)
    finally:
        beside.unlink(missing_ok=True)


def journal_in(folder: Path | None) -> tuple[Journaled | None, Mapping[str, Mapping[str, Any]]]:
    """The journal and the daemon's summaries in *folder*; None without a folder.

    Raises: click.UsageError if they cannot be read.
    """
    if folder is None:
        return None, {}
    try:
        if not folder.is_dir():
            raise click.UsageError(f"--state {folder}: no such folder: use that of fastmon-client dashboard --state")
        journal, summaries = read_journal(folder)
    except OSError as exc:
        raise click.UsageError(f"--state {folder}: {exc.strerror}: use a folder that you may read") from exc
    except ValueError as exc:
        raise click.UsageError(f"--state {folder}: {exc}: use that of fastmon-client dashboard --state") from exc
    return journal or Journaled(), summaries

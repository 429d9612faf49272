"""The command line of the client: words in, lines and exit codes out."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict

import click
from loguru import logger

from fastmon_client import __version__, options
from fastmon_client.diagnostics import Diagnostics
from fastmon_client.formatting import escape
from fastmon_client.intervals import Intervals
from fastmon_client.output import JsonLines, Lines, Quiet, line_by_line, summary_object
from fastmon_client.session import Session, StopConditions
from fastmon_client.shutdown import (
    AUTHENTICATION,
    ERROR,
    GAPS,
    UNREACHABLE,
    ShutdownReason,
    quiet_without_reader,
    shutdown_on,
    stop_without_reader,
)
from fastmon_client.snapshot import Snapshot
from fastmon_client.summary import SummaryUnavailable, has_gaps, look_up, run_line, summary_lines

_TRY_CODES = {None: 0, "unreachable": UNREACHABLE, "token": AUTHENTICATION, "other": ERROR}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Shows the detector's data flow live from the monitor's event stream."""


@cli.command()
@options.session_options
@options.message_types
@click.option("--plain", "as_lines", is_flag=True, help="A line for each message, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; docs/client.md has the schema.")
@click.option("--quiet", is_flag=True, help="No lines, only the summary.")
@click.option("--bell", is_flag=True, help="Ring the terminal's bell when an alarm begins.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many TF files.")
@click.option("--for", "duration", type=options.Duration(), help="End after this time: 90s, 10m, 2h.")
@click.option(
    "--until", type=click.Choice(["end_run"]), help="End when a run that is shown has ended and was compared."
)
@click.option("--fail-on-gaps", is_flag=True, help="Exit with 5 if TF files are missing, or if that is UNKNOWN.")
@click.pass_obj
def start(
    intervals: Intervals | None, session_options: options.SessionOptions, message_types: tuple[str, ...],
    as_lines: bool, as_json: bool, quiet: bool, bell: bool,
    count: int | None, duration: float | None, until: str | None, fail_on_gaps: bool,
) -> None:  # fmt: skip
    """Show TF files as they are announced; every one once, through every loss of the stream.

    On a terminal in a live view, else a line for each. What the stream did not bring is filled from the monitor's
    tables, marked as backfilled. The options choose what is shown, not what is known. The token comes from
    SWF_API_TOKEN or the file that SWF_API_TOKEN_FILE names; FASTMON_MONITOR_CA names the PEM file of a private CA.
    Ends with a summary.

    Exit codes: 0 ended as asked, 1 error, 2 usage, 3 the monitor refuses the token, 4 never reached within --for,
    5 gaps found (--fail-on-gaps), 130 Ctrl-C.
    """
    if as_json and (as_lines or quiet):
        raise click.UsageError("--json excludes --plain and --quiet")
    is_live = not (as_lines or as_json or quiet) and has_screen()
    log_to_stderr("WARNING" if quiet or is_live else "INFO")
    line_by_line()
    output = (Quiet if quiet or is_live else JsonLines if as_json else Lines)(bell=bell)
    stop_conditions = StopConditions(count=count, until_end_run=until is not None)
    session = session_options.session(
        message_types, os.environ, output=output, stop_conditions=stop_conditions, intervals=intervals
    )
    if not quiet:
        stop_without_reader(session.stop)
    with shutdown_on(session.stop, duration) as end:
        with quiet_without_reader():
            (run_live if is_live else Session.run)(session)
        snapshot = session.snapshot()
        with quiet_without_reader():
            _tell_end(session, snapshot, as_json=as_json)
    sys.exit(_exit_code(session, end, snapshot, fail_on_gaps=fail_on_gaps))


def has_screen() -> bool:
    """Whether there is a terminal on which a cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def run_live(session: Session) -> None:
    """Run *session* in the live view; what would be logged stands on the screen as well."""
    from fastmon_client.live import show_live

    logger.remove()
    show_live(session)


def _tell_end(session: Session, snapshot: Snapshot, *, as_json: bool) -> None:
    if session.refusal:
        click.echo(f"fastmon-client: {escape(session.refusal)}", err=True)
    if as_json:
        click.echo(json.dumps(summary_object(snapshot)))
    for text in summary_lines(snapshot):
        click.echo(text, err=True)


def _exit_code(session: Session, end: ShutdownReason, snapshot: Snapshot, *, fail_on_gaps: bool) -> int:
    if session.refusal:
        return AUTHENTICATION if session.refusal.by_token else ERROR
    if end.code:
        return end.code
    if end.timed_out and not session.connected_once:
        return UNREACHABLE
    return GAPS if fail_on_gaps and any(has_gaps(run) for run in snapshot["runs"]) else 0


@cli.command()
@options.monitor_url
@click.option("--run", "run_number", type=click.IntRange(min=0), required=True, metavar="N", help="Number of the run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the run as in the lines of start --json.")
def summary(monitor_url: str | None, run_number: int, as_json: bool) -> None:
    """Sum a run up from the monitor's tables.

    Exit codes: 0 all there, 1 no such run or no monitor, 2 usage, 3 the monitor refuses the token, 4 the monitor does
    not answer, 5 gaps found, or it is UNKNOWN whether there are.
    """
    log_to_stderr("INFO")
    line_by_line()
    try:
        run = look_up(options.access_of(monitor_url, os.environ), run_number)
    except SummaryUnavailable as exc:
        click.echo(f"fastmon-client: {escape(exc)}", err=True)
        sys.exit(exc.code)
    click.echo(json.dumps(run) if as_json else run_line(run))
    sys.exit(GAPS if has_gaps(run) else 0)


@cli.command()
@options.session_options
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8010", show_default=True, help="Port 0: a free one.")
@click.option("--auth-token", "token_file", metavar="FILE", help="File that holds the token that opens the page.")
@click.pass_obj
def dashboard(
    intervals: Intervals | None, session_options: options.SessionOptions, listen: str, token_file: str | None
) -> None:
    """Show the same as a web page, to any number of browsers, over one stream.

    A --listen that others can reach needs a token: from the file that --auth-token or FASTMON_DASHBOARD_TOKEN_FILE
    names, or from FASTMON_DASHBOARD_TOKEN; never on the command line itself. Browsers sign in with a form, programs
    with the header Authorization: Bearer TOKEN. Needs the extra: pip install 'swf-fastmon[dashboard]'.

    Exit codes: 0 SIGTERM, 1 error, 2 usage, 3 the monitor refuses its token, 130 Ctrl-C.
    """
    from fastmon_client.dashboard.command import show

    log_to_stderr("INFO")
    line_by_line()
    session = session_options.session(options.SHOWN_TYPES, os.environ, output=Quiet(), intervals=intervals)
    end = show(session, listen, token_file, os.environ)
    if session.refusal:
        click.echo(f"fastmon-client: {escape(session.refusal)}", err=True)
    sys.exit(_exit_code(session, end, session.snapshot(), fail_on_gaps=False))


@cli.command()
@options.monitor_url
@click.option("--json", "as_json", is_flag=True, help="One JSON object: settings, tries (what, ok, detail, remedy).")
def status(monitor_url: str | None, as_json: bool) -> None:
    """Show the settings with their sources, then try DNS, TLS, REST, the token and the stream once.

    Exit codes: 0 all is well, 1 error, 2 usage, 3 the monitor refuses the token, 4 it does not answer.
    """
    line_by_line()
    monitor = options.access_of(monitor_url, os.environ)
    settings = options.settings_of(monitor_url, os.environ)
    if not as_json:
        for name, value, source in settings:
            click.echo(f"{name:<20} {escape(value)}  ({source})")
    tries, diagnostics = [], Diagnostics(monitor)
    for line in diagnostics.run():
        tries.append(line)
        if not as_json:
            hint = f": {line.hint}" if line.hint else ""
            click.echo(f"{'ok    ' if line.ok else 'FAILED'} {line.what:<7} {escape(line.detail)}{hint}")
    if as_json:
        known = [dict(zip(("name", "value", "source"), each, strict=True)) for each in settings]
        click.echo(json.dumps({"settings": known, "tries": [asdict(line) for line in tries]}))
    sys.exit(_TRY_CODES[diagnostics.cause])


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"fastmon-client {__version__}")


def log_to_stderr(level: str) -> None:
    """What is no output goes to stderr, as lines that nothing in them can break."""

    def write(text: str) -> None:
        click.echo(escape(text.rstrip("\n")), err=True)

    logger.remove()
    logger.add(write, format="fastmon-client: {message}", level=level, diagnose=False, backtrace=False)


def main() -> None:
    """Run the command line."""
    # A script's `&` starts its children with SIGINT ignored; ours end by it however they were started.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main(prog_name="fastmon-client")
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        click.echo(f"fastmon-client: {package} is missing: pip install 'swf-fastmon[dashboard]'", err=True)
        sys.exit(ERROR)

"""The command line of the client."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class
from loguru import logger

from fastmon_client import __version__, options
from fastmon_client.diagnostics import Diagnostics
from fastmon_client.environment import Environment
from fastmon_client.formatting import escape
from fastmon_client.intervals import Intervals
from fastmon_client.log_throttle import throttled_libraries
from fastmon_client.message_filter import RUN_SUMMARY
from fastmon_client.output import JsonLines, Lines, Quiet, summary_object
from fastmon_client.session import Session, StopConditions, now
from fastmon_client.settings import broker_from, monitor_from, settings_with_sources, shifts_from
from fastmon_client.shifts import DEFAULT_SHIFTS, last
from fastmon_client.shutdown import (
    AUTHENTICATION,
    ERROR,
    GAPS,
    SIGNALS,
    UNREACHABLE,
    ShutdownReason,
    shutdown_on,
    watch_reader,
)
from fastmon_client.snapshot import Snapshot
from fastmon_client.standard_output import (
    OUTPUT_LOST,
    OutputLost,
    guard_streams,
    lost_output,
    probe_output,
    report_lost,
)
from fastmon_client.summary import SummaryUnavailable, fetch_run, followed, has_gaps, run_line, summary_lines

if TYPE_CHECKING:
    from fastmon_client.live import LiveView

_PROGRAM = "fastmon-client"
_STATUS_EXIT_CODES = {None: 0, "unreachable": UNREACHABLE, "token": AUTHENTICATION, "other": ERROR}


class _Group(click.Group):
    """Ends with 130 after Ctrl-C, where click's own 1 would be an answer."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(SIGNALS[signal.SIGINT])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Show the detector's data flow live, from the monitor's event stream."""


@cli.command()
@options.session_options
@options.message_types
@click.option(
    "--plain",
    "as_lines",
    is_flag=True,
    help="Print one line per message and a line of status a minute, also on a terminal.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line; docs/reference/json.md has the keys."
)
@click.option("--quiet", is_flag=True, help="Print only the summary.")
@click.option(
    "--reference",
    type=options.RunName(),
    metavar="RUN",
    help="Compare with this good run, minute by minute: rate, lag, missing STFs, size.",
)
@click.option("--bell", is_flag=True, help="Ring the terminal bell when an alarm begins.")
@options.state_dir("In the live view, share acknowledgements in this folder with other terminals and a dashboard.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many TF files.")
@click.option("--for", "duration", type=options.Duration(), help="Stop after this time: 90s, 10m, 2h.")
@click.option(
    "--until", type=click.Choice(["end_run"]), help="Stop when a shown run has ended and its numbers are final."
)
@click.option("--fail-on-gaps", is_flag=True, help="Exit with 5 if TF files are missing, or if this is UNKNOWN.")
@click.pass_obj
def start(
    intervals: Intervals | None, session_options: options.SessionOptions, message_types: tuple[str, ...],
    as_lines: bool, as_json: bool, quiet: bool, reference: str | None, bell: bool, state_dir: Path | None,
    count: int | None, duration: float | None, until: str | None, fail_on_gaps: bool,
) -> None:  # fmt: skip
    """Show TF files as they are announced, each once, across reconnects.

    A terminal gets a live view (press ? for its keys), any other output one line per TF file. TF files that the stream
    missed are read from the monitor's tables and marked as backfilled. Filters limit what is shown, not what is
    counted. A summary follows at the end. Set the token in SWF_API_TOKEN, or in a file named by SWF_API_TOKEN_FILE; set
    FASTMON_MONITOR_CA to the PEM file of a private CA.

    Exit codes: 0 stopped as requested, 1 error, 2 usage error, 3 token rejected, 4 monitor not reached within --for,
    5 gaps found (--fail-on-gaps), 74 output cannot be written, 78 invalid .env file, 129 terminal closed, 130 Ctrl-C,
    131 SIGQUIT.
    """
    if as_json and (as_lines or quiet):
        raise click.UsageError("--json cannot be combined with --plain or --quiet")
    is_live = not (as_lines or as_json or quiet) and is_interactive()
    if state_dir and not is_live:
        raise click.UsageError("--state is for the live view: use it in a terminal, without --plain, --json or --quiet")
    log_to_stderr("WARNING" if quiet or is_live else "INFO")
    variables = _environment().values
    view = _live_view(state_dir, bell=bell) if is_live else None
    output = view.output if view else (Quiet if quiet else JsonLines if as_json else Lines)(bell=bell)
    stop_conditions = StopConditions(count=count, until_end_run=until is not None)
    session = session_options.session(
        (*message_types, *view.message_types) if view else message_types,
        variables,
        output=output,
        stop_conditions=stop_conditions,
        intervals=intervals,
        reference=reference,
    )

    def on_reader_gone(reason: str) -> None:
        if not session.is_stopped:
            report_lost(reason)
            session.stop()

    if not quiet:
        probe_output()
        watch_reader(on_reader_gone)
    with shutdown_on(session.stop, duration) as end:
        with suppress(OutputLost):
            if view:
                logger.remove()  # the view shows what the log would
                view.show(session, monitor_from(session_options.monitor_url, variables))
            else:
                session.run()
        snapshot = session.snapshot()
        with suppress(OutputLost):
            _print_summary(session, snapshot, as_json=as_json)
    sys.exit(_exit_code(session, end, snapshot, fail_on_gaps=fail_on_gaps))


def is_interactive() -> bool:
    """Whether stdout is a terminal with cursor control, and ours: not that of a shell which started us with `&`."""
    out = sys.stdout
    if not out.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return False
    try:
        return os.tcgetpgrp(out.fileno()) == os.getpgrp()
    except OSError:  # no shell controls it
        return True


def _live_view(state_dir: Path | None, *, bell: bool) -> LiveView:
    from fastmon_client.live import LiveView

    try:
        return LiveView(options.state_folder(state_dir, is_shared=True), bell=bell)
    except OSError as exc:
        raise click.UsageError(f"--state {state_dir}: {exc.strerror}: use a folder that you may write") from exc


def _print_summary(session: Session, snapshot: Snapshot, *, as_json: bool) -> None:
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
    shown = followed(session.rows(), snapshot["filters"]["run_ids"])
    return GAPS if fail_on_gaps and any(has_gaps(run) for run in shown) else 0


@cli.command()
@options.monitor_url
@click.option(
    "--run", "run_number", type=options.RunNumber(min=0), required=True, metavar="N", help="Summarize this run."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, like a run of start --json.")
@options.state_dir("Use the daemon's summary of the run from this folder of a dashboard.")
def summary(monitor_url: str | None, run_number: int, as_json: bool, state_dir: Path | None) -> None:
    """Summarize a run from the monitor's tables.

    If the selection fraction changed during the run, the tables do not tell skipped STFs from missing ones: the run is
    UNKNOWN, unless the folder of a dashboard (--state) has the daemon's summary.

    Exit codes: 0 no gaps, 1 no such run or not a monitor, 2 usage error, 3 token rejected, 4 monitor does not answer,
    5 gaps found or UNKNOWN, 74 output cannot be written, 78 invalid .env file.
    """
    from fastmon_client.report.command import journal_in

    log_to_stderr("INFO")
    _, summaries = journal_in(state_dir)
    try:
        monitor = monitor_from(monitor_url, _environment().values)
        run = fetch_run(monitor, run_number, summaries.get(str(run_number)))
    except SummaryUnavailable as exc:
        if as_json:  # a program that reads stdout finds the error there, too
            click.echo(json.dumps({"error": str(exc), "exit_code": exc.code}))
        click.echo(f"fastmon-client: {escape(exc)}", err=True)
        sys.exit(exc.code)
    click.echo(json.dumps(run) if as_json else run_line(run))
    sys.exit(GAPS if has_gaps(run) else 0)


@cli.command()
@options.monitor_url
@click.option("--since", type=options.Duration(), help="Report the last hours or minutes: 8h, 90m  [default: 8h]")
@click.option("--shift", metavar="NAME", help="Report this shift: the current one, or the last one of that name.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["md", "html", "json"]),
    default="md",
    show_default=True,
    help="Write Markdown, one HTML file, or JSON.",
)
@click.option("--shifter", metavar="NAME", default="", help="Name the shifter.")
@click.option("--note", "notes", metavar="TEXT", multiple=True, help="Add this text as a note; may be repeated.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to this file instead of standard output.",
)
@options.state_dir("Read alarms, acknowledgements, outages and summaries from this folder of a dashboard.")
@click.option(
    "--shifts", metavar="LIST", help=f"Names of the shifts and when each begins  [FASTMON_SHIFTS, {DEFAULT_SHIFTS}]"
)
@click.option(
    "--zone",
    metavar="ZONE",
    help="Time zone of the shifts and of all times shown, for example "
    "America/New_York  [FASTMON_ZONE, that of the system]",
)
def report(
    monitor_url: str | None, since: float | None, shift: str | None, kind: str, shifter: str, notes: tuple[str, ...],
    output: Path | None, state_dir: Path | None, shifts: str | None, zone: str | None,
) -> None:  # fmt: skip
    """Write the shift report: what the next shift must know.

    The report has what is still open, runs with their missing STFs by name, alarms and who acknowledged them, outages,
    and latencies. Runs come from the monitor's tables, the rest from the folder of a dashboard (--state). If reading
    takes longer than two seconds, stderr shows the progress.

    Exit codes: 0 reported, 1 not a monitor, 2 usage error, 3 token rejected, 4 monitor does not answer (with --state
    the report has the rest), 74 output cannot be written, 78 invalid .env file, 130 Ctrl-C.
    """
    from fastmon_client.report.command import ReportOptions, report_of, write_file
    from fastmon_client.report.rendering import FORMATS

    log_to_stderr("INFO")
    variables, at = _environment().values, now()
    known = shifts_from(shifts, zone, variables)
    if since is not None and shift is not None:
        raise click.UsageError("--since and --shift cannot be combined")
    if output and not output.absolute().parent.is_dir():
        raise click.UsageError(f"--output {output}: no such folder: make it, or use another one")
    try:
        window = known.of(shift, at) if shift is not None else last(8 * 3600 if since is None else since, at)
    except ValueError as exc:
        raise click.UsageError(f"--shift: {exc}") from exc
    chosen = ReportOptions(window, shifter, notes, state_dir)
    try:
        made, failure = report_of(monitor_from(monitor_url, variables), chosen, logger.info)
    except SummaryUnavailable as exc:
        click.echo(f"fastmon-client: {escape(exc)}", err=True)
        sys.exit(exc.code)
    text = FORMATS[kind](made, known)
    try:
        click.echo(text, nl=False) if output is None else write_file(output, text)
    except OSError as exc:
        click.echo(f"fastmon-client: --output {escape(output)}: {exc.strerror}: use another file", err=True)
        sys.exit(OUTPUT_LOST)
    if failure:
        click.echo(f"fastmon-client: {escape(failure)}", err=True)
        sys.exit(UNREACHABLE)


@cli.command()
@options.session_options
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8010",
    show_default=True,
    help="Listen on this address; port 0 chooses a free port.",
)
@click.option("--auth-token", "token_file", metavar="FILE", help="Read the token of the page from this file.")
@options.state_dir(
    "Keep acknowledgements and the journal in this folder; without it, they last until the process ends."
)
@click.option("--public-url", metavar="URL", help="Serve behind a TLS proxy whose address is this https:// URL.")
@click.pass_obj
def dashboard(
    intervals: Intervals | None, session_options: options.SessionOptions, listen: str, token_file: str | None,
    state_dir: Path | None, public_url: str | None,
) -> None:  # fmt: skip
    """Serve the live view as a web page, to any number of browsers over one stream.

    A --listen address that other hosts can reach needs a token: in a file (--auth-token or
    FASTMON_DASHBOARD_TOKEN_FILE) or in FASTMON_DASHBOARD_TOKEN, never on the command line. Browsers sign in with a
    form, programs send the header Authorization: Bearer TOKEN. Behind a TLS proxy, --public-url limits the page to the
    proxy's host name and its cookies to https. Requires the extra dashboard: pip install '.[dashboard]' in the clone.

    Exit codes: 0 SIGTERM, 1 error, 2 usage error, 3 monitor rejected its token, 74 output cannot be written,
    78 invalid .env file, 129 SIGHUP, 130 Ctrl-C, 131 SIGQUIT.
    """
    from fastmon_client.dashboard.command import DashboardOptions, opened_state, serve_session
    from fastmon_client.dashboard.details import Summaries, TableDetails

    log_to_stderr("INFO")
    variables = _environment().values
    monitor, shifts = monitor_from(session_options.monitor_url, variables), shifts_from(None, None, variables)
    with opened_state(state_dir) as kept:
        earlier = kept.journal.summaries
        summaries = Summaries(earlier)
        session = session_options.session(
            (*options.SHOWN_TYPES, RUN_SUMMARY), variables, output=summaries, intervals=intervals, summaries=earlier
        )
        chosen = DashboardOptions(listen, token_file, public_url, kept, shifts)
        details = TableDetails(monitor, summaries, session.rows, session.earlier_rates)
        end = serve_session(session, details, chosen, variables)
    if session.refusal:
        click.echo(f"fastmon-client: {escape(session.refusal)}", err=True)
    sys.exit(_exit_code(session, end, session.snapshot(), fail_on_gaps=False))


@cli.command()
@options.monitor_url
@options.transport
@options.topic
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object: settings, tries (what, ok, detail, hint)."
)
def status(monitor_url: str | None, transport: str, topic: str | None, as_json: bool) -> None:
    """Show the settings with their sources, then check DNS, TCP, TLS, REST, the token and the stream.

    Settings come from the environment, then from .env in the working folder, then from ~/.env. With --transport stomp,
    the broker's topic is checked instead of the stream: for 10 s, whether TF files that the monitor registers are
    announced on it.

    Exit codes: 0 all checks passed, 1 error, 2 usage error, 3 token rejected, 4 monitor does not answer, 74 output
    cannot be written, 78 invalid .env file.
    """
    log_to_stderr("ERROR")
    environment = _environment()
    monitor = monitor_from(monitor_url, environment.values)
    broker = broker_from(topic, environment.values) if transport == "stomp" else None
    settings = settings_with_sources(monitor_url, environment, topic)
    if not as_json:
        for name, value, source in settings:
            click.echo(f"{name:<23} {escape(value)}  ({source})")
    results, diagnostics = [], Diagnostics(monitor, broker)
    for result in diagnostics.run():
        results.append(result)
        if not as_json:
            hint = f": {result.hint}" if result.hint else ""
            click.echo(f"{'ok    ' if result.ok else 'FAILED'} {result.what:<7} {escape(result.detail + hint)}")
    if as_json:
        rows = [dict(zip(("name", "value", "source"), each, strict=True)) for each in settings]
        click.echo(json.dumps({"settings": rows, "tries": [asdict(result) for result in results]}))
    sys.exit(_STATUS_EXIT_CODES[diagnostics.cause])


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(f"fastmon-client {__version__}")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Write it to the file that the shell reads:
      bash: ~/.local/share/bash-completion/completions/fastmon-client
      zsh:  _fastmon-client in a folder of $fpath
      fish: ~/.config/fish/completions/fastmon-client.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(ctx.find_root().command, {}, _PROGRAM, f"_{_PROGRAM}_COMPLETE".replace("-", "_").upper())
    click.echo(complete.source_template % complete.source_vars())  # source() asks which bash this machine has


def _environment() -> Environment:
    """The environment of this process; warns of secrets that others can read."""
    environment = Environment.of_process()
    for warning in environment.exposed:
        click.echo(f"fastmon-client: {escape(warning)}", err=True)
    return environment


def log_to_stderr(level: str) -> None:
    """Log to stderr, one escaped line per record."""

    def write(text: str) -> None:
        click.echo(escape(text.rstrip("\n")), err=True)

    logger.remove()
    logger.add(write, format="fastmon-client: {message}", level=level, diagnose=False, backtrace=False)


def main(intervals: Intervals | None = None) -> None:
    """Run the command line; *intervals* replace the client's own."""
    # A script's `&` starts its children with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    guard_streams()
    with throttled_libraries():
        code = _exit_code_of_command(intervals)
    reason = lost_output()
    if reason and code < min(filter(None, SIGNALS.values())):
        code = OUTPUT_LOST
        click.echo(f"fastmon-client: standard output: cannot be written: {reason}: write to another file", err=True)
    sys.exit(code)


def _exit_code_of_command(intervals: Intervals | None) -> int:
    try:
        cli.main(prog_name="fastmon-client", obj=intervals)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0
    except OutputLost:
        return OUTPUT_LOST
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        click.echo(f"fastmon-client: {package} is not installed: pip install '.[dashboard]' in the clone", err=True)
        return ERROR
    return 0

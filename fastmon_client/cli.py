"""The command line of the client: words in, lines and exit codes out."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Any

import click
from loguru import logger

from fastmon_client import __version__
from fastmon_client.show import line
from fastmon_client.stream import Stream, StreamRefused
from fastmon_client.tally import Tally

RUN_TYPES = ("run_imminent", "start_run", "pause_run", "resume_run", "end_run")
ALWAYS = (*RUN_TYPES, "fastmon_status", "fastmon_run_summary")
AUTHENTICATION, UNREACHABLE, INTERRUPTED = 3, 4, 130


class _Names(click.ParamType[tuple[str, ...]]):
    """A list separated by commas."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


class _Duration(click.ParamType[float]):
    """Seconds, or a number with s, m or h."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration: write 90, 90s, 10m or 2h", param, ctx)
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Shows the detector's data flow live from the monitor's event stream."""


@cli.command()
@click.option("--monitor-url", metavar="URL", help="Base URL of the monitor  [SWF_MONITOR_URL, http://localhost:8002]")
@click.option(
    "--message-types",
    type=_Names(),
    default="tf_file_registered,fastmon_status",
    show_default=True,
    help="Types of message to show.",
)
@click.option("--agents", type=_Names(), default="", help="Show only these agents (processed_by; * and ? match).")
@click.option("--run-ids", type=_Names(), default="", help="Show only these runs.")
@click.option("--namespace", help="Show only this namespace.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: the message as it came.")
@click.option("--quiet", is_flag=True, help="No lines, only the summary.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many TF files.")
@click.option("--for", "duration", type=_Duration(), help="End after this time: 90s, 10m, 2h.")
@click.option("--until", type=click.Choice(["end_run"]), help="End with the next end_run that is shown.")  # fmt: skip
def start(
    monitor_url: str | None, message_types: tuple[str, ...], agents: tuple[str, ...], run_ids: tuple[str, ...],
    namespace: str | None, as_json: bool, quiet: bool, count: int | None, duration: float | None, until: str | None,
) -> None:  # fmt: skip
    """Print announcements as they come; every TF file once, through every loss of the stream.

    The token comes from SWF_API_TOKEN or the file that SWF_API_TOKEN_FILE names. Messages of a run are always heard;
    the options choose what is shown. Ends with a summary on stderr.

    Exit codes: 0 ended as asked, 1 error, 2 usage, 3 the monitor refuses the token, 4 never reached within --for,
    130 Ctrl-C.
    """
    logger.remove()
    logger.add(sys.stderr, format="fastmon-client: {message}", level="WARNING" if quiet else "INFO", diagnose=False)
    url = monitor_url or os.environ.get("SWF_MONITOR_URL") or "http://localhost:8002"
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--monitor-url (SWF_MONITOR_URL): {url!r} is no http:// or https:// URL")
    stream = Stream(url=url, token=_token(os.environ), types=tuple(dict.fromkeys((*message_types, *ALWAYS))))
    wanted = _filter(message_types, agents, run_ids, namespace)
    tally, begun = Tally(), time.monotonic()
    code = _until_ended(stream, duration, lambda: _show(stream, wanted, tally, as_json, quiet, count, until))
    for text in tally.summary(time.monotonic() - begun):
        click.echo(text, err=True)
    sys.exit(UNREACHABLE if code == 0 and duration and not stream.connected_once else code)


def _show(
    stream: Stream, wanted: Callable[[Mapping[str, Any]], bool], tally: Tally, as_json: bool, quiet: bool,
    count: int | None, until: str | None,
) -> None:  # fmt: skip
    for message in stream.messages():
        if not isinstance(message, dict) or not wanted(message):
            continue
        kind = message.get("msg_type")
        if kind == "tf_file_registered" and not tally.is_new(message):
            continue
        if not quiet:
            print(json.dumps(message) if as_json else line(message), flush=True)  # noqa: T201 (line by line, for a pipe)
        if (count and tally.tf_files >= count) or (until and kind == until):
            return


def _until_ended(stream: Stream, duration: float | None, work: Callable[[], None]) -> int:
    """Run *work* until it ends, the time is over, or a signal comes. Returns the exit code."""
    code = 0

    def end(signum: int, _frame: FrameType | None) -> None:
        nonlocal code
        code = INTERRUPTED if signum == signal.SIGINT else 0
        stream.stop()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    timer = threading.Timer(duration or 0, stream.stop)
    timer.daemon = True
    if duration:
        timer.start()
    try:
        work()
    except StreamRefused as exc:
        click.echo(f"fastmon-client: {exc}", err=True)
        code = AUTHENTICATION if exc.status in (401, 403) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away: that is no error
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
    return code


def _filter(
    types: tuple[str, ...], agents: tuple[str, ...], run_ids: tuple[str, ...], namespace: str | None
) -> Callable[[Mapping[str, Any]], bool]:
    shown = {*types, *RUN_TYPES}

    def wanted(message: Mapping[str, Any]) -> bool:
        run = str(message.get("run_id", message.get("run_number")))
        agent = str(message.get("processed_by"))
        is_of_run_control = message.get("msg_type") in RUN_TYPES
        return (
            message.get("msg_type") in shown
            and (not run_ids or run in run_ids)
            and (namespace is None or message.get("namespace") == namespace)
            and (not agents or is_of_run_control or any(fnmatchcase(agent, pattern) for pattern in agents))
        )

    return wanted


def _token(environ: Mapping[str, str]) -> Callable[[], str]:
    """The token, read anew at each connection where it comes from a file."""
    path = environ.get("SWF_API_TOKEN_FILE")
    if not path:
        return lambda: environ.get("SWF_API_TOKEN", "")

    def read() -> str:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise StreamRefused(f"SWF_API_TOKEN_FILE={path}: {exc.strerror}: name a readable file", 0) from exc

    return read


def main() -> None:
    """Run the command line."""
    cli.main(prog_name="fastmon-client")

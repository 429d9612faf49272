"""The command line of the client: words in, lines and exit codes out."""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from loguru import logger
from requests.utils import get_environ_proxies

from fastmon_client import __version__
from fastmon_client.ending import ending, quiet_without_reader, stop_without_reader
from fastmon_client.show import line, plain
from fastmon_client.stream import Stream, StreamRefused
from fastmon_client.tally import Tally
from fastmon_client.wanted import Wanted

ERROR, AUTHENTICATION, UNREACHABLE = 1, 3, 4


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
@click.option("--until", type=click.Choice(["end_run"]), help="End with the next end_run that is shown.")
def start(
    monitor_url: str | None, message_types: tuple[str, ...], agents: tuple[str, ...], run_ids: tuple[str, ...],
    namespace: str | None, as_json: bool, quiet: bool, count: int | None, duration: float | None, until: str | None,
) -> None:  # fmt: skip
    """Print announcements as they come; every TF file once, through every loss of the stream.

    The token comes from SWF_API_TOKEN or the file that SWF_API_TOKEN_FILE names; FASTMON_MONITOR_CA names the PEM file
    of a private CA. Messages of a run are always heard; the options choose what is shown. Ends with a summary on
    stderr.

    Exit codes: 0 ended as asked, 1 error, 2 usage, 3 the monitor refuses the token, 4 never reached within --for,
    130 Ctrl-C.
    """
    logger.remove()
    _log_to_stderr("WARNING" if quiet else "INFO")
    wanted = Wanted(types=message_types, agents=agents, run_ids=run_ids, namespace=namespace)
    stream = _stream(monitor_url, wanted, os.environ)
    tally, begun, code = Tally(), time.monotonic(), 0
    if not quiet:
        stop_without_reader(stream)
    with ending(stream, duration) as end, quiet_without_reader():
        try:
            _show(stream, wanted, tally, _printer(as_json, quiet), _is_last(tally, count, until))
        except StreamRefused as exc:
            click.echo(f"fastmon-client: {plain(exc)}", err=True)
            code = AUTHENTICATION if exc.by_token else ERROR
    with quiet_without_reader():
        for text in tally.summary(time.monotonic() - begun):
            click.echo(text, err=True)
    never_reached = end.timed_out and not stream.connected_once
    sys.exit(code or end.code or (UNREACHABLE if never_reached else 0))


def _show(
    stream: Stream,
    wanted: Wanted,
    tally: Tally,
    output: Callable[[Mapping[str, Any]], None],
    is_last: Callable[[Mapping[str, Any]], bool],
) -> None:
    for message in stream.messages():
        if not wanted.takes(message):
            continue
        if message.get("msg_type") == "tf_file_registered" and not tally.is_new(message):
            continue
        output(message)
        if is_last(message):
            return


def _printer(as_json: bool, quiet: bool) -> Callable[[Mapping[str, Any]], None]:
    if quiet:
        return lambda _message: None
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name outside the terminal's encoding is shown as well
    return lambda message: click.echo(json.dumps(message) if as_json else line(message))


def _is_last(tally: Tally, count: int | None, until: str | None) -> Callable[[Mapping[str, Any]], bool]:
    def is_last(message: Mapping[str, Any]) -> bool:
        return (count is not None and tally.tf_files >= count) or (until is not None and message["msg_type"] == until)

    return is_last


def _log_to_stderr(level: str) -> None:
    def write(text: str) -> None:
        click.echo(plain(text.rstrip("\n")), err=True)

    logger.add(write, format="fastmon-client: {message}", level=level, diagnose=False, backtrace=False)


def _stream(monitor_url: str | None, wanted: Wanted, environ: Mapping[str, str]) -> Stream:
    url = monitor_url or environ.get("SWF_MONITOR_URL") or "http://localhost:8002"
    ca = environ.get("FASTMON_MONITOR_CA") or None
    host = _checked_host(url)
    _check_ca(ca)
    is_here = host in ("localhost", "::1") or host.startswith("127.")
    proxies = {} if is_here else get_environ_proxies(url)
    return Stream(url=url, token=_token(environ), types=wanted.heard_types, ca=ca, proxies=proxies)


def _checked_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # a wrong port is found when it is asked for
    except ValueError as exc:
        raise click.UsageError(f"--monitor-url (SWF_MONITOR_URL): {exc}: write http://HOST:PORT") from exc
    if "@" in parts.netloc:
        raise click.UsageError("--monitor-url (SWF_MONITOR_URL) has a password or a name in it: take it out")
    if parts.scheme not in ("http", "https") or not host:
        raise click.UsageError(f"--monitor-url (SWF_MONITOR_URL): {url!r} is no http:// or https:// URL")
    return host


def _check_ca(path: str | None) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as exc:
        raise click.UsageError(f"FASTMON_MONITOR_CA={path}: {exc}: name a readable PEM file") from exc


def _token(environ: Mapping[str, str]) -> Callable[[], str]:
    """The token, read anew at each connection where it comes from a file."""
    path = environ.get("SWF_API_TOKEN_FILE")

    def read() -> str:
        try:
            text = Path(path).read_text(encoding="utf-8") if path else environ.get("SWF_API_TOKEN", "")
        except (OSError, UnicodeError) as exc:
            raise StreamRefused(f"SWF_API_TOKEN_FILE={path}: {type(exc).__name__}: name a readable file") from None
        token = text.strip()
        if not (token.isascii() and token.isprintable()):  # requests would print it in its error
            name = "SWF_API_TOKEN_FILE" if path else "SWF_API_TOKEN"
            raise StreamRefused(f"{name}: there are line breaks or other strange characters in the token")
        return token

    return read


def main() -> None:
    """Run the command line."""
    cli.main(prog_name="fastmon-client")

"""The command line: the group of commands, and the exit codes of errors."""

from __future__ import annotations

import json
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from fastmon_daemon import __version__
from fastmon_daemon.base.errors import (
    ConfigError,
    DatabaseInUse,
    FastmonError,
    OutputLost,
    StorageError,
    StorageUnavailable,
)
from fastmon_daemon.base.output import drop_output, flush_output, guard_streams
from fastmon_daemon.base.suggest import did_you_mean
from fastmon_daemon.base.text import escape_controls

COMMANDS = (
    "run", "reload", "inspect", "top", "report", "acts", "verdict", "reconcile", "retry", "discard", "include",
    "replay", "export", "purge", "backup", "config", "check", "healthcheck", "diagram", "schema", "files",
    "completion", "testbed", "daq", "demo",
)  # fmt: skip
_MODULES = dict.fromkeys(("retry", "discard", "include", "replay", "purge"), "action_commands")
"""Command -> module, if the module is not named like the command."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""
_EXIT_CODES = (
    (ConfigError, 78), (OutputLost, 74), (DatabaseInUse, 75), (StorageUnavailable, 75), (StorageError, 3),
    (FastmonError, 1),
)  # fmt: skip
_WANTS_JSON = f"{__name__}.wants_json"
_EXTRAS = {**dict.fromkeys(("starlette", "uvicorn", "httptools", "uvloop"), "testbed"), "mermaidx": "svg"}


class _LazyGroup(click.Group):
    """Imports a command when it is called: `inspect` must not wait for the imports of the testbed.

    With `--json`, an error is also an object on stdout: error (the message) and exit_code.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_WANTS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            drop_output()
            ctx.exit(INTERRUPTED)  # click's own 1 would be an answer: `verdict` says so of an incomplete run
        except (click.ClickException, FastmonError) as exc:
            # A program that reads stdout finds the error there, too.
            if ctx.meta[_WANTS_JSON] and not isinstance(exc, OutputLost):
                click.echo(json.dumps({"error": _message(exc), "exit_code": exit_code_of(exc)}))
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no such command: {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"fastmon_daemon.commands.{_MODULES.get(cmd_name, cmd_name)}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit code 74, of every command: its output could not be written.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Sample super time frames (STFs), register and announce their TF files, and account for every STF."""


def exit_code_of(error: click.ClickException | FastmonError) -> int:
    """Return the exit code of an error."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


def _message(error: click.ClickException | FastmonError) -> str:
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


def main() -> None:
    """Run the command line; print a `FastmonError` as one line on stderr and exit with its code."""
    # A shell script starts background commands with SIGINT ignored; Ctrl-C and `kill -INT` must stop them too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    guard_streams()
    try:
        _run()
    except OutputLost as exc:
        drop_output()
        _exit_with(exc)
    except FastmonError as exc:
        _exit_with(exc)
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        extra = _EXTRAS.get(package)
        if extra is None:
            raise
        click.echo(f"fastmon-daemon: {package} is missing: pip install '.[{extra}]' in the clone", err=True)
        sys.exit(1)


def _run() -> None:
    try:
        cli.main(prog_name="fastmon-daemon")
    except SystemExit:
        flush_output()  # not left to the end of the interpreter, which can only print a traceback
        raise


def _exit_with(exc: FastmonError) -> NoReturn:
    click.echo(f"fastmon-daemon: {escape_controls(exc)}", err=True)
    sys.exit(exit_code_of(exc))

"""The command line: help, exit codes, and errors for missing extras."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fastmon_daemon.checks import CheckResult
from fastmon_daemon.cli import COMMANDS, cli
from fastmon_daemon.outbox import Outage
from fastmon_daemon.outbox.models import RunRow
from fastmon_daemon.outbox.runs import Latency, TfCounts
from fastmon_daemon.reconciler.comparing import ReconcileResult
from fastmon_daemon.reconciler.verdict import Verdict
from fastmon_daemon.testbed.daq import DaqProgress

KEYS_OF_JSON = {
    "inspect": (RunRow,),
    "verdict": (Verdict, TfCounts, Latency, Outage),
    "reconcile": (ReconcileResult,),
    "check": (CheckResult,),
    "daq": (DaqProgress,),
}


def help_of(command: str) -> str:
    result = CliRunner().invoke(cli, [command, "--help"], terminal_width=80)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_options_have_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.name}"
    assert "Exit codes: 0 " in help_of(name)


def test_summary_of_each_command_fits_on_a_line_of_80_columns() -> None:
    listed = CliRunner().invoke(cli, ["--help"], terminal_width=80).stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", KEYS_OF_JSON)
def test_help_lists_the_keys_of_json(command: str) -> None:
    keys = {field.name for each in KEYS_OF_JSON[command] for field in fields(each)}
    assert keys <= set(re.findall(r"\w+", help_of(command)))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns(command: str) -> None:
    assert max(map(len, help_of(command).splitlines())) <= 80


def run_without(module: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as if *module* were not installed."""
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {list(words)!r};"
        "from fastmon_daemon.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=folder
    )


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "uvloop"])
@pytest.mark.parametrize("command", ["demo", "testbed"])
def test_missing_extra_is_an_error_that_names_it(tmp_path: Path, module: str, command: str) -> None:
    result = run_without(module, command, folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"fastmon-daemon: {module} is missing: pip install 'swf-fastmon[testbed]'\n"


def test_other_commands_need_no_extra(tmp_path: Path) -> None:
    result = run_without("uvicorn", "diagram", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "code"), [(["nonsense"], 2), (["run", "--nonsense"], 2), (["inspect", "--db", "no.db"], 3)]
)
def test_exit_codes_of_usage_errors_and_a_missing_database(tmp_path: Path, words: list[str], code: int) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "fastmon_daemon", *words], capture_output=True, timeout=60, check=False, cwd=tmp_path
    )
    assert result.returncode == code

"""The command line: help, exit codes, and errors for missing extras."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fastmon_daemon.checks import CheckResult
from fastmon_daemon.cli import COMMANDS, cli
from fastmon_daemon.messages import RunEvent
from fastmon_daemon.outbox import NewStf, Outage
from fastmon_daemon.outbox.models import RunRow
from fastmon_daemon.outbox.runs import Latency, TfCounts
from fastmon_daemon.reconciler.comparing import ReconcileResult
from fastmon_daemon.reconciler.verdict import Verdict
from fastmon_daemon.runs.run_events import record_run_event
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.daq import DaqProgress
from tests.builders import FakeTestbed
from tests.preloaded import run

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
    listed = CliRunner().invoke(cli, ["--help"], terminal_width=80).stdout.partition("Commands:\n")[2]
    listed = listed.partition("\n\n")[0].splitlines()
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
    assert result.stderr == f"fastmon-daemon: {module} is missing: pip install '.[testbed]' in the clone\n"


def test_other_commands_need_no_extra(tmp_path: Path) -> None:
    result = run_without("uvicorn", "diagram", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "code"), [(["nonsense"], 2), (["run", "--nonsense"], 2), (["inspect", "--db", "no.db"], 3)]
)
def test_exit_codes_of_usage_errors_and_a_missing_database(tmp_path: Path, words: list[str], code: int) -> None:
    result = run(["-m", "fastmon_daemon", *words], env={}, timeout=60, cwd=tmp_path)
    assert result.returncode == code


@pytest.mark.field("3")
@pytest.mark.parametrize("run", ["7", "007", "0000000000007"])
def test_every_command_takes_a_run_in_each_form(tmp_path: Path, run: str) -> None:
    testbed = FakeTestbed(tmp_path)
    with closing(testbed.outbox()) as outbox, outbox.transaction():
        record_run_event(outbox, load_statechart("run"), RunEvent(kind="end_run", run_id="07"), "ns", testbed.time.at)
        for name in ("a.stf", "b.stf"):
            outbox.receive(NewStf(namespace="ns", run_id=7, filename=name), "received", testbed.time.at)
            outbox.move(outbox.find(filename=name)[0], "fail", "failed", testbed.time.at, finalized=True)

    def call(*words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--db", str(tmp_path / "outbox.db")])

    shown = call("inspect", "--run", run, "--json")
    assert [(view["run"], view["known"]) for view in json.loads(shown.stdout)["runs"]] == [("7", 2)]
    assert [stf["stf"] for stf in json.loads(call("inspect", "a.stf", "--run", run, "--json").stdout)["stfs"]] == [
        "a.stf"
    ]
    verdict = json.loads(call("verdict", run, "--json").stdout)
    assert (verdict["run"], verdict["failed"]) == ("7", 2)
    assert call("discard", "a.stf", "--run", run, "--reason", "x").exit_code == 0
    assert call("retry", "--all-failed", "--run", run, "--yes").stdout == "retry: 7/b.stf\n"
    assert call("purge", "--run", run, "--include-unfinished", "--yes").exit_code == 0
    assert json.loads(call("inspect", "--json").stdout)["runs"] == []

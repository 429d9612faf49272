"""The command line: help, exit codes, and what a production install says of what it has not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmon_daemon.cli import COMMANDS, cli


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_itself_and_for_each_of_its_options(command: str) -> None:
    found = cli.get_command(cli.make_context("fastmon-daemon", ["--help"], resilient_parsing=True), command)
    assert found is not None
    assert found.help
    for option in found.params:
        if option.param_type_name == "option":
            assert getattr(option, "help", None), f"{command} {option.name}"
    assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0


def without(module: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where *module* is not installed."""
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {list(words)!r};"
        "from fastmon_daemon.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=folder
    )


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "uvloop"])
@pytest.mark.parametrize("command", ["demo", "testbed"])
def test_without_the_testbeds_extra_its_commands_say_how_to_get_it(tmp_path: Path, module: str, command: str) -> None:
    told = without(module, command, folder=tmp_path)
    assert told.returncode == 1
    assert told.stderr == f"fastmon-daemon: {module} is missing: pip install 'swf-fastmon[testbed]'\n"


def test_the_daemons_own_commands_need_no_extra(tmp_path: Path) -> None:
    told = without("uvicorn", "diagram", folder=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "code"), [(["nonsense"], 2), (["run", "--nonsense"], 2), (["inspect", "--db", "no.db"], 3)]
)
def test_exit_codes_of_mistakes(tmp_path: Path, words: list[str], code: int) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "fastmon_daemon", *words], capture_output=True, timeout=60, check=False, cwd=tmp_path
    )
    assert told.returncode == code

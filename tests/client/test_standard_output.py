"""Output that takes nothing ends each command with one line and exit code 74."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.client.client_process import TOKEN, Experiment
from tests.client.scripted_server import DEADLINE_S

COMMANDS = {
    "version": ("version",),
    "--version": ("--version",),
    "help": ("start", "--help"),
    "status": ("status",),
    "status --json": ("status", "--json"),
    "summary": ("summary", "--run", "100014"),
    "summary --json": ("summary", "--run", "100014", "--json"),
    "start": ("start", "--for", "1h"),
    "start --json": ("start", "--for", "1h", "--json"),
    "dashboard": ("dashboard", "--listen", "127.0.0.1:0"),
}


@pytest.fixture(scope="module")
def experiment() -> Iterator[Experiment]:
    with Experiment() as running:
        running.register_stfs(1)
        yield running


def run_in_shell(experiment: Experiment, words: tuple[str, ...], redirection: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its stdout redirected; the exit code is its own, also in a pipe."""
    script = f'"$@" {redirection}; exit "${{PIPESTATUS[0]}}"'
    environ = {"PATH": os.environ["PATH"], "HOME": os.devnull, "SWF_API_TOKEN": TOKEN}
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "fastmon_client", *words],
        env={**environ, "SWF_MONITOR_URL": experiment.monitor.url},
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


@pytest.mark.field("18")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_full_output_is_one_line(experiment: Experiment, words: tuple[str, ...]) -> None:
    assert_one_line(run_in_shell(experiment, words, "> /dev/full"), "No space left on device")


@pytest.mark.field("18")
@pytest.mark.parametrize("words", [COMMANDS["version"], COMMANDS["summary"], COMMANDS["start --json"]])
def test_closed_output_is_one_line(experiment: Experiment, words: tuple[str, ...]) -> None:
    assert_one_line(run_in_shell(experiment, words, ">&-"), "it is closed")


def assert_one_line(done: subprocess.CompletedProcess[str], reason: str) -> None:
    line = f"fastmon-client: standard output: cannot be written: {reason}: write to another file"
    assert done.stderr.splitlines().count(line) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 74


@pytest.mark.field("18")
@pytest.mark.parametrize("words", [COMMANDS["start"], COMMANDS["dashboard"], COMMANDS["status"]])
def test_reader_that_leaves_is_one_line(experiment: Experiment, words: tuple[str, ...]) -> None:
    done = run_in_shell(experiment, words, "| true")  # gone before, or while, we write
    assert done.returncode == 74
    assert sum("standard output: cannot be written" in line for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [COMMANDS["version"], ("start", "--quiet", "--for", "0.1s")])
@pytest.mark.parametrize("redirection", ["2>&-", "2> /dev/full", "<&-"])
def test_lost_messages_are_no_error(experiment: Experiment, words: tuple[str, ...], redirection: str) -> None:
    done = run_in_shell(experiment, words, redirection)
    assert (done.returncode, done.stderr) in [(0, ""), (5, "")] or redirection == "<&-"
    assert "Traceback" not in done.stdout


def test_quiet_session_needs_no_output(experiment: Experiment) -> None:
    done = run_in_shell(experiment, ("start", "--quiet", "--for", "0.1s"), ">&-")
    assert done.returncode in (0, 4)
    assert "standard output" not in done.stderr

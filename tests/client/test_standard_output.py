"""Output that takes nothing ends each command with one line and exit code 74."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.client_process import TOKEN, Experiment
from tests.client.scripted_server import DEADLINE_S
from tests.preloaded import CLOSED, run

FULL = Path("/dev/full")
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


def environment(experiment: Experiment) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": os.devnull, "SWF_API_TOKEN": TOKEN,
        "SWF_MONITOR_URL": experiment.monitor.url,
    }  # fmt: skip


def run_client(experiment: Experiment, words: tuple[str, ...], **streams: Any) -> subprocess.CompletedProcess[str]:
    """Run a command with these streams of `tests.preloaded.run`."""
    return run(["-m", "fastmon_client", *words], env=environment(experiment), timeout=DEADLINE_S, **streams)


@pytest.mark.field("18")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_full_output_is_one_line(experiment: Experiment, words: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        assert_one_line(run_client(experiment, words, stdout=full), "No space left on device")


@pytest.mark.field("18")
@pytest.mark.parametrize("words", [COMMANDS["version"], COMMANDS["summary"], COMMANDS["start --json"]])
def test_closed_output_is_one_line(experiment: Experiment, words: tuple[str, ...]) -> None:
    assert_one_line(run_client(experiment, words, stdout=CLOSED), "it is closed")


def assert_one_line(done: subprocess.CompletedProcess[str], reason: str) -> None:
    line = f"fastmon-client: standard output: cannot be written: {reason}: write to another file"
    assert done.stderr.splitlines().count(line) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 74


@pytest.mark.field("18")
@pytest.mark.parametrize("words", [COMMANDS["start"], COMMANDS["dashboard"], COMMANDS["status"]])
def test_reader_that_leaves_is_one_line(experiment: Experiment, words: tuple[str, ...]) -> None:
    """In a shell, as users pipe it."""
    script = '"$@" | true; exit "${PIPESTATUS[0]}"'  # gone before, or while, we write
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "fastmon_client", *words], env=environment(experiment),
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 74
    assert sum("standard output: cannot be written" in line for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [COMMANDS["version"], ("start", "--quiet", "--for", "0.1s")])
@pytest.mark.parametrize("streams", [{"stderr": CLOSED}, {"stderr": "/dev/full"}, {"stdin": CLOSED}], ids=str)
def test_lost_messages_are_no_error(experiment: Experiment, words: tuple[str, ...], streams: dict[str, Any]) -> None:
    with FULL.open("w") as full:
        given = {name: full if stream == str(FULL) else stream for name, stream in streams.items()}
        done = run_client(experiment, words, **given)
    assert (done.returncode, done.stderr) in [(0, ""), (5, "")] or "stdin" in streams
    assert "Traceback" not in done.stdout


def test_quiet_session_needs_no_output(experiment: Experiment) -> None:
    done = run_client(experiment, ("start", "--quiet", "--for", "0.1s"), stdout=CLOSED)
    assert done.returncode in (0, 4)
    assert "standard output" not in done.stderr

"""A user who is not in the list of users and has no HOME, as in a container: each command of both programs works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import DEADLINE_S, LiveTestbed, live_testbed, name, wait_until
from tests.programs.commands import Words, run_all

AS_NOBODY = ("unshare", "--user", "--map-user=54321", "--map-group=54321")
"""Files stay readable, unlike with `setpriv --reuid`: outside of its namespace the process is who it was."""
STARTED = (*AS_NOBODY, "env", "-u", "HOME")
CHECK = "import os, pwd; os.getuid() == 54321 or exit(3); pwd.getpwuid(54321)"


def cannot_be_nobody() -> str:
    """Why this host does not let us be an unknown user; empty if it does."""
    try:
        ran = subprocess.run([*AS_NOBODY, sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    except OSError as exc:
        return f"unshare: {exc.strerror}"
    return "" if "KeyError" in ran.stderr else ran.stderr.strip() or "the user 54321 exists"


WHY_NOT = cannot_be_nobody()
pytestmark = [pytest.mark.field("17"), pytest.mark.skipif(bool(WHY_NOT), reason=f"no unknown user here: {WHY_NOT}")]


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as testbed:
        yield testbed


def daemon_words(*lines: str) -> list[Words]:
    return [("fastmon_daemon", *line.split()) for line in lines]


def client_words(*lines: str) -> list[Words]:
    return [("fastmon_client", *line.split()) for line in lines]


READING = daemon_words("config", "check", "inspect", f"inspect {name(1)}", "export", "backup copy.db",
                       "diagram", "reconcile --run 100014") + client_words(
    "status", "summary --run 100014", "start --plain --for 1s", "start --quiet --for 1s", "version")  # fmt: skip
ACTING = daemon_words("verdict 100014",
                      f"retry {name(1)}", f"discard {name(1)} --reason none --yes", f"include {name(1)}", "replay 1",
                      "purge --run 100014 --yes", "daq --stf 1 --rate 9")  # fmt: skip


def test_the_daemon_runs_and_every_command_answers(testbed: LiveTestbed) -> None:
    testbed.register(1)
    daemon = testbed.daemon(under=STARTED)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    ran = run_all(testbed, {words: {} for words in READING}, STARTED)
    assert {words: output for words, (code, output) in ran.items() if code} == {}
    for words in ACTING:
        [(code, output)] = run_all(testbed, {words: {}}, STARTED).values()
        assert code in (0, 1), f"{words}: {output}"
        assert "Traceback" not in output, f"{words}: {output}"
    daemon.terminate()
    assert daemon.wait(DEADLINE_S) == 0
    assert "Traceback" not in testbed.log()
    assert "agent fastmon-agent-daemon-" in testbed.log()
    ran = run_all(testbed, {("fastmon_daemon", "run", "--once"): {}}, STARTED)
    assert [code for code, _ in ran.values()] == [0], ran


def test_without_a_place_for_the_database_each_command_names_the_setting(testbed: LiveTestbed) -> None:
    if os.access("/var/lib/fastmon-daemon", os.F_OK):
        pytest.skip("this host has a database of its own")
    commands = daemon_words("config", "check", "inspect", "verdict 100014", "export", "backup copy.db", "run --once",
                            f"retry {name(1)}", f"discard {name(1)} --reason none --yes", f"include {name(1)}",
                            "replay 1", "purge --run 100014 --yes", "reconcile --run 100014")  # fmt: skip
    said = "fastmon-daemon: there is no home folder for the database: set FASTMON_DB, or HOME\n"
    ran = run_all(testbed, {words: {"FASTMON_DB": ""} for words in commands}, STARTED)
    assert ran == dict.fromkeys(commands, (78, said))


def test_demo_testbed_and_dashboard_start(testbed: LiveTestbed) -> None:
    [(code, output)] = run_all(testbed, {("fastmon_daemon", "demo", "--stf", "3"): {}}, STARTED).values()
    assert code == 0, output
    for program, words, begin in (
        ("fastmon_daemon", ("testbed",), b"monitor "),
        ("fastmon_client", ("dashboard", "--listen", "127.0.0.1:0"), b"dashboard "),
    ):
        child = testbed.start(*words, program=program, under=STARTED)
        assert child.stdout is not None
        assert child.stdout.readline().startswith(begin), testbed.log()
        child.terminate()
        wait_until(lambda child=child: child.poll() is not None, "ended")  # type: ignore[misc]
    assert "Traceback" not in testbed.log()

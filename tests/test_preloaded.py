"""A program that starts from the preloaded process is one of its own, as after `exec`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.preloaded import CLOSED, Program, run

SHOW = """
import json, os, signal, sys
numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGPIPE]
print(json.dumps({
    "argv": sys.argv, "environ": dict(os.environ), "folder": os.getcwd(), "first": sys.path[0], "name": __name__,
    "signals": [str(signal.getsignal(number)).split(" at ")[0] for number in numbers],
    "files": sorted(int(each) for each in os.listdir("/proc/self/fd"))[:-1], "stdin": sys.stdin.read(),
    "streams": [[each.encoding, each.errors, each.line_buffering] for each in (sys.stdout, sys.stderr)],
}))
sys.exit(7)
"""
ENVIRONMENT = {"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8", "NAME": "of the test"}


def as_after_exec(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SHOW, "a", "b"], env=ENVIRONMENT, cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_program_finds_what_it_finds_after_exec(tmp_path: Path) -> None:
    ours = run(["-c", SHOW, "a", "b"], env=ENVIRONMENT, cwd=tmp_path, timeout=60)
    theirs = as_after_exec(tmp_path)
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) == (7, "")
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)


@pytest.mark.parametrize("closed", [("<",), (">",), ("2>",), ("<", ">", "2>")], ids="".join)
def test_a_closed_stream_is_closed_as_in_a_shell(tmp_path: Path, closed: tuple[str, ...]) -> None:
    show = (
        "import json, os, sys\n"
        "with open(sys.argv[1], 'w') as file:\n"
        "    files = sorted(int(each) for each in os.listdir('/proc/self/fd'))\n"
        "    streams = [sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__]\n"
        "    json.dump([file.fileno(), files, [each is None for each in streams]], file)\n"
        "print('lost')\n"
    )
    streams = {name: CLOSED for sign, name in (("<", "stdin"), (">", "stdout"), ("2>", "stderr")) if sign in closed}
    ours = run(["-c", show, "ours"], env=ENVIRONMENT, cwd=tmp_path, timeout=60, **streams)
    redirections = " ".join(f"{sign}&-" for sign in closed)
    theirs = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", show, "theirs"], env=ENVIRONMENT,
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert (tmp_path / "ours").read_text() == (tmp_path / "theirs").read_text()


@pytest.mark.parametrize("output", [Path("/dev/full"), Path(os.devnull)], ids=str)
def test_output_that_is_lost_at_the_end_is_told_as_after_exec(output: Path) -> None:
    with output.open("w") as stream:
        ours = run(["-c", "print('lost')"], env=ENVIRONMENT, timeout=60, stdout=stream)
        theirs = subprocess.run(
            [sys.executable, "-c", "print('lost')"], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
    assert ours.returncode == (120 if output.name == "full" else 0)


def test_a_module_runs_as_the_main_one(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text("import sys\nprint(__name__, sys.argv[1:])\n")
    assert run(["-m", "shown", "x"], env={}, cwd=tmp_path, timeout=60).stdout == "__main__ ['x']\n"


@pytest.mark.parametrize("stop", [Program.terminate, Program.kill])
def test_a_signal_ends_it_and_its_status_says_so(stop: Any) -> None:
    waits = "import signal; print(1, flush=True); signal.pause()"
    program = Program(["-c", waits], env={}, stdout=subprocess.PIPE)
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == b"1\n"
        assert program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.0)
        stop(program)
        assert program.wait(60) == -{Program.terminate: signal.SIGTERM, Program.kill: signal.SIGKILL}[stop]
    finally:
        program.kill()
        program.stdout.close()
    assert not Path(f"/proc/{program.pid}").exists()


def test_two_programs_share_nothing() -> None:
    draw = ["-c", "import os, random, uuid; print(random.random(), uuid.uuid4(), os.getpid(), os.urandom(4))"]
    first, second = (run(draw, env={}, timeout=60).stdout.split() for _ in range(2))
    assert len({*first, *second}) == 8
    assert os.getpid() not in (int(first[2]), int(second[2]))

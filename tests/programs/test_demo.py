"""The demo command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_S = 110.0
KEYS = [
    "stf_sent",
    "stf_completed",
    "tf_registered",
    "tf_expected",
    "announcements",
    "stages_complete",
    "stages_unreportable",
    "lost",
    "registered_twice",
    "kills",
    "outages",
    "seconds",
]


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "fastmon_daemon", "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "FASTMON_TF_FILES_PER_STF": "3"},
    )


def daemons_of(folder: Path) -> list[str]:
    """Processes whose working directory is below *folder*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder / "tmp"):
                found.append(process.name)
        except OSError:
            continue
    return found


@pytest.mark.field("0a")
def test_nothing_is_lost_or_registered_twice_despite_a_kill_and_an_outage(tmp_path: Path):
    process = started(tmp_path, "--stf", "6", "--rate", "10", "--json")
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    verdict = json.loads(out.splitlines()[-1])
    assert list(verdict) == KEYS
    assert (verdict["stf_sent"], verdict["stf_completed"]) == (6, 6)
    assert (verdict["tf_registered"], verdict["tf_expected"]) == (42, 42)
    assert verdict["announcements"] >= 42
    assert verdict["stages_complete"] + verdict["stages_unreportable"] == 6
    assert (verdict["lost"], verdict["registered_twice"]) == (0, 0)
    assert (verdict["kills"], verdict["outages"]) == (1, 1)
    assert "killed with -9" in err
    assert "the monitor is down for 5 s" in err
    assert err.index("waiting for their workflow stages") < err.index("stopping the daemon")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_and_no_file_behind(tmp_path: Path, how):
    process = started(tmp_path, "--stf", "1000", "--rate", "5")
    try:
        assert process.stdout is not None
        while "the DAQ sends" not in (line := process.stdout.readline()):
            assert line, "the demo ended early"
        assert daemons_of(tmp_path)
        process.send_signal(how)
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert daemons_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_daemon_that_exits_by_itself_ends_the_demo_and_its_log_is_kept(tmp_path: Path):
    process = started(tmp_path, "--stf", "1000", "--rate", "5")
    try:
        assert process.stdout is not None
        while "the DAQ sends" not in (line := process.stdout.readline()):
            assert line, "the demo ended early"
        [daemon] = daemons_of(tmp_path)
        os.kill(int(daemon), signal.SIGKILL)
        _, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert "exited by itself with exit code -9" in err
    [kept] = (tmp_path / "tmp").iterdir()
    assert str(kept) in err
    assert (kept / "daemon.log").stat().st_size > 0

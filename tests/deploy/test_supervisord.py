"""The supervisord section, under a real supervisord: start, status, kill, restart, stop, and a configuration error."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import LiveTestbed, live_testbed, wait_until

PROGRAM = "example-fastmon-agent"
BIN = Path(sys.executable).parent
CONF = """
[unix_http_server]
file=%(here)s/s
[supervisord]
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
childlogdir=%(here)s
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://%(here)s/s
[include]
files={section}
"""


@dataclass
class Supervisor:
    """A supervisord for this test, with its folder and environment."""

    folder: Path
    environment: dict[str, str]

    def ctl(self, *words: str) -> str:
        done = subprocess.run(
            [BIN / "supervisorctl", "-c", self.folder / "conf", *words], env=self.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    @property
    def pid(self) -> int:
        found = re.search(r"RUNNING +pid (\d+)", self.ctl("status", PROGRAM))
        return int(found[1]) if found else 0

    def log(self) -> str:
        return (self.folder / "supervisord.log").read_text()


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


@contextmanager
def supervised(testbed: LiveTestbed, **changes: str) -> Iterator[Supervisor]:
    checkout = testbed.folder / "swf-testbed"
    (checkout / "workflows").mkdir(parents=True)
    (checkout / "logs").mkdir()
    (checkout / "workflows" / "testbed.toml").write_text('[testbed]\nnamespace = "other"\n')
    (checkout / "workflows" / "mine.toml").write_text('[testbed]\nnamespace = "ns"\n')
    folder = Path(tempfile.mkdtemp(prefix="fm"))  # short: it contains a socket
    subprocess.run([BIN / "fastmon-daemon", "files", folder / "files"], check=True, capture_output=True)
    (folder / "conf").write_text(CONF.format(section=folder / "files/systemd/supervisord-fastmon.conf"))
    environment = testbed.environment(
        FASTMON_NAMESPACE="", SWF_HOME=str(testbed.folder), SWF_TESTBED_CONFIG="workflows/mine.toml", **changes
    )
    environment["PATH"] = "/usr/bin:/bin"  # the section has the path of the program
    process = subprocess.Popen([BIN / "supervisord", "-n", "-c", folder / "conf"], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_until((folder / "s").exists, "supervisord listens")
        yield Supervisor(folder, environment)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(folder)


def program_log(testbed: LiveTestbed) -> str:
    """The log of the program."""
    return (testbed.folder / "swf-testbed" / "logs" / f"{PROGRAM}.log").read_text()


@pytest.mark.field("10")
def test_a_daemon_under_supervisord_loses_nothing(testbed: LiveTestbed) -> None:
    testbed.register(1, 2, 3)
    with supervised(testbed) as supervisor:
        assert "STOPPED" in supervisor.ctl("status", PROGRAM)
        assert "started" in supervisor.ctl("start", PROGRAM)
        first = supervisor.pid
        wait_until(lambda: "link to the broker is up" in program_log(testbed), "it has subscribed")
        testbed.announce(1)
        testbed.wait_for(completed=1)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: supervisor.pid not in (0, first), "it was restarted")
        testbed.announce(2)
        testbed.wait_for(completed=2)
        second = supervisor.pid
        supervisor.ctl("restart", PROGRAM)
        assert supervisor.pid not in (0, first, second)
        testbed.announce(3)
        testbed.wait_for(completed=3)
        assert "stopped" in supervisor.ctl("stop", PROGRAM)
        assert "STOPPED" in supervisor.ctl("status", PROGRAM)
        assert supervisor.log().count(f"stopped: {PROGRAM} (exit status 0)") == 2
    assert program_log(testbed).count("SIGQUIT: stopping") == 2
    counts = testbed.monitor.counts()
    assert (counts["fastmon_files"], counts["distinct_announcements"]) == (21, 21)


def test_a_configuration_error_is_not_restarted_for_ever(testbed: LiveTestbed) -> None:
    with supervised(testbed, FASTMON_WORKERS="many") as supervisor:
        supervisor.ctl("start", PROGRAM)
        wait_until(lambda: re.search("FATAL|EXITED", supervisor.ctl("status", PROGRAM)), "supervisord gives up")
        assert "exit status 78" in supervisor.log()
    assert "FASTMON_WORKERS='many'" in program_log(testbed)

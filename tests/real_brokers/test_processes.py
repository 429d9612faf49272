"""A server ends with the tests that started it, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.real_brokers.processes import ServerProcess, accepts, free_ports

DEADLINE_S = 30.0
SERVE = """
import sys, threading
from pathlib import Path
from tests.real_brokers.processes import ServerProcess
folder, port = Path(sys.argv[1]), int(sys.argv[2])
server = ServerProcess([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], folder, folder / "log")
server.start([port])
print("up", flush=True)
threading.Event().wait()
"""


def test_a_server_ends_with_the_killed_test_run_that_started_it(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", SERVE, str(tmp_path), str(port)]
    checkout = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        os.kill(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_S
    while accepts(port):
        assert time.monotonic() < deadline, "the server outlived its test run"
        threading.Event().wait(0.05)


def test_a_server_restarts_on_its_port_after_a_kill(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    server = ServerProcess(command, tmp_path, tmp_path / "log")
    server.start([port])
    server.kill()
    assert not server.is_running
    server.start([port])
    assert server.is_running
    server.stop()
    assert not server.is_running

"""A server process that can be stopped, killed and frozen, and that never outlives the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 45.0
_POLL_S = 0.1
# Below the kernel's range for outgoing connections, so nothing takes the port while its server is down.
_PORTS = range(20000, 32000)


class ServerDidNotStartError(Exception):
    """A server exited or did not open its ports; the message has the end of its log."""


def free_ports(count: int) -> list[int]:
    """Return *count* free loopback ports; the search begins at a different port in each process."""
    start = os.getpid() * 37 % len(_PORTS)
    found: list[int] = []
    for port in [*_PORTS[start:], *_PORTS[:start]]:
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports on 127.0.0.1 between {_PORTS[0]} and {_PORTS[-1]}")


class ServerProcess:
    """One command in its own process group; its output is appended to *log*."""

    def __init__(self, command: Sequence[str], folder: Path, log: Path) -> None:
        self._command = list(command)
        self._folder = folder
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, ports: Sequence[int]) -> None:
        """Start; return when each of *ports* accepts connections. Raises: ServerDidNotStartError (after 60 s)."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # When the tests end, however they do, their end of this pipe closes, and the guard kills the group.
        kill = f"read _; kill -9 -{self._process.pid}"
        self._guard = subprocess.Popen(["sh", "-c", kill], stdin=subprocess.PIPE, start_new_session=True)
        deadline = time.monotonic() + START_DEADLINE_S
        while not all(accepts(port) for port in ports):
            if self._ended_within(_POLL_S) or time.monotonic() > deadline:
                self.kill()
                raise ServerDidNotStartError(f"{self._command[0]} did not open {list(ports)}:\n{self._end_of_log()}")

    def stop(self) -> None:
        """Stop it with SIGTERM. Raises: TimeoutError if it had to be killed after 45 s."""
        if not self.is_running:
            return
        self.resume()
        self._send(signal.SIGTERM)
        ended = self._ended_within(STOP_DEADLINE_S)
        self.kill()
        if not ended:
            raise TimeoutError(f"{self._command[0]} did not stop in {STOP_DEADLINE_S:.0f} s:\n{self._end_of_log()}")

    def kill(self) -> None:
        """Kill it with SIGKILL and wait for its exit."""
        if self._process is None or self._guard is None:
            return
        self._guard.kill()
        self._guard.communicate()
        if self._process.poll() is None:
            self._send(signal.SIGKILL)
            self._process.wait()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and silent."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`."""
        self._send(signal.SIGCONT)

    def _send(self, signum: signal.Signals) -> None:
        assert self._process is not None, "not started"
        os.killpg(self._process.pid, signum)

    def _ended_within(self, seconds: float) -> bool:
        assert self._process is not None, "not started"
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether something is listening on this loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True

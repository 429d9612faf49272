"""Programs that start from a process which has imported them: importing them anew takes half a second of CPU each time.

A *nursery*, one for each process that runs tests, imports daemon and client once, and forks. What it starts is a
process of its own, with the folder, environment, streams and signals that it would have otherwise; variables and
options of Python itself have no effect. Tests of the start and of streams start programs as usual.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import math
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).parents[1]
_MODULES = (
    "fastmon_daemon.cli", "fastmon_daemon.commands.run", "fastmon_daemon.commands.check", "fastmon_client.cli",
    "fastmon_client.dashboard.command",
)  # fmt: skip
_MAX_REQUEST_BYTES = 150_000
"""The longest request: a socket takes no longer message."""
_LOOK_S = 0.05
"""How long one look for the end of a program lasts."""
CLOSED = -10
"""A stream that the program does not have, as after ``>&-`` in a shell."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Program:
    """A running ``python *words*``, used as a `subprocess.Popen`; *words* begin with ``-m`` or ``-c``.

    *stdout* and *stderr* are a descriptor, a file, or `subprocess.PIPE`; None: those of this process. *stdin* is a
    descriptor; None: empty. Each may be `subprocess.DEVNULL` or `CLOSED`. With *text*, pipes are read as text.
    """

    def __init__(
        self, words: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, stdin: int | None = None,
        stdout: int | IO[Any] | None = None, stderr: int | IO[Any] | None = None, text: bool = False,
        start_new_session: bool = False,
    ) -> None:  # fmt: skip
        request = json.dumps({
            "words": [*words], "environ": {**env}, "folder": str(cwd or Path.cwd()), "session": start_new_session,
            "closed": [number for number, each in enumerate((stdin, stdout, stderr)) if each == CLOSED],
        }).encode()  # fmt: skip
        assert len(request) < _MAX_REQUEST_BYTES
        self.returncode: int | None = None
        """As that of a `subprocess.Popen`; None: not known to have ended."""
        self._lock = threading.Lock()
        status, tells = os.pipe()
        theirs = [tells]
        self._stream(subprocess.DEVNULL if stdin is None else stdin, 0, theirs, text=text)
        self.stdout, self.stderr = (self._stream(each, n, theirs, text=text) for n, each in ((1, stdout), (2, stderr)))
        socket.send_fds(_nursery(), [request], theirs)
        for each in theirs:
            os.close(each)
        self._status_pipe, self._status_poll = os.fdopen(status, "rb", buffering=0), select.poll()
        self._status_poll.register(status, select.POLLIN)
        self.pid = int(self._status_pipe.readline())

    @staticmethod
    def _stream(stream: int | IO[Any] | None, number: int, theirs: list[int], *, text: bool) -> IO[Any] | None:
        """Add the program's side of a stream to *theirs*; return ours, if it is a pipe."""
        if stream == subprocess.PIPE:
            ours, write = os.pipe()
            theirs.append(write)
            return os.fdopen(ours, "r" if text else "rb")
        if stream == subprocess.DEVNULL:
            theirs.append(os.open(os.devnull, os.O_RDWR))
            return None
        if stream is None or stream == CLOSED:
            stream = number
        theirs.append(os.dup(stream if isinstance(stream, int) else stream.fileno()))
        return None

    def poll(self) -> int | None:
        """The exit status; None: it has not ended."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when it has ended. Raises: subprocess.TimeoutExpired after *timeout* seconds."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left_s = max(0.0, min(_LOOK_S, end - time.monotonic()))
            with self._lock:  # for a short time: another thread may want to stop it
                if self.returncode is None and self._status_poll.poll(1000 * left_s):
                    self.returncode = int(self._status_pipe.readline())
                    self._status_pipe.close()
                if self.returncode is not None or left_s < _LOOK_S:
                    return self.returncode


def may_preload(environ: Mapping[str, str]) -> bool:
    """Whether nothing in *environ* is for Python itself, which reads it when it starts."""
    return not any(name.startswith(("PYTHON", "LC_")) for name in environ)


def run(
    words: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout: float, stdin: int | None = None,
    stdout: int | IO[Any] | None = None, stderr: int | IO[Any] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a `Program` to its end; what it writes, and not into a given *stdout* or *stderr*, is text.

    Raises: subprocess.TimeoutExpired after *timeout* seconds.
    """
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        program = Program(
            words, env=env, cwd=cwd, stdin=stdin, stdout=out if stdout is None else stdout,
            stderr=err if stderr is None else stderr,
        )  # fmt: skip
        try:
            status = program.wait(timeout)
        finally:
            program.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*words], status, out.read(), err.read())


@cache
def _nursery() -> socket.socket:
    """The connection to the nursery of this process, which ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = theirs.fileno()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.preloaded", str(number)], cwd=ROOT, pass_fds=[number], stdin=subprocess.DEVNULL
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Start what is asked for; returns None at the end, and in each started process its request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the guards
    while True:
        message, files, _flags, _address = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 4)
        if not message:
            return None
        if os.fork() == 0:
            requests.close()
            return _guard(json.loads(message), *files)
        for each in files:
            os.close(each)


def _guard(request: dict[str, Any], tells: int, stdin: int, stdout: int, stderr: int) -> dict[str, Any]:
    """Start a process, which returns, and tell its id and its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        for number, each in enumerate((stdin, stdout, stderr)):
            os.dup2(each, number)
            os.close(each)
        os.close(tells)
        for number in request["closed"]:
            os.close(number)
        if request["session"]:
            os.setsid()
        return request
    for each in (0, 1, 2, stdin, stdout, stderr):
        os.close(each)
    os.write(tells, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(tells, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _run(words: Sequence[str], environ: Mapping[str, str], folder: str, closed: Sequence[int]) -> None:
    """Be ``python *words*``, without the streams that are *closed*."""
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    locale = next(filter(None, map(environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "C")
    errors = "surrogateescape" if locale.split(".")[0] in ("C", "POSIX") else "strict"
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        handler = "backslashreplace" if name == "stderr" else errors
        stream = None if descriptor in closed else _stream(descriptor, f"<{name}>", handler)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    option, what, *arguments = words
    sys.argv = [option, *arguments]
    if option == "-m":
        sys.path[0] = folder
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    assert option == "-c"
    sys.path[0] = ""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(what, "<string>", "exec"), vars(main))


def _stream(number: int, name: str, errors: str) -> io.TextIOWrapper:
    """The stream of a descriptor, as Python makes it at its start."""
    mode = "w" if number else "r"
    raw: Any = io.FileIO(number, mode, closefd=False)
    raw.name = name
    is_line_buffered = number == 2 or (number == 1 and raw.isatty())
    buffered = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
    stream = io.TextIOWrapper(buffered, "utf-8", errors, line_buffering=is_line_buffered)
    stream.mode = mode  # type: ignore[misc]
    return stream


def main() -> None:
    """Be the nursery; what it starts returns here, too."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for module in _MODULES:
        import_module(module)
    gc.collect()
    gc.freeze()  # a collection would copy the memory that all share
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        _run(request["words"], request["environ"], request["folder"], request["closed"])


if __name__ == "__main__":
    main()

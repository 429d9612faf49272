"""Output that takes nothing: one line on stderr and exit code 74, in every command; lost messages change nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from io import StringIO
from pathlib import Path

import pytest

from fastmon_daemon.outbox import open_outbox
from tests.builders import FakeTestbed
from tests.preloaded import CLOSED, Program
from tests.processes import live_testbed, wait_until

SHOWING = (["inspect"], ["inspect", "--json"], ["config"], ["diagram"], ["backup", "copy.db"], ["verdict", "--help"],
           ["--version"])  # fmt: skip
"""Commands that print on an empty database."""
PIPE_BYTES = 4096
"""The smallest pipe."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_outbox(tmp_path / "outbox.db").close()
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": str(folder), "FASTMON_NAMESPACE": "ns", "FASTMON_DB": "outbox.db",
        "ACTIVEMQ_PORT": "1", "SWF_MONITOR_URL": "http://127.0.0.1:1",
    }  # fmt: skip


def fill(folder: Path, *, stfs: int) -> None:
    """Receive so many STFs, which nobody processes."""
    testbed = FakeTestbed(folder)
    with closing(testbed.outbox()) as outbox:
        for sequence in range(1, stfs + 1):
            testbed.receive(outbox, sequence)


def bytes_in(pipe: int) -> int:
    """Number of bytes that wait in *pipe*."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@contextmanager
def opened(output: str) -> Iterator[int]:
    """A descriptor of "no reader", "closed" or a file."""
    if output == "closed":
        yield CLOSED
        return
    if output == "no reader":
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open(output, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def results(
    folder: Path, calls: Sequence[Sequence[str]], stdout: str, stderr: int = subprocess.PIPE
) -> list[tuple[int, str]]:
    """Exit code and stderr of each command, whose output goes to *stdout*."""
    with opened(stdout) as output:
        children = [
            Program(["-m", "fastmon_daemon", *words], cwd=folder, env=environment(folder), text=True, stdout=output,
                    stderr=stderr)
            for words in calls
        ]  # fmt: skip
    outputs = []
    for child in children:
        with child.stderr or StringIO() as messages:
            outputs.append(messages.read())
    return [(child.wait(100), err) for child, err in zip(children, outputs, strict=True)]


@pytest.mark.field("18")
@pytest.mark.parametrize(
    ("output", "reason"),
    [("/dev/full", "No space left on device"), ("closed", "it is closed"), ("no reader", "its reader has ended")],
)
def test_output_that_is_lost_is_one_line_and_exit_code_74(folder: Path, output: str, reason: str) -> None:
    calls = SHOWING if output == "/dev/full" else SHOWING[:2]
    line = f"fastmon-daemon: standard output cannot be written: {reason}: redirect it to another file\n"
    assert dict(zip(map(tuple, calls), results(folder, calls, output), strict=True)) == {
        tuple(words): (74, line) for words in calls
    }


@pytest.mark.field("18")
@pytest.mark.parametrize("lost", ["/dev/full", "closed", "no reader"])
def test_messages_that_are_lost_leave_the_exit_code(folder: Path, lost: str) -> None:
    calls = {("config", "--nonsense"): 2, ("inspect", "--db", "absent.db"): 3}
    with opened(lost) as stderr:
        found = results(folder, list(calls), os.devnull, stderr)
    assert [code for code, _ in found] == list(calls.values())


@pytest.mark.field("18")
@pytest.mark.parametrize(("options", "code"), [(["--watch", "60"], 1), ([], 130)])
def test_ctrl_c_during_a_write_writes_nothing_twice(folder: Path, options: list[str], code: int) -> None:
    """The reader stands still, and the pipe is full when the signal comes. 74 would blame the output."""
    fill(folder, stfs=6)  # more than the pipe takes, less than a buffer
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    child = Program(
        ["-m", "fastmon_daemon", "inspect", "--json", "--state", "received", "--all", *options],
        cwd=folder, env=environment(folder), stdout=writer, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader, "rb") as output:  # without its reader, the child ends
        wait_until(lambda: bytes_in(reader) == PIPE_BYTES, "the pipe is full")
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == code
        text = output.read().decode()
    assert len(text) == PIPE_BYTES
    assert text.count('"verdict"') == 1


@pytest.mark.field("18")
def test_the_daemon_needs_none_of_its_standard_streams(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed:
        daemon = testbed.start("run", under=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])  # not preloaded
        testbed.register(1)
        wait_until(lambda: testbed.announce(1) or testbed.states() == {"completed": 1}, "it is at work")  # type: ignore[func-returns-value]
        daemon.terminate()
        assert daemon.wait(30) == 0
        assert testbed.log() == ""

"""The line that the service manager shows, when the database cannot be read."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from fastmon_daemon.base.clock import format_time, format_timestamp
from fastmon_daemon.service.status_line import StatusLine, status_line
from tests.builders import FakeTestbed, named
from tests.presence.builders import RULE


def test_a_database_that_cannot_be_read_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    testbed = FakeTestbed(folder)
    outbox, clock = testbed.outbox(), testbed.time.clock()

    def full() -> dict[str, int]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(outbox, "counts_by_state", full)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(40)
        line = StatusLine(
            {"NOTIFY_SOCKET": str(tmp_path / "notify")},
            lambda: status_line(outbox, RULE.stuck, clock.now()),
            clock.monotonic,
        )
        line.update()
        told = manager.recv(1000).decode()
    assert told.startswith(f"STATUS={tmp_path}/two\\nlines/outbox.db: ")
    assert "Input/output error" in told
    assert "\n" not in told


def test_the_line_tells_links_backlog_and_failures(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    outbox, clock = testbed.outbox(), testbed.time.clock()

    def told() -> str:
        return status_line(outbox, RULE.stuck, clock.now())

    links = ", ".join(f"{name} up" for name in RULE.stuck.needed_links)
    assert told() == f"{links}; 0 STFs waiting"
    name = testbed.receive(outbox, 1)
    testbed.receive(outbox, 2)
    since = format_time(format_timestamp(clock.now()), clock.now())
    assert told() == f"{links}; 2 STFs waiting, the oldest since {since}"
    with outbox.transaction():
        outbox.move(named(outbox, name), "fail", "failed", clock.now(), finalized=True, note="no")
    assert told() == f"{links}; 1 STF waiting, the oldest since {since}; 1 failed; stuck since {since}"


def test_a_changed_line_is_told_once_a_second_at_most(tmp_path: Path) -> None:
    now, lines, reads = [100.0], iter(["one", "two", "two", "three"]), list[float]()

    def read() -> str:
        reads.append(now[0])
        return next(lines)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0)
        StatusLine({}, read, lambda: now[0]).update()
        assert reads == [], "nobody is told"
        line = StatusLine({"NOTIFY_SOCKET": str(tmp_path / "notify")}, read, lambda: now[0])
        told = []
        for at in (100.0, 100.9, 101.0, 102.0, 103.0):
            now[0] = at
            line.update()
            with suppress(BlockingIOError):
                told.append(manager.recv(1000).decode())
    assert told == ["STATUS=one", "STATUS=two", "STATUS=three"]
    assert reads == [100.0, 101.0, 102.0, 103.0]

"""The disk is full, and is freed again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.matrix import EVERY, fault
from tests.faults.scenario import Scenario
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(2700)


@pytest.fixture
def disk(scenario: Scenario, tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB for the daemon's database; only root can mount it."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(point)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system: run this test as root")
    scenario.database = point / "outbox.db"
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def full_and_freed(scenario: Scenario, disk: Path, leave: int, limit_mb: str) -> None:
    daemon = scenario.daemon(FASTMON_MIN_FREE_MB=limit_mb)
    scenario.send(*range(1, 11))
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        file.write(b"\0" * (shutil.disk_usage(disk).free - leave))
        while not leave:
            file.write(b"\0" * 4096)
    scenario.wait(1.5)  # the daemon checks the free space once a second
    scenario.send(*range(11, 101 if scenario.long else 41))
    wait_until(lambda: "cannot be stored" in scenario.log(), "the daemon reports the full disk")
    scenario.wait(30 if scenario.long else 2)
    assert daemon.poll() is None
    assert scenario.log().count("link to the broker is up") == 1, "the connection stays open"
    ballast.unlink()
    scenario.fault_is_over()
    scenario.wait_until_finished()
    scenario.close_account()


@fault(12, "the disk full to the last byte, and freed", EVERY)
def test_the_disk_is_full_to_the_last_byte(scenario: Scenario, disk: Path) -> None:
    full_and_freed(scenario, disk, leave=0, limit_mb="0")


@fault(12, "less disk space than FASTMON_MIN_FREE_MB, and freed")
def test_the_disk_has_too_little_space(scenario: Scenario, disk: Path) -> None:
    full_and_freed(scenario, disk, leave=2_000_000, limit_mb="4")

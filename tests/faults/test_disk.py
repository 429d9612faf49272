"""The disk is full, and has room again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.matrix import EVERY, fault
from tests.faults.stage import Stage
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(2700)


@pytest.fixture
def disk(stage: Stage, tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB that holds the daemon's database; root's to mount."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(point)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: run it as root")
    stage.database = point / "outbox.db"
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def full_and_freed(stage: Stage, disk: Path, leave: int, limit_mb: str) -> None:
    daemon = stage.daemon(FASTMON_MIN_FREE_MB=limit_mb)
    stage.send(*range(1, 11))
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        file.write(b"\0" * (shutil.disk_usage(disk).free - leave))
        while not leave:
            file.write(b"\0" * 4096)
    stage.let_pass(1.5)  # the daemon looks once a second how much room there is
    stage.send(*range(11, 101 if stage.long else 41))
    wait_until(lambda: "cannot be stored" in stage.log(), "the daemon says that the disk is full")
    stage.let_pass(30 if stage.long else 2)
    assert daemon.poll() is None
    assert stage.log().count("broker link up") == 1, "the connection is never dropped for it"
    ballast.unlink()
    stage.fault_is_over()
    stage.comes_to_rest()
    stage.close_account()


@fault(12, "the disk full to the last byte, and freed", EVERY)
def test_the_disk_is_full_to_the_last_byte(stage: Stage, disk: Path) -> None:
    full_and_freed(stage, disk, leave=0, limit_mb="0")


@fault(12, "less room on the disk than FASTMON_MIN_FREE_MB, and freed")
def test_the_disk_has_too_little_room(stage: Stage, disk: Path) -> None:
    full_and_freed(stage, disk, leave=2_000_000, limit_mb="4")

"""Continuous mode: a daemon process watches folders in which files are written, renamed, truncated and removed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import BaseTestbed, LiveTestbed, live_testbed, wait_until

QUICK = {
    "FASTMON_MODE": "continuous", "FASTMON_SETTLE": "1", "FASTMON_CHECK_INTERVAL": "1", "FASTMON_NOTIFY": "off",
    "FASTMON_DURABLE": "off", "FASTMON_TF_FILES_PER_STF": "1",
}  # fmt: skip


@pytest.fixture
def testbed(tmp_path: Path):  # type: ignore[no-untyped-def]
    with live_testbed(tmp_path) as found:
        yield found


def file_of(number: int, run: int = 4711) -> str:
    return f"swf.{run}.{number:06d}.stf"


def rows(testbed: BaseTestbed, table: str) -> list[dict[str, Any]]:
    """All rows of a table of the monitor, read without a token."""
    answer = requests.get(f"{testbed.monitor.url}/api/{table}/", timeout=20)
    return list(answer.json())


def names(testbed: BaseTestbed, table: str, key: str) -> list[str]:
    return sorted(row[key] for row in rows(testbed, table))


OBEY_PERMISSIONS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.getuid() == 0 else ()
"""Command before the daemon: makes root obey file permissions."""


def watch(testbed: LiveTestbed, folder: Path, under: Sequence[str] = (), **changes: str) -> None:
    folder.mkdir(exist_ok=True)
    seen = testbed.log().count("for namespace ns")
    testbed.start("run", under=under, **{**QUICK, "FASTMON_WATCH_DIRS": str(folder), **changes})
    wait_until(lambda: testbed.log().count("for namespace ns") > seen, "the daemon is up")


def write_slowly(growing: list[Path]) -> None:
    """Append in several rounds; then make some files unreadable, and truncate and rewrite some."""
    for round_ in range(3):
        for path in growing:
            with path.open("ab") as file:
                file.write(b"y" * (1000 + round_))
    for path in growing[90:]:
        path.chmod(0)
    for path in growing[20:40]:
        path.write_bytes(b"cut")
        with path.open("ab") as file:
            file.write(b"w" * 3000)


def write_bad_files(folder: Path) -> None:
    """Write files that are empty, that disappear, and that have no run in their name."""
    for number in range(171, 181):
        (folder / file_of(number)).write_bytes(b"")
    for number in range(181, 191):
        path = folder / file_of(number)
        path.write_bytes(b"gone soon")
        path.unlink()
    for number in range(191, 201):
        (folder / f"nameless{number}x.stf").write_bytes(b"no run")


def test_of_200_mistreated_files_each_complete_one_is_registered_once(testbed: LiveTestbed) -> None:
    folder = testbed.folder / "data"
    folder.mkdir()
    for number in range(1, 51):
        (folder / file_of(number)).write_bytes(b"x" * number)
    watch(testbed, folder, OBEY_PERMISSIONS)
    growing = [folder / file_of(number) for number in range(51, 151)]
    write_slowly(growing)
    for number in range(151, 171):  # written under a temporary name
        path = folder / f"{file_of(number)}.part"
        path.write_bytes(b"z" * number)
        path.rename(folder / file_of(number))
    write_bad_files(folder)
    testbed.wait_for(completed=160)
    wait_until(lambda: testbed.log().count("cannot be read: Permission denied") == 10, "unreadable files are logged")
    for path in growing[90:]:
        path.chmod(0o600)
    testbed.wait_for(completed=170)
    for path in growing[:20]:  # renamed after they were ingested
        path.rename(path.with_name(path.name.replace("swf.", "moved.")))
    wait_until(lambda: testbed.log().count("since renamed: ignored") >= 20, "the renames are seen")
    assert names(testbed, "stf-files", "stf_filename") == [file_of(number) for number in range(1, 171)]
    assert len(names(testbed, "fastmon-files", "tf_filename")) == 170
    assert testbed.log().count("is empty: ignored") == 10
    assert testbed.log().count("has no run number in its name") == 10
    sizes = {row["stf_filename"]: row["file_size_bytes"] for row in rows(testbed, "stf-files")}
    assert sizes[file_of(7)] == 7
    assert sizes[file_of(60)] == 3003
    assert sizes[file_of(80)] == 3003


def test_a_restart_ingests_no_file_twice_and_misses_none(testbed: LiveTestbed) -> None:
    folder = testbed.folder / "data"
    folder.mkdir()
    (folder / file_of(1)).write_bytes(b"one")
    watch(testbed, folder)
    testbed.wait_for(completed=1)
    testbed.children[-1].kill()
    testbed.children[-1].wait()
    (folder / file_of(1)).rename(folder / "again.4711.000009.stf")
    (folder / file_of(2)).write_bytes(b"two")
    watch(testbed, folder)
    testbed.wait_for(completed=2)
    assert names(testbed, "stf-files", "stf_filename") == [file_of(1), file_of(2)]


def test_a_known_name_with_different_content_is_rejected(testbed: LiveTestbed) -> None:
    folder = testbed.folder / "data"
    folder.mkdir()
    path = folder / file_of(1)
    path.write_bytes(b"one")
    watch(testbed, folder)
    testbed.wait_for(completed=1)
    path.write_bytes(b"another size")
    wait_until(lambda: "rejected, see fastmon-daemon inspect --rejected" in testbed.log(), "the conflict")
    rejected = testbed.call("inspect", "--rejected", "--json").stdout
    assert "conflict: this STF was received with another size" in rejected


def test_once_ingests_the_files_that_exist_and_announces_without_a_subscription(testbed: LiveTestbed) -> None:
    folder = testbed.folder / "data"
    folder.mkdir()
    (folder / file_of(3)).write_bytes(b"three")
    done = testbed.call("run", "--once", "--mode", "continuous", **{
        **QUICK, "FASTMON_MODE": "message", "FASTMON_NOTIFY": "stomp", "FASTMON_WATCH_DIRS": str(folder),
    })  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert testbed.states() == {"completed": 1}


def test_once_goes_on_with_its_work_while_a_file_still_grows(testbed: LiveTestbed) -> None:
    folder = testbed.folder / "data"
    folder.mkdir()
    (folder / file_of(3)).write_bytes(b"three")
    growing = (folder / file_of(4)).open("wb", buffering=0)
    once = testbed.start("run", "--once", "--mode", "continuous", **{**QUICK, "FASTMON_WATCH_DIRS": str(folder)})

    def is_done_while_it_grows() -> bool:
        growing.write(b"x")
        return testbed.states() == {"completed": 1}

    with growing:
        wait_until(is_done_while_it_grows, "the first file is processed")
        assert once.poll() is None
    assert once.wait(40) == 0
    assert testbed.states() == {"completed": 2}


def test_once_that_cannot_store_a_file_says_that_work_remains(testbed: LiveTestbed) -> None:
    folder = testbed.folder / "data"
    folder.mkdir()
    (folder / file_of(3)).write_bytes(b"three")
    limits = {**QUICK, "FASTMON_WATCH_DIRS": str(folder), "FASTMON_MIN_FREE_MB": "1000000000"}
    done = testbed.call("run", "--once", "--mode", "continuous", **limits)
    assert "could not be stored" in done.stderr
    assert done.returncode == 1, done.stderr


def test_a_missing_folder_is_a_configuration_error(testbed: LiveTestbed) -> None:
    done = testbed.call("run", **{**QUICK, "FASTMON_WATCH_DIRS": "/nowhere/at/all"})
    assert done.returncode == 78
    assert "/nowhere/at/all' is not a folder: create it, or change FASTMON_WATCH_DIRS" in done.stderr

"""The watcher: which files are handed over, when, and what is said of the others. The clock is moved by hand."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from loguru import logger

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.intake.found_files import Fingerprint, FoundFile, run_in
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.intake.seen_file_cache import AT_ONCE, FORGOTTEN_AFTER_S, SeenFileCache
from fastmon_daemon.intake.watcher import IngestResult, WatchConfig, Watcher
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.service.watcher_factory import make_watcher
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from tests.processes import wait_until


class Folder:
    """A watched folder, and what was taken from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = 1000.0
        self.taken: list[FoundFile] = []
        self.forgotten: list[str] = []
        self.fails = False
        self.odd = ""
        self.megabytes = itertools.count()

    def watcher(self, memory: SeenFileCache | dict[str, str] | None = None, **changes: object) -> Watcher:
        watching = {
            "folders": (self.path,), "patterns": ("*.stf", "*.STF"), "scan_every_s": 30.0, "settled_after_s": 5.0,
            **changes,
        }  # fmt: skip
        clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: self.seconds)
        known = (
            memory
            if isinstance(memory, SeenFileCache)
            else SeenFileCache(memory or {}, self.forgotten.extend, self.seconds)
        )
        return Watcher(WatchConfig(**watching), self.take, known, clock)  # type: ignore[arg-type]

    def take(self, file: FoundFile) -> IngestResult:
        if file.path.name == self.odd:
            raise ZeroDivisionError
        if self.fails:
            raise StorageUnavailable(f"disk full, {next(self.megabytes)} MB free")
        self.taken.append(file)
        return IngestResult.FRESH

    def write(self, name: str, content: bytes = b"data") -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def look(self, watcher: Watcher, after_s: float = 0.0) -> list[str]:
        self.seconds += after_s
        watcher.poll()
        return [file.path.name for file in self.taken]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda text: lines.append(str(text)), format="{message}", level="INFO")
    yield lines
    logger.remove(sink)


NAME = "swf.12345.000001.stf"


def test_a_file_is_taken_when_it_has_stopped_growing(folder: Folder) -> None:
    watcher, path = folder.watcher(), folder.write(NAME)
    assert folder.look(watcher) == []
    with path.open("ab") as file:
        file.write(b"more")
    assert folder.look(watcher, after_s=4) == []
    assert folder.look(watcher, after_s=4) == []
    assert folder.look(watcher, after_s=2) == [NAME]
    assert folder.taken[0].fingerprint.size == 8


def test_a_file_is_taken_once_also_after_a_rename(folder: Folder, log: list[str]) -> None:
    watcher, path = folder.watcher(), folder.write(NAME)
    folder.look(watcher)
    assert folder.look(watcher, after_s=6) == [NAME]
    path.rename(folder.path / "swf.12345.000099.stf")
    folder.look(watcher, after_s=31)
    assert folder.look(watcher, after_s=6) == [NAME]
    assert any(f"is {NAME}, renamed" in line for line in log)


def test_what_former_lives_took_is_not_taken_again(folder: Folder) -> None:
    first = folder.watcher()
    folder.write(NAME)
    folder.look(first)
    folder.look(first, after_s=6)
    memory = {str(folder.taken[0].fingerprint): NAME}
    second = folder.watcher(memory)
    folder.look(second)
    assert folder.look(second, after_s=6) == [NAME]


DAYS = 86400.0


def pass_days(folder: Folder, watcher: Watcher, days: float = 3) -> None:
    """Scan every hour."""
    for _ in range(int(24 * days)):
        folder.look(watcher, after_s=3600)


def take_two(folder: Folder, watcher: Watcher) -> Path:
    """Have two files taken; gives the first one."""
    path = folder.write(NAME)
    folder.write("swf.12345.000002.stf")
    folder.look(watcher)
    assert len(folder.look(watcher, after_s=6)) == 2
    return path


def test_a_file_that_is_gone_for_days_is_forgotten_and_one_that_stands_is_not(folder: Folder) -> None:
    watcher = folder.watcher()
    path = take_two(folder, watcher)
    gone = str(Fingerprint.of(path))
    path.unlink()
    pass_days(folder, watcher, 1)
    assert folder.forgotten == []
    pass_days(folder, watcher, 1.5)
    assert folder.forgotten == [gone]
    assert len(folder.taken) == 2


def test_a_file_that_comes_back_is_remembered_from_then_on(folder: Folder) -> None:
    watcher = folder.watcher()
    path = take_two(folder, watcher)
    away = path.rename(path.with_suffix(".tmp"))
    for _ in range(3):
        pass_days(folder, watcher, 1.5)
        away.rename(path)
        folder.look(watcher, after_s=31)
        path.rename(away)
    assert folder.forgotten == []
    assert len(folder.taken) == 2


def test_behind_a_folder_that_is_gone_or_cannot_be_listed_no_file_is_forgotten(folder: Folder) -> None:
    away = folder.path / "away"
    away.mkdir()
    here = folder.path / "here"
    watcher = folder.watcher(folders=(away, here))
    folder.write(f"away/{NAME}")
    folder.write("here/swf.12345.000002.stf")
    folder.look(watcher)
    assert len(folder.look(watcher, after_s=6)) == 2
    away.rename(folder.path / "elsewhere")
    pass_days(folder, watcher)
    (folder.path / "elsewhere").rename(away)
    pass_days(folder, watcher, 0.5)
    assert folder.forgotten == []
    assert len(folder.taken) == 2


def test_a_folder_below_that_is_removed_during_a_scan_spoils_no_scan(folder: Folder, log: list[str]) -> None:
    below = folder.write("below/swf.12345.000002.stf").parent
    scans: list[bool] = []

    class Removing(SeenFileCache):
        """Sees a file when the folder itself is listed, and what is below is not yet."""

        def see(self, seen: Fingerprint) -> str | None:
            shutil.rmtree(below)
            return super().see(seen)

        def end_scan(self, *, whole: bool) -> None:
            scans.append(whole)
            super().end_scan(whole=whole)

    folder.write(NAME)
    folder.look(folder.watcher(Removing({}, folder.forgotten.extend, folder.seconds)))
    assert scans == [True]
    assert log == []


def test_an_empty_folder_and_one_that_shows_another_file_system_may_be_unmounted(folder: Folder) -> None:
    away = {"1:2:3:4": "swf.12345.000007.stf"}  # a device that is not there now
    watcher = folder.watcher(away)
    path = take_two(folder, watcher)
    pass_days(folder, watcher)
    path.unlink()
    (folder.path / "swf.12345.000002.stf").unlink()
    pass_days(folder, watcher)
    assert folder.forgotten == []
    folder.write("swf.12345.000003.stf")
    pass_days(folder, watcher)
    assert len(folder.forgotten) == 2
    assert "1:2:3:4" not in folder.forgotten


def test_what_cannot_be_forgotten_now_is_forgotten_later_in_small_steps(folder: Folder) -> None:
    device = folder.path.stat().st_dev
    former = {f"{device}:{number}:1:1": "gone.stf" for number in range(2 * AT_ONCE + 1)}
    steps: list[int] = []

    def forget(fingerprints: Sequence[str]) -> None:
        steps.append(len(fingerprints))
        if len(steps) == 1:
            raise StorageUnavailable("disk full")

    memory = SeenFileCache(former, forget, 0.0)
    here = Fingerprint.of(folder.write(NAME))
    scan(memory, 3 * DAYS, here)
    for _ in range(6):
        memory.forget_some()
    assert steps == [AT_ONCE], "what failed is tried again after the next scan, and no sooner"
    scan(memory, 3 * DAYS + 30, here)
    for _ in range(6):
        memory.forget_some()
    assert steps == [AT_ONCE, AT_ONCE, AT_ONCE, 1]


@pytest.mark.parametrize("error", [StorageUnavailable("disk full"), ZeroDivisionError("a mistake of ours")])
def test_that_nothing_can_be_forgotten_is_told_once(folder: Folder, log: list[str], error: Exception) -> None:
    def forget(_: Sequence[str]) -> None:
        raise error

    here = Fingerprint.of(folder.write(NAME))
    memory = SeenFileCache({f"{here.device}:7:1:1": "gone.stf"}, forget, 0.0)
    for number in range(5):
        scan(memory, 3 * DAYS + 30 * number, here)
        memory.forget_some()
    (said,) = (line for line in log if str(error) in line)
    assert ("Traceback" in said) == isinstance(error, ZeroDivisionError)


def scan(memory: SeenFileCache, now: float, *seen: Fingerprint) -> None:
    """A scan of everything, which sees these files."""
    memory.begin_scan(now)
    for each in seen:
        memory.see(each)
    memory.end_scan(whole=True)


def test_a_file_is_remembered_until_scans_have_not_seen_it_for_two_days(folder: Folder) -> None:
    here = Fingerprint.of(folder.write(NAME))
    gone = here._replace(inode=here.inode + 1)
    memory = SeenFileCache({str(gone): "gone.stf"}, folder.forgotten.extend, 0.0)
    scan(memory, FORGOTTEN_AFTER_S - 1, here)
    memory.forget_some()
    assert folder.forgotten == []
    scan(memory, FORGOTTEN_AFTER_S, here)
    memory.forget_some()
    assert folder.forgotten == [str(gone)]
    assert memory.see(gone) is None
    scan(memory, 2 * FORGOTTEN_AFTER_S, here)
    memory.forget_some()
    assert folder.forgotten == [str(gone)], "once"


def test_a_file_that_comes_back_before_it_is_forgotten_is_remembered(folder: Folder) -> None:
    here = Fingerprint.of(folder.write(NAME))
    away = here._replace(inode=here.inode + 1)
    memory = SeenFileCache({str(away): "away.stf"}, folder.forgotten.extend, 0.0)
    scan(memory, FORGOTTEN_AFTER_S, here)
    assert memory.see(away) == "away.stf"
    memory.forget_some()
    assert folder.forgotten == []
    assert memory.see(away) == "away.stf"


def test_the_days_of_a_file_begin_when_a_scan_that_saw_everything_did_not_see_it(folder: Folder) -> None:
    here = Fingerprint.of(folder.write(NAME))
    gone = here._replace(inode=here.inode + 1)
    memory = SeenFileCache({str(gone): "gone.stf"}, folder.forgotten.extend, 0.0)
    memory.begin_scan(FORGOTTEN_AFTER_S)
    memory.see(here)
    memory.end_scan(whole=False)
    scan(memory, 2 * FORGOTTEN_AFTER_S - 1, here)
    memory.forget_some()
    assert folder.forgotten == []
    scan(memory, 2 * FORGOTTEN_AFTER_S, here)
    memory.forget_some()
    assert folder.forgotten == [str(gone)]


def test_the_next_life_does_not_know_what_was_forgotten(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = Settings(namespace="ns", mode="continuous", watch_dirs=(folder.path,))
    outbox = open_outbox(tmp_path_factory.mktemp("state") / "outbox.db")
    clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: folder.seconds)
    intake = MessageHandler(outbox.path, "ns", "me", (load_statechart("stf"), load_statechart("run")))
    watcher = make_watcher(settings, intake, outbox, "me", clock)
    assert watcher is not None
    path = folder.write(NAME)
    stands = str(Fingerprint.of(folder.write("swf.12345.000002.stf")))
    for seconds in (0, 6):
        folder.look(watcher, after_s=seconds)
    assert len(outbox.files.all()) == 2
    path.unlink()
    pass_days(folder, watcher)
    assert outbox.files.all() == {stands: "swf.12345.000002.stf"}
    outbox.close()


def test_a_file_that_is_written_again_is_handed_over_again(folder: Folder) -> None:
    watcher = folder.watcher()
    folder.write(NAME)
    folder.look(watcher)
    folder.look(watcher, after_s=6)
    folder.write(NAME, b"another content")
    folder.look(watcher, after_s=31)
    assert folder.look(watcher, after_s=6) == [NAME, NAME]


def test_files_below_the_folder_are_found_and_other_names_are_not(folder: Folder) -> None:
    watcher = folder.watcher()
    for name in ("deep/run_7.000001.stf", "run_7.000002.STF", "run_7.000003.tmp", "notes.txt"):
        folder.write(name)
    folder.look(watcher)
    assert sorted(folder.look(watcher, after_s=6)) == ["run_7.000001.stf", "run_7.000002.STF"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b""), "is empty: not taken"),
        (lambda path: path.unlink(), "went away before it was complete"),
        (lambda path: path.rename(path.with_suffix(".tmp")), "went away before it was complete"),
        (lambda path: path.write_bytes(b"d"), "was cut from 4 to 1 bytes"),
    ],
)
def test_a_file_that_cannot_be_taken_gets_one_clear_line(folder: Folder, log: list[str], spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    watcher, path = folder.watcher(), folder.write(NAME)
    folder.look(watcher)
    spoil(path)
    for _ in range(3):
        folder.look(watcher, after_s=31)
    assert len([line for line in log if said in line and str(path) in line]) == 1
    assert folder.taken == [] or said.startswith("was cut")


def test_trouble_with_a_file_that_is_gone_is_not_remembered(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    for _ in range(2):
        path = folder.write(NAME)
        folder.look(watcher, after_s=31)
        path.unlink()
        for _ in range(3):
            folder.look(watcher, after_s=31)
    assert len([line for line in log if "went away before it was complete" in line]) == 2


def test_what_a_file_system_keeps_as_lost_and_found_is_not_looked_at(folder: Folder) -> None:
    watcher = folder.watcher()
    folder.write(f"lost+found/{NAME}")
    folder.look(watcher)
    assert folder.look(watcher, after_s=6) == []


def test_a_name_without_a_run_is_told_with_the_remedy_and_taken_once_it_is_renamed(
    folder: Folder, log: list[str]
) -> None:
    watcher = folder.watcher()
    nameless = folder.write("picture.stf")
    folder.look(watcher)
    assert folder.look(watcher, after_s=6) == []
    assert any("has no run number in its name: rename it" in line for line in log)
    nameless.rename(folder.path / NAME)
    folder.look(watcher, after_s=30)
    assert folder.look(watcher, after_s=6) == [NAME]


def test_what_is_no_file_is_told_and_never_opened(folder: Folder, log: list[str]) -> None:
    os.mkfifo(folder.path / NAME)  # opening it would wait for ever
    (folder.path / "swf.12345.000002.stf").symlink_to(folder.path / "nothing")
    watcher = folder.watcher()
    folder.look(watcher)
    assert folder.look(watcher, after_s=6) == []
    assert any("is no plain file" in line for line in log)
    assert any("cannot be looked at: No such file" in line for line in log)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told_and_taken_when_it_can_be_read(folder: Folder, log: list[str]) -> None:
    watcher, path = folder.watcher(), folder.write(NAME)
    path.chmod(0)
    folder.look(watcher)
    assert folder.look(watcher, after_s=6) == []
    assert any("mend its permissions" in line for line in log)
    path.chmod(0o600)
    folder.look(watcher, after_s=31)
    assert folder.look(watcher, after_s=6) == [NAME]


def test_what_could_not_be_stored_is_found_again(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    folder.write(NAME)
    folder.fails = True
    folder.look(watcher)
    assert folder.look(watcher, after_s=6) == []
    assert any("disk full" in line for line in log)
    folder.fails = False
    folder.look(watcher, after_s=31)
    assert folder.look(watcher, after_s=6) == [NAME]


def test_a_file_that_fails_as_nobody_expected_is_told_once_and_delays_no_other(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    folder.odd = NAME
    for number in range(1, 4):
        folder.write(f"swf.12345.00000{number}.stf")
    for seconds in (0, 6, 31, 6, 31, 6):
        folder.look(watcher, after_s=seconds)
    assert sorted(file.path.name for file in folder.taken) == ["swf.12345.000002.stf", "swf.12345.000003.stf"]
    (said,) = (line for line in log if "ZeroDivisionError" in line)
    assert NAME in said
    assert "Traceback" in said
    assert not any("stored" in line for line in log)
    folder.odd = ""
    for seconds in (31, 6):
        folder.look(watcher, after_s=seconds)
    assert len(folder.taken) == 3


class Flawed(SeenFileCache):
    """A memory with a mistake in it, while it is *broken*."""

    broken = True

    def begin_scan(self, now: float) -> None:
        if self.broken:
            raise ZeroDivisionError("a mistake of ours")
        super().begin_scan(now)


@pytest.fixture
def flawed(folder: Folder) -> Flawed:
    return Flawed({}, folder.forgotten.extend, folder.seconds)


def test_a_watcher_that_fails_lives_and_says_so_until_it_works_again(
    folder: Folder, log: list[str], flawed: Flawed
) -> None:
    watcher = folder.watcher(memory=flawed, settled_after_s=0.0)
    folder.write(NAME)
    watcher.start()
    try:
        wait_until(lambda: any("a look at the folders failed" in line for line in log), "it is told")
        assert watcher.failure() is None, "one look alone is no failure"
        folder.seconds += 14
        assert watcher.failure() is None
        folder.seconds += 1
        assert watcher.failure() == "ZeroDivisionError"
        flawed.broken = False
        wait_until(lambda: folder.taken, "it works again")
    finally:
        watcher.stop(10)
    assert watcher.failure() is None
    assert any("looks at the folders work again" in line for line in log)
    (said,) = (line for line in log if "a mistake of ours" in line)
    assert "Traceback" in said


def test_while_no_scan_works_the_files_of_events_are_taken(folder: Folder, log: list[str], flawed: Flawed) -> None:
    watcher = folder.watcher(memory=flawed, settled_after_s=0.0)
    watcher.start()
    try:
        wait_until(lambda: any("a look at the folders failed" in line for line in log), "the scan fails")
        folder.write(NAME)
        wait_until(lambda: folder.taken, "its event is enough")
    finally:
        watcher.stop(10)


def test_events_alone_find_a_file_that_is_written_or_renamed_into_the_folder(folder: Folder) -> None:
    watcher = folder.watcher(scan_every_s=1e9, settled_after_s=0.0)
    names = [f"swf.12345.00000{number}.stf" for number in range(1, 4)]
    folder.write(names[0])
    watcher.start()
    try:
        wait_until(lambda: len(folder.taken) == 1, "the one scan finds what is there")
        folder.write(names[1])
        wait_until(lambda: len(folder.taken) == 2, "the event of a new file")
        folder.write("being-written").rename(folder.path / names[2])
        wait_until(lambda: len(folder.taken) == 3, "the event of a rename")
    finally:
        watcher.stop(10)
    assert [file.path.name for file in folder.taken] == names


def test_that_nothing_can_be_stored_is_told_once_each_time_it_begins(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    for episode in range(2):
        folder.fails = True
        for number in range(3):
            folder.write(f"swf.12345.{episode}0000{number}.stf")
            for seconds in (31, 6, 31, 6):
                folder.look(watcher, after_s=seconds)
        folder.fails = False
        for seconds in (31, 6):
            folder.look(watcher, after_s=seconds)
    assert len([line for line in log if "could not be stored: disk full" in line]) == 2
    assert len([line for line in log if "files are stored again" in line]) == 2
    assert len(folder.taken) == 6


def test_files_from_before_the_lookback_are_left_alone_and_counted(folder: Folder, log: list[str]) -> None:
    old = folder.write("swf.12345.000001.stf")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    watcher = folder.watcher(lookback_s=600.0)
    folder.write("swf.12345.000002.stf")
    folder.look(watcher)
    folder.look(watcher, after_s=6)
    assert folder.look(watcher, after_s=40) == ["swf.12345.000002.stf"]
    assert any("1 files are older than FASTMON_LOOKBACK_MINUTES" in line for line in log)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("run_12345.stf", 12345), ("run12345.stf", 12345), ("physics_run_12345_0001.stf", 12345), ("r12345.stf", 12345),
        ("data-r12345-001.stf", 12345), ("swf.12345.000001.stf", 12345), ("other12345.stf", None), ("123.stf", None),
        ("run_99999999999999.stf", None), ("return5.stf", None),
    ],
)  # fmt: skip
def test_the_run_is_read_from_the_name(name: str, run: int | None) -> None:
    assert run_in(name) == run


def test_the_message_of_a_file_says_where_it_lies(folder: Folder) -> None:
    watcher = folder.watcher()
    folder.write("a b/swf.12345.000001.stf")
    folder.look(watcher)
    folder.look(watcher, after_s=6)
    message = json.loads(folder.taken[0].message("ns", "me"))
    assert message["file_url"].startswith("file:///")
    assert message["file_url"].endswith("/a%20b/swf.12345.000001.stf")
    assert (message["run_id"], message["sequence"], message["size_bytes"]) == (12345, 1, 4)

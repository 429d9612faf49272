"""The watcher: which files are ingested, when, and what is logged about the others. The tests move the clock."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.intake import watcher as watcher_module
from fastmon_daemon.intake.found_files import Fingerprint, FoundFile, run_in
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.intake.seen_file_cache import EVICT_AFTER_S, EVICT_BATCH, SeenFileCache
from fastmon_daemon.intake.watcher import Watcher
from fastmon_daemon.outbox import ReceiveOutcome, open_outbox
from fastmon_daemon.presence.periodic_worker import PeriodicWorker, WorkerErrors
from fastmon_daemon.service.factories import make_watcher
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from tests.builders import logged
from tests.processes import wait_until


class Folder:
    """A watched folder, and the files that were ingested from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = 1000.0
        self.ingested: list[FoundFile] = []
        self.evicted: list[str] = []
        self.fails = False
        self.crashes_on = ""
        self.megabytes = itertools.count()

    def watcher(self, cache: SeenFileCache | dict[str, str] | None = None, **changes: object) -> Watcher:
        values = {
            "watch_dirs": (self.path,), "file_patterns": ("*.stf", "*.STF"), "check_interval_s": 30.0, "settle_s": 5.0,
            "lookback_minutes": 0.0, **changes,
        }  # fmt: skip
        clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: self.seconds)
        if not isinstance(cache, SeenFileCache):
            cache = SeenFileCache(cache or {}, self.evicted.extend, self.seconds)
        return Watcher(Settings(**values), self.ingest, cache, clock)  # type: ignore[arg-type]

    def ingest(self, file: FoundFile) -> ReceiveOutcome:
        if file.path.name == self.crashes_on:
            raise ZeroDivisionError
        if self.fails:
            raise StorageUnavailable(f"disk full, {next(self.megabytes)} MB free")
        self.ingested.append(file)
        return ReceiveOutcome.FRESH

    def write(self, name: str, content: bytes = b"data") -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def settle(self, watcher: Watcher, after_s: float = 0.0) -> list[str]:
        """Poll twice, so that files that no longer change are complete; returns all ingested names."""
        self.poll(watcher, after_s)
        return self.poll(watcher, after_s=6)

    def poll(self, watcher: Watcher, after_s: float = 0.0) -> list[str]:
        self.seconds += after_s
        watcher.poll()
        return [file.path.name for file in self.ingested]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def log() -> Iterator[list[str]]:
    with logged() as lines:
        yield lines


NAME = "swf.12345.000001.stf"


def test_a_file_is_ingested_when_it_has_stopped_growing(folder: Folder) -> None:
    watcher, path = folder.watcher(), folder.write(NAME)
    assert folder.poll(watcher) == []
    with path.open("ab") as file:
        file.write(b"more")
    assert folder.poll(watcher, after_s=4) == []
    assert folder.poll(watcher, after_s=4) == []
    assert folder.poll(watcher, after_s=2) == [NAME]
    assert folder.ingested[0].fingerprint.size == 8


def test_a_renamed_file_is_not_ingested_again(folder: Folder, log: list[str]) -> None:
    watcher, path = folder.watcher(), folder.write(NAME)
    assert folder.settle(watcher) == [NAME]
    path.rename(folder.path / "swf.12345.000099.stf")
    assert folder.settle(watcher, after_s=31) == [NAME]
    assert any(f"already ingested as {NAME}, since renamed" in line for line in log)


def test_a_restart_ingests_no_file_again(folder: Folder) -> None:
    first = folder.watcher()
    folder.write(NAME)
    folder.settle(first)
    cache = {str(folder.ingested[0].fingerprint): NAME}
    second = folder.watcher(cache)
    assert folder.settle(second) == [NAME]


DAYS = 86400.0


def pass_days(folder: Folder, watcher: Watcher, days: float = 3) -> None:
    """Scan every hour."""
    for _ in range(int(24 * days)):
        folder.poll(watcher, after_s=3600)


def ingest_two(folder: Folder, watcher: Watcher) -> Path:
    """Write two files and let them be ingested; returns the first one."""
    path = folder.write(NAME)
    folder.write("swf.12345.000002.stf")
    assert len(folder.settle(watcher)) == 2
    return path


def test_a_file_deleted_days_ago_is_evicted_and_an_existing_one_is_not(folder: Folder) -> None:
    watcher = folder.watcher()
    path = ingest_two(folder, watcher)
    gone = str(Fingerprint.of(path.stat()))
    path.unlink()
    pass_days(folder, watcher, 1)
    assert folder.evicted == []
    pass_days(folder, watcher, 1.5)
    assert folder.evicted == [gone]
    assert len(folder.ingested) == 2


def test_the_days_of_a_file_that_reappears_begin_again(folder: Folder) -> None:
    watcher = folder.watcher()
    path = ingest_two(folder, watcher)
    away = path.rename(path.with_suffix(".tmp"))
    for _ in range(3):
        pass_days(folder, watcher, 1.5)
        away.rename(path)
        folder.poll(watcher, after_s=31)
        path.rename(away)
    assert folder.evicted == []
    assert len(folder.ingested) == 2


def test_files_in_a_folder_that_cannot_be_listed_are_not_evicted(folder: Folder) -> None:
    away = folder.path / "away"
    away.mkdir()
    here = folder.path / "here"
    watcher = folder.watcher(watch_dirs=(away, here))
    folder.write(f"away/{NAME}")
    folder.write("here/swf.12345.000002.stf")
    assert len(folder.settle(watcher)) == 2
    away.rename(folder.path / "elsewhere")
    pass_days(folder, watcher)
    (folder.path / "elsewhere").rename(away)
    pass_days(folder, watcher, 0.5)
    assert folder.evicted == []
    assert len(folder.ingested) == 2


def test_a_scan_is_complete_though_a_subfolder_is_removed_during_it(folder: Folder, log: list[str]) -> None:
    below = folder.write("below/swf.12345.000002.stf").parent
    scans: list[bool] = []

    class Removing(SeenFileCache):
        """Removes the subfolder after its parent was listed."""

        def see(self, seen: Fingerprint) -> str | None:
            shutil.rmtree(below)
            return super().see(seen)

        def end_scan(self, *, complete: bool) -> None:
            scans.append(complete)
            super().end_scan(complete=complete)

    folder.write(NAME)
    folder.poll(folder.watcher(Removing({}, folder.evicted.extend, folder.seconds)))
    assert scans == [True]
    assert log == []


def test_files_on_a_device_without_visible_files_are_not_evicted(folder: Folder) -> None:
    away = {"1:2:3:4": "swf.12345.000007.stf"}  # on a device that is not mounted now
    watcher = folder.watcher(away)
    path = ingest_two(folder, watcher)
    pass_days(folder, watcher)
    path.unlink()
    (folder.path / "swf.12345.000002.stf").unlink()
    pass_days(folder, watcher)
    assert folder.evicted == []
    folder.write("swf.12345.000003.stf")
    pass_days(folder, watcher)
    assert len(folder.evicted) == 2
    assert "1:2:3:4" not in folder.evicted


def test_a_failed_eviction_is_retried_after_the_next_scan_in_small_steps(folder: Folder) -> None:
    device = folder.path.stat().st_dev
    former = {f"{device}:{number}:1:1": "gone.stf" for number in range(2 * EVICT_BATCH + 1)}
    steps: list[int] = []

    def evict(fingerprints: Sequence[str]) -> None:
        steps.append(len(fingerprints))
        if len(steps) == 1:
            raise StorageUnavailable("disk full")

    cache = SeenFileCache(former, evict, 0.0)
    here = Fingerprint.of(folder.write(NAME).stat())
    scan(cache, 3 * DAYS, here)
    for _ in range(6):
        cache.evict_batch()
    assert steps == [EVICT_BATCH], "a failed batch is retried after the next scan only"
    scan(cache, 3 * DAYS + 30, here)
    for _ in range(6):
        cache.evict_batch()
    assert steps == [EVICT_BATCH, EVICT_BATCH, EVICT_BATCH, 1]


@pytest.mark.parametrize("error", [StorageUnavailable("disk full"), ZeroDivisionError("a bug of ours")])
def test_a_failing_eviction_is_logged_once(folder: Folder, log: list[str], error: Exception) -> None:
    def evict(_: Sequence[str]) -> None:
        raise error

    here = Fingerprint.of(folder.write(NAME).stat())
    cache = SeenFileCache({f"{here.device}:7:1:1": "gone.stf"}, evict, 0.0)
    for number in range(5):
        scan(cache, 3 * DAYS + 30 * number, here)
        cache.evict_batch()
    (said,) = (line for line in log if str(error) in line)
    assert ("Traceback" in said) == isinstance(error, ZeroDivisionError)


def scan(cache: SeenFileCache, now: float, *seen: Fingerprint) -> None:
    """Make a complete scan that sees these files."""
    cache.begin_scan(now)
    for each in seen:
        cache.see(each)
    cache.end_scan(complete=True)


def test_a_file_is_evicted_when_scans_have_not_seen_it_for_two_days(folder: Folder) -> None:
    here = Fingerprint.of(folder.write(NAME).stat())
    gone = here._replace(inode=here.inode + 1)
    cache = SeenFileCache({str(gone): "gone.stf"}, folder.evicted.extend, 0.0)
    scan(cache, EVICT_AFTER_S - 1, here)
    cache.evict_batch()
    assert folder.evicted == []
    scan(cache, EVICT_AFTER_S, here)
    cache.evict_batch()
    assert folder.evicted == [str(gone)]
    assert cache.see(gone) is None
    scan(cache, 2 * EVICT_AFTER_S, here)
    cache.evict_batch()
    assert folder.evicted == [str(gone)], "once"


def test_a_file_that_reappears_before_its_eviction_is_kept(folder: Folder) -> None:
    here = Fingerprint.of(folder.write(NAME).stat())
    away = here._replace(inode=here.inode + 1)
    cache = SeenFileCache({str(away): "away.stf"}, folder.evicted.extend, 0.0)
    scan(cache, EVICT_AFTER_S, here)
    assert cache.see(away) == "away.stf"
    cache.evict_batch()
    assert folder.evicted == []
    assert cache.see(away) == "away.stf"


def test_only_complete_scans_count_towards_eviction(folder: Folder) -> None:
    here = Fingerprint.of(folder.write(NAME).stat())
    gone = here._replace(inode=here.inode + 1)
    cache = SeenFileCache({str(gone): "gone.stf"}, folder.evicted.extend, 0.0)
    cache.begin_scan(EVICT_AFTER_S)
    cache.see(here)
    cache.end_scan(complete=False)
    scan(cache, 2 * EVICT_AFTER_S - 1, here)
    cache.evict_batch()
    assert folder.evicted == []
    scan(cache, 2 * EVICT_AFTER_S, here)
    cache.evict_batch()
    assert folder.evicted == [str(gone)]


@pytest.mark.field("22")
def test_folders_names_and_times_that_text_cannot_express_are_no_storage_trouble(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory, log: list[str]
) -> None:
    settings = Settings(namespace="ns", mode="continuous", watch_dirs=(folder.path,))
    outbox = open_outbox(tmp_path_factory.mktemp("state") / "outbox.db")
    clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: folder.seconds)
    handler = MessageHandler(outbox.path, "ns", "me", (load_statechart("stf"), load_statechart("run")))
    watcher = make_watcher(settings, handler, outbox, "me", clock)
    assert watcher is not None
    latin = os.fsdecode(b"caf\xe9")
    folder.write(f"{latin}/{NAME}")
    os.utime(folder.write("swf.12345.000002.stf"), ns=(0, 300_000_000_000 * 10**9))
    folder.write(f"{latin}.r12345.000003.stf")
    for _ in range(3):
        folder.poll(watcher, after_s=31)
    bodies = {stf.filename: json.loads(stf.body) for stf in outbox.find()}
    assert bodies.keys() == {NAME, "swf.12345.000002.stf"}
    assert bodies[NAME]["file_url"] == f"{folder.path.as_uri()}/caf%E9/{NAME}"
    assert bodies[NAME]["original_path"] == f"{folder.path}/caf\\xe9/{NAME}"
    (line,) = [each for each in log if "000003" in each]
    assert "not printable UTF-8 text: rename it" in line
    assert not any("stored" in line or "retries" in line for line in log)
    outbox.close()


@pytest.mark.field("22")
@pytest.mark.parametrize("mtime_ns", [300_000_000_000 * 10**9, -(10**20), 2**80])
def test_a_time_that_a_timestamp_cannot_express_is_null_in_the_message(mtime_ns: int) -> None:
    file = FoundFile(path=Path("/a") / NAME, fingerprint=Fingerprint(1, 1, 1, mtime_ns), run=12345)
    assert json.loads(file.message("ns", "me"))["modified_at"] is None


@pytest.mark.field("22")
def test_a_link_to_a_folder_is_named_once_and_not_followed(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory, log: list[str]
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / NAME).write_bytes(b"data")
    (folder.path / "link").symlink_to(elsewhere)
    (folder.path / "loop").symlink_to(folder.path)
    watcher = folder.watcher()
    for _ in range(3):
        assert folder.poll(watcher, after_s=31) == []
    (line,) = [each for each in log if "symbolic link" in each]
    assert (
        f"{folder.path}/link: symbolic link to a folder is not followed: add {elsewhere} to FASTMON_WATCH_DIRS" in line
    )


def test_evicted_files_are_deleted_from_the_database(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(namespace="ns", mode="continuous", watch_dirs=(folder.path,))
    outbox = open_outbox(tmp_path_factory.mktemp("state") / "outbox.db")
    clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: folder.seconds)
    handler = MessageHandler(outbox.path, "ns", "me", (load_statechart("stf"), load_statechart("run")))
    watcher = make_watcher(settings, handler, outbox, "me", clock)
    assert watcher is not None
    path = folder.write(NAME)
    remaining = str(Fingerprint.of(folder.write("swf.12345.000002.stf").stat()))
    folder.settle(watcher)
    assert len(outbox.files.all()) == 2
    path.unlink()
    pass_days(folder, watcher)
    assert outbox.files.all() == {remaining: "swf.12345.000002.stf"}
    outbox.close()


def test_a_file_that_is_written_again_is_ingested_again(folder: Folder) -> None:
    watcher = folder.watcher()
    folder.write(NAME)
    folder.settle(watcher)
    folder.write(NAME, b"another content")
    assert folder.settle(watcher, after_s=31) == [NAME, NAME]


def test_files_in_subfolders_are_found_and_other_names_are_not(folder: Folder) -> None:
    watcher = folder.watcher()
    for name in ("deep/run_7.000001.stf", "run_7.000002.STF", "run_7.000003.tmp", "notes.txt"):
        folder.write(name)
    assert sorted(folder.settle(watcher)) == ["run_7.000001.stf", "run_7.000002.STF"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b""), "is empty: ignored"),
        (lambda path: path.unlink(), "disappeared before it was complete"),
        (lambda path: path.rename(path.with_suffix(".tmp")), "disappeared before it was complete"),
        (lambda path: path.write_bytes(b"d"), "shrank from 4 to 1 bytes"),
    ],
)
def test_a_file_that_cannot_be_ingested_is_logged_once(folder: Folder, log: list[str], spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    watcher, path = folder.watcher(), folder.write(NAME)
    folder.poll(watcher)
    spoil(path)
    for _ in range(3):
        folder.poll(watcher, after_s=31)
    assert len([line for line in log if said in line and str(path) in line]) == 1
    assert folder.ingested == [] or said.startswith("shrank")


def test_the_problem_of_a_deleted_file_is_forgotten(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    for _ in range(2):
        path = folder.write(NAME)
        folder.poll(watcher, after_s=31)
        path.unlink()
        for _ in range(3):
            folder.poll(watcher, after_s=31)
    assert len([line for line in log if "disappeared before it was complete" in line]) == 2


def test_the_lost_and_found_folder_is_ignored(folder: Folder) -> None:
    watcher = folder.watcher()
    folder.write(f"lost+found/{NAME}")
    assert folder.settle(watcher) == []


def test_a_name_without_a_run_is_logged_with_a_hint_and_ingested_once_renamed(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    nameless = folder.write("picture.stf")
    assert folder.settle(watcher) == []
    assert any("has no run number in its name: rename it" in line for line in log)
    nameless.rename(folder.path / NAME)
    assert folder.settle(watcher, after_s=30) == [NAME]


@pytest.mark.field("22")
def test_what_is_not_a_regular_file_is_logged_and_never_opened(folder: Folder, log: list[str]) -> None:
    os.mkfifo(folder.path / NAME)  # opening it would block
    (folder.path / "swf.12345.000002.stf").symlink_to(folder.path / "nothing")
    (folder.path / "swf.12345.000003.stf").symlink_to("/dev/zero")
    replaced = folder.write("swf.12345.000004.stf")
    watcher = folder.watcher()
    folder.poll(watcher)
    replaced.unlink()
    os.mkfifo(replaced)
    assert folder.settle(watcher, after_s=31) == []
    assert len([line for line in log if "is not a regular file" in line]) == 1
    assert len([line for line in log if "symbolic link to a file is not followed" in line]) == 2


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_logged_and_ingested_once_readable(folder: Folder, log: list[str]) -> None:
    watcher, path = folder.watcher(), folder.write(NAME)
    path.chmod(0)
    assert folder.settle(watcher) == []
    assert any("fix its permissions" in line for line in log)
    path.chmod(0o600)
    assert folder.settle(watcher, after_s=31) == [NAME]


def test_a_file_that_could_not_be_stored_is_retried(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    folder.write(NAME)
    folder.fails = True
    assert folder.settle(watcher) == []
    assert any("disk full" in line for line in log)
    folder.fails = False
    assert folder.settle(watcher, after_s=31) == [NAME]


@pytest.mark.field("22")
def test_an_unexpected_error_with_a_file_is_logged_once_and_delays_no_other(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    folder.crashes_on = NAME
    for number in range(1, 4):
        folder.write(f"swf.12345.00000{number}.stf")
    for seconds in (0, 6, 31, 6, 31, 6):
        folder.poll(watcher, after_s=seconds)
    assert sorted(file.path.name for file in folder.ingested) == ["swf.12345.000002.stf", "swf.12345.000003.stf"]
    (said,) = (line for line in log if "ZeroDivisionError" in line)
    assert NAME in said
    assert "Traceback" in said
    assert not any("stored" in line for line in log)
    folder.crashes_on = ""
    folder.settle(watcher, after_s=31)
    assert len(folder.ingested) == 3


class BuggyCache(SeenFileCache):
    """A cache with a bug, while it is *broken*."""

    broken = True

    def begin_scan(self, now: float) -> None:
        if self.broken:
            raise ZeroDivisionError("a bug of ours")
        super().begin_scan(now)


@pytest.fixture
def buggy_cache(folder: Folder) -> BuggyCache:
    return BuggyCache({}, folder.evicted.extend, folder.seconds)


@contextmanager
def working(watcher: Watcher, errors: WorkerErrors) -> Iterator[None]:
    """Run *watcher* in its thread, as the daemon does."""
    worker = PeriodicWorker("watcher", watcher.tick, watcher.on_stop, errors=errors)
    worker.start()
    try:
        yield
    finally:
        worker.stop()
        assert worker.join(10)


def test_a_failing_watcher_goes_on_and_reports_its_failure_until_it_recovers(
    folder: Folder, log: list[str], buggy_cache: BuggyCache
) -> None:
    errors = WorkerErrors()
    watcher = folder.watcher(cache=buggy_cache, settle_s=0.0)
    folder.write(NAME)
    with working(watcher, errors):
        wait_until(errors.now, "the failure is recorded")
        assert errors.now() == {"watcher": "ZeroDivisionError"}
        buggy_cache.broken = False
        wait_until(lambda: folder.ingested, "it works again")
        wait_until(lambda: not errors.now(), "and says so")
    assert any("watcher: works again" in line for line in log)
    (said,) = (line for line in log if "a bug of ours" in line)
    assert "Traceback" in said


def test_files_of_events_are_ingested_while_scans_fail(folder: Folder, log: list[str], buggy_cache: BuggyCache) -> None:
    watcher = folder.watcher(cache=buggy_cache, settle_s=0.0)
    errors = WorkerErrors()
    with working(watcher, errors):
        wait_until(errors.now, "the scan fails")
        folder.write(NAME)
        wait_until(lambda: folder.ingested, "its event is enough")


def test_events_alone_find_a_file_written_or_renamed_into_the_folder(folder: Folder) -> None:
    watcher = folder.watcher(check_interval_s=1e9, settle_s=0.0)
    names = [f"swf.12345.00000{number}.stf" for number in range(1, 4)]
    folder.write(names[0])
    with working(watcher, WorkerErrors()):
        wait_until(lambda: len(folder.ingested) == 1, "the one scan finds what is there")
        folder.write(names[1])
        wait_until(lambda: len(folder.ingested) == 2, "the event of a new file")
        folder.write("being-written").rename(folder.path / names[2])
        wait_until(lambda: len(folder.ingested) == 3, "the event of a rename")
    assert [file.path.name for file in folder.ingested] == names


def test_a_storage_failure_is_logged_once_each_time_it_begins(folder: Folder, log: list[str]) -> None:
    watcher = folder.watcher()
    for episode in range(2):
        folder.fails = True
        for number in range(3):
            folder.write(f"swf.12345.{episode}0000{number}.stf")
            for seconds in (31, 6, 31, 6):
                folder.poll(watcher, after_s=seconds)
        folder.fails = False
        folder.settle(watcher, after_s=31)
    assert len([line for line in log if "could not be stored: disk full" in line]) == 2
    assert len([line for line in log if "files are stored again" in line]) == 2
    assert len(folder.ingested) == 6


def test_files_older_than_the_lookback_are_ignored_and_counted(folder: Folder, log: list[str]) -> None:
    old = folder.write("swf.12345.000001.stf")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    watcher = folder.watcher(lookback_minutes=10.0)
    folder.write("swf.12345.000002.stf")
    folder.settle(watcher)
    assert folder.poll(watcher, after_s=40) == ["swf.12345.000002.stf"]
    assert any("1 files are older than FASTMON_LOOKBACK_MINUTES" in line for line in log)


def test_more_old_files_than_are_followed_at_a_time_are_all_ignored(
    folder: Folder, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "MAX_CANDIDATES", 5)
    for number in range(12):
        os.utime(folder.write(f"swf.12345.{number:06d}.stf"), (1_000_000_000, 1_000_000_000))
    folder.write(f"new/{NAME}")
    watcher = folder.watcher(lookback_minutes=10.0)
    for _ in range(4):
        folder.settle(watcher, after_s=31)
    assert [file.path for file in folder.ingested] == [folder.path / "new" / NAME]
    assert [line for line in log if "12 files are older than FASTMON_LOOKBACK_MINUTES" in line]


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


def test_the_message_of_a_file_has_its_url(folder: Folder) -> None:
    watcher = folder.watcher()
    folder.write("a b/swf.12345.000001.stf")
    folder.settle(watcher)
    message = json.loads(folder.ingested[0].message("ns", "me"))
    assert message["file_url"].startswith("file:///")
    assert message["file_url"].endswith("/a%20b/swf.12345.000001.stf")
    assert (message["run_id"], message["sequence"], message["size_bytes"]) == (12345, 1, 4)


def test_a_link_to_a_file_outside_is_not_ingested(folder: Folder, log: list[str], tmp_path: Path) -> None:
    secret = folder.write("secret.key", b"0600")
    watcher = folder.watcher()
    (folder.path / NAME).symlink_to(secret)
    assert folder.settle(watcher) == []
    assert [line for line in log if f"{NAME}: symbolic link to a file is not followed" in line]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_file_exchanged_at_any_moment_is_not_ingested(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """At the last moment: its status was read, it is opened next."""
    outside = tmp_path_factory.mktemp("outside") / NAME
    outside.write_bytes(b"data")
    path, watcher = folder.write(f"below/{NAME}"), folder.watcher()
    folder.poll(watcher)
    real = os.open

    def exchange(where: Path, *words: int) -> int:
        if where == path:
            monkeypatch.setattr(os, "open", real)
            path.unlink()
            if kind == "fifo":
                os.mkfifo(path)
            elif kind == "link":
                path.symlink_to(outside)
            else:
                path.parent.rmdir()
                path.parent.symlink_to(outside.parent)
        return real(where, *words)

    monkeypatch.setattr(os, "open", exchange)
    assert folder.poll(watcher, after_s=6) == []
    assert folder.settle(watcher, after_s=31) == []


def test_a_watched_folder_may_be_a_link(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "watched"
    link.symlink_to(folder.path)
    folder.write(NAME)
    assert folder.settle(folder.watcher(watch_dirs=(link,))) == [NAME]


def test_a_file_system_that_does_not_answer_is_named(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, faults = folder.watcher(), []
    path, real = folder.write(NAME), Path.lstat

    def hang(where: Path) -> os.stat_result:
        if where == path:
            folder.seconds += 61
            faults.append(watcher.fault())
        return real(where)

    monkeypatch.setattr(Path, "lstat", hang)
    folder.poll(watcher)
    assert faults == [f"watcher: no progress for 61 s at {path}: its file system does not answer"]
    folder.poll(watcher)
    monkeypatch.setattr(Path, "lstat", real)
    folder.poll(watcher)
    assert watcher.fault() == ""


def test_more_files_than_are_followed_at_a_time_are_all_ingested(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "MAX_CANDIDATES", 5)
    watcher = folder.watcher()
    for number in range(1, 13):
        folder.write(f"swf.12345.{number:06d}.stf")
    assert len(folder.settle(watcher)) == 5
    folder.settle(watcher, after_s=31)
    assert len(folder.settle(watcher, after_s=31)) == 12


def test_problems_of_files_do_not_flood_the_log(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setattr(watcher_module, "MAX_WARNINGS", 3)
    watcher = folder.watcher()
    for letter in "abcdefghijkl":
        folder.write(f"no-number-{letter}.stf")
    for _ in range(3):
        folder.settle(watcher, after_s=31)
    assert len([line for line in log if "no run number" in line]) == 3
    assert [line for line in log if "9 more files have problems like the last ones" in line]

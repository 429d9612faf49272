"""The outbox: transactions, identity, compare-and-set, lock, migrations, power loss."""

from __future__ import annotations

import multiprocessing
import os
from datetime import timedelta
from pathlib import Path

import pytest
from sqlite_utils import Database

from fastmon_daemon.base import failpoints
from fastmon_daemon.base.errors import DatabaseInUse, StaleStfError, StorageError
from fastmon_daemon.engine.sampling import draw_sample
from fastmon_daemon.outbox import (
    Announced,
    DatabaseLock,
    NewStf,
    Outbox,
    ReceiveOutcome,
    Sampled,
    TfCounts,
    open_for_reading,
    open_outbox,
    owner_of,
)
from fastmon_daemon.outbox.database import connect
from fastmon_daemon.outbox.models import SamplePlan
from fastmon_daemon.outbox.schema import APPLICATION_ID, migrations
from tests.builders import START, FakeTestbed, named


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Outbox:
    return open_outbox(path)


def stf(**changes: object) -> NewStf:
    fields = {"namespace": "ns", "run_id": "100014", "filename": "a.stf", "size_bytes": 10, **changes}
    return NewStf(**fields)  # type: ignore[arg-type]


def receive(outbox: Outbox, new: NewStf) -> ReceiveOutcome:
    with outbox.transaction():
        return outbox.receive(new, "received", START)


def test_only_the_owner_has_access_and_every_commit_is_synced(path: Path, outbox: Outbox) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    outbox.close()
    db = connect(path)
    assert db.execute("pragma journal_mode").fetchone()[0] == "wal"
    assert db.execute("pragma synchronous").fetchone()[0] == 2  # FULL
    db.close()


def test_a_known_stf_changes_nothing(outbox: Outbox) -> None:
    assert receive(outbox, stf()) is ReceiveOutcome.FRESH
    assert receive(outbox, stf()) is ReceiveOutcome.KNOWN
    assert len(outbox.history(named(outbox, "a.stf").id)) == 1


@pytest.mark.field("3")
def test_a_run_id_as_number_and_as_text_is_one_run(outbox: Outbox) -> None:
    receive(outbox, stf())
    assert receive(outbox, stf(run_id=100014)) is ReceiveOutcome.KNOWN
    assert named(outbox, "a.stf").run_id == "100014"


@pytest.mark.parametrize("changes", [{"namespace": "other"}, {"run_id": "2"}, {"filename": "b.stf"}])
def test_namespace_run_and_filename_are_the_identity(outbox: Outbox, changes: dict[str, object]) -> None:
    receive(outbox, stf())
    assert receive(outbox, stf(**changes)) is ReceiveOutcome.FRESH


def test_other_content_is_a_conflict_and_overwrites_nothing(outbox: Outbox) -> None:
    receive(outbox, stf())
    assert receive(outbox, stf(size_bytes=11)) is ReceiveOutcome.CONFLICT
    assert receive(outbox, stf(size_bytes=None)) is ReceiveOutcome.KNOWN
    assert named(outbox, "a.stf").size_bytes == 10


def test_a_move_from_a_state_that_the_stf_has_left_fails_and_overwrites_nothing(outbox: Outbox) -> None:
    receive(outbox, stf())
    before = named(outbox, "a.stf")
    with outbox.transaction():
        outbox.move(before, "skip", "skipped", START, finalized=True)
    with pytest.raises(StaleStfError), outbox.transaction():
        outbox.move(before, "fail", "failed", START, finalized=True)
    assert named(outbox, "a.stf").state == "skipped"
    assert [row.dest for row in outbox.history(before.id)] == ["received", "skipped"]


def test_a_failed_transaction_stores_nothing(outbox: Outbox) -> None:
    def write() -> None:
        with outbox.transaction():
            outbox.receive(stf(), "received", START)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert outbox.unfinished() == 0


def test_a_postponed_stf_is_due_again_with_its_attempt_counted(outbox: Outbox) -> None:
    receive(outbox, stf())
    with outbox.transaction():
        outbox.postpone(named(outbox, "a.stf"), timedelta(seconds=30), "monitor said 503", 31.5, START)
    after = named(outbox, "a.stf")
    assert (after.attempts, after.spent_s, after.last_error) == (1, 31.5, "monitor said 503")
    assert after.due_at == "2026-11-21T20:00:30.000+00:00"


def test_an_stf_retries_in_the_state_in_which_it_failed_until_it_moves_on(outbox: Outbox) -> None:
    receive(outbox, stf())
    assert not outbox.has_retrying(["received", "sampled"])
    with outbox.transaction():
        outbox.postpone(named(outbox, "a.stf"), timedelta(seconds=30), "monitor said 503", 31.5, START)
    assert outbox.has_retrying(["received", "sampled"])
    assert not outbox.has_retrying(["sampled"])
    with outbox.transaction():
        outbox.move(named(outbox, "a.stf"), "sample_tfs", "sampled", START, finalized=False)
    assert not outbox.has_retrying(["received", "sampled"])


def test_rejected_messages_are_cut_at_64_kib_and_the_oldest_are_dropped_and_counted(outbox: Outbox) -> None:
    with outbox.transaction():
        for n in range(5):
            outbox.reject(f"message {n}", "not JSON", START, 3)
        outbox.reject(b"\0" + b"x" * 100_000, "too long", START, 3)
    last, *before = outbox.rejected(limit=10)
    assert [row.body for row in before] == ["message 4", "message 3"]
    assert (last.bytes, last.reason, last.is_whole) == (100_001, "too long", False)
    assert last.body == "\\x00" + "x" * 65_535
    assert outbox.counters() == {"rejected_dropped": 3}


@pytest.mark.field("32")
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_a_rejected_message_is_whole_up_to_exactly_64_kib(outbox: Outbox, size: int) -> None:
    body = "x" * (size - 1) + "y"
    with outbox.transaction():
        outbox.reject(body, "not JSON", START, 3)
    (row,) = outbox.rejected(limit=10)
    whole = size <= 65_536
    assert (row.bytes, row.body, row.reason, row.is_whole) == (size, body[:65_536], "not JSON", whole)


def test_preexisting_tf_files_count_as_such_unless_they_were_announced(outbox: Outbox) -> None:
    plan = SamplePlan(seed="s", tf_count=90, tf_files=3, size_fraction=0.1, sequence_start=1)
    blocks = draw_sample(plan, "a.stf")
    preexisting = (blocks[0].filename, blocks[1].filename, f"b{blocks[2].filename}", f"{blocks[2].filename}b")
    receive(outbox, stf(preexisting=preexisting))
    receive(outbox, stf(filename="b.stf"))
    with outbox.transaction():
        outbox.runs.record_message("ns", "100014", "running", START, None)
        for name, sequence in (("a.stf", 1), ("b.stf", 2)):
            stf_id = named(outbox, name).id
            outbox.save_progress(stf_id, [Sampled(plan=plan, ranges=draw_sample(plan, name), sizes=(None,) * 3)], START)
            outbox.save_progress(stf_id, [Announced(sequence=sequence)], START)
    assert named(outbox, "a.stf").preexisting == preexisting
    assert named(outbox, "b.stf").preexisting == ()
    (row,) = outbox.runs.find("100014")
    assert outbox.runs.tf_counts(row) == TfCounts(drawn=6, registered=0, announced=2, preexisting=1)


def test_one_process_owns_a_database_and_a_second_one_fails_with_its_process_id(path: Path) -> None:
    assert owner_of(path) is None
    with DatabaseLock(path):
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            error = pool.apply(try_lock, (path,))
            assert pool.apply(owner_of, (path,)) == os.getpid()
            assert owner_of(path) == os.getpid()
            assert pool.apply(owner_of, (path,)) == os.getpid()  # asking did not release the lock
    assert f"process {os.getpid()} owns this database" in error
    assert owner_of(path) is None


def try_lock(path: Path) -> str:
    try:
        with DatabaseLock(path):
            return "acquired"
    except DatabaseInUse as exc:
        return str(exc)


def test_a_database_of_schema_1_is_migrated_and_keeps_its_runs(path: Path) -> None:
    path.parent.mkdir()
    db = Database(path)
    migrations.apply(db, stop_before=["files_seen", "ledger"])
    db.execute(
        "insert into run (namespace, run, run_id, state, heard_at, expected, look_at)"
        " values ('ns', '7', '7', 'running', '2026', 3, '2026')"
    )
    db.execute(f"pragma application_id = {APPLICATION_ID}")
    db.execute("pragma user_version = 1")
    db.close()
    with pytest.raises(StorageError, match="start fastmon-daemon run once"):
        open_for_reading(path)
    row = open_outbox(path).runs.get("ns", "7")
    assert row is not None
    assert (row.nameless, row.expected, row.expected_by) == (True, 3, "end_run")
    open_for_reading(path).close()


def test_a_database_can_be_read_while_another_connection_writes_and_after_it_is_closed(
    path: Path, outbox: Outbox
) -> None:
    receive(outbox, stf())
    assert open_for_reading(path).counts_by_state() == {"received": 1}
    outbox.close()
    assert open_for_reading(path).counts_by_state() == {"received": 1}
    with pytest.raises(StorageError, match="no such database"):
        open_for_reading(path.with_name("none.db"))


def test_no_acknowledged_row_is_lost_wherever_the_log_is_truncated(tmp_path: Path) -> None:
    """Power loss: the log, truncated at any frame, holds all commits before that frame and no partial one."""
    testbed = FakeTestbed(tmp_path / "live")
    outbox, connection = testbed.outbox_and_connection()
    connection.execute("pragma wal_autocheckpoint = 0")
    log = tmp_path / "live" / "outbox.db-wal"
    sizes: list[int] = []
    failpoints.set_hook(lambda name: sizes.append(log.stat().st_size) if name == "after_commit" else None)
    try:
        for n in range(1, 11):
            testbed.receive(outbox, n)
    finally:
        failpoints.set_hook(None)
    database, whole = (tmp_path / "live" / "outbox.db").read_bytes(), log.read_bytes()
    for cut in range(32, len(whole) + 1, 4096 + 24):
        copy = tmp_path / f"cut-{cut}"
        copy.mkdir()
        (copy / "outbox.db").write_bytes(database)
        (copy / "outbox.db-wal").write_bytes(whole[:cut])
        acknowledged = sum(size <= cut for size in sizes)
        if acknowledged:
            assert FakeTestbed(copy).outbox().unfinished() == acknowledged

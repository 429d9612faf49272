"""The monitor's list of a run is compared with the database beside the engine's thread, in little memory."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

from tests.reconciler.harness import Harness, file_name


def copy_stf(database: Path, copies: int) -> None:
    """Store *copies* further STFs of the run, each like the first one."""
    with closing(sqlite3.connect(database)) as db, db:
        columns = [row[1] for row in db.execute("pragma table_info(stf)")]
        changed = {"id": "1000 + n", "filename": "'copy.' || n || '.stf'"}
        values = ", ".join(changed.get(name, name) for name in columns)
        db.execute(
            f"with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < ?)"
            f" insert into stf ({', '.join(columns)}) select {values} from numbers, stf where id = 1",
            [copies],
        )


def memory_of_a_poll(folder: Path, stfs: int) -> int:
    """The most bytes that Python allocates while a run is polled of which *stfs* are known and two listed."""
    harness = Harness(folder)
    harness.register(1, 2)
    harness.stf_ready(1)
    copy_stf(harness.live_outbox.path, stfs)
    harness.time.pass_(seconds=40)
    polls = harness.row.polls
    tracemalloc.start()
    try:
        while harness.row.polls == polls:
            harness.live_engine.tick(0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert harness.stf(1).state == "completed"


def test_a_poll_takes_no_more_memory_if_more_stfs_of_the_run_are_known(tmp_path: Path) -> None:
    memory_of_a_poll(tmp_path / "first", 1)  # what is imported and cached at the first time
    few, many = memory_of_a_poll(tmp_path / "few", 1), memory_of_a_poll(tmp_path / "many", 10_000)
    assert many < few + 200_000  # their names alone take a million


def test_an_stf_whose_message_arrives_after_the_list_was_compared_is_not_absent(harness: Harness) -> None:
    harness.register(1, 2)
    harness.stf_ready(1)
    assert harness.row.absent == (file_name(2),)
    harness.time.pass_(seconds=40)
    polls = harness.monitor.polls
    while harness.monitor.polls == polls:
        harness.live_engine.tick(0)
    harness.deliver("stf_ready", filename=file_name(2), sequence=2)  # the answer of the poll is not stored yet
    harness.tick()
    assert harness.row.absent == ()
    assert harness.verdict.recovered == 0

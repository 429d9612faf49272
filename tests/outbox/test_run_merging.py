"""A database of schema 7 in which runs stand in several forms: `0300123`, `00300123` and `300123` become one run."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import Outbox, check_database, open_outbox
from fastmon_daemon.reconciler.verdict import judge
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, HandClock, handle, named, query
from tests.outbox.test_migrations import FOLDER, LATER

CHARTS = (load_statechart("stf"), load_statechart("run"))
STATES = {
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 8, 9), "completed"),
    7: "failed",  # discarded as run 0300123
    10: "tf_registered",  # sampled as run 300123
    11: "sampled",  # in both
}
"""Of run 300123. Its STF 8 was skipped, its STF 6 only sampled as run 0300123."""


@pytest.fixture(scope="module")
def v7(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database before the migration."""
    path = tmp_path_factory.mktemp("v7") / "outbox.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(gzip.decompress((FOLDER / "v7.sql.gz").read_bytes()).decode())
    return path


@pytest.fixture
def merged(v7: Path, tmp_path: Path) -> Path:
    path = Path(shutil.copy(v7, tmp_path / "outbox.db"))
    open_outbox(path).close()
    return path


@pytest.fixture
def outbox(merged: Path) -> Outbox:
    return open_outbox(merged)


def name(sequence: int) -> str:
    return f"swf.300123.{sequence:06d}.stf"


@pytest.mark.field("3")
def test_no_stf_is_lost_and_none_is_twice(v7: Path, merged: Path) -> None:
    stfs = "select namespace, run, filename from stf union all select namespace, run, filename from pruned"
    before = {(namespace, run.lstrip("0"), stf) for namespace, run, stf in query(v7, stfs)}
    after = query(merged, stfs)
    assert sorted(after) == sorted(before)
    assert len(before) < len(query(v7, stfs))
    assert {run for (run,) in query(merged, "select run from run union select run from pruned_run")} == {
        "300123", "300200", "300300", "300400", "300555", "7", "test-0A"
    }  # fmt: skip
    assert check_database(merged, *CHARTS) == []


def test_the_further_advanced_row_of_an_stf_stays(outbox: Outbox) -> None:
    stfs = [named(outbox, name(sequence)) for sequence in STATES]
    assert {stf.sequence: stf.state for stf in stfs} == STATES
    assert {stf.run_id for stf in stfs} == {"0300123", "00300123", 300123}  # as it came


def test_what_was_registered_and_announced_stays_so(v7: Path, merged: Path) -> None:
    done = "select distinct filename, monitor_id, announced_at is not null from tf where registered_at is not null"
    assert set(query(v7, done)) <= set(query(merged, done)) | {
        (tf, key, 0) for tf, key, announced in query(merged, done) if announced
    }


def test_every_transition_stays_in_a_history(v7: Path, merged: Path) -> None:
    rows = query(merged, "select filename, dest, at, coalesce(note, '') from history join stf on stf.id = stf")
    texts = Counter[str]()
    for stf, dest, at, note in rows:
        texts[stf] += 0
        kept = f"{dest} {at} {note}"
        for was_dest, was_at in query(
            v7, "select dest, at from history join stf on stf.id = stf where filename = ?", stf
        ):
            texts[stf] += kept.count(f"{was_dest} {was_at}")
    counts = dict(query(v7, "select filename, count(*) from history join stf on stf.id = stf group by 1"))
    assert texts == counts


@pytest.mark.field("3")
def test_runs_are_merged(outbox: Outbox) -> None:
    (run,) = [row for row in outbox.runs.latest() if row.run == "300123"]
    assert (run.run_id, run.state, run.expected, run.expected_by) == (300123, "ended", 12, "end_run")
    assert (run.absent, run.last_sequence, run.monitor_count) == ((name(12),), 11, 12)
    assert run.execution_id == "exec-int"
    assert run.poll_at is not None
    states = {row.run: (row.state, row.claimed) for row in outbox.runs.latest()}
    assert (states["7"], states["300555"]) == (("complete", True), ("running", True))


def test_verdicts_and_pruned_counts_are_of_the_merged_run(outbox: Outbox) -> None:
    verdicts = {row.run: judge(outbox.runs, row, CHARTS, LATER) for row in outbox.runs.latest()}
    assert (verdicts["7"].complete, verdicts["7"].run, verdicts["7"].completed) == (True, "7", 2)
    assert (verdicts["300200"].run, verdicts["300200"].expected) == ("300200", 2)
    assert (verdicts["300123"].missing, verdicts["300123"].missing_names) == (1, (name(12),))
    saved = query(outbox.path, "select run, verdict from run where verdict is not null order by run")
    assert [(run, json.loads(verdict)["run"]) for run, verdict in saved] == [("300200", "300200"), ("7", "7")]
    (pruned,) = outbox.retention.runs()
    assert (pruned.run, pruned.states, pruned.tf_files) == ("300200", {"completed": 1}, 3)  # the other is stored


def test_each_form_of_a_run_is_known_afterwards(outbox: Outbox, merged: Path) -> None:
    before = outbox.counts_by_state()
    handler = MessageHandler(merged, "ns", "fastmon-agent-test-1", CHARTS, clock=HandClock(at=LATER).clock())
    for run_id in (300123, "300123", "0300123", "00300123", "000300123"):
        for sequence in STATES:
            body = {"msg_type": "stf_ready", "namespace": "ns", "run_id": run_id, "filename": name(sequence)}
            handle(handler, json.dumps(body))
    assert outbox.counts_by_state() == before
    assert len([row for row in outbox.runs.latest() if "300123" in row.run]) == 1


def test_work_under_way_takes_over_what_a_failed_row_had_done(v7: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(v7, tmp_path / "outbox.db"))
    with closing(sqlite3.connect(path)) as connection:
        for sequence in (10, 11):  # of run 0300123
            (row,) = connection.execute(
                "select id, state from stf where run = '0300123' and filename = ?", [name(sequence)]
            )
            connection.execute("update stf set state = 'failed', due_at = null where id = ?", row[:1])
            connection.execute(
                "insert into history (stf, life, trigger, source, dest, at) values (?, 1, 'fail', ?, 'failed', ?)",
                [*row, LATER.isoformat()],
            )
        (new,) = connection.execute("select id from stf where run = '300123' and filename = ?", [name(11)]).fetchone()
        connection.execute("update stf set state = 'received', plan = null where id = ?", [new])
        connection.execute("delete from tf where stf = ?", [new])
        connection.execute("delete from history where stf = ? and trigger is not null", [new])
        connection.commit()
    outbox = open_outbox(path)
    ten, eleven = named(outbox, name(10)), named(outbox, name(11))
    assert (ten.state, ten.run_id, eleven.state, eleven.run_id) == ("sampled", 300123, "received", 300123)
    assert [tf.monitor_id is not None and tf.registered_at is not None for tf in ten.tfs] == [True] * 3
    assert eleven.plan is not None
    assert len(eleven.tfs) == 3
    testbed = FakeTestbed(tmp_path, time=HandClock(at=LATER))
    engine = testbed.engine(outbox)
    for _ in range(100):
        engine.tick(0)
        testbed.time.pass_(seconds=1)
    assert outbox.unfinished() == 0
    assert sorted(testbed.monitor.posts) == [tf.filename for tf in eleven.tfs]
    assert check_database(path, *CHARTS) == []


@pytest.mark.field("3")
def test_unfinished_work_is_completed_and_announced_once(outbox: Outbox, tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path, time=HandClock(at=LATER))
    engine = testbed.engine(outbox)
    for _ in range(200):
        engine.tick(0)
        testbed.time.pass_(seconds=1)
    assert outbox.unfinished() == 0
    assert len(testbed.announced) == len(set(testbed.announced)) == 6  # three TF files of STF 10 and of STF 11
    assert check_database(outbox.path, *CHARTS) == []

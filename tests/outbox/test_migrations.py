"""A database of schema 6: the migration keeps every row, and a daemon continues its work."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastmon_daemon.outbox import Outbox, check_database, open_outbox
from fastmon_daemon.outbox.schema import APPLICATION_ID, VERSION
from fastmon_daemon.reconciler.verdict import Verdict, judge
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, HandClock, query

FOLDER = Path(__file__).parent / "old_databases"
TABLES = ("stf", "tf", "history", "run", "outage", "rejected", "meta", "file_seen", "pruned", "pruned_run")
COUNTS = {
    "stf": 103, "tf": 148, "history": 318, "run": 11, "outage": 12, "rejected": 17, "meta": 14, "file_seen": 7,
    "pruned": 5, "pruned_run": 1,
}  # fmt: skip
STATES = {
    "received": 23, "sampled": 15, "tf_registered": 29, "notified": 1, "completed": 30, "skipped": 3, "failed": 1,
    "discarded": 1,
}  # fmt: skip
RUNS = {
    ("200001", "complete"), ("200002", "complete"), ("300001", "running"), ("300003", "paused"), ("300004", "ended"),
    ("300008", "imminent"), ("4711", "running"), ("test-run-A", "running"),
}  # fmt: skip
BYTES = [133, 41, 66, 15, 13, 46, 7, 0, 70066, 77, 3, 78, 105, 65536, 65537, 42, 367]
PENDING_REPORTS = 127  # without those of STFs that wait or were skipped
LATER = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def v6(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database before the migration."""
    path = tmp_path_factory.mktemp("v6") / "outbox.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(gzip.decompress((FOLDER / "v6.sql.gz").read_bytes()).decode())
    return path


@pytest.fixture
def old(v6: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(v6, tmp_path / "outbox.db"))


@pytest.fixture
def outbox(old: Path) -> Outbox:
    return open_outbox(old)


RENAMED_TABLES = {"rejected": "refused"}
RENAMED_VALUES = {"stf": {"look": "polled"}, "history": {"admit": "include"}}
RENAMED_KEYS = {"count:stf_look": "count:stf_polled", "count:foreign_type": "count:ignored_type"} | {
    "count:foreign_namespace": "count:ignored_namespace"
}


def rows(path: Path, table: str) -> list[tuple[object, ...]]:
    return query(path, f"select * from {table} order by 1, 2")


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows, by table."""
    return {table: rows(path, table) for table in TABLES}


def content_of_v6(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The same of a database of schema 6, with values renamed as by the migration, but columns in their old order."""
    found = {}
    for table in TABLES:
        new = RENAMED_VALUES.get(table, {})
        kept = rows(path, RENAMED_TABLES.get(table, table))
        found[table] = [
            tuple(new.get(value, value) if isinstance(value, str) else value for value in row) for row in kept
        ]
    found["rejected"] = [
        (*row, int(size <= 65_536)) for row, size in zip(found["rejected"], BYTES, strict=True)
    ]  # whole
    no_sample = {stf for (stf,) in query(path, "select id from stf where plan is null")}
    found["history"] = [
        (*row[:-1], "") if row[-1] is None and row[1] in no_sample else row for row in found["history"]
    ]  # not pending
    found["run"] = [(*row, 1, None, "[]") for row in found["run"]]  # claimed, by no other namespace, all listed
    found["meta"] = sorted(
        (RENAMED_KEYS.get(key, key.replace("forgotten:", "purged:")), value) for key, value in found["meta"]
    )
    return found


def without_verdicts(found: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """*found* without the verdicts in JSON, whose keys are renamed."""
    runs = [tuple(value for value in row if not str(value).startswith('{"namespace"')) for row in found["run"]]
    return found | {"run": runs}


def test_the_sample_database_has_rows_of_each_kind(v6: Path) -> None:
    counts = {table: len(kept) for table, kept in content_of_v6(v6).items()}
    assert counts == COUNTS
    assert query(v6, "pragma application_id") == [(APPLICATION_ID,)]
    assert query(v6, "pragma user_version") == [(6,)]


def test_migration_keeps_all_rows_and_runs_once(v6: Path, old: Path, outbox: Outbox) -> None:
    applied = "select migration_set, name, applied_at from _sqlite_migrations order by id"
    assert query(old, applied)[:6] == query(v6, applied)
    assert query(old, "pragma user_version") == [(VERSION,)]
    assert without_verdicts(content(old)) == without_verdicts(content_of_v6(v6))
    assert check_database(old, load_statechart("stf"), load_statechart("run")) == []


def test_migration_renames_the_keys_of_stored_verdicts_and_keeps_their_values(
    v6: Path, old: Path, outbox: Outbox
) -> None:
    kept = "select run, verdict from run where verdict is not null order by run"
    names = {"why_not": "incomplete_reasons", "named": "monitor_count", "heard_at": "last_message_at"} | {
        "look_error": "reconcile_error"
    }
    before, after = dict(query(v6, kept)), dict(query(old, kept))
    assert before.keys() == after.keys() == {"200001", "200002"}
    for run, text in after.items():
        was, found = json.loads(before[run]), json.loads(text)
        assert set(found) == {field.name for field in fields(Verdict) if field.default is MISSING}, (
            "the others are newer"
        )
        assert {
            names.get(key, key): was[key] for key in was if key not in {"tf_files", "outages"}
        }.items() <= found.items()
        assert found["tf_files"]["preexisting"] == was["tf_files"]["stood"]
        assert [outage["blocked"] for outage in found["outages"]] == [outage["held"] for outage in was["outages"]]


def test_a_migrated_database_can_be_queried(outbox: Outbox) -> None:
    reports = outbox
    assert reports.counts_by_state() == STATES
    assert {(row.run, row.state) for row in reports.runs.latest()} >= RUNS
    assert reports.rejected_count() == COUNTS["rejected"]
    assert [row.bytes for row in reports.rejected(limit=100)][::-1] == BYTES
    assert [outage.link for outage in outbox.outages.open()] == ["monitor"]
    assert [(run.run, run.states) for run in reports.retention.runs()] == [("200001", {"completed": 5})]
    assert reports.counters()["stages_unreportable"] == 6
    assert outbox.recall("agent_name") == "fastmon-agent-daq-1"
    assert len(outbox.files.all()) == COUNTS["file_seen"]
    assert reports.stages.count_pending() == PENDING_REPORTS
    retried = outbox.find(filename="swf.300001.000001.stf")[0]
    assert (retried.life, retried.state) == (3, "completed")
    (adopted,) = outbox.find(filename="swf.300001.000005.stf")
    assert [tf.adopted is not None for tf in adopted.tfs] == [True, True]
    charts = (load_statechart("stf"), load_statechart("run"))
    verdicts = {row.run: judge(outbox.runs, row, charts, LATER) for row in reports.runs.latest()}
    assert {run for run, verdict in verdicts.items() if verdict.complete} == {"200001", "200002"}
    assert verdicts["300001"].tf_files.preexisting == 2
    (preexisting,) = outbox.find(filename="swf.300001.000012.stf")
    assert preexisting.preexisting == ("swf.300001.000012_tf_001.tf", "swf.300001.000012_tf_002.tf")


def test_unfinished_work_is_completed_and_finalized_stfs_are_unchanged(
    old: Path, outbox: Outbox, tmp_path: Path
) -> None:
    finalized = "select id, state, since, life from stf where due_at is null order by id"
    before = query(old, finalized)
    testbed = FakeTestbed(tmp_path, time=HandClock(at=LATER))
    engine = testbed.engine(outbox)
    for _ in range(2000):
        engine.tick(0)
        testbed.time.pass_(seconds=1)
        if not outbox.unfinished():
            break
    unfinished = sum(STATES[state] for state in ("received", "sampled", "tf_registered", "notified"))
    assert outbox.counts_by_state() == {
        "completed": STATES["completed"] + unfinished,
        **{state: STATES[state] for state in ("skipped", "failed", "discarded")},
    }
    assert set(before) <= set(query(old, finalized))
    assert outbox.outages.open() == []
    assert check_database(old, load_statechart("stf"), load_statechart("run")) == []

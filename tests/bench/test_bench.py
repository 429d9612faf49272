"""The benchmarks: the programs that the daemon is compared with do what they claim, and figures are computed right."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench import document, scale_out
from bench.__main__ import is_absurd
from bench.daemon import BenchError, running_daemon, wait_until_quiet, wait_while_running
from bench.figures import Figure, as_table, percentile
from bench.growth import Curve
from bench.machine import busy_note, cpu_s, describe, descriptors, durable_commits, rss_mb, threads
from bench.measures import CONNECTIONS, NO_PACING, RUN
from bench.parts import KEYS, SHORT, Parts
from bench.svg import Axis, line_plot
from bench.testbed import TestbedProcess, measured_testbed
from bench.waiting import waiting_stfs
from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.outbox import attach, check_database, open_for_reading, open_outbox
from fastmon_daemon.statechart import load_statechart
from tests.real_brokers.install import NotInstalledError

ROOT = Path(__file__).parents[2]
STFS = 3
COMMITS_A_STF = 4


@pytest.fixture
def testbed() -> Iterator[TestbedProcess]:
    with measured_testbed() as running:
        running.register(RUN, 1, STFS)
        yield running


def run_program(testbed: TestbedProcess, module: str, *arguments: object) -> str:
    environment = {**os.environ, **testbed.environment()}
    words = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(database: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(database)) as db:
        db.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in db.execute(f"select * from {table}")] for table in ("stf", "tf", "history")
        }


def filled(row: dict[str, Any]) -> set[str]:
    return {name for name, value in row.items() if value is not None}


OWN_EXTRAS = {"plan", "workflow_id", "stage_id", "reported_at", "note", "checksum", "execution_id", "remark", "adopted"}
"""Columns that only the daemon fills: the plan of the sample, stage reports, notes."""


def test_the_bare_loop_does_for_each_stf_what_the_daemon_does(testbed, tmp_path):
    used = json.loads(run_program(testbed, "bench.bare_loop", tmp_path / "bare.db", RUN, STFS).splitlines()[-1])
    assert used["stfs"] == STFS
    assert used["cpu_s"] > 0
    counts = testbed.counts()
    assert counts["requests"] == {"POST /api/fastmon-files/": 7 * STFS}
    assert (counts["fastmon_files"], counts["announcements"], counts["distinct_announcements"]) == (7 * STFS,) * 3
    bare, bare_posted = rows_of(tmp_path / "bare.db"), testbed.tf_rows()
    with measured_testbed() as other:
        other.register(RUN, 1, STFS)
        with running_daemon(other, tmp_path, FASTMON_STAGES="off") as daemon:
            other.publish(RUN, 1, STFS)
            other.wait(RUN, 1, STFS, 60)
            daemon.wait_until_finalized()
            assert daemon.completed() == STFS
        own_posted = other.tf_rows()
    own = rows_of(tmp_path / "outbox.db")
    assert {table: len(rows) for table, rows in bare.items()} == {table: len(rows) for table, rows in own.items()}
    for table, rows in own.items():
        assert filled(bare[table][-1]) >= filled(rows[-1]) - OWN_EXTRAS, table
    assert [row["dest"] for row in bare["history"]][:5] == [row["dest"] for row in own["history"] if row["stf"] == 1]
    assert len(json.dumps(bare_posted[0])) >= 0.9 * len(json.dumps(own_posted[0]))
    assert set(bare_posted[0]["metadata"]) == set(own_posted[0]["metadata"])


def test_the_bare_loop_commits_four_times_an_stf(testbed, tmp_path, monkeypatch):
    from bench import bare_loop

    for name, value in testbed.environment().items():
        monkeypatch.setenv(name, value)
    commits = []
    process = bare_loop.process

    def counting(*arguments: Any) -> None:
        before = durable_commits(tmp_path / "bare.db")
        process(*arguments)
        commits.append(durable_commits(tmp_path / "bare.db") - before)

    monkeypatch.setattr(bare_loop, "process", counting)
    bare_loop.main(tmp_path / "bare.db", RUN, STFS)
    assert commits == [COMMITS_A_STF] * STFS


def test_the_sequential_reference_makes_the_calls_of_the_old_agent(testbed):
    environment = {**os.environ, **testbed.environment()}
    words = [sys.executable, "-m", "bench.old_agent", str(STFS)]
    with subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        testbed.publish(RUN, 1, STFS)
        times = testbed.wait(RUN, 1, STFS, 60)
        assert process.wait(60) == 0
    assert all(announced > published > 0 for published, announced in times)
    assert testbed.counts()["requests"] == {
        "POST /api/fastmon-files/": 7 * STFS,
        "POST /api/systemagents/heartbeat/": 9 * STFS,
        "POST /api/logs/": 32 * STFS,
    }


def test_the_load_generator_reports_the_rows_that_the_monitor_has(testbed):
    used = json.loads(run_program(testbed, "bench.load", RUN, STFS, CONNECTIONS, 0.5).splitlines()[-1])
    assert used["rows"] == testbed.counts()["fastmon_files"] > 0
    assert used["wall_s"] >= 0.5


def test_a_daemon_that_ends_is_noticed_by_who_waits_for_its_announcements(testbed, tmp_path):
    with running_daemon(testbed, tmp_path) as daemon:
        daemon.process.kill()
        with pytest.raises(BenchError, match=r"it has ended: not announced within .*3 STFs"):
            wait_while_running(partial(testbed.wait, RUN, 1, STFS), daemon.has_ended, 3600.0)


def test_a_failure_in_the_testbed_is_raised_here(testbed):
    with pytest.raises(TimeoutError, match="3 STFs"):
        testbed.wait(RUN, 1, STFS, 0.1)
    with pytest.raises(AttributeError):
        testbed.no_such_method()


def test_durable_commits_are_counted_one_by_one(tmp_path):
    database = tmp_path / "outbox.db"
    open_outbox(database).close()
    with closing(attach(database)) as outbox:
        outbox.remember("begin", "1")
        before = durable_commits(database)
        for number in range(5):
            with outbox.transaction():
                outbox.remember("a", str(number))
                outbox.remember("b", str(number))
        with closing(open_for_reading(database)) as reader:
            reader.counts_by_state()
        assert durable_commits(database) - before == 5


def test_waiting_stfs_are_as_the_daemon_would_have_stored_them(testbed, tmp_path):
    database = tmp_path / "outbox.db"
    waiting_stfs(database, RUN, STFS)
    assert list(check_database(database, load_statechart("stf"), load_statechart("run"))) == []
    with closing(open_for_reading(database)) as reader:
        stfs = sorted(reader.find(), key=lambda stf: stf.id)
        assert [json.loads(stf.body)["filename"] for stf in stfs] == [stf.filename for stf in stfs]
        assert [json.loads(stf.body)["sequence"] for stf in stfs] == [stf.sequence for stf in stfs] == [1, 2, 3]
        ages = [parse_timestamp(stf.received_at) for stf in stfs]
        assert (ages[2] - ages[0]).total_seconds() == pytest.approx(1.2, abs=0.01)
        assert all(len(reader.history(stf.id)) == 1 for stf in stfs)
    with running_daemon(testbed, tmp_path, **NO_PACING) as daemon:
        daemon.wait_until_finalized()
        assert daemon.completed() == STFS
        assert len(testbed.announced()) == STFS
        assert testbed.repeated() == 0
        wait_until_quiet(testbed)
        assert cpu_s(daemon.pid) > 0
        assert rss_mb(daemon.pid) > 10
        assert threads(daemon.pid) > 3
        assert descriptors(daemon.pid) > 3
        assert daemon.inspect_s() > 0


def test_the_machine_is_described(tmp_path):
    found = describe(tmp_path)
    assert "cores" in found["processor"]
    assert all(found.values())


def test_a_busy_machine_is_told():
    assert busy_note(0.5, 2) == ""
    assert "load 18.9 on 2 cores" in busy_note(18.9, 2)


def figure(**changes: Any) -> Figure:
    fields: dict[str, Any] = {"key": "k", "title": "t", "goal": 2, "unit": "ms", "ours": [4, 6, 9], "theirs": [2, 2, 3]}
    return Figure(**{**fields, **changes})


def test_a_figure_is_the_median_of_the_ratios_within_the_rounds():
    assert figure().samples == [2, 3, 3]
    assert figure().value == 3
    assert figure().is_met
    assert not figure(at_most=True).is_met
    assert figure(theirs=()).value == 6
    assert figure(more={"p95_ms": 7}).as_json() == {
        "ratio": 3, "goal": 2, "met": True, "spread": [2, 3], "unit": "ms", "median": 6, "reference_median": 2,
        "p95_ms": 7,
    }  # fmt: skip
    assert figure(theirs=()).as_json()["value"] == 6
    assert figure(also=[figure(key="l", ours=[2, 2, 3])]).as_json()["l"]["ratio"] == 1


def test_a_ratio_far_from_its_goal_is_absurd():
    assert not is_absurd(figure())
    assert not is_absurd(figure(at_most=True))
    assert is_absurd(figure(goal=100))
    assert is_absurd(figure(at_most=True, ours=[200, 200, 200]))
    assert is_absurd(figure(ours=[0, 0, 0]))


def test_percentiles_are_values_that_occurred():
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(range(1, 101), 99) == 99
    assert percentile([5], 1) == 5


def test_a_short_part_measures_both_sides():
    lines: list[str] = []
    found = Parts(SHORT, lines.append).cpu_floor()
    assert found.value > 0
    assert len(found.ours) == len(found.theirs) == len(lines) == 1


def test_the_document_shows_goals_missing_figures_and_plots(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(document, "DOCS", tmp_path)
    points = [(0.5, 10.0), (5, 8.0), (50, 2.0)]
    curve = Curve(name="growth-x", title="A <title>", x=Axis(label="x", log=True), y=Axis(label="y"),
                  series={"one": points, "two": points[:2]}, remark="Remark.")  # fmt: skip
    document.write({"processor": "P"}, {"a": figure(at_most=True), "scale_out": None}, [curve], busy_note(9, 2))
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "| processor | P |" in text
    assert "load 9.0 on 2 cores" in text
    assert "**missed**" in text
    assert "Not measured here: `scale_out`." in text
    assert "| two | 10 | 8 | - |" in text
    assert (
        text.index("## Before you read") < text.index("## Figures") < text.index("## Growth") < text.index("## Repro")
    )
    plot = ET.parse(tmp_path / "images" / "growth-x.svg").getroot()
    assert len(plot.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert len(plot.findall("{http://www.w3.org/2000/svg}circle")) == 5


@pytest.mark.parametrize("values", [[0.001, 900], [5, 5], [0.0, 3.0]])
def test_a_plot_has_room_for_all_values(values):
    log = min(values) > 0
    plot = ET.fromstring(line_plot("t", Axis(label="x"), Axis(label="y", log=log), {"a": [(1, v) for v in values]}))
    for circle in plot.findall("{http://www.w3.org/2000/svg}circle"):
        assert 40 <= float(circle.attrib["cy"]) <= 296
        assert 64 <= float(circle.attrib["cx"]) <= 608


def test_without_artemis_scale_out_is_not_measured(monkeypatch):
    def missing(*_: object) -> None:
        raise NotInstalledError

    monkeypatch.setattr(scale_out, "Artemis", missing)
    lines: list[str] = []
    assert Parts(SHORT, lines.append).scale_out() is None
    assert "not installed" in lines[0]


def test_each_key_is_a_part_and_each_figure_is_one_row():
    assert all(callable(getattr(Parts, key)) for key in KEYS)
    assert len(as_table([figure(), figure(also=[figure()])])) == 3

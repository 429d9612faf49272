"""The metrics of a collector: counters never fall, and their series exist from the start."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastmon_daemon.inspection.metrics import MetricsCollector
from fastmon_daemon.outbox import NewStf, Outbox, OutboxReader, Stf, database, open_for_reading, open_outbox
from fastmon_daemon.outbox.models import Transition
from fastmon_daemon.outbox.store import Committed
from fastmon_daemon.presence.assessment import Assessor
from tests.builders import FakeTestbed, HandClock, settle
from tests.inspection.builders import busy, collector_for
from tests.preloaded import run
from tests.presence.builders import RULE

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def collector(database: Path, time: HandClock) -> MetricsCollector:
    return collector_for(Assessor(database, RULE, busy, time.clock()), time.clock())


def store_waiting(outbox: Outbox, count: int, born: datetime) -> None:
    """Store STFs until *count* are there."""
    with outbox.transaction():
        outbox.runs.record_message("ns", "100014", "running", born, None)
        for sequence in range(count):
            new = NewStf(namespace="ns", run_id="100014", filename=f"{sequence}.stf", sequence=sequence)
            outbox.receive(new, "received", born)


def samples(text: str, kind: str) -> dict[str, float]:
    return {
        f"{sample.name}{list(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        if family.type == kind
        for sample in family.samples
    }


@pytest.mark.field("13")
def test_a_counter_never_falls_though_the_clock_is_set_back(tmp_path: Path) -> None:
    time, outbox = HandClock(), open_outbox(tmp_path / "outbox.db")
    page = collector(outbox.path, time)
    with outbox.transaction():
        outbox.outages.link_lost("monitor", "refused", time.at, blocked=False)
    told = []
    for seconds in (60, -3600, 30, 3600, 100):
        time.pass_(seconds=seconds)
        told.append(samples(page.render().decode(), "counter")["fastmon_outage_seconds_total['monitor']"])
    with outbox.transaction():
        outbox.outages.link_back("monitor", time.at)
    told.append(samples(page.render().decode(), "counter")["fastmon_outage_seconds_total['monitor']"])
    assert [round(each) for each in told] == [60, 60, 60, 90, 190, 190]
    outbox.close()


PAGE = """
import sys
from pathlib import Path
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.presence.assessment import Assessor
from tests.builders import FakeTestbed, HandClock, settle
from tests.inspection.builders import busy, collector_for
from tests.presence.builders import RULE
open_outbox(Path(sys.argv[1])).close()
clock = HandClock().clock()
sys.stdout.buffer.write(collector_for(Assessor(Path(sys.argv[1]), RULE, busy, clock), clock).render())
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a process that has done nothing yet."""
    database = tmp_path_factory.mktemp("page") / "outbox.db"
    made = run(["-c", PAGE, str(database)], env={}, cwd=ROOT, timeout=60)
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.mark.field("13")
def test_every_series_of_a_counter_exists_at_0_from_the_start(page: str) -> None:
    counters = samples(page, "counter")
    del counters["process_cpu_seconds_total[]"]
    assert set(counters.values()) == {0}
    outcomes = ("stored", "known", "conflict", "nameless", "run", "malformed", "ignored_type", "ignored_namespace")
    expected = {f"fastmon_messages_total['{outcome}']" for outcome in outcomes}
    expected |= {f"fastmon_stfs_received_total['{origin}']" for origin in ("message", "polled", "recovered", "file")}
    expected |= {f"fastmon_stage_updates_total['{kind}']" for kind in ("single", "coalesced")}
    expected |= {f"fastmon_outage_seconds_total['{link}']" for link in ("monitor", "broker", "daemon")}
    expected |= {"fastmon_transitions_total['received', 'new']", "fastmon_transitions_total['discarded', 'failed']"}
    expected |= {f"fastmon_attempts_total['permanent', '{step}']" for step in ("register_tfs", "notify_clients")}
    expected |= {f"fastmon_monitor_requests_total['POST', '{status}']" for status in ("201", "503", "none")}
    assert expected <= counters.keys()
    assert set(samples(page, "histogram").values()) == {0}


def test_every_family_has_a_help_text_and_a_unit_in_its_name(page: str) -> None:
    families = [each for each in text_string_to_metric_families(page) if each.name.startswith("fastmon_")]
    assert all(each.documentation for each in families)
    counted = (
        r"(stfs|messages|runs|problems|_up|_blocked|_stopped|_limit|_in_flight|_stuck|_unfinished|_incomplete|_number"
        r"|_buffered|_pending|_fraction|_info|_reconcilers)"
    )
    for each in families:
        unit = each.type == "counter" or re.search(rf"(_seconds|_bytes|{counted})$", each.name)
        assert unit, each.name
        assert all(f"{each.name}_total" == sample.name for sample in each.samples if each.type == "counter")


def test_no_label_names_a_run_or_an_stf(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    with closing(testbed.outbox()) as outbox:
        testbed.receive(outbox)
        settle(testbed.engine(outbox))
        labels = {
            text
            for family in text_string_to_metric_families(collector(outbox.path, testbed.time).render().decode())
            for sample in family.samples
            for text in sample.labels.values()
        }
        (stf,) = outbox.find()
    assert not any(stf.run in text or stf.filename in text for text in labels)


def move_in_vain(outbox: Outbox, stf: Stf, by: str) -> None:
    with outbox.transaction():
        if by == "engine":
            outbox.move(stf, "skip", "skipped", NOW, finalized=True)
        else:
            outbox.move(stf, "fail", "failed", NOW, finalized=True)
            outbox.reopen(outbox.get(stf.id), "retry", "received", NOW, note="again")
        raise RuntimeError


@pytest.mark.parametrize("by", ["engine", "operator"])
def test_what_is_rolled_back_is_not_counted(tmp_path: Path, by: str) -> None:
    counted: list[Committed] = []
    testbed = FakeTestbed(tmp_path)
    with closing(open_outbox(testbed.folder / "outbox.db", counted.append)) as outbox:
        testbed.receive(outbox)
        (stf,) = outbox.find()
        assert [(each.source, each.dest) for each in counted if isinstance(each, Transition)] == [(None, "received")]
        counted.clear()
        with pytest.raises(RuntimeError):
            move_in_vain(outbox, stf, by)
        assert counted == []
        testbed.time.pass_(seconds=5)
        with outbox.transaction():
            outbox.move(stf, "skip", "skipped", testbed.time.at, finalized=True)
            assert counted == [], "not before it is on disk"
        assert counted == [Transition(source="received", dest="skipped", seconds=5.0, latency_s=5.0)]


def test_a_scrape_does_not_read_the_stfs_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite counts index entries for the STFs that are not stuck yet; all other numbers are kept."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    def opened(path: Path) -> OutboxReader:
        reader = open_for_reading(path)
        reader._db.conn.set_progress_handler(step, 1)
        return reader

    monkeypatch.setattr(database, "open_for_reading", opened)
    time, taken = HandClock(), []
    with closing(open_outbox(tmp_path / "outbox.db")) as outbox:
        page = collector(outbox.path, time)
        for count in (1_000, 11_000):
            store_waiting(outbox, count, time.at - timedelta(hours=1))
            steps = 0
            gauges = samples(page.render().decode(), "gauge")
            taken.append(steps)
            assert gauges["fastmon_stfs['received']"] == gauges["fastmon_newest_run_stfs['received']"] == count
            assert gauges["fastmon_stfs_stuck['overdue']"] == count
            assert gauges["fastmon_stage_reports_pending[]"] == 0
    assert (taken[1] - taken[0]) / 10_000 < 0.1


def test_numbers_of_runs_links_and_intake_are_those_of_the_verdict(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    with closing(testbed.outbox()) as outbox:
        testbed.receive(outbox, 1)
        testbed.receive(outbox, 3)
        with outbox.transaction():
            for run, expected, state in (
                ("100014", 5, "ended"),
                ("100015", None, "running"),
                ("100016", 4, "complete"),
            ):
                outbox.runs.record_message("ns", run, state, testbed.time.at, None)
                (row,) = outbox.runs.find(run)
                if expected:
                    outbox.runs.expect(row, expected, "end_run")
            (row,) = outbox.runs.find("100015")
            outbox.runs.record_sequence(row, 7)
            outbox.outages.link_lost("monitor", "wrong token", testbed.time.at, blocked=True)
            outbox.outages.link_lost("announcements", "refused", testbed.time.at, blocked=False)
        testbed.time.pass_(seconds=61)
        rule = replace(RULE, min_free_mb=10**9)
        page = collector_for(Assessor(outbox.path, rule, busy, testbed.time.clock()), testbed.time.clock())
        gauges = samples(page.render().decode(), "gauge")
    assert gauges["fastmon_run_missing_stfs['ended']"] == 3
    assert gauges["fastmon_run_missing_stfs['open']"] == 7
    assert gauges["fastmon_runs_incomplete[]"] == gauges["fastmon_problems['runs incomplete']"] == 1
    assert [gauges[f"fastmon_runs['{state}']"] for state in ("running", "ended", "complete", "paused")] == [1, 1, 1, 0]
    links = ("monitor", "broker", "announcements")
    assert [gauges[f"fastmon_link_up['{link}']"] for link in links] == [0, 1, 0]
    assert [gauges[f"fastmon_link_blocked['{link}']"] for link in links] == [1, 0, 0]
    assert gauges["fastmon_intake_stopped[]"] == gauges["fastmon_problems['intake stopped']"] == 1
    assert gauges["fastmon_disk_min_free_bytes[]"] == 1e15
    assert gauges["fastmon_selection_fraction[]"] == 0.1
    assert gauges["fastmon_stf_oldest_age_seconds['received']"] == 61
    assert gauges["fastmon_stf_last_completed_timestamp_seconds[]"] == 0
    assert gauges["fastmon_calls_in_flight['monitor']"] == 3

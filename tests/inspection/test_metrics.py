"""The metrics of a collector: counters never fall, and their series exist from the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.inspection.metrics import MetricsCollector
from fastmon_daemon.monitor import ResponseCounter
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.presence.assessment import Assessor, ProcessState
from tests.builders import HandClock
from tests.presence.builders import RULE


def collector(database: Path, time: HandClock) -> MetricsCollector:
    return MetricsCollector(
        namespace="ns",
        database=database,
        assessor=Assessor(database, RULE, ProcessState, time.clock()),
        liveness=Liveness(time.clock().monotonic),
        response_counter=ResponseCounter(),
        buffered=lambda: 0,
        clock=time.clock(),
    )


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
    metrics = collector(outbox.path, time)
    with outbox.transaction():
        outbox.outages.link_lost("monitor", "refused", time.at, blocked=False)
    told = []
    for seconds in (60, -3600, 30, 3600, 100):
        time.pass_(seconds=seconds)
        told.append(samples(metrics.render(), "counter")["fastmon_outage_seconds_total['monitor']"])
    with outbox.transaction():
        outbox.outages.link_back("monitor", time.at)
    told.append(samples(metrics.render(), "counter")["fastmon_outage_seconds_total['monitor']"])
    assert [round(each) for each in told] == [60, 60, 60, 90, 190, 190]
    outbox.close()


@pytest.mark.field("13")
def test_every_series_of_a_counter_exists_at_0_from_the_start(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    counters = samples(collector(outbox.path, HandClock()).render(), "counter")
    assert set(counters.values()) == {0}
    names = ["stf_ready_fresh", "stf_ready_conflict", "stf_recovered", "ignored_namespace", "rejected_dropped"]
    names += ["stage_updates_single", "stage_updates_coalesced", "stages_unreportable"]
    assert {f"fastmon_counted_total['{name}']" for name in names} <= counters.keys()
    assert {f"fastmon_outage_seconds_total['{link}']" for link in ("monitor", "broker", "daemon")} <= counters.keys()
    assert "fastmon_monitor_answers_total['POST', '201']" in counters
    outbox.close()

"""Incidents: one for one cause; and the guide has an entry for each alarm."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from fastmon_client.dashboard.guide import GUIDE
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.snapshot import AlarmKind
from tests.client.snapshots import alarm


def kinds(*alarms: dict[str, object]) -> list[tuple[str, int]]:
    return [(each["kind"], len(each["consequences"])) for each in incidents_of(alarms)]


def test_the_guide_has_an_entry_for_each_alarm() -> None:
    assert set(GUIDE) == set(get_args(AlarmKind))
    for entry in GUIDE.values():
        assert entry.diagnosis
        assert entry.mitigation


def test_a_dead_monitor_is_one_incident() -> None:
    dead = [alarm(kind, None) for kind in ("monitor_unreachable", "stream_dead", "source_silent")]
    assert kinds(*dead, alarm("run_stale"), alarm("rate_dropped")) == [("stream_dead", 4)]


def test_tables_alone_are_an_incident_of_their_own() -> None:
    assert kinds(alarm("monitor_unreachable", None)) == [("monitor_unreachable", 0)]


def test_a_silent_daemon_makes_its_runs_stale() -> None:
    silent = alarm("daemon_silent", None, subject="agent-1")
    degraded = alarm("daemon_degraded", None, subject="agent-1")
    other = alarm("daemon_degraded", None, subject="agent-2")
    assert kinds(alarm("run_stale"), degraded, silent, other) == [("daemon_silent", 2), ("daemon_degraded", 0)]


@pytest.mark.parametrize("run", ["100014", "100013"])
def test_a_drop_of_the_rate_belongs_to_the_stale_run(run: str) -> None:
    expected = [("run_stale", 1)] if run == "100014" else [("run_stale", 0), ("rate_dropped", 0)]
    assert kinds(alarm("run_stale"), alarm("rate_dropped", run)) == expected


def test_missing_stfs_are_of_a_silent_daemon_only_if_they_began_with_it() -> None:
    silent = alarm("daemon_silent", None, subject="agent-1", since="2026-11-21T20:56:01+00:00")
    assert kinds(silent, alarm(since="2026-11-21T20:55:31+00:00")) == [("daemon_silent", 1)]
    assert ("stfs_missing", 0) in kinds(silent, alarm(since="2026-11-21T20:50:00+00:00"))
    assert ("stfs_missing", 0) in kinds(alarm("stream_dead", None), alarm())


def test_the_worst_come_first_then_the_newest_and_ended_ones_last() -> None:
    early, late = "2026-11-21T20:00:00+00:00", "2026-11-21T21:00:00+00:00"
    found = kinds(
        alarm("agents_unmatched", None, since=late), alarm(since=early), alarm("stfs_missing", "2", since=late),
        alarm("stream_dead", None, until=late),
    )  # fmt: skip
    assert [kind for kind, _ in found] == ["stfs_missing", "stfs_missing", "agents_unmatched", "stream_dead"]


def test_an_incident_began_with_its_first_alarm() -> None:
    early, late = "2026-11-21T20:00:00+00:00", "2026-11-21T21:00:00+00:00"
    [found] = incidents_of([alarm("stream_dead", None, since=late), alarm("monitor_unreachable", None, since=early)])
    assert found["since"] == early


def test_an_unknown_alarm_is_shown_in_its_own_words() -> None:
    [found] = incidents_of([alarm("disk_full", None)])
    assert (found["title"], found["severity"]) == ("Disk full", "bad")


def test_the_title_of_a_kind_is_that_of_its_entry_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GUIDE, "stfs_missing", replace(GUIDE["stfs_missing"], title="Alarm"))
    [found] = incidents_of([alarm()])
    assert found["title"] == "Alarm"


@pytest.mark.parametrize(("run", "named"), [("100014", "100014"), ("$(reboot)", "RUN"), ("1 2", "RUN")])
def test_the_action_names_the_run_unless_its_name_could_be_a_command(run: str, named: str) -> None:
    [found] = incidents_of([alarm(run=run)])
    assert f"fastmon-daemon verdict {named} on the daemon's host" in found["action"]

"""What depends on the date, with the daemon as a process at other times: lateness, due times, retention, outages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.processes import LiveTestbed, live_testbed, name, wait_until

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
ROOT = str(Path(__file__).parents[2])


class DatedTestbed:
    """A testbed in whose world it is `FIRST`, until `move_to` or `daemon_at`."""

    def __init__(self, testbed: LiveTestbed) -> None:
        self.testbed = testbed
        self.move_to(timedelta())

    def move_to(self, after: timedelta) -> None:
        """It is *after* `FIRST` for the monitor, and for programs that begin."""
        self._now = FIRST + after
        self.testbed.monitor.server.store.now = lambda: FIRST + after

    @property
    def frozen(self) -> dict[str, str]:
        return {"program": "tests.frozen", "PYTHONPATH": ROOT, "FREEZE_AT": self._now.isoformat()}

    def daemon_at(self, after: timedelta, **changes: str) -> Popen[bytes]:
        """Start a daemon *after* `FIRST`."""
        self.move_to(after)
        return self.testbed.daemon(**self.frozen, **changes)

    def end(self, daemon: Popen[bytes]) -> None:
        daemon.terminate()
        assert daemon.wait(30) == 0

    def inspected(self, sequence: int) -> dict[str, Any]:
        (stf,) = json.loads(self.testbed.call("inspect", name(sequence), "--json").stdout)["stfs"]
        return dict(stf)

    def verdict(self, *words: str) -> dict[str, Any]:
        """The verdict once it is complete, unless *words* say otherwise."""
        words = words or ("--wait", "20")
        return dict(json.loads(self.testbed.call("verdict", "100014", *words, "--json").stdout))


@pytest.fixture
def dated(tmp_path: Path) -> Iterator[DatedTestbed]:
    with live_testbed(tmp_path) as testbed:
        yield DatedTestbed(testbed)


def is_within_an_hour(text: str, after: timedelta) -> bool:
    return timedelta() <= datetime.fromisoformat(text) - (FIRST + after) < HOUR


@pytest.mark.field("0d")
def test_an_stf_that_waited_for_the_monitor_over_a_restart_is_announced_as_late(dated: DatedTestbed) -> None:
    testbed = dated.testbed
    testbed.register(1, 2)
    testbed.monitor.stop()
    daemon = dated.daemon_at(timedelta())
    testbed.announce(1)
    testbed.wait_for(sampled=1)
    dated.end(daemon)
    testbed.monitor.start()
    dated.daemon_at(HOUR)
    testbed.announce(2)
    testbed.wait_for(completed=2)
    announced = [json.loads(body) for body in testbed.heard if "tf_file_registered" in body]
    late = {message["stf_filename"]: message.get("late", False) for message in announced}
    assert late == {name(1): True, name(2): False}


def test_a_postponed_stf_is_due_at_a_start_months_later_and_its_budget_did_not_run(dated: DatedTestbed) -> None:
    testbed = dated.testbed
    daemon = dated.daemon_at(timedelta())
    testbed.announce(1)
    wait_until(lambda: testbed.states() and dated.inspected(1)["attempts"] > 1, "it is postponed")
    dated.end(daemon)
    testbed.register(1)
    dated.daemon_at(100 * DAY)
    testbed.wait_for(completed=1)
    stf = dated.inspected(1)
    assert is_within_an_hour(stf["received_at"], timedelta())
    assert is_within_an_hour(stf["since"], 100 * DAY)
    assert [row["dest"] for row in stf["history"]] == ["received", "sampled", "tf_registered", "notified", "completed"]


@pytest.mark.field("0d")
def test_a_run_is_pruned_when_it_has_been_complete_for_keep_days(dated: DatedTestbed) -> None:
    testbed = dated.testbed
    testbed.register(1)
    daemon = dated.daemon_at(timedelta(), FASTMON_KEEP_DAYS="7")
    testbed.announce(1)
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 1})
    wait_until(lambda: "run 100014: complete" in testbed.log(), "the run is complete")
    dated.end(daemon)
    daemon = dated.daemon_at(6 * DAY, FASTMON_KEEP_DAYS="7")
    testbed.publish({"msg_type": "stf_ready", "run_id": "cosmics", "filename": name(2)})
    wait_until(lambda: testbed.states().get("sampled"), "an STF that is not registered waits; the engine is idle")
    dated.end(daemon)
    assert testbed.states() == {"completed": 1, "sampled": 1}
    dated.daemon_at(8 * DAY, FASTMON_KEEP_DAYS="7")
    wait_until(lambda: "completed" not in testbed.states(), "the run is pruned")


def test_stfs_missed_while_the_daemon_was_dead_name_its_downtime_as_does_the_verdict(dated: DatedTestbed) -> None:
    testbed = dated.testbed
    daemon = dated.daemon_at(timedelta(), FASTMON_DURABLE="off")
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    daemon.kill()
    daemon.wait()
    dated.move_to(DAY)
    testbed.register(2)
    testbed.announce(2)
    while_dead = dated.verdict("--namespace", "ns")
    assert (while_dead["completed"], while_dead["incomplete_reasons"]) == (1, ["not ended"])
    dated.daemon_at(3 * DAY, FASTMON_DURABLE="off")
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 2})
    verdict = dated.verdict()
    counts = {key: verdict[key] for key in ("expected", "received", "recovered", "completed", "missing")}
    assert counts == {"expected": 2, "received": 1, "recovered": 1, "completed": 2, "missing": 0}
    [outage] = verdict["outages"]
    assert (outage["link"], outage["reason"]) == ("daemon", "it was killed, or its host went down")
    assert is_within_an_hour(outage["began_at"], timedelta())
    assert is_within_an_hour(outage["ended_at"], 3 * DAY)
    missed = dated.inspected(2)
    assert missed["history"][0]["note"].startswith("recovered: the daemon was not running 2026-11-21 20:")
    assert is_within_an_hour(missed["born_at"], DAY)
    assert is_within_an_hour(missed["received_at"], 3 * DAY)


def test_the_verdict_has_the_times_of_its_run(dated: DatedTestbed) -> None:
    testbed = dated.testbed
    testbed.register(1)
    dated.daemon_at(2 * DAY)
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 1})
    verdict = dated.verdict()
    dated.move_to(5.5 * DAY)
    assert is_within_an_hour(verdict["ended_at"], 2 * DAY)
    assert is_within_an_hour(verdict["last_message_at"], 2 * DAY)
    [first] = [each for each in verdict["latencies"] if each["dest"] == "received"]
    assert 2 * DAY <= timedelta(seconds=first["max_s"]) < 2 * DAY + HOUR
    shown = testbed.call("verdict", "100014", **dated.frozen).stdout
    assert "2026-11-23 20:" in shown
    assert "(3 d ago): end_run" in shown

"""Faults of the monitor: the final totals equal the monitor's, and nothing is shown twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from fastmon_client.cli import cli
from tests.client.client_process import PER_STF, QUICK, RUN, TOKEN, Client, Experiment

LONG_S = 3600


@pytest.fixture
def experiment() -> Iterator[Experiment]:
    with Experiment() as running:
        yield running


def connected_client(experiment: Experiment, *options: str, **intervals: float) -> Client:
    options = ("--json", "--until", "end_run", "--run-ids", str(RUN), "--fail-on-gaps", *options)
    client = Client(experiment.monitor.url, *options, **QUICK | intervals)
    client.wait_for_log("connected to")
    return client


class ClientResult:
    """The output of an ended client."""

    def __init__(self, client: Client) -> None:
        self.code, lines = client.ended()
        self.objects: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.tf_files = [each for each in self.objects if each["kind"] == "tf_file"]
        self.summary = self.objects[-1]
        self.run: dict[str, Any] = next(run for run in self.summary["runs"] if run["run"] == str(RUN))

    def alarms(self) -> set[str]:
        return {each["alarm"] for each in self.objects if each["kind"] == "alarm"}

    def assert_matches(self, experiment: Experiment) -> None:
        """Assert that the totals equal the monitor's, are VERIFIED, and nothing was shown twice."""
        names = Counter(each["tf_filename"] for each in self.tf_files)
        assert [name for name, times in names.items() if times > 1] == []
        assert len(self.tf_files) == self.summary["totals"]["tf_files"] == self.run["tf_files"]
        assert self.run["tf_files"] == experiment.monitor.counts()["fastmon_files"]
        assert (self.run["verified"], self.run["state"], self.run["missing"]) == ("VERIFIED", "complete", [])
        assert self.code == 0


def test_without_faults_nothing_is_backfilled(experiment):
    with connected_client(experiment) as client:
        experiment.send("start_run")
        experiment.publish(1, 2, 3)
        experiment.send("end_run", total_stf_files=3)
        result = ClientResult(client)
    result.assert_matches(experiment)
    assert (result.run["backfilled"], result.run["tf_expected"]) == (0, 3 * PER_STF)


def test_monitor_restart(experiment):
    with connected_client(experiment) as client:
        experiment.publish(1)
        experiment.monitor.stop()
        client.wait_for_log("stream lost")
        experiment.publish(2, 3)
        experiment.monitor.start()
        client.wait_for_log("connected to", times=2)
        experiment.publish(4)
        experiment.send("end_run", total_stf_files=4)
        result = ClientResult(client)
    result.assert_matches(experiment)
    assert result.run["backfilled"] >= 2 * PER_STF
    assert "stream_dead" in result.alarms()


def test_run_started_while_the_monitor_was_down(experiment):
    with connected_client(experiment, "--run-ids", str(RUN + 1)) as client:
        experiment.monitor.stop()
        client.wait_for_log("stream lost")
        experiment.begin_run(RUN + 1)
        experiment.publish(1, 2)
        experiment.monitor.start()
        client.wait_for_log("connected to", times=2)
        experiment.send("end_run", total_stf_files=2)
        code, lines = client.ended()
    assert code == 0
    assert json.loads(lines[-1])["totals"]["tf_files"] == 2 * PER_STF


def test_stream_with_heart_beats_but_without_messages(experiment):
    with connected_client(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(sse_deaf_s=LONG_S)
        experiment.publish(2, 3, 4)
        lines = []
        while sum('"tf_file"' in line for line in lines) < 4 * PER_STF:
            lines.append(client.line())
        experiment.monitor.faults()
        experiment.send("end_run", total_stf_files=4)
        result = ClientResult(client)
    assert (result.run["tf_files"], result.run["backfilled"], result.code) == (4 * PER_STF, 3 * PER_STF, 0)
    assert (
        sum(json.loads(line).get("backfilled", False) is True for line in lines if '"tf_file"' in line) == 3 * PER_STF
    )
    assert "stream_dead" not in result.alarms()


def test_missed_end_of_run_is_found_in_the_table(experiment):
    with connected_client(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(sse_deaf_s=LONG_S)
        experiment.end_in_table()
        result = ClientResult(client)
    result.assert_matches(experiment)


def test_truncated_event(experiment):
    with connected_client(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(sse_cut_after=100)
        experiment.publish(2)
        client.wait_for_log("connected to", times=2)
        experiment.send("end_run", total_stf_files=2)
        result = ClientResult(client)
    result.assert_matches(experiment)
    assert result.run["backfilled"] > 0


def test_stream_that_drips_is_dropped(experiment):
    with connected_client(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(drip_ms=100, endpoints=["/api/messages/stream/"], down_s=0.1)
        client.wait_for_log("stream lost: no data for")
        experiment.publish(2)
        experiment.monitor.faults()
        client.wait_for_log("connected to", times=3)
        experiment.send("end_run", total_stf_files=2)
        result = ClientResult(client)
    result.assert_matches(experiment)


def test_burst_of_10_000_events():
    stfs = range(1, 101)
    with Experiment(per_stf=100) as experiment, connected_client(experiment) as client:
        experiment.register_stfs(*stfs)
        burst = [message for sequence in stfs for message in experiment.register_tfs(sequence)]
        experiment.monitor.call(lambda: [experiment.monitor.server.deliver(message) for message in burst])
        experiment.end_in_table()  # the monitor's queue per client has 100 places: it would drop the message
        result = ClientResult(client)
        result.assert_matches(experiment)
    assert result.run["tf_files"] == 10_000


def test_numbers_stay_unknown_while_the_tables_fail(experiment):
    experiment.monitor.faults(error_rate=1, endpoints=["/api/stf-files/", "/api/runs/"])
    with connected_client(experiment, end_timeout_s=1.0) as client:
        experiment.publish(1)
        experiment.send("end_run", total_stf_files=1)
        result = ClientResult(client)
    assert (result.run["verified"], result.run["stfs_missing"], result.code) == ("UNKNOWN", None, 5)
    assert "500" in result.run["doubt"]
    assert "monitor_unreachable" in result.alarms()


def test_fraction_of_a_tenth_reports_missing_but_not_skipped_stfs():
    with Experiment(fraction=0.1) as experiment, connected_client(experiment) as client:
        experiment.register_stfs(*(n for n in range(1, 51) if n not in (1, 11, 31, 41)))
        experiment.publish(1, 11, 31, 41)
        experiment.send("end_run", total_stf_files=50)
        result = ClientResult(client)
    assert (result.run["missing"], result.run["stfs_missing"]) == ([21], 1)
    assert (result.run["stfs_seen"], result.run["stfs_expected"], result.run["stfs_skipped"]) == (4, 5, 45)
    assert (result.code, "stfs_missing" in result.alarms()) == (5, True)


def test_stream_renewal_loses_and_repeats_nothing():
    renewed = {"recycle_s": 0.5, "overlap_s": 0.3, "min_age_s": 5.0, "end_grace_s": 5.0}
    with Experiment(per_stf=1) as experiment, connected_client(experiment, **renewed) as client:
        pause = threading.Event()
        for sequence in range(1, 31):
            experiment.publish(sequence)
            experiment.send("pause_run", number=sequence)
            pause.wait(0.1)
        experiment.send("end_run", total_stf_files=30)
        result = ClientResult(client)
        result.assert_matches(experiment)
        requests = experiment.monitor.counts()["requests"]
    pauses = [each["number"] for each in result.objects if each.get("msg_type") == "pause_run"]
    assert pauses == list(range(1, 31))
    assert (result.run["backfilled"], result.run["duplicates"], result.summary["connection"]["reconnects"]) == (0, 0, 0)
    assert requests["GET /api/messages/stream/"] > 3


def summary(experiment: Experiment, run: int) -> tuple[int, str]:
    """The exit code of `fastmon-client summary`, and what it prints."""
    words = ["summary", "--monitor-url", experiment.monitor.url, "--run", str(run), "--json"]
    result = CliRunner().invoke(cli, words, env={"SWF_API_TOKEN": TOKEN})
    return result.exit_code, result.stdout


@pytest.mark.parametrize("fraction", [1.0, 0.1])
def test_summary_is_read_from_the_tables(fraction):
    with Experiment(fraction=fraction) as experiment:
        experiment.register_stfs(2, 3)
        experiment.publish(1)
        code, text = summary(experiment, RUN)
    row = json.loads(text)
    assert (row["tf_files"], row["stfs_seen"], row["backfilled"], row["last_age_s"]) == (PER_STF, 1, 0, None)
    assert (code, row["missing"]) == ((5, [2, 3]) if fraction == 1 else (0, []))
    assert [cell["kind"] for cell in row["strip"]] == ["present", *["missing" if fraction == 1 else "skipped"] * 2]


def test_unknown_run_has_no_summary(experiment):
    code, output = summary(experiment, 5)
    assert (code, json.loads(output)) == (1, {"error": "monitor has no run 5", "exit_code": 1})

"""The client through every fault of the monitor: in the end its totals are the monitor's, nothing is shown twice."""

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


def watching(experiment: Experiment, *options: str, **intervals: float) -> Client:
    options = ("--json", "--until", "end_run", "--run-ids", str(RUN), "--fail-on-gaps", *options)
    client = Client(experiment.monitor.url, *options, **QUICK | intervals)
    client.wait_for_log("connected to")
    return client


class ClientResult:
    """What a client printed."""

    def __init__(self, client: Client) -> None:
        self.code, lines = client.ended()
        self.objects: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.tf_files = [each for each in self.objects if each["kind"] == "tf_file"]
        self.summary = self.objects[-1]
        self.run: dict[str, Any] = next(run for run in self.summary["runs"] if run["run"] == str(RUN))

    def alarms(self) -> set[str]:
        return {each["alarm"] for each in self.objects if each["kind"] == "alarm"}

    def assert_matches(self, experiment: Experiment) -> None:
        """Totals as the monitor counts, none shown twice, and known for sure."""
        names = Counter(each["tf_filename"] for each in self.tf_files)
        assert [name for name, times in names.items() if times > 1] == []
        assert len(self.tf_files) == self.summary["totals"]["tf_files"] == self.run["tf_files"]
        assert self.run["tf_files"] == experiment.monitor.counts()["fastmon_files"]
        assert (self.run["verified"], self.run["state"], self.run["missing"]) == ("VERIFIED", "complete", [])
        assert self.code == 0


def test_without_a_fault_nothing_is_backfilled(experiment):
    with watching(experiment) as client:
        experiment.send("start_run")
        experiment.publish(1, 2, 3)
        experiment.send("end_run", total_stf_files=3)
        seen = ClientResult(client)
    seen.assert_matches(experiment)
    assert (seen.run["backfilled"], seen.run["tf_expected"]) == (0, 3 * PER_STF)


def test_a_restart_of_the_monitor(experiment):
    with watching(experiment) as client:
        experiment.publish(1)
        experiment.monitor.stop()
        client.wait_for_log("stream lost")
        experiment.publish(2, 3)
        experiment.monitor.start()
        client.wait_for_log("connected to", times=2)
        experiment.publish(4)
        experiment.send("end_run", total_stf_files=4)
        seen = ClientResult(client)
    seen.assert_matches(experiment)
    assert seen.run["backfilled"] >= 2 * PER_STF
    assert "stream_dead" in seen.alarms()


def test_a_run_that_began_while_the_monitor_was_away(experiment):
    with watching(experiment, "--run-ids", str(RUN + 1)) as client:
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


def test_a_stream_that_is_deaf_while_its_heart_beats_go_on(experiment):
    with watching(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(sse_deaf_s=LONG_S)
        experiment.publish(2, 3, 4)
        lines = []
        while sum('"tf_file"' in line for line in lines) < 4 * PER_STF:
            lines.append(client.line())
        experiment.monitor.faults()
        experiment.send("end_run", total_stf_files=4)
        seen = ClientResult(client)
    assert (seen.run["tf_files"], seen.run["backfilled"], seen.code) == (4 * PER_STF, 3 * PER_STF, 0)
    assert (
        sum(json.loads(line).get("backfilled", False) is True for line in lines if '"tf_file"' in line) == 3 * PER_STF
    )
    assert "stream_dead" not in seen.alarms()


def test_the_end_of_a_run_that_the_stream_kept_back_is_found_in_the_table(experiment):
    with watching(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(sse_deaf_s=LONG_S)
        experiment.end_in_table()
        seen = ClientResult(client)
    seen.assert_matches(experiment)


def test_an_event_that_is_cut_off(experiment):
    with watching(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(sse_cut_after=100)
        experiment.publish(2)
        client.wait_for_log("connected to", times=2)
        experiment.send("end_run", total_stf_files=2)
        seen = ClientResult(client)
    seen.assert_matches(experiment)
    assert seen.run["backfilled"] > 0


def test_a_stream_that_drips_is_given_up(experiment):
    with watching(experiment) as client:
        experiment.publish(1)
        experiment.monitor.faults(drip_ms=100, endpoints=["/api/messages/stream/"], down_s=0.1)
        client.wait_for_log("stream lost: no data for")
        experiment.publish(2)
        experiment.monitor.faults()
        client.wait_for_log("connected to", times=3)
        experiment.send("end_run", total_stf_files=2)
        seen = ClientResult(client)
    seen.assert_matches(experiment)


def test_10_000_events_in_a_burst():
    stfs = range(1, 101)
    with Experiment(per_stf=100) as experiment, watching(experiment) as client:
        experiment.register_stfs(*stfs)
        burst = [message for sequence in stfs for message in experiment.register_tfs(sequence)]
        experiment.monitor.call(lambda: [experiment.monitor.server.deliver(message) for message in burst])
        experiment.end_in_table()  # a client has 100 places in the monitor: the message would be lost with the rest
        seen = ClientResult(client)
        seen.assert_matches(experiment)
    assert seen.run["tf_files"] == 10_000


def test_a_monitor_whose_tables_do_not_answer_leaves_the_numbers_unknown(experiment):
    experiment.monitor.faults(error_rate=1, endpoints=["/api/stf-files/", "/api/runs/"])
    with watching(experiment, end_timeout_s=1.0) as client:
        experiment.publish(1)
        experiment.send("end_run", total_stf_files=1)
        seen = ClientResult(client)
    assert (seen.run["verified"], seen.run["stfs_missing"], seen.code) == ("UNKNOWN", None, 5)
    assert "500" in seen.run["doubt"]
    assert "monitor_unreachable" in seen.alarms()


def test_at_a_tenth_nothing_skipped_is_missing_and_what_is_missing_is_shown():
    with Experiment(fraction=0.1) as experiment, watching(experiment) as client:
        experiment.register_stfs(*(n for n in range(1, 51) if n not in (1, 11, 31, 41)))
        experiment.publish(1, 11, 31, 41)
        experiment.send("end_run", total_stf_files=50)
        seen = ClientResult(client)
    assert (seen.run["missing"], seen.run["stfs_missing"]) == ([21], 1)
    assert (seen.run["stfs_seen"], seen.run["stfs_expected"], seen.run["stfs_skipped"]) == (4, 5, 45)
    assert (seen.code, "stfs_missing" in seen.alarms()) == (5, True)


def test_a_stream_is_renewed_and_nothing_is_lost_or_said_twice():
    renewed = {"recycle_s": 0.5, "overlap_s": 0.3, "min_age_s": 5.0, "end_grace_s": 5.0}
    with Experiment(per_stf=1) as experiment, watching(experiment, **renewed) as client:
        pause = threading.Event()
        for sequence in range(1, 31):
            experiment.publish(sequence)
            experiment.send("pause_run", number=sequence)
            pause.wait(0.1)
        experiment.send("end_run", total_stf_files=30)
        seen = ClientResult(client)
        seen.assert_matches(experiment)
    pauses = [each["number"] for each in seen.objects if each.get("msg_type") == "pause_run"]
    assert pauses == list(range(1, 31))
    assert (seen.run["backfilled"], seen.run["duplicates"], seen.summary["connection"]["reconnects"]) == (0, 0, 0)
    assert experiment.monitor.server.counted.requests["GET /api/messages/stream/"] > 3


def summary(experiment: Experiment, run: int) -> tuple[int, str]:
    """The exit code of `fastmon-client summary`, and what it prints."""
    words = ["summary", "--monitor-url", experiment.monitor.url, "--run", str(run), "--json"]
    result = CliRunner().invoke(cli, words, env={"SWF_API_TOKEN": TOKEN})
    return result.exit_code, result.stdout


@pytest.mark.parametrize("fraction", [1.0, 0.1])
def test_the_summary_of_a_run_comes_from_the_tables(fraction):
    with Experiment(fraction=fraction) as experiment:
        experiment.register_stfs(2, 3)
        experiment.publish(1)
        code, text = summary(experiment, RUN)
    row = json.loads(text)
    assert (row["tf_files"], row["stfs_seen"], row["backfilled"], row["last_age_s"]) == (PER_STF, 1, 0, None)
    assert (code, row["missing"]) == ((5, [2, 3]) if fraction == 1 else (0, []))
    assert [cell["kind"] for cell in row["strip"]] == ["present", *["missing" if fraction == 1 else "skipped"] * 2]


def test_a_run_that_the_monitor_does_not_have_has_no_summary(experiment):
    assert summary(experiment, 5) == (1, "")

"""The DAQ on the embedded testbed: order of messages and registrations, and behaviour under faults."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import PermanentError, TransientError
from fastmon_daemon.messages import STF_SEEN, RunEvent, StfReady, parse
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.daq import Daq, DaqProgress, DataAgent, RunPlan
from fastmon_daemon.testbed.testbed import TOPIC, TestbedOptions, TestbedThread
from tests.processes import live_testbed, wait_until

DEADLINE_S = 30.0
RECORDED = Path(__file__).parent.parent / "contract" / "messages"
READY_RECORDINGS = {
    DataAgent.EXAMPLE: "stf_ready.example_data_agent",
    DataAgent.REAL: "stf_ready.real_data_agent",
}


class RecordingTestbed:
    """A testbed that records the messages, and how many STFs were registered when each was sent."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.stf_counts: list[int] = []
        self.reaction: Callable[[], Any] = lambda: None
        """Called in the testbed's thread at each message."""
        self.testbed = TestbedThread(TestbedOptions(on_message=self._record))

    def _record(self, destination: str, body: str) -> None:
        assert destination == TOPIC
        self.messages.append(json.loads(body))
        self.stf_counts.append(len(self.registered()))
        self.reaction()

    def registered(self) -> set[str]:
        """The STFs that the monitor knows."""
        rows = self.testbed.testbed.monitor.store.tables["stf-files"].rows
        return {row["stf_filename"] for row in rows.values()}

    def settings(self, **more: str) -> Settings:
        return Settings.load(self.testbed.environment | more, working_folder=Path("/nowhere"), home=Path("/nowhere"))

    def daq(self, plan: RunPlan, **more: str) -> Daq:
        return Daq(self.settings(**more), plan, Clock(), threading.Event())

    def play(self, **plan: Any) -> DaqProgress:
        return self.daq(RunPlan(**{"stf": 4, "rate_hz": 100.0, **plan})).play()

    def rows(self, path: str) -> list[dict[str, Any]]:
        url = f"{self.testbed.environment['SWF_MONITOR_URL']}/api/{path}"
        rows: list[dict[str, Any]] = requests.get(url, timeout=DEADLINE_S).json()
        return rows

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["msg_type"] == kind]

    def of_ready(self) -> list[tuple[dict[str, Any], int]]:
        """Each ``stf_ready``, with the number of STFs that were registered when it was sent."""
        pairs = zip(self.messages, self.stf_counts, strict=True)
        return [(message, registered) for message, registered in pairs if message["msg_type"] == "stf_ready"]


@pytest.fixture
def recording() -> Iterator[RecordingTestbed]:
    recording = RecordingTestbed()
    with recording.testbed:
        yield recording


def fields_and_types(value: dict[str, Any]) -> list[tuple[str, type]]:
    return [(name, type(each)) for name, each in value.items()]


@pytest.mark.parametrize("agent", list(DataAgent))
def test_every_message_has_the_recorded_fields_in_the_recorded_order_and_types(recording, agent):
    recording.play(data_agent=agent)
    assert {message["msg_type"] for message in recording.messages} == {
        "run_imminent",
        "start_run",
        "stf_gen",
        "stf_ready",
        "pause_run",
        "resume_run",
        "end_run",
    }
    for message in recording.messages:
        name = READY_RECORDINGS[agent] if message["msg_type"] == "stf_ready" else message["msg_type"]
        recorded = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
        assert fields_and_types(message) == fields_and_types(recorded)
        for fixed in ("state", "substate", "reason"):
            assert message.get(fixed) == recorded.get(fixed)


def test_the_daemon_can_read_every_message_that_is_for_it(recording):
    recording.play()
    read = [parse(json.dumps(message), namespace="testbed") for message in recording.messages]
    assert sum(isinstance(message, StfReady) for message in read) == 4
    event = [message.kind for message in read if isinstance(message, RunEvent)]
    assert len(event) - event.count(STF_SEEN) == 5


def test_the_run_is_registered_and_ended_in_the_monitor(recording):
    played = recording.play()
    [run] = recording.rows("runs/")
    assert run["run_number"] == played.run == 100001
    assert run["end_time"] is not None
    names = [f"swf.100001.{sequence:06d}.stf" for sequence in (1, 2, 3, 4)]
    assert sorted(row["stf_filename"] for row in recording.rows("stf-files/")) == names
    assert [message["filename"] for message in recording.of_type("stf_gen")] == names
    assert recording.of_type("end_run")[0]["total_stf_files"] == 4
    assert (played.generated, played.registered, played.ready, played.messages) == (4, 4, 4, 13)


@pytest.mark.field("11")
def test_the_execution_is_registered_before_the_first_message_and_ended_after_the_last(recording):
    rows = recording.testbed.testbed.monitor.store.tables["workflow-executions"].rows
    seen = []
    recording.reaction = lambda: seen.append([row["status"] for row in rows.values()])
    recording.play()
    assert seen == [["running"]] * 13
    [execution] = recording.rows("workflow-executions/")
    assert {message.get("execution_id") for message in recording.of_type("stf_gen")} == {execution["execution_id"]}
    assert (execution["status"], execution["namespace"], execution["end_time"] is None) == (
        "completed",
        "testbed",
        False,
    )


@pytest.mark.field("11")
def test_the_execution_does_not_end_while_its_last_message_waits_for_the_broker(recording):
    monitor = recording.testbed.testbed.monitor
    rows = monitor.store.tables["workflow-executions"].rows
    seen = []

    def react() -> None:
        last = recording.messages[-1]
        seen.append((last["msg_type"], [row["status"] for row in rows.values()]))
        if seen.count(("stf_ready", ["running"])) == 4 and last["msg_type"] == "stf_ready":
            monitor.set_faults({"broker_down_s": 1.0})

    recording.reaction = react
    recording.play()
    assert seen[-1] == ("end_run", ["running"])
    assert [row["status"] for row in recording.rows("workflow-executions/")] == ["completed"]


@pytest.mark.field("11")
def test_an_existing_definition_is_used(recording):
    recording.play(run=7)
    recording.play(run=8)
    [definition] = recording.rows("workflow-definitions/")
    executions = recording.rows("workflow-executions/")
    assert [row["execution_id"] for row in executions] == ["stf_datataking-testbed-8", "stf_datataking-testbed-7"]
    assert {row["workflow_definition"] for row in executions} == {definition["id"]}


def test_pause_and_resume_come_in_the_middle_and_the_end_at_the_end(recording):
    recording.play()
    order = [message["msg_type"] for message in recording.messages if message["msg_type"] != "stf_ready"]
    gen = ["stf_gen"] * 2
    assert order == ["run_imminent", "start_run", *gen, "pause_run", "resume_run", *gen, "end_run"]
    assert recording.messages[-1]["msg_type"] == "end_run"


def test_the_example_data_agent_registers_an_stf_before_it_announces_it(recording):
    recording.play()
    registered_at = {m["sequence"]: registered for m, registered in recording.of_ready()}
    assert list(registered_at) == [1, 2, 3, 4]
    assert all(registered >= sequence for sequence, registered in registered_at.items())


def test_the_real_data_agent_sends_one_stf_ready_before_the_first_registration(recording):
    recording.play(data_agent=DataAgent.REAL)
    [(ready, registered)] = recording.of_ready()
    assert (ready["run_id"], registered) == (100001, 0)
    assert len(recording.rows("stf-files/")) == 4


def test_late_registration_follows_its_message(recording):
    recording.play(stf=3, late_s=0.3)
    registered = [registered for _, registered in recording.of_ready()]
    assert registered == [0, 0, 0]
    assert len(recording.rows("stf-files/")) == 3


def test_the_size_is_sent_and_registered(recording):
    recording.play(stf=1, size=1234)
    assert recording.of_type("stf_ready")[0]["size_bytes"] == 1234
    assert recording.rows("stf-files/")[0]["file_size_bytes"] == 1234


def test_an_existing_run_can_be_played_again(recording):
    recording.play(run=77, stf=2)
    recording.play(run=77, stf=3)
    assert len(recording.rows("runs/")) == 1
    assert len(recording.rows("stf-files/")) == 3


def test_messages_are_sent_while_the_monitor_is_down(recording):
    def go_down() -> None:
        """Only at the first message: a reaction to a later one could come after the monitor is up again."""
        recording.reaction = lambda: None
        recording.testbed.testbed.monitor.set_faults({"down_s": 600})

    recording.reaction = go_down
    with ThreadPoolExecutor(1) as pool:
        played = pool.submit(recording.play, run=5, rate_hz=5.0)
        try:
            recording.testbed.wait_until(lambda: sum(m["msg_type"] == "stf_gen" for m in recording.messages) == 4)
            assert not played.done()
            ready = {message["filename"] for message in recording.of_type("stf_ready")}
            registered = recording.registered()
            assert ready <= registered, "an STF may have been registered before the monitor went down"
            assert len(registered) < 4
        finally:
            recording.testbed.faults(down_s=0)
        played.result(DEADLINE_S)
    assert len(recording.of_type("stf_ready")) == 4
    assert len(recording.rows("stf-files/")) == 4


def test_everything_arrives_in_order_through_every_fault(recording):
    recording.testbed.faults(error_rate=0.3, drop_rate=0.3, broker_down_s=0.5)
    recording.play(stf=10)
    recording.testbed.faults()
    seen = list(dict.fromkeys((message["msg_type"], message.get("sequence")) for message in recording.messages))
    assert [sequence for kind, sequence in seen if kind == "stf_ready"] == list(range(1, 11))
    assert [sequence for kind, sequence in seen if kind == "stf_gen"] == list(range(1, 11))
    assert seen[-1][0] == "end_run"
    assert len(recording.rows("stf-files/")) == 10
    assert len(recording.rows("runs/")) == 1
    assert len(recording.rows("workflow-executions/")) == len(recording.rows("workflow-definitions/")) == 1


def test_a_wrong_token_ends_the_run_with_a_hint(recording):
    with pytest.raises(PermanentError, match="SWF_API_TOKEN"):
        recording.daq(RunPlan(stf=1, rate_hz=100, run=1), SWF_API_TOKEN="0" * 40).play()


def test_it_can_be_stopped_while_it_waits_for_the_monitor(recording):
    recording.testbed.faults(down_s=600)
    stopping = threading.Event()
    daq = Daq(recording.settings(), RunPlan(stf=1, rate_hz=100), Clock(), stopping)
    with ThreadPoolExecutor(1) as pool:
        played = pool.submit(daq.play)
        stopping.set()
        with pytest.raises(TransientError):
            played.result(DEADLINE_S)


def test_the_command_plays_and_ends_with_one_json_object(recording, tmp_path: Path):
    command = [sys.executable, "-m", "fastmon_daemon", "daq", "--stf", "3", "--rate", "50", "--run", "9", "--json"]
    environ = {**recording.testbed.environment, "FASTMON_NAMESPACE": "wrong", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, "--namespace", "torre1"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["run"], summary["registered"], summary["ready"]) == (9, 3, 3)
    assert {message["namespace"] for message in recording.messages} == {"torre1"}


@pytest.mark.field("19")
def test_a_monitor_without_tls_is_told_with_its_remedy(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed:
        testbed.start("daq", "--stf", "1", SWF_MONITOR_URL=testbed.monitor.url.replace("http:", "https:"))
        wait_until(lambda: "write http:// in SWF_MONITOR_URL" in testbed.log(), "the remedy is told")

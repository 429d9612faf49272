"""The DAQ against the embedded world: the order of things, and its patience with faults."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import PermanentError, TransientError
from fastmon_daemon.messages import STF_HEARD, RunEvent, StfReady, parse
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.daq import Daq, DataAgent, Played, RunPlan
from fastmon_daemon.testbed.testbed import TOPIC, TestbedOptions, TestbedThread

DEADLINE_S = 30.0
RECORDED = Path(__file__).parent.parent / "contract" / "messages"
FORMS = {
    DataAgent.EXAMPLE: "stf_ready.example_data_agent",
    DataAgent.REAL: "stf_ready.real_data_agent",
}


class Place:
    """A world and all that was said in it: messages, and STFs known to the monitor when each was said."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.known: list[int] = []
        self.world = TestbedThread(TestbedOptions(overheard=self._hear))

    def _hear(self, destination: str, body: str) -> None:
        assert destination == TOPIC
        self.said.append(json.loads(body))
        self.known.append(len(self.world.world.monitor.store.tables["stf-files"].rows))

    def settings(self, **more: str) -> Settings:
        return Settings.load(self.world.environment | more, working_folder=Path("/nowhere"), home=Path("/nowhere"))

    def daq(self, plan: RunPlan, **more: str) -> Daq:
        return Daq(self.settings(**more), plan, Clock(), threading.Event())

    def play(self, **plan: Any) -> Played:
        return self.daq(RunPlan(**{"stf": 4, "rate_hz": 100.0, **plan})).play()

    def rows(self, path: str) -> list[dict[str, Any]]:
        url = f"{self.world.environment['SWF_MONITOR_URL']}/api/{path}"
        rows: list[dict[str, Any]] = requests.get(url, timeout=DEADLINE_S).json()
        return rows

    def said_of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.said if message["msg_type"] == kind]


@pytest.fixture
def place() -> Iterator[Place]:
    it = Place()
    with it.world:
        yield it


def kinds(value: dict[str, Any]) -> list[tuple[str, type]]:
    return [(name, type(each)) for name, each in value.items()]


@pytest.mark.parametrize("agent", list(DataAgent))
def test_every_message_has_the_recorded_fields_in_the_recorded_order_and_types(place, agent):
    place.play(data_agent=agent)
    assert {message["msg_type"] for message in place.said} == {
        "run_imminent",
        "start_run",
        "stf_gen",
        "stf_ready",
        "pause_run",
        "resume_run",
        "end_run",
    }
    for message in place.said:
        name = FORMS[agent] if message["msg_type"] == "stf_ready" else message["msg_type"]
        recorded = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
        assert kinds(message) == kinds(recorded)
        for fixed in ("state", "substate", "reason"):
            assert message.get(fixed) == recorded.get(fixed)


def test_the_daemon_can_read_every_message_that_is_for_it(place):
    place.play()
    read = [parse(json.dumps(message), namespace="testbed") for message in place.said]
    assert sum(isinstance(message, StfReady) for message in read) == 4
    event = [message.kind for message in read if isinstance(message, RunEvent)]
    assert len(event) - event.count(STF_HEARD) == 5


def test_the_run_stands_in_the_monitor_from_its_start_to_its_end(place):
    played = place.play()
    [run] = place.rows("runs/")
    assert run["run_number"] == played.run == 100001
    assert run["end_time"] is not None
    names = [f"swf.100001.{sequence:06d}.stf" for sequence in (1, 2, 3, 4)]
    assert sorted(row["stf_filename"] for row in place.rows("stf-files/")) == names
    assert [message["filename"] for message in place.said_of("stf_gen")] == names
    assert place.said_of("end_run")[0]["total_stf_files"] == 4
    assert (played.generated, played.registered, played.ready, played.messages) == (4, 4, 4, 13)


def test_pause_and_resume_come_in_the_middle_and_the_end_at_the_end(place):
    place.play()
    order = [message["msg_type"] for message in place.said if message["msg_type"] != "stf_ready"]
    gen = ["stf_gen"] * 2
    assert order == ["run_imminent", "start_run", *gen, "pause_run", "resume_run", *gen, "end_run"]
    assert place.said[-1]["msg_type"] == "end_run"


def test_the_example_data_agent_registers_an_stf_before_it_says_so(place):
    place.play()
    known_at = {m["sequence"]: n for m, n in zip(place.said, place.known, strict=True) if m["msg_type"] == "stf_ready"}
    assert list(known_at) == [1, 2, 3, 4]
    assert all(known >= sequence for sequence, known in known_at.items())


def test_the_real_data_agent_speaks_once_before_the_first_registration(place):
    place.play(data_agent=DataAgent.REAL)
    [ready] = place.said_of("stf_ready")
    assert ready["run_id"] == 100001
    assert place.known[place.said.index(ready)] == 0
    assert len(place.rows("stf-files/")) == 4


def test_late_registration_follows_its_message(place):
    place.play(stf=3, late_s=0.3)
    known = [n for m, n in zip(place.said, place.known, strict=True) if m["msg_type"] == "stf_ready"]
    assert known == [0, 0, 0]
    assert len(place.rows("stf-files/")) == 3


def test_a_size_is_told_and_registered(place):
    place.play(stf=1, size=1234)
    assert place.said_of("stf_ready")[0]["size_bytes"] == 1234
    assert place.rows("stf-files/")[0]["file_size_bytes"] == 1234


def test_a_run_that_is_there_already_is_played_again(place):
    place.play(run=77, stf=2)
    place.play(run=77, stf=3)
    assert len(place.rows("runs/")) == 1
    assert len(place.rows("stf-files/")) == 3


def test_messages_go_on_while_the_monitor_is_away(place):
    place.world.faults(down_s=600)
    with ThreadPoolExecutor(1) as pool:
        played = pool.submit(place.play, run=5)
        place.world.wait_until(lambda: sum(m["msg_type"] == "stf_gen" for m in place.said) == 4)
        assert not played.done()
        assert place.said_of("stf_ready") == []
        place.world.faults(down_s=0)
        played.result(DEADLINE_S)
    assert len(place.said_of("stf_ready")) == 4
    assert len(place.rows("stf-files/")) == 4


def test_everything_arrives_in_order_through_every_fault(place):
    place.world.faults(error_rate=0.3, drop_rate=0.3, broker_down_s=0.5)
    place.play(stf=10)
    place.world.faults()
    seen = list(dict.fromkeys((message["msg_type"], message.get("sequence")) for message in place.said))
    assert [sequence for kind, sequence in seen if kind == "stf_ready"] == list(range(1, 11))
    assert [sequence for kind, sequence in seen if kind == "stf_gen"] == list(range(1, 11))
    assert seen[-1][0] == "end_run"
    assert len(place.rows("stf-files/")) == 10
    assert len(place.rows("runs/")) == 1


def test_a_wrong_token_ends_the_run_with_advice(place):
    with pytest.raises(PermanentError, match="SWF_API_TOKEN"):
        place.daq(RunPlan(stf=1, rate_hz=100, run=1), SWF_API_TOKEN="0" * 40).play()


def test_it_can_be_stopped_while_it_waits_for_a_monitor(place):
    place.world.faults(down_s=600)
    stopping = threading.Event()
    daq = Daq(place.settings(), RunPlan(stf=1, rate_hz=100), Clock(), stopping)
    with ThreadPoolExecutor(1) as pool:
        played = pool.submit(daq.play)
        stopping.set()
        with pytest.raises(TransientError):
            played.result(DEADLINE_S)


def test_the_command_plays_and_ends_with_one_json_object(place, tmp_path: Path):
    command = [sys.executable, "-m", "fastmon_daemon", "daq", "--stf", "3", "--rate", "50", "--run", "9", "--json"]
    environ = {**place.world.environment, "FASTMON_NAMESPACE": "wrong", "HOME": str(tmp_path)}
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
    assert {message["namespace"] for message in place.said} == {"torre1"}

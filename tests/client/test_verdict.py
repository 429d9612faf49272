"""The verdict: who is named, since when, and what to do. Pure facts in, one answer out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastmon_client.agents import Agents
from fastmon_client.intervals import Intervals
from fastmon_client.verdict import Facts, TablesStatus, judge
from tests.client.snapshots import run
from tests.client.state_driver import T0, StateDriver

AT = datetime(2026, 11, 21, 20, 57, tzinfo=UTC)
WHOLE = {"stfs_missing": 0, "stfs_incomplete": 0, "missing": []}


def ago(seconds: float) -> str:
    return (AT - timedelta(seconds=seconds)).isoformat()


def daemon(**changes: Any) -> dict[str, Any]:
    return {
        "name": "fastmon-agent-a-1", "namespace": "epic", "host": "daq7", "state": "good", "status": "OK", "backlog": 0,
        "heartbeat_at": ago(5), "heartbeat_age_s": 5.0, "since": None, "text": "all well", **changes,
    }  # fmt: skip


def silent(**changes: Any) -> dict[str, Any]:
    return daemon(**{"state": "bad", "status": "SILENT", "since": ago(70), "text": "is silent", **changes})


def connection(state: str = "LIVE", reason: str = "") -> dict[str, Any]:
    return {"state": state, "since": ago(100), "heartbeat_age_s": 1.0, "reconnects": 0, "reason": reason}


def whole_run(name: str = "100014", **changes: Any) -> dict[str, Any]:
    return run(name, **{**WHOLE, "last_at": ago(2), "stf_registered_at": ago(2), **changes})


def stopped_run(name: str = "100014", **changes: Any) -> dict[str, Any]:
    return whole_run(
        name, **{"last_at": ago(80), "stf_registered_at": ago(300), "rate_hz": 0.0, "stale": True, **changes}
    )


def facts(**changes: Any) -> Facts:
    found = Facts(
        at=AT, stale_after=timedelta(seconds=60), connection=connection(), tables=TablesStatus(read_at=AT),
        runs=[whole_run()], daemons=[daemon()], agents_are_known=True,
    )  # fmt: skip
    return replace(found, **changes)


FAILED = TablesStatus(read_at=AT, failure="monitor answered 500 to /api/runs/", since=AT)


@pytest.mark.parametrize(
    ("changes", "word", "reason", "remedy"),
    [
        ({}, "FLOWING", "11.6 TF files/s", ""),
        ({"daemons": [silent()], "runs": [whole_run(last_at=ago(72))]}, "NOT FLOWING",
         "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon"),
        ({"daemons": [daemon(state="bad", status="EXITED", since=ago(3), text="has stopped")]}, "NOT FLOWING",
         "fastmon-agent-a-1 on daq7 has stopped", "on daq7: systemctl start fastmon-daemon"),
        ({"daemons": [silent()], "runs": [whole_run()]}, "DEGRADED", "is silent", "on daq7: systemctl status"),
        ({"daemons": [daemon(name="b"), silent()]}, "DEGRADED", "fastmon-agent-a-1 on daq7 is silent", "systemctl"),
        ({"daemons": []}, "DEGRADED", "no daemon reports", "start fastmon-daemon"),
        ({"daemons": [], "runs": [stopped_run()]}, "NOT FLOWING", "no daemon reports", "start fastmon-daemon"),
        ({"daemons": [daemon(state="bad", status="ERROR", text="monitor blocked: 403")], "runs": [stopped_run()]},
         "NOT FLOWING", "monitor blocked: 403", "on daq7: fastmon-daemon inspect"),
        ({"daemons": [daemon(state="warning", status="WARNING", text="monitor down")]}, "DEGRADED", "monitor down",
         "fastmon-daemon inspect"),
        ({"runs": [stopped_run(stf_registered_at=ago(60))]}, "NOT FLOWING", "STFs of run 100014 are registered",
         "on daq7: fastmon-daemon inspect"),
        ({"runs": [stopped_run(stf_generated_at=ago(2))]}, "NOT FLOWING", "the data agent registers none",
         "data agent"),
        ({"runs": [stopped_run()], "silent_data_agents": {"epic": "data-agent-1 on daq3"}}, "NOT FLOWING",
         "the data agent data-agent-1 on daq3 is silent", "restart it"),
        ({"runs": [stopped_run(stf_generated_at=ago(90))]}, "NOT FLOWING", "the DAQ is silent", "DAQ's shifter"),
        ({"runs": [stopped_run()], "silent_daqs": {"epic": "daqsim-1 on daq1"}}, "NOT FLOWING",
         "the DAQ's agent daqsim-1 on daq1 is silent", "DAQ's shifter"),
        ({"runs": [stopped_run()]}, "NOT FLOWING", "the DAQ or the data agent is silent", "DAQ's shifter"),
        ({"runs": [run(last_at=ago(2))]}, "DEGRADED", "TF files of 4 STFs of run 100014 are missing",
         "on daq7: fastmon-daemon verdict 100014"),
        ({"connection": connection("DEAD", "reset")}, "DEGRADED", "the stream is lost (reset)", "status"),
        ({"tables": FAILED}, "DEGRADED", "monitor answered 500", "fastmon-client status"),
        ({"tables": FAILED, "connection": connection("DEAD", "connection refused"), "agents_are_known": False},
         "UNKNOWN", "monitor does not answer: connection refused", "fastmon-client status"),
        ({"tables": TablesStatus(), "connection": connection("CONNECTING")}, "UNKNOWN", "connecting", ""),
        ({"connection": connection("REFUSED", "monitor rejected the token (401)"), "tables": FAILED}, "UNKNOWN",
         "REFUSED: monitor rejected the token (401)", "fastmon-client status"),
        ({"agents_are_known": False}, "UNKNOWN", "whether a daemon lives is unknown", ""),
        ({"runs": [whole_run(verified="UNKNOWN", doubt="not compared yet")]}, "UNKNOWN", "not compared yet", ""),
        ({"runs": [whole_run(tf_files=0, last_at=None)]}, "UNKNOWN", "no TF file yet", ""),
        ({"warnings": ["0.1 TF files/s, usually 9"]}, "DEGRADED", "usually 9", "alarm"),
    ],
)  # fmt: skip
def test_the_verdict_names_the_cause_and_the_remedy(changes: Any, word: str, reason: str, remedy: str) -> None:
    verdict, tiles = judge(facts(**changes))
    assert (verdict["word"], reason in verdict["reason"], remedy in verdict["remedy"]) == (word, True, True), verdict
    states = {tile["state"] for tile in tiles.values()}
    assert (verdict["word"] == "FLOWING") == (states == {"good"})
    assert all(tile["text"] for tile in tiles.values())


def test_without_a_run_nothing_flows_in_the_colour_of_the_other_tiles() -> None:
    ended = whole_run(state="complete", ended_at=ago(600))
    verdict, tiles = judge(facts(runs=[ended]))
    assert (verdict["word"], verdict["state"], verdict["since"]) == ("NOT FLOWING", "unknown", ago(600))
    assert (verdict["remedy"], tiles["flow"]["state"], tiles["missing"]["state"]) == ("", "unknown", "good")
    verdict, _ = judge(facts(runs=[ended], daemons=[daemon(state="bad", status="ERROR", text="broker blocked")]))
    assert (verdict["word"], verdict["state"]) == ("NOT FLOWING", "bad")
    assert "broker blocked" in verdict["reason"]


def test_one_of_two_runs_that_stops_degrades() -> None:
    verdict, tiles = judge(facts(runs=[whole_run("2"), stopped_run("1")]))
    assert (verdict["word"], tiles["flow"]["state"]) == ("DEGRADED", "bad")


def test_missing_stfs_of_a_run_count_for_a_shift_after_its_end() -> None:
    for hours, count in ((7, 4), (9, 0)):
        ended = run("1", state="ended", ended_at=ago(hours * 3600))
        assert judge(facts(runs=[whole_run("2"), ended]))[1]["missing"]["count"] == count


@pytest.mark.parametrize(
    "changes", [{"stfs_missing": 4}, {"verified": "UNKNOWN", "doubt": "not compared yet"}], ids=["missing", "doubtful"]
)
def test_of_several_runs_the_newest_is_named(changes: Any) -> None:
    tile = judge(facts(runs=[whole_run("3"), whole_run("2", **changes), whole_run("1", **changes)]))[1]["missing"]
    assert tile["run"] == "2"


# The daemons, by the table of agents


def agent_row(name: str = "fastmon-agent-a-1", heartbeat_s: float = 0, **changes: Any) -> dict[str, Any]:
    return {
        "instance_name": name, "agent_type": "fastmon", "namespace": "ns", "hostname": "daq7", "status": "OK",
        "operational_state": "READY", "last_heartbeat": (T0 + timedelta(seconds=heartbeat_s)).isoformat(),
        "description": "all well. Fast monitoring agent 1.0. MQ: connected.", "current_stf_count": 3, **changes,
    }  # fmt: skip


def driver_with_a_run(*rows: dict[str, Any]) -> StateDriver:
    driver = StateDriver()
    driver.send_run_event("start_run")
    driver.tf(1, processed_by="fastmon-agent-a-1")
    driver.state.record_agents(rows or [agent_row()], driver.now, driver.now)
    return driver


def poll(driver: StateDriver, *rows: dict[str, Any], seconds: float = 0) -> Any:
    driver.wait(seconds)
    driver.state.receive_heartbeat(driver.now)
    driver.state.record_agents(rows, driver.now, driver.now)
    return driver.state.snapshot(driver.now)


def test_a_daemon_without_heartbeats_is_named_within_90_s_since_its_last_one() -> None:
    driver = driver_with_a_run()
    assert poll(driver, agent_row(), seconds=45)["tiles"]["daemon"]["state"] == "good"
    found = poll(driver, agent_row(), seconds=30)  # killed right after its heart-beat, polled every 15 s
    assert found["verdict"]["word"] == "NOT FLOWING"
    assert found["verdict"]["since"] == T0.isoformat()
    assert found["verdict"]["reason"] == "fastmon-agent-a-1 on daq7 is silent"
    assert "daemon_silent" in driver.alarms()
    found = poll(driver, agent_row(heartbeat_s=80), seconds=10)
    assert found["tiles"]["daemon"]["state"] == "good"
    assert "daemon_silent" not in driver.alarms()


def test_a_daemon_that_the_monitor_gave_up_is_still_silent_not_stopped() -> None:
    driver = driver_with_a_run()
    poll(driver, agent_row(), seconds=75)
    given_up = agent_row(status="EXITED", operational_state="EXITED")
    assert poll(driver, given_up, seconds=120)["tiles"]["daemon"]["agents"][0]["text"] == "is silent"


def test_a_daemon_that_stops_during_a_run_is_named_at_once() -> None:
    driver = driver_with_a_run()
    driver.wait(1)
    driver.receive(msg_type="fastmon_status", processed_by="fastmon-agent-a-1", namespace="ns", status="stopped")
    verdict = driver.state.snapshot(driver.now)["verdict"]
    assert (verdict["word"], verdict["since"]) == ("NOT FLOWING", driver.now.isoformat())
    assert (verdict["reason"], verdict["remedy"]) == (
        "fastmon-agent-a-1 on daq7 has stopped", "on daq7: systemctl start fastmon-daemon",
    )  # fmt: skip
    driver.receive(msg_type="fastmon_status", processed_by="fastmon-agent-a-1", namespace="ns", status="started")
    assert driver.state.snapshot(driver.now)["tiles"]["daemon"]["state"] == "good"


def test_announcements_are_a_sign_of_life_when_heartbeats_do_not_arrive() -> None:
    driver = driver_with_a_run()
    driver.wait(70)
    driver.tf(2, processed_by="fastmon-agent-a-1")
    assert poll(driver, agent_row())["tiles"]["daemon"]["state"] == "good"


def test_a_monitor_that_does_not_answer_kills_no_daemon() -> None:
    driver = driver_with_a_run()
    driver.wait(70)
    driver.state.receive_heartbeat(driver.now)
    driver.state.record_runs_query("monitor answered 500 to /api/systemagents/", driver.now)
    tile = driver.state.snapshot(driver.now)["tiles"]["daemon"]
    assert (tile["state"], tile["agents"][0]["state"]) == ("unknown", "unknown")


def test_only_the_daemons_of_the_namespaces_shown_count() -> None:
    other = agent_row("fastmon-agent-b-2", heartbeat_s=-3600, namespace="other")
    driver = driver_with_a_run(agent_row(), other)
    agents = driver.state.snapshot(driver.now)["tiles"]["daemon"]["agents"]
    assert [agent["name"] for agent in agents] == ["fastmon-agent-a-1"]
    filtered = StateDriver(namespace="other")
    filtered.state.record_agents([agent_row(), other], T0, T0)
    [agent] = filtered.state.snapshot(T0)["tiles"]["daemon"]["agents"]
    assert (agent["name"], agent["text"], agent["since"]) == (
        "fastmon-agent-b-2", "is silent", (T0 - timedelta(hours=1)).isoformat(),
    )  # fmt: skip


def test_an_old_agent_that_was_replaced_before_is_not_named() -> None:
    driver = driver_with_a_run(agent_row(), agent_row("fastmon-agent-a-0", heartbeat_s=-9000, status="EXITED"))
    assert driver.state.snapshot(driver.now)["tiles"]["daemon"]["state"] == "good"


def test_one_of_two_daemons_that_dies_is_named_beside_the_live_one() -> None:
    rows = [agent_row(), agent_row("fastmon-agent-b-2")]
    driver = driver_with_a_run(*rows)
    found = poll(driver, rows[0], agent_row("fastmon-agent-b-2", heartbeat_s=65), seconds=70)
    assert [each["state"] for each in found["tiles"]["daemon"]["agents"]] == ["good", "bad"]


def test_another_clock_of_the_monitor_makes_no_daemon_silent() -> None:
    agents = Agents(Intervals())
    slow = T0 - timedelta(minutes=5)
    agents.record_rows([agent_row(heartbeat_s=-300)], slow, T0)
    [agent] = agents.daemons(None)
    assert agents.row(agent, T0)["state"] == "good"


@pytest.mark.parametrize("strange", [None, 5, [], {}, "", "\x00", 10**400])
def test_any_value_in_a_row_of_an_agent_is_survived(strange: Any) -> None:
    driver = driver_with_a_run()
    for key in agent_row():
        driver.state.record_agents([agent_row() | {key: strange}, {}], driver.now, driver.now)
        driver.alarms()
    driver.receive(msg_type="fastmon_status", processed_by=strange, status=strange)
    driver.alarms()


def test_the_verdict_keeps_the_time_of_its_word() -> None:
    driver = driver_with_a_run()
    driver.tf(1, 2, processed_by="fastmon-agent-a-1")
    driver.compare([1], {1: 2})
    driver.alarms()
    flowing = driver.state.snapshot(driver.now)["verdict"]
    driver.wait(5)
    later = driver.state.snapshot(driver.now)["verdict"]
    assert (flowing["word"], flowing["since"], later["since"]) == ("FLOWING", T0.isoformat(), T0.isoformat())


def stopped_flow(*, generated: bool, registered: bool, **agents: Any) -> dict[str, Any]:
    """The verdict 70 s after the last TF file of a run, while the daemon lives."""
    driver = driver_with_a_run()
    driver.tf(1, 2, processed_by="fastmon-agent-a-1")
    driver.receive(msg_type="stf_gen", run_id=7, namespace="ns")
    driver.wait(70)
    driver.compare([1, 2] if registered else [1], {1: 2}, since=driver.now if registered else T0)
    if generated:
        driver.receive(msg_type="stf_gen", run_id=7, namespace="ns")
    others = [agent_row(kind, heartbeat, agent_type=kind) for kind, heartbeat in agents.items()]
    return dict(poll(driver, agent_row(heartbeat_s=65), *others)["verdict"])


@pytest.mark.parametrize(
    ("signs", "reason"),
    [
        ({"generated": True, "registered": True}, "STFs of run 7 are registered, but TF files are not made of them"),
        ({"generated": True, "registered": False}, "the DAQ makes STFs of run 7, but the data agent registers none"),
        ({"generated": True, "registered": False, "data": 0}, "the data agent data on daq7 is silent"),
        ({"generated": False, "registered": False, "data": 65}, "the DAQ is silent: it makes no STFs of run 7"),
        (
            {"generated": False, "registered": False, "data": 65, "daqsim": 0},
            "the DAQ's agent daqsim on daq7 is silent",
        ),
    ],
)
def test_the_silence_of_each_is_told_apart(signs: dict[str, Any], reason: str) -> None:
    verdict = stopped_flow(**signs)
    assert (verdict["word"], verdict["reason"], verdict["since"]) == ("NOT FLOWING", reason, T0.isoformat())

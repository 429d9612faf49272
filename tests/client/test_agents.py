"""The agents of the monitor's table, at the edges of their rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from fastmon_client import agents as module
from fastmon_client.agents import Agents
from fastmon_client.intervals import Intervals
from tests.client.state_driver import T0


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def agent_row(name: str = "a", heartbeat_s: float = 0, **changes: Any) -> dict[str, Any]:
    return {
        "instance_name": name, "agent_type": "FastMon", "namespace": "ns", "hostname": "daq7", "status": "OK",
        "operational_state": "READY", "last_heartbeat": after(heartbeat_s).isoformat(),
        "description": "all well. Fast monitoring agent 1.0. MQ: connected.", "current_stf_count": 3,
        "total_stf_processed": 0, **changes,
    }  # fmt: skip


def known(*rows: dict[str, Any], at: float = 0, monitor_s: float | None = None) -> Agents:
    agents = Agents(Intervals())
    agents.record_rows(rows, None if monitor_s is None else after(monitor_s), after(at))
    return agents


def shown(agents: Agents, at: float = 0, namespaces: frozenset[str] | None = None) -> list[dict[str, Any]]:
    return [dict(agents.row(agent, after(at))) for agent in agents.daemons(namespaces)]


def one(agents: Agents, at: float = 0) -> dict[str, Any]:
    [found] = shown(agents, at)
    return found


def test_every_field_of_a_row() -> None:
    assert one(known(agent_row(), at=5), at=7) == {
        "name": "a", "namespace": "ns", "host": "daq7", "state": "good", "status": "OK", "backlog": 3, "completed": 0,
        "heartbeat_at": T0.isoformat(), "heartbeat_age_s": 7.0, "since": None, "text": "all well",
    }  # fmt: skip
    assert one(known(agent_row(hostname="", namespace=5, description=None, current_stf_count=-1,
                               total_stf_processed=True, status="a status that is too long"), at=61), at=61) == {
        "name": "a", "namespace": None, "host": None, "state": "bad", "status": "SILENT", "backlog": None,
        "completed": None, "heartbeat_at": T0.isoformat(), "heartbeat_age_s": 61.0, "since": T0.isoformat(),
        "text": "is silent",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "state", "status", "text"),
    [
        ({"status": "WARNING"}, "warning", "WARNING", "all well"), ({"status": "ERROR"}, "bad", "ERROR", "all well"),
        ({"status": "a status that is too long"}, "warning", "a status that is too", "all well"),
        ({"description": ""}, "good", "OK", "lives"), ({"description": None}, "good", "OK", "lives"),
        ({"description": "x" * 400}, "good", "OK", "x" * 300),
        ({"status": "EXITED"}, "bad", "EXITED", "has stopped"),
        ({"operational_state": "EXITED"}, "bad", "EXITED", "has stopped"),
    ],
)  # fmt: skip
def test_what_a_daemon_says_of_itself(changes: dict[str, Any], state: str, status: str, text: str) -> None:
    found = one(known(agent_row(**changes)))
    assert (found["state"], found["status"], found["text"]) == (state, status, text)


@pytest.mark.parametrize(("age_s", "state"), [(60, "good"), (60.001, "bad")])
def test_a_daemon_is_silent_after_a_minute(age_s: float, state: str) -> None:
    assert one(known(agent_row(), at=age_s), at=age_s)["state"] == state


@pytest.mark.parametrize(("age_s", "state"), [(60, "good"), (60.001, "unknown")])
def test_a_table_of_more_than_a_minute_ago_says_nothing(age_s: float, state: str) -> None:
    agents = known(agent_row())
    assert (one(agents, at=age_s)["state"], agents.is_outdated(after(age_s))) == (state, state == "unknown")
    assert Agents(Intervals()).is_outdated(T0)


@pytest.mark.parametrize(("monitor_s", "shift_s"), [(1.999, 0), (2, -2), (-1.999, 0), (-2, 2), (-300, 300)])
def test_heartbeats_are_by_our_clock_if_that_of_the_monitor_differs(monitor_s: float, shift_s: float) -> None:
    assert one(known(agent_row(), monitor_s=monitor_s))["heartbeat_at"] == after(shift_s).isoformat()


def test_a_message_counts_until_a_newer_heartbeat() -> None:
    agents = known(agent_row())
    agents.record_status({"processed_by": "a", "status": "degraded", "message": "monitor down"}, after(10))
    assert [one(agents, 10)[name] for name in ("state", "status", "text")] == ["warning", "WARNING", "monitor down"]
    agents.record_rows([agent_row(heartbeat_s=9)], None, after(12))
    assert one(agents, 12)["status"] == "WARNING"
    agents.record_rows([agent_row(heartbeat_s=10)], None, after(12))
    assert one(agents, 12)["status"] == "OK"
    agents.record_status({"sender": "a", "status": "stopping"}, after(13))
    assert [one(agents, 13)[name] for name in ("status", "text", "since")] == [
        "EXITED", "has stopped", after(13).isoformat(),
    ]  # fmt: skip
    agents.record_status({"processed_by": "a", "status": "recovered", "message": ""}, after(14))
    assert [one(agents, 14)[name] for name in ("state", "text")] == ["good", "recovered"]


def test_a_daemon_that_only_a_message_named_is_not_listed() -> None:
    agents = known()
    agents.record_status({"processed_by": "a", "status": "ok", "namespace": "ns"}, T0)
    agents.record_status({"processed_by": 5, "status": "ok"}, T0)
    agents.record_status({"processed_by": "b", "status": "stopped", "namespace": 5}, after(-1))
    assert (agents.is_listed("a"), agents.is_listed("c")) == (False, False)
    found = one(agents)
    assert [found[name] for name in ("name", "namespace", "host", "status", "backlog", "completed", "text")] == [
        "a", "ns", None, "OK", None, None, "ok",
    ]  # fmt: skip
    agents.record_rows([agent_row()], None, T0)
    assert agents.is_listed("a")


def test_an_announcement_is_a_sign_of_life_from_the_next_table_on() -> None:
    agents = known(agent_row())
    agents.record_sign("a", after(50))
    agents.record_sign(None, after(50))
    agents.record_rows([agent_row()], None, after(110))
    assert (one(agents, 110)["state"], one(agents, 110)["heartbeat_age_s"]) == ("good", 110.0)
    agents.record_rows([agent_row()], None, after(110.001))
    assert one(agents, 110.001)["since"] == after(50).isoformat()


@pytest.mark.parametrize(("age_s", "text"), [(60, "has stopped"), (60.001, "is silent")])
def test_the_monitor_gives_up_only_who_was_silent(age_s: float, text: str) -> None:
    agents = known(agent_row())
    agents.record_rows([agent_row(status="EXITED")], None, after(age_s))
    assert one(agents, age_s)["text"] == text


@pytest.mark.parametrize(("lost_s", "names"), [(600, ["live"]), (599.999, ["live", "lost"])])
def test_a_lost_daemon_is_named_for_ten_minutes_beside_a_live_one(lost_s: float, names: list[str]) -> None:
    agents = known(agent_row("lost"), agent_row("live"))
    at = after(lost_s)
    agents.record_rows([agent_row("lost"), agent_row("live", lost_s)], None, at)
    assert [each["name"] for each in shown(agents, lost_s)] == names
    exited = agent_row("lost", operational_state="EXITED")
    agents = known(exited, agent_row("live"))
    assert [each["name"] for each in shown(agents)] == ["live"]


def test_of_a_namespace_without_a_live_daemon_the_last_one_matters() -> None:
    rows = [agent_row("old", -900), agent_row("last", -800), agent_row("other", namespace="b"),
            agent_row("data", agent_type="data")]  # fmt: skip
    agents = known(*rows)
    assert [each["name"] for each in shown(agents, namespaces=frozenset(["ns", "b"]))] == ["other", "last"]
    assert [each["name"] for each in shown(agents)] == ["other"]
    assert [each["name"] for each in shown(known(*rows[:2]))] == ["last"]
    assert shown(agents, namespaces=frozenset(["none"])) == []


def test_who_of_a_kind_is_silent() -> None:
    rows = [agent_row("d1", -900, agent_type="data"), agent_row("d2", -800, agent_type="DATA")]
    found = known(*rows).silent(("data",), "ns")
    assert found is not None
    assert found.where == "d2 on daq7"
    assert known(*rows).silent(("data",), "other") is None
    assert known(*rows).silent(("daqsim",), "ns") is None
    assert known(*rows, agent_row("d3", agent_type="data")).silent(("data",), "ns") is None
    nowhere = known(agent_row("d1", -900, hostname=None)).silent(("fastmon",), "ns")
    assert nowhere is not None
    assert nowhere.where == "d1"


def test_as_many_agents_are_known_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AGENTS", 2)
    agents = known(*(agent_row(name) for name in "abc"))
    assert [agents.is_listed(name) for name in "abc"] == [True, True, False]
    agents.record_status({"processed_by": "c", "status": "ok"}, T0)
    assert [each["name"] for each in shown(agents)] == ["a", "b"]
    for name in "abc":
        agents.record_sign(name, after(50))
    agents.record_rows([agent_row("a"), agent_row("b")], None, after(100))
    assert [each["name"] for each in shown(agents)] == ["b", "a"]  # the oldest sign is forgotten: a is silent
    assert [each["state"] for each in shown(agents)] == ["good", "bad"]


def test_those_of_the_table_are_shown_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHOWN", 2)
    agents = known(agent_row("x", namespace="x"), agent_row("b"))
    assert [each["name"] for each in shown(agents)] == ["b", "x"]
    agents.record_status({"processed_by": "a", "status": "ok", "namespace": "a"}, T0)
    assert [each["name"] for each in shown(agents)] == ["x", "b"]

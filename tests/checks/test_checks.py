"""`fastmon-daemon check`: what it finds in worlds that are well or not, and beside a daemon at work."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import requests

from fastmon_daemon.base.clock import Clock, utcnow
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.broker import probe
from fastmon_daemon.checks import Check, CheckResult, CheckStatus, run_checks, runner
from fastmon_daemon.checks.broker import broker_checks
from fastmon_daemon.checks.monitor import monitor_checks
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.service import ProcessContext, broker_parameters
from fastmon_daemon.settings import Settings
from tests.processes import TOKEN, OnEmbedded, living, wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        yield made


def checked(answer: CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in json.loads(answer.stdout)["checks"]}


def beat(world: OnEmbedded, agent: str, **fields: str) -> None:
    body = {
        "instance_name": agent,
        "agent_type": "fastmon",
        "namespace": "ns",
        "status": "OK",
        "hostname": "h",
    } | fields
    answer = requests.post(
        f"{world.monitor.url}/api/systemagents/heartbeat/",
        json=body, headers={"Authorization": f"Token {TOKEN}"}, timeout=20,
    )  # fmt: skip
    assert answer.status_code == 201, answer.text


def test_beside_a_daemon_at_work_all_is_well_and_nothing_is_lost_or_taken(world: OnEmbedded) -> None:
    world.monitor.faults(latency_ms=20)
    daemon = world.daemon(FASTMON_HTTP="0")
    world.register(*range(1, 31))
    world.announce(*range(1, 16))
    wait_until(lambda: world.states().get("completed", 0) > 2, "it is at work")
    answer = world.call("check", "--json")
    world.announce(*range(16, 31))
    assert answer.returncode == 0, answer.stdout
    found = checked(answer)
    assert {each["outcome"] for each in found.values()} <= {"ok", "warning"}
    assert f"process {daemon.pid} works on it" in found["database"]["found"]
    assert "back after" in found["round trip"]["found"]
    assert found["subscription"]["outcome"] == found["token"]["outcome"] == found["clock"]["outcome"] == "ok"
    assert found["other daemons"]["outcome"] == "ok", "our own agent is no other daemon"
    world.wait_for(completed=30)
    counts = world.monitor.counts()
    assert (counts["fastmon_files"], counts["announcements"], counts["distinct_announcements"]) == (210, 210, 210)
    assert "broker link down" not in world.log()
    assert world.log().count("broker link up") == 1


def test_a_world_before_the_first_start_is_well_and_no_database_is_made(world: OnEmbedded) -> None:
    answer = world.call("check")
    assert answer.returncode == 0, answer.stdout
    assert "is not there yet" in answer.stdout
    assert not list(world.folder.glob("outbox*"))
    for secret in (TOKEN, "secret-word"):
        assert secret not in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("changes", "remedies"),
    [
        (
            {
                "ACTIVEMQ_PORT": "1", "SWF_API_TOKEN": "0" * 40, "FASTMON_DB": "log", "FASTMON_HTTP": "192.0.2.1:9100",
            },
            {
                "database": "FASTMON_DB", "metrics": "FASTMON_HTTP", "broker address": "ACTIVEMQ_PORT",
                "monitor": "set SWF_API_TOKEN",
            },
        ),
        (
            {
                "ACTIVEMQ_PASSWORD": "other", "SWF_API_TOKEN": "", "FASTMON_DB": "log/outbox.db",
                "FASTMON_NOTIFY": "rest",
            },
            {
                "database": "FASTMON_DB", "broker login": "ACTIVEMQ_PASSWORD", "token": "set SWF_API_TOKEN",
                "messages": "FASTMON_NOTIFY=stomp",
            },
        ),
        ({"SWF_MONITOR_URL": "http://nowhere.invalid"}, {"monitor address": "SWF_MONITOR_URL"}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_remedy_and_the_rest_is_tried(
    world: OnEmbedded, changes: dict[str, str], remedies: dict[str, str]
) -> None:
    (world.folder / "log").write_text("not a database")
    answer = world.call("check", "--json", **changes)
    assert answer.returncode == 1, answer.stdout
    found = checked(answer)
    assert [check for check, each in found.items() if each["outcome"] == "wrong"] == list(remedies)
    for check, hint in remedies.items():
        assert hint in found[check]["found"] + found[check]["remedy"]
        assert "is it running" not in found[check]["remedy"] or "set " not in found[check]["found"]
    assert found["settings"]["outcome"] == "ok"


def test_a_database_that_is_not_sound_and_a_disk_that_is_full_are_wrong(world: OnEmbedded) -> None:
    open_outbox(world.database).close()
    with closing(sqlite3.connect(world.database)) as damaged:
        damaged.execute("insert into meta (key, value) values ('instance', 'x')")
        damaged.execute(
            "insert into stf (namespace, run, run_id, filename, body, origin, state, since, received_at, born_at)"
            " values ('ns', '1', '1', 'lost.stf', '', 'message', 'completed', '', '', '')"
        )
        damaged.commit()
    answer = world.call("check", "--json", FASTMON_MIN_FREE_MB="1000000000")
    assert answer.returncode == 1
    found = checked(answer)
    assert (found["database"]["outcome"], found["free space"]["outcome"]) == ("wrong", "wrong")
    assert "STF without history (lost.stf)" in found["database"]["found"]
    assert "backup" in found["database"]["remedy"]


def test_another_daemon_a_partial_selection_and_an_unknown_name_are_warned_of(world: OnEmbedded) -> None:
    beat(world, "fastmon-agent-old-3")
    beat(world, "data-agent-1", agent_type="data")
    answer = world.call("check", "--json", FASTMON_SELECTION_FRACTION="0.1", FASTMON_WORKER="1")
    assert answer.returncode == 0
    found = checked(answer)
    assert {check for check, each in found.items() if each["outcome"] == "warning"} == {
        "settings", "other daemons", "selection",
    }  # fmt: skip
    assert "fastmon-agent-old-3 on h" in found["other daemons"]["found"]
    assert "FASTMON_SELECTION_FRACTION=1.0" in found["selection"]["remedy"]


def test_our_own_agent_is_no_other_daemon(world: OnEmbedded) -> None:
    beat(world, "fastmon-agent-us-1")
    found = checked(world.call("check", "--json", FASTMON_AGENT_NAME="fastmon-agent-us-1"))
    assert found["other daemons"]["outcome"] == "ok"


def test_of_agents_that_are_not_listed_nothing_is_claimed(world: OnEmbedded) -> None:
    beat(world, "fastmon-agent-old-3")
    world.monitor.faults(error_rate=1, error_status=500, endpoints=["/api/systemagents/"])
    found = checked(world.call("check", "--json"))
    assert (found["namespace"]["outcome"], found["other daemons"]["outcome"]) == ("wrong", "skipped")


def test_a_namespace_in_which_nobody_else_is_looks_misspelt(world: OnEmbedded) -> None:
    beat(world, "data-agent-1", agent_type="data", namespace="nz")
    found = checked(world.call("check", "--json"))
    assert found["namespace"]["outcome"] == "warning"


def test_wrong_settings_are_all_named_and_exit_is_78(world: OnEmbedded) -> None:
    answer = world.call("check", "--json", FASTMON_NAMESPACE="", FASTMON_WORKERS="x")
    assert answer.returncode == 78
    assert set(checked(answer)) == {"FASTMON_NAMESPACE", "FASTMON_WORKERS"}


def test_clocks_that_are_apart_are_warned_of(world: OnEmbedded) -> None:
    settings = Settings(namespace="ns", monitor_url=world.monitor.url)
    looked_at = ProcessContext(
        settings=settings, values={}, database=world.database, database_rule="", secrets=SecretRedactor()
    )
    monitor = MonitorClient(world.monitor.url, lambda: TOKEN, connections=1)
    for hours, outcome in ((0, CheckStatus.OK), (1, CheckStatus.WARNING), (-1, CheckStatus.WARNING)):
        clock = Clock(now=lambda hours=hours: utcnow() + timedelta(hours=hours))  # type: ignore[misc]
        line = next(each for each in monitor_checks(looked_at, monitor, "", clock) if each.name == "clock").call()
        assert line.outcome is outcome, line
    assert "behind" in line.found
    monitor.close()


def tried_at(port: int, changes: dict[str, Any]) -> dict[str, CheckResult]:
    settings = Settings(namespace="ns", broker_host="127.0.0.1", broker_port=port, **changes)
    parameters = broker_parameters(settings, {}, SecretRedactor(), "x", subscribe=True)
    return dict(run_checks(broker_checks(settings, parameters), lambda *_: None))


def test_a_broker_that_never_answers_ends_the_check_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = tried_at(silent.getsockname()[1], {})
    assert found["broker address"].outcome is CheckStatus.OK
    assert "did not answer" in found["broker login"].found
    assert found["round trip"].outcome is CheckStatus.SKIPPED


def test_a_queue_is_not_tried_and_a_login_that_may_not_use_other_topics_is_no_fault(world: OnEmbedded) -> None:
    parameters = {"broker_user": "daq", "broker_password": "secret-word"}
    found = tried_at(world.broker.port, {**parameters, "subscribe": "/queue/stfs"})
    assert found["subscription"].outcome is CheckStatus.SKIPPED
    assert found["round trip"].outcome is CheckStatus.OK


def test_a_check_that_hangs_is_told_of_and_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "TELL_AFTER_S", 0.05)
    ever, waited = threading.Event(), []

    def hang() -> CheckResult:
        ever.wait()
        return CheckResult(CheckStatus.OK, "at last")

    checks = [
        Check(name="slow", call=hang, patience_s=0.1, hint="hurry"),
        Check(name="after", call=hang, needs=("slow",)),
        Check(name="broken", call=lambda: CheckResult(CheckStatus.OK, str(1 // 0))),
    ]
    found = dict(run_checks(checks, lambda name, _: waited.append(name)))
    ever.set()
    assert waited == ["slow"]
    assert found["slow"] == CheckResult(CheckStatus.ERROR, "no end after 0.1 s", "hurry")
    assert found["after"].outcome is CheckStatus.SKIPPED
    assert "ZeroDivisionError" in found["broken"].found

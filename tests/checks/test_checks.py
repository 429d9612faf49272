"""`fastmon-daemon check`: its results with and without problems, and beside a working daemon."""

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


def results_of(answer: CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in json.loads(answer.stdout)["checks"]}


def send_heartbeat(world: OnEmbedded, agent: str, **fields: str) -> None:
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


def test_beside_a_working_daemon_no_errors_and_no_messages_lost(world: OnEmbedded) -> None:
    world.monitor.faults(latency_ms=20)
    daemon = world.daemon(FASTMON_HTTP="0")
    world.register(*range(1, 31))
    world.announce(*range(1, 16))
    wait_until(lambda: world.states().get("completed", 0) > 2, "the daemon is working")
    answer = world.call("check", "--json")
    world.announce(*range(16, 31))
    assert answer.returncode == 0, answer.stdout
    found = results_of(answer)
    assert {each["status"] for each in found.values()} <= {"ok", "warning"}
    assert f"in use by process {daemon.pid}" in found["database"]["found"]
    assert "message returned after" in found["round trip"]["found"]
    assert found["subscription"]["status"] == found["token"]["status"] == found["clock"]["status"] == "ok"
    assert found["other daemons"]["status"] == "ok", "the own agent is not another daemon"
    world.wait_for(completed=30)
    counts = world.monitor.counts()
    assert (counts["fastmon_files"], counts["announcements"], counts["distinct_announcements"]) == (210, 210, 210)
    assert "broker link down" not in world.log()
    assert world.log().count("broker link up") == 1


def test_before_the_first_start_no_errors_and_no_database_created(world: OnEmbedded) -> None:
    answer = world.call("check")
    assert answer.returncode == 0, answer.stdout
    assert "does not exist yet" in answer.stdout
    assert not list(world.folder.glob("outbox*"))
    for secret in (TOKEN, "secret-word"):
        assert secret not in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("changes", "hints"),
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
def test_errors_have_hints_and_other_checks_still_run(
    world: OnEmbedded, changes: dict[str, str], hints: dict[str, str]
) -> None:
    (world.folder / "log").write_text("not a database")
    answer = world.call("check", "--json", **changes)
    assert answer.returncode == 1, answer.stdout
    found = results_of(answer)
    assert [check for check, each in found.items() if each["status"] == "error"] == list(hints)
    for check, hint in hints.items():
        assert hint in found[check]["found"] + found[check]["hint"]
        assert "start the monitor" not in found[check]["hint"] or "set " not in found[check]["found"]
    assert found["settings"]["status"] == "ok"


def test_inconsistent_database_and_full_disk_are_errors(world: OnEmbedded) -> None:
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
    found = results_of(answer)
    assert (found["database"]["status"], found["free space"]["status"]) == ("error", "error")
    assert "STF without history (lost.stf)" in found["database"]["found"]
    assert "backup" in found["database"]["hint"]


def test_other_daemon_partial_selection_and_unknown_setting_are_warnings(world: OnEmbedded) -> None:
    send_heartbeat(world, "fastmon-agent-old-3")
    send_heartbeat(world, "data-agent-1", agent_type="data")
    answer = world.call("check", "--json", FASTMON_SELECTION_FRACTION="0.1", FASTMON_WORKER="1")
    assert answer.returncode == 0
    found = results_of(answer)
    assert {check for check, each in found.items() if each["status"] == "warning"} == {
        "settings", "other daemons", "selection",
    }  # fmt: skip
    assert "fastmon-agent-old-3 on h" in found["other daemons"]["found"]
    assert "FASTMON_SELECTION_FRACTION=1.0" in found["selection"]["hint"]


def test_own_agent_is_not_another_daemon(world: OnEmbedded) -> None:
    send_heartbeat(world, "fastmon-agent-us-1")
    found = results_of(world.call("check", "--json", FASTMON_AGENT_NAME="fastmon-agent-us-1"))
    assert found["other daemons"]["status"] == "ok"


def test_without_a_list_of_agents_other_daemons_is_skipped(world: OnEmbedded) -> None:
    send_heartbeat(world, "fastmon-agent-old-3")
    world.monitor.faults(error_rate=1, error_status=500, endpoints=["/api/systemagents/"])
    found = results_of(world.call("check", "--json"))
    assert (found["namespace"]["status"], found["other daemons"]["status"]) == ("error", "skipped")


def test_namespace_without_other_agents_is_a_warning(world: OnEmbedded) -> None:
    send_heartbeat(world, "data-agent-1", agent_type="data", namespace="nz")
    found = results_of(world.call("check", "--json"))
    assert found["namespace"]["status"] == "warning"


def test_all_invalid_settings_are_reported_with_exit_code_78(world: OnEmbedded) -> None:
    answer = world.call("check", "--json", FASTMON_NAMESPACE="", FASTMON_WORKERS="x")
    assert answer.returncode == 78
    assert set(results_of(answer)) == {"FASTMON_NAMESPACE", "FASTMON_WORKERS"}


def test_clock_difference_is_a_warning(world: OnEmbedded) -> None:
    settings = Settings(namespace="ns", monitor_url=world.monitor.url)
    context = ProcessContext(
        settings=settings, values={}, database=world.database, database_rule="", secrets=SecretRedactor()
    )
    monitor = MonitorClient(world.monitor.url, lambda: TOKEN, connections=1)
    for hours, status in ((0, CheckStatus.OK), (1, CheckStatus.WARNING), (-1, CheckStatus.WARNING)):
        clock = Clock(now=lambda hours=hours: utcnow() + timedelta(hours=hours))  # type: ignore[misc]
        result = next(each for each in monitor_checks(context, monitor, "", clock) if each.name == "clock").call()
        assert result.status is status, result
    assert "behind" in result.found
    monitor.close()


def broker_results(port: int, changes: dict[str, Any]) -> dict[str, CheckResult]:
    settings = Settings(namespace="ns", broker_host="127.0.0.1", broker_port=port, **changes)
    parameters = broker_parameters(settings, {}, SecretRedactor(), "x", subscribe=True)
    return dict(run_checks(broker_checks(settings, parameters), lambda *_: None))


def test_silent_broker_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = broker_results(silent.getsockname()[1], {})
    assert found["broker address"].status is CheckStatus.OK
    assert "did not answer" in found["broker login"].found
    assert found["round trip"].status is CheckStatus.SKIPPED


def test_queue_subscription_is_skipped_and_round_trip_works(world: OnEmbedded) -> None:
    parameters = {"broker_user": "daq", "broker_password": "secret-word"}
    found = broker_results(world.broker.port, {**parameters, "subscribe": "/queue/stfs"})
    assert found["subscription"].status is CheckStatus.SKIPPED
    assert found["round trip"].status is CheckStatus.OK


def test_hanging_check_is_reported_and_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "REPORT_AFTER_S", 0.05)
    release, reported = threading.Event(), []

    def hang() -> CheckResult:
        release.wait()
        return CheckResult(CheckStatus.OK, "at last")

    checks = [
        Check(name="slow", call=hang, timeout_s=0.1, hint="hurry"),
        Check(name="after", call=hang, needs=("slow",)),
        Check(name="broken", call=lambda: CheckResult(CheckStatus.OK, str(1 // 0))),
    ]
    found = dict(run_checks(checks, lambda name, _: reported.append(name)))
    release.set()
    assert reported == ["slow"]
    assert found["slow"] == CheckResult(CheckStatus.ERROR, "timeout after 0.1 s", "hurry")
    assert found["after"].status is CheckStatus.SKIPPED
    assert "ZeroDivisionError" in found["broken"].found

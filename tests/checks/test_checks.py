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
from fastmon_daemon.monitor.directory import Statement
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.service import ProcessContext, broker_parameters
from fastmon_daemon.settings import Settings
from tests.base.test_network import silent_address
from tests.builders import NO_RELOAD
from tests.monitor.scripted_monitor import Server, says
from tests.processes import TOKEN, LiveTestbed, live_testbed, wait_until


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def results_of(answer: CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in json.loads(answer.stdout)["checks"]}


def send_heartbeat(testbed: LiveTestbed, agent: str, **fields: str) -> None:
    body = {
        "instance_name": agent,
        "agent_type": "fastmon",
        "namespace": "ns",
        "status": "OK",
        "hostname": "h",
    } | fields
    answer = requests.post(
        f"{testbed.monitor.url}/api/systemagents/heartbeat/",
        json=body, headers={"Authorization": f"Token {TOKEN}"}, timeout=20,
    )  # fmt: skip
    assert answer.status_code == 201, answer.text


def test_beside_a_working_daemon_no_errors_and_no_messages_lost(testbed: LiveTestbed) -> None:
    testbed.monitor.faults(latency_ms=20)
    daemon = testbed.daemon(FASTMON_HTTP="0")
    testbed.register(*range(1, 31))
    testbed.announce(*range(1, 16))
    wait_until(lambda: testbed.states().get("completed", 0) > 2, "the daemon is working")
    answer = testbed.call("check", "--json")
    testbed.announce(*range(16, 31))
    assert answer.returncode == 0, answer.stdout
    found = results_of(answer)
    assert {each["status"] for each in found.values()} <= {"ok", "warning"}
    assert f"in use by process {daemon.pid}" in found["database"]["found"]
    assert "message returned after" in found["round trip"]["found"]
    assert found["subscription"]["status"] == found["token"]["status"] == found["clock"]["status"] == "ok"
    assert found["other daemons"]["status"] == "ok", "the own agent is not another daemon"
    testbed.wait_for(completed=30)
    counts = testbed.monitor.counts()
    assert (counts["fastmon_files"], counts["announcements"], counts["distinct_announcements"]) == (210, 210, 210)
    assert "link to the broker is down" not in testbed.log()
    assert testbed.log().count("link to the broker is up") == 1


@pytest.mark.field("6")
def test_the_running_daemon_is_asked_for_its_settings(testbed: LiveTestbed) -> None:
    testbed.daemon(FASTMON_SELECTION_FRACTION="1.0", FASTMON_STUCK_AFTER="30")
    found = results_of(testbed.call("check", "--json", FASTMON_SELECTION_FRACTION="0.1", FASTMON_STUCK_AFTER="30"))
    assert found["selection"]["found"] == "every STF is sampled by the running daemon"
    assert "FASTMON_SELECTION_FRACTION=1 (here: 0.1)" in found["settings"]["found"]
    assert found["settings"]["status"] == "warning"
    assert "STUCK_AFTER" not in found["settings"]["found"]
    same = results_of(testbed.call("check", "--json", FASTMON_STUCK_AFTER="30"))
    assert (same["settings"]["status"], same["selection"]["status"]) == ("ok", "ok")
    for secret in (TOKEN, "secret-word"):
        assert secret not in str(found)


@pytest.mark.field("6")
def test_the_running_daemon_has_stopped_its_intake_and_check_says_so(testbed: LiveTestbed) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    testbed.daemon(FASTMON_MIN_FREE_MB="1000000000", FASTMON_HTTP=port)
    found = results_of(testbed.call("check", "--json", FASTMON_HTTP=port))
    assert found["free space"]["status"] == "error"
    assert "below FASTMON_MIN_FREE_MB=1000000000: no STFs are stored" in found["free space"]["found"]
    assert found["metrics"]["status"] == "warning"
    assert "200 intake stopped: " in found["metrics"]["found"]


def test_before_the_first_start_no_errors_and_no_database_created(testbed: LiveTestbed) -> None:
    answer = testbed.call("check")
    assert answer.returncode == 0, answer.stdout
    assert "does not exist yet" in answer.stdout
    assert not list(testbed.folder.glob("outbox*"))
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
    testbed: LiveTestbed, changes: dict[str, str], hints: dict[str, str]
) -> None:
    (testbed.folder / "log").write_text("not a database")
    answer = testbed.call("check", "--json", **changes)
    assert answer.returncode == 1, answer.stdout
    found = results_of(answer)
    assert [check for check, each in found.items() if each["status"] == "error"] == list(hints)
    for check, hint in hints.items():
        assert hint in found[check]["found"] + found[check]["hint"]
        assert "start the monitor" not in found[check]["hint"] or "set " not in found[check]["found"]
    assert found["settings"]["status"] == "ok"


def test_inconsistent_database_and_full_disk_are_errors(testbed: LiveTestbed) -> None:
    open_outbox(testbed.database).close()
    with closing(sqlite3.connect(testbed.database)) as damaged:
        damaged.execute("insert into meta (key, value) values ('instance', 'x')")
        damaged.execute(
            "insert into stf (namespace, run, run_id, filename, body, origin, state, since, received_at, born_at)"
            " values ('ns', '1', '1', 'lost.stf', '', 'message', 'completed', '', '', '')"
        )
        damaged.commit()
    answer = testbed.call("check", "--json", FASTMON_MIN_FREE_MB="1000000000")
    assert answer.returncode == 1
    found = results_of(answer)
    assert (found["database"]["status"], found["free space"]["status"]) == ("error", "error")
    assert "STF without history (lost.stf)" in found["database"]["found"]
    assert "backup" in found["database"]["hint"]


def test_other_daemon_partial_selection_and_unknown_setting_are_warnings(testbed: LiveTestbed) -> None:
    send_heartbeat(testbed, "fastmon-agent-old-3")
    send_heartbeat(testbed, "data-agent-1", agent_type="data")
    answer = testbed.call("check", "--json", FASTMON_SELECTION_FRACTION="0.1", FASTMON_WORKER="1")
    assert answer.returncode == 0
    found = results_of(answer)
    assert {check for check, each in found.items() if each["status"] == "warning"} == {
        "settings", "other daemons", "selection",
    }  # fmt: skip
    assert "fastmon-agent-old-3 on h" in found["other daemons"]["found"]
    assert "FASTMON_SELECTION_FRACTION=1.0" in found["selection"]["hint"]


def test_check_says_who_of_a_shared_queue_reconciles(testbed: LiveTestbed) -> None:
    queue = "/queue/fastmon.work"

    def others(mode: str) -> dict[str, str]:
        return results_of(testbed.call("check", "--json", FASTMON_SUBSCRIBE=queue, FASTMON_RECONCILE=mode))[
            "other daemons"
        ]

    assert f"{queue} is shared with no other daemon yet; this one reconciles" in others("auto")["found"]
    statement = Statement("2026-11-21T20:00:00.000+00:00", "on", queue)
    send_heartbeat(testbed, "fastmon-agent-far-1", description=f"all well. {statement}")
    found = others("auto")
    assert (found["status"], found["found"]) == (
        "ok", f"{queue} is shared with fastmon-agent-far-1; fastmon-agent-far-1 reconciles"
    )  # fmt: skip
    found = others("on")
    assert (found["status"], "2 daemons of" in found["found"]) == ("warning", True)
    send_heartbeat(testbed, "x", namespace="other", description=str(statement))
    assert "daemons of other namespaces take messages" in others("off")["found"]


def test_own_agent_is_not_another_daemon(testbed: LiveTestbed) -> None:
    send_heartbeat(testbed, "fastmon-agent-us-1")
    found = results_of(testbed.call("check", "--json", FASTMON_AGENT_NAME="fastmon-agent-us-1"))
    assert found["other daemons"]["status"] == "ok"


def test_without_a_list_of_agents_other_daemons_is_skipped(testbed: LiveTestbed) -> None:
    send_heartbeat(testbed, "fastmon-agent-old-3")
    testbed.monitor.faults(error_rate=1, error_status=500, endpoints=["/api/systemagents/"])
    found = results_of(testbed.call("check", "--json"))
    assert (found["namespace"]["status"], found["other daemons"]["status"]) == ("error", "skipped")


def test_namespace_without_other_agents_is_a_warning(testbed: LiveTestbed) -> None:
    send_heartbeat(testbed, "data-agent-1", agent_type="data", namespace="nz")
    found = results_of(testbed.call("check", "--json"))
    assert found["namespace"]["status"] == "warning"


def test_all_invalid_settings_are_reported_with_exit_code_78(testbed: LiveTestbed) -> None:
    answer = testbed.call("check", "--json", FASTMON_NAMESPACE="", FASTMON_WORKERS="x")
    assert answer.returncode == 78
    assert set(results_of(answer)) == {"FASTMON_NAMESPACE", "FASTMON_WORKERS"}


def test_clock_difference_is_a_warning(testbed: LiveTestbed) -> None:
    settings = Settings(namespace="ns", monitor_url=testbed.monitor.url)
    context = ProcessContext(
        settings=settings, values={}, database=testbed.database, database_rule="", secrets=SecretRedactor(), **NO_RELOAD
    )
    monitor = MonitorClient(testbed.monitor.url, lambda: TOKEN, connections=1)
    for hours, status in ((0, CheckStatus.OK), (1, CheckStatus.WARNING), (-1, CheckStatus.WARNING)):
        clock = Clock(now=lambda hours=hours: utcnow() + timedelta(hours=hours))  # type: ignore[misc]
        result = next(each for each in monitor_checks(context, monitor, "", clock, None) if each.name == "clock").call()
        assert result.status is status, result
    assert "behind" in result.found
    monitor.close()


def test_a_monitor_that_takes_messages_but_shows_none_is_good_enough(tmp_path: Path) -> None:
    server = Server()
    server.script = [says(405, {"detail": "Method not allowed."})]
    settings = Settings(namespace="ns", monitor_url=server.url, notify="rest")
    context = ProcessContext(
        settings=settings, values={}, database=tmp_path, database_rule="", secrets=SecretRedactor(), **NO_RELOAD
    )
    checks = monitor_checks(context, server.client(), "", Clock(), None)
    result = next(each for each in checks if each.name == "messages").call()
    assert result.status is CheckStatus.OK, result
    server.close()


def broker_results(port: int, changes: dict[str, Any]) -> dict[str, CheckResult]:
    settings = Settings(namespace="ns", broker_port=port, **{"broker_host": "127.0.0.1", **changes})
    context = ProcessContext(
        settings=settings, values={}, database=Path("none"), database_rule="", secrets=SecretRedactor(), **NO_RELOAD
    )
    parameters = broker_parameters(context, "x", subscribe=True)
    return dict(run_checks(broker_checks(settings, parameters), lambda *_: None))


@pytest.mark.field("14")
def test_broker_and_monitor_are_reached_though_the_first_addresses_of_their_name_answer_nothing(
    testbed: LiveTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_address() as first, silent_address() as second:

        def addresses(_host: object, port: int, *_: object) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in (first, second, ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        login = {"broker_user": "daq", "broker_password": "secret-word", "broker_host": "several.example.org"}
        found = broker_results(testbed.broker.port, login)
        assert {each.status for each in found.values()} == {CheckStatus.OK}
        url = testbed.monitor.url.replace("127.0.0.1", "several.example.org")
        monitor = MonitorClient(url, lambda: TOKEN, connections=1)
        monitor.probe()
        monitor.close()


def test_silent_broker_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = broker_results(silent.getsockname()[1], {})
    assert found["broker address"].status is CheckStatus.OK
    assert "did not answer" in found["broker login"].found
    assert found["round trip"].status is CheckStatus.SKIPPED


def test_queue_subscription_is_skipped_and_round_trip_works(testbed: LiveTestbed) -> None:
    parameters = {"broker_user": "daq", "broker_password": "secret-word"}
    found = broker_results(testbed.broker.port, {**parameters, "subscribe": "/queue/stfs"})
    assert found["subscription"].status is CheckStatus.SKIPPED
    assert found["round trip"].status is CheckStatus.OK


@pytest.mark.field("27a")
def test_a_login_that_may_not_send_is_an_error_only_if_announcements_need_it(testbed: LiveTestbed) -> None:
    testbed.broker.broker.refuse_send = "AMQ229032: User: daq does not have permission='SEND' on address epictopic"
    parameters = {"broker_user": "daq", "broker_password": "secret-word"}
    found = broker_results(testbed.broker.port, parameters)
    assert found["announcements"].status is CheckStatus.ERROR
    assert "grant this user the right to send to /topic/epictopic" in found["announcements"].found
    assert found["round trip"].status is CheckStatus.WARNING
    for notify in ("off", "rest"):
        found = broker_results(testbed.broker.port, {**parameters, "notify": notify})
        assert {each.status for each in found.values()} == {CheckStatus.OK}
        assert "round trip" not in found


def test_the_check_of_announcements_sends_nothing(testbed: LiveTestbed) -> None:
    found = broker_results(testbed.broker.port, {"broker_user": "daq", "broker_password": "secret-word"})
    assert found["announcements"].status is CheckStatus.OK
    assert testbed.broker.broker.counters.accepted["/topic/epictopic"] == 0


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


def test_what_others_on_the_network_can_read_is_warned_of_at_the_start_and_in_check(testbed: LiveTestbed) -> None:
    settings = {"FASTMON_HTTP": "0.0.0.0:0"}
    testbed.daemon(**settings)
    warned = "FASTMON_HTTP=0.0.0.0:0: whoever reaches this address can read the metrics and the status"
    assert testbed.log().count(f"{warned}: set FASTMON_HTTP_TOKEN") == 1
    found = results_of(testbed.call("check", "--json", **settings))["network"]
    assert (found["status"], found["found"], "FASTMON_HTTP_TOKEN" in found["hint"]) == ("warning", warned, True)
    assert results_of(testbed.call("check", "--json"))["network"]["status"] == "ok"

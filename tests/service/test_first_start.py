"""The very first start, when monitor and broker do not answer: nothing waits for them."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from fastmon_daemon import service
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.service import ProcessContext, daemon, factories
from fastmon_daemon.settings import ListenAddress, Settings
from tests.builders import NO_RELOAD
from tests.monitor.scripted_monitor import closed_port
from tests.processes import TOKEN, LiveTestbed, live_testbed, wait_until


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


@pytest.fixture
def hanging_lookup(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lookups of `.invalid` names never return."""
    resolve, end = socket.getaddrinfo, threading.Event()

    def hang(host: Any, *more: Any) -> Any:
        if str(host).endswith(".invalid"):
            end.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "the test has ended")
        return resolve(host, *more)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    end.set()


@pytest.mark.field("27b")
@pytest.mark.usefixtures("hanging_lookup")
def test_ready_healthz_and_signals_wait_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factories, "NAME_TIMEOUT_S", 1000.0)
    port = closed_port()
    settings = Settings(
        namespace="ns", monitor_url="http://monitor.invalid", broker_host="broker.invalid",
        http=ListenAddress("127.0.0.1", port),
    )  # fmt: skip
    seen: dict[str, object] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        service_manager.bind(str(tmp_path / "notify"))
        service_manager.settimeout(40)

        def stop_when_ready() -> None:
            try:
                seen["notified"] = service_manager.recv(100)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
                with closing(connection):
                    connection.request("GET", "/healthz")
                    seen["healthz"] = connection.getresponse().status
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        operator = threading.Thread(target=stop_when_ready)
        operator.start()
        context = ProcessContext(
            settings=settings, values={"NOTIFY_SOCKET": str(tmp_path / "notify")}, database=tmp_path / "outbox.db",
            database_rule="", secrets=SecretRedactor(), **NO_RELOAD,
        )  # fmt: skip
        assert service.run(context, once=False) == 0
        operator.join(40)
    assert seen == {"notified": b"READY=1", "healthz": 200}


def test_a_reload_does_not_end_the_wait_for_the_agent_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []

    def find(_context: Any, _outbox: Any, _instance: Any, answers: SimpleQueue[int | None]) -> str:
        for number in (signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
            waited.append(answers.empty())
        return "name"

    monkeypatch.setattr(daemon, "find_agent_name", find)
    monkeypatch.setattr(daemon, "has_terminal", lambda: False)
    context = ProcessContext(
        settings=Settings(namespace="ns"), values={}, database=tmp_path / "outbox.db", database_rule="",
        secrets=SecretRedactor(), **NO_RELOAD,
    )  # fmt: skip
    assert service.run(context, once=False) == 0
    assert waited == [True, False]


def stored_name(testbed: LiveTestbed) -> str | None:
    with closing(open_for_reading(testbed.database)) as reports:
        return reports.recall("agent_name")


def stop(testbed: LiveTestbed) -> None:
    testbed.children[-1].send_signal(signal.SIGTERM)
    assert testbed.children[-1].wait(30) == 0


@pytest.mark.field("9")
def test_after_a_wrong_token_the_next_start_asks_for_a_number_again(testbed: LiveTestbed) -> None:
    testbed.daemon(SWF_API_TOKEN="0" * 40)
    wait_until(lambda: "link to the monitor is blocked" in testbed.log(), "the token is refused")
    stop(testbed)
    assert stored_name(testbed) is None
    testbed.daemon()
    stop(testbed)
    assert (stored_name(testbed) or "").endswith("-1")


@pytest.mark.field("9")
def test_a_name_that_the_monitor_has_seen_stays(testbed: LiveTestbed) -> None:
    testbed.monitor.faults(error_rate=1, error_status=500, endpoints=["/api/state/"])
    testbed.daemon()
    wait_until(lambda: stored_name(testbed), "a heart-beat was accepted")
    stop(testbed)
    name = stored_name(testbed)
    testbed.monitor.faults()
    testbed.daemon()
    stop(testbed)
    assert stored_name(testbed) == name
    headers = {"Authorization": f"Token {TOKEN}"}
    connection = http.client.HTTPConnection(testbed.monitor.url.removeprefix("http://"), timeout=20)
    with closing(connection):
        connection.request("GET", "/api/systemagents/", headers=headers)
        assert connection.getresponse().read().decode().count('"instance_name"') == 1

"""`healthcheck`, /livez, /readyz and /status say whether the daemon is alive, or ready, at each moment."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.inspection.test_http_server import base_url
from tests.processes import LiveTestbed, live_testbed, wait_until


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def healthcheck(testbed: LiveTestbed, *options: str) -> tuple[int, str]:
    done = testbed.call("healthcheck", *options)
    return done.returncode, done.stdout


def ready(testbed: LiveTestbed) -> dict[str, Any]:
    return dict(json.loads(healthcheck(testbed, "--ready", "--json")[1]))


def get(base: str, path: str) -> tuple[int, str]:
    answer = requests.get(f"{base}{path}", timeout=20)
    return answer.status_code, answer.text


def test_a_daemon_is_ready_when_all_its_links_are_up(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(FASTMON_HTTP="0")
    base = base_url(testbed)
    wait_until(lambda: get(base, "/readyz")[0] == 200, "it is ready")
    parts = ("engine", "database", "intake", "monitor", "broker", "announcements")
    assert get(base, "/readyz")[1] == "".join(f"ok         {part}\n" for part in parts)
    assert healthcheck(testbed) == (0, "alive\n")
    assert ready(testbed) == {"ok": True, "found": "ready", "parts": dict.fromkeys(parts, "")}

    testbed.monitor.stop()
    testbed.announce(1)
    wait_until(lambda: get(base, "/readyz")[0] == 503, "it is not ready")
    assert "not ready  monitor: monitor down: " in get(base, "/readyz")[1]
    assert "ok         broker\n" in get(base, "/readyz")[1]
    found = ready(testbed)
    assert (found["ok"], [part for part, wrong in found["parts"].items() if wrong]) == (False, ["monitor"])
    assert healthcheck(testbed, "--ready")[0] == 1
    assert healthcheck(testbed) == (0, "alive\n"), "a restart does not help"
    assert get(base, "/livez")[0] == 200

    status = requests.get(f"{base}/status", timeout=20).json()
    inspected = json.loads(testbed.call("inspect", "--json").stdout)
    assert status.keys() - inspected.keys() == {"version", "started_at", "uptime_s"}
    assert inspected.keys() <= status.keys()
    assert status["verdict"].startswith("monitor down: ")
    assert (status["states"], status["daemon"]) == (inspected["states"], daemon.pid)


def test_a_full_disk_is_not_ready(testbed: LiveTestbed) -> None:
    testbed.daemon(FASTMON_HTTP="0", FASTMON_MIN_FREE_MB="1000000000")
    base = base_url(testbed)
    wait_until(lambda: "ok         engine" in get(base, "/readyz")[1], "it has started")
    code, text = get(base, "/readyz")
    assert (code, "not ready  intake: intake stopped: " in text) == (503, True)
    assert next(filter(None, ready(testbed)["parts"].values())).startswith("intake stopped: ")


def test_a_frozen_or_absent_daemon_is_not_alive(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon()
    wait_until(lambda: healthcheck(testbed)[0] == 0, "it is alive")
    daemon.send_signal(signal.SIGSTOP)
    code, said = healthcheck(testbed)
    assert (code, said) == (1, "daemon silent: it does not answer on its control socket within 3 s\n")
    daemon.send_signal(signal.SIGCONT)
    wait_until(lambda: healthcheck(testbed)[0] == 0, "it is alive again")
    daemon.kill()
    daemon.wait(30)
    assert healthcheck(testbed) == (1, "no daemon is running\n")
    assert healthcheck(testbed, "--ready") == (1, "no daemon is running\n")


def test_without_a_database_the_exit_code_is_that_of_all_commands(testbed: LiveTestbed) -> None:
    assert healthcheck(testbed)[0] == 3


def test_it_waits_for_the_start_and_for_readiness(testbed: LiveTestbed) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(healthcheck, testbed, "--ready", "--wait", "60")
        testbed.daemon()
        assert waiting.result() == (0, "ready\n")


def test_waiting_has_an_end(testbed: LiveTestbed) -> None:
    assert healthcheck(testbed, "--wait", "0.3")[0] == 3
    daemon = testbed.daemon()
    wait_until(lambda: healthcheck(testbed)[0] == 0, "it is alive")
    daemon.kill()
    daemon.wait(30)
    assert healthcheck(testbed, "--wait", "0.3") == (1, "no daemon is running\n")

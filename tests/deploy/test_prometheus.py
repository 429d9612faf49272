"""A real Prometheus scrapes a daemon, loads the alerts, and answers each query of the dashboard."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.deploy.test_deploy import RULES, dashboard_queries
from tests.processes import LiveTestbed, live_testbed, wait_until
from tests.tools import needs

pytestmark = needs("prometheus")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Run Prometheus with our alerts and *target* as the job fastmon; yields the address of its API."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": "fastmon", "static_configs": [{"targets": [target]}]}],
        "rule_files": [str(RULES)],
    }
    file, listen = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    words = [f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={listen}"]
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(["prometheus", *words], stderr=log) as process:
        try:
            yield f"http://{listen}/api/v1"
        finally:
            process.terminate()


def ask(api: str, path: str, **parameters: str) -> Any:
    try:
        answer = requests.get(f"{api}/{path}", params=parameters, timeout=20).json()
    except (requests.ConnectionError, ValueError):  # it is starting
        return None
    assert answer.get("status") == "success", answer
    return answer["data"]


def value(api: str, query: str) -> float | None:
    data = ask(api, "query", query=query)
    return float(data["result"][0]["value"][1]) if data and data["result"] else None


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def test_a_daemon_is_watched(testbed: LiveTestbed, tmp_path: Path) -> None:
    target = f"127.0.0.1:{free_port()}"
    testbed.daemon(FASTMON_HTTP=target)
    with prometheus(tmp_path, target) as api:
        wait_until(lambda: value(api, 'up{job="fastmon"}') == 1, "it is scraped")
        testbed.register(1, 2)
        testbed.announce(1, 2)
        testbed.wait_for(completed=2)
        rate = 'sum(increase(fastmon_transitions_total{dest="completed"}[1m]))'
        wait_until(lambda: (value(api, rate) or 0) > 1, "what was done has a rate, from the first event on")
        for title, query in dashboard_queries():
            assert ask(api, "query", query=query)["result"] or query.endswith("> 0"), (title, query)
        wait_until(lambda: loaded_rules(api), "the alerts are evaluated")
        assert [rule for rule in loaded_rules(api) if rule["health"] != "ok"] == []
        assert firing_alerts(api) == set()
        testbed.publish({"msg_type": "stf_ready", "namespace": "ns", "run_id": None, "filename": 7})
        wait_until(lambda: "FastmonRejectedMessages" in firing_alerts(api), "one alert fires")


def loaded_rules(api: str) -> list[dict[str, Any]]:
    found = ask(api, "rules")
    rules = [rule for group in found["groups"] for rule in group["rules"]] if found else []
    return rules if rules and all(rule["health"] != "unknown" for rule in rules) else []


def firing_alerts(api: str) -> set[str]:
    return {each["labels"]["alertname"] for each in ask(api, "alerts")["alerts"] if each["state"] == "firing"}

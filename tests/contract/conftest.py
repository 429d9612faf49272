"""The monitor for the contract tests: a live one with ``--monitor-url``, otherwise an embedded one.

    SWF_API_TOKEN=... pytest tests/contract --monitor-url https://monitor.example/swf-monitor

The token may also be given with ``--token``, but other users of the machine can read it there. With
``--broker stomp://user:password@host:port`` the tests publish on the monitor's topic; without it they only open the
stream of a live monitor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
import requests
import stomp

from fastmon_daemon.testbed.monitor import MonitorThread

EMBEDDED_TOKEN = "0123456789abcdef0123456789abcdef01234567"
TIMEOUT_S = 120.0
TOPIC = "/topic/epictopic"
NEW_YORK = "2026-11-21T12:00:00"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "the contract with swf-monitor")
    group.addoption("--monitor-url", help="base URL of a live swf-monitor; without it an embedded one is started")
    group.addoption("--token", help="its API token (better use SWF_API_TOKEN: other users can see arguments)")
    group.addoption("--broker", help="stomp://user:password@host:port of its broker")


class Api:
    """Requests with one token (or none), without retries and redirects."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.trust_env = False
        if token is not None:
            self.session.headers["Authorization"] = f"Token {token}"

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        if body is not None:
            more["json"] = body
        return self.session.request(method, f"{self.url}/api/{path}", timeout=TIMEOUT_S, allow_redirects=False, **more)

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> requests.Response:
        return self.call("POST", path, body, **more)

    def patch(self, path: str, body: Any) -> requests.Response:
        return self.call("PATCH", path, body)

    def create(self, path: str, body: Any) -> dict[str, Any]:
        """Create and return a row. Raises: AssertionError."""
        answer = self.post(path, body)
        assert answer.status_code == 201, answer.text
        row = answer.json()
        assert isinstance(row, dict)
        return row


@dataclass(frozen=True)
class Target:
    """The tested monitor; *publish* publishes a body on its topic."""

    url: str
    token: str
    publish: Callable[[str], None] | None


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    url = request.config.getoption("--monitor-url", default=None)
    if not url:
        with MonitorThread(EMBEDDED_TOKEN) as monitor:
            yield Target(monitor.url, EMBEDDED_TOKEN, monitor.deliver)
        return
    token = request.config.getoption("--token", default=None) or os.environ.get("SWF_API_TOKEN")
    if not token:
        raise pytest.UsageError("--monitor-url needs the monitor's API token: set SWF_API_TOKEN or use --token")
    broker = request.config.getoption("--broker", default=None)
    if not broker:
        yield Target(url, token, None)
        return
    connection = _connected(broker)
    yield Target(url, token, lambda body: connection.send(TOPIC, body))
    connection.disconnect()


def _connected(broker: str) -> Any:
    parts = urlsplit(broker)
    if parts.scheme != "stomp" or not parts.hostname or not parts.port:
        raise pytest.UsageError("--broker must be stomp://user:password@host:port")
    connection = stomp.Connection12([(parts.hostname, parts.port)])
    connection.connect(unquote(parts.username or ""), unquote(parts.password or ""), wait=True)
    return connection


@pytest.fixture(scope="session")
def api(target: Target) -> Iterator[Api]:
    client = Api(target.url, target.token)
    yield client
    client.session.close()


@pytest.fixture(scope="session")
def anonymous(target: Target) -> Iterator[Api]:
    client = Api(target.url, None)
    yield client
    client.session.close()


@pytest.fixture(scope="session")
def wrong_token(target: Target) -> Iterator[Api]:
    """Requests with a wrong token."""
    client = Api(target.url, "deadbeef")
    yield client
    client.session.close()


@pytest.fixture
def name() -> str:
    """A unique name, also across runs of the tests."""
    return f"contract-{uuid4().hex[:16]}"


@pytest.fixture
def run(api: Api) -> Iterator[dict[str, Any]]:
    """A new run, deleted at the end with its STF and TF files."""
    row = api.create("runs/", {"run_number": uuid4().int % 10**9 + 10**9, "start_time": NEW_YORK})
    yield row
    api.call("DELETE", f"runs/{row['run_id']}/")


@pytest.fixture
def stf(api: Api, run: dict[str, Any], name: str) -> dict[str, Any]:
    return api.create("stf-files/", {"run": run["run_id"], "stf_filename": f"{name}.stf", "file_size_bytes": 1000})


@pytest.fixture
def tf(api: Api, stf: dict[str, Any], name: str) -> dict[str, Any]:
    body = {"stf_file": stf["stf_filename"], "tf_filename": f"{name}_tf_001.tf", "tf_first": 0, "tf_last": 20}
    return api.create("fastmon-files/", {**body, "tf_count": 21, "file_size_bytes": 21, "metadata": {"a": 1}})


@pytest.fixture
def workflow(api: Api, name: str) -> Iterator[dict[str, Any]]:
    times = dict.fromkeys(("generated_time", "stf_start_time", "stf_end_time"), NEW_YORK)
    body = {"filename": f"{name}.stf", "daq_state": "run", "daq_substate": "physics", **times}
    row = api.create("workflows/", body)
    yield row
    api.call("DELETE", f"workflows/{row['workflow_id']}/")

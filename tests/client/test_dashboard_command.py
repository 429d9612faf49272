"""`fastmon-client dashboard` as a command: options, exit codes, output."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from fastmon_client.cli import cli
from fastmon_client.state_folder import StateFolder
from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.client.client_process import TOKEN, Client, Dashboard
from tests.client.test_topic_stream import environ
from tests.processes import DEADLINE_S

SECRET = "a-token-that-nobody-guesses"


@pytest.fixture
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def call(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["dashboard", "--listen", "127.0.0.1:0", *words], env=environment)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8010", "example.org:80"])
def test_public_address_needs_a_token(address: str) -> None:
    result = call("--listen", address, FASTMON_DASHBOARD_TOKEN="")
    assert result.exit_code == 2
    assert "--auth-token" in result.output


@pytest.mark.parametrize(
    "address",
    ["8010", "localhost", "127.0.0.1:x", "127.0.0.1:99999", ":8010", "http://localhost:1", "a..b:80", "[a]:80"],
)
def test_invalid_address_is_rejected_with_an_example(address: str) -> None:
    result = call("--listen", address)
    assert result.exit_code == 2
    assert f"--listen {address}" in result.output
    assert "HOST:PORT" in result.output


def test_port_in_use_is_named(monitor: MonitorThread) -> None:
    result = call("--listen", f"127.0.0.1:{monitor.port}")
    assert result.exit_code == 2
    assert f"--listen 127.0.0.1:{monitor.port}: Address already in use" in result.output


def test_state_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call("--state", str(tmp_path / "file" / "below"))
    assert result.exit_code == 2
    assert "use a folder that you may write" in result.output
    with closing(StateFolder(tmp_path / "used")):
        result = call("--state", str(tmp_path / "used"))
    assert result.exit_code == 2
    assert "is in use by another dashboard" in result.output


def test_token_given_as_file_name_is_not_shown() -> None:
    result = call("--auth-token", SECRET)
    assert result.exit_code == 2
    assert "never the token" in result.output
    assert SECRET not in result.output


def test_short_token_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    for result in (call("--auth-token", str(tmp_path / "token")), call(FASTMON_DASHBOARD_TOKEN="secret")):
        assert result.exit_code == 2
        assert "at least 16" in result.output
        assert "secret\n" not in result.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)])
def test_signal_stops_the_dashboard_with_an_open_page(monitor: MonitorThread, number: int, code: int) -> None:
    with (
        Dashboard(monitor.url) as running,
        requests.get(f"{running.url}events", timeout=DEADLINE_S, stream=True) as page,
    ):
        next(page.iter_lines())
        running.signal(number)
        assert running.ended()[0] == code


def test_monitor_token_rejection_exits_with_a_hint(monitor: MonitorThread) -> None:
    with Client(monitor.url, "--listen", "127.0.0.1:0", command="dashboard", token="wrong") as running:
        assert running.ended()[0] == 3
        assert "set SWF_API_TOKEN" in "".join(running.log_lines)


def test_revoked_token_is_shown_on_the_page(monitor: MonitorThread) -> None:
    with Dashboard(monitor.url) as running:
        running.until("LIVE")
        monitor.faults(revoked=True)
        monitor.stop()
        monitor.start()
        found = running.until("REFUSED")
        assert "set SWF_API_TOKEN" in found["connection"]["reason"]


def test_dashboard_shows_messages_of_a_broker_topic(monitor: MonitorThread) -> None:
    message = {"msg_type": "tf_file_registered", "run_id": "7", "tf_filename": "1.tf", "stf_filename": "a.stf"}
    with (
        BrokerThread(Broker(user="daq", password="secret-word")) as broker,
        Dashboard(
            monitor.url, "--transport", "stomp", "--topic", "/topic/here", environ=environ(broker)
        ) as running,
    ):  # fmt: skip
        running.until("LIVE")
        broker.call(lambda: broker.broker.publish("/topic/here", json.dumps(message)))
        assert running.until("LIVE", recent="1.tf")["runs"][0]["tf_files"] == 1
        broker.stop()
        assert "the broker closed the connection" in running.until("DEAD")["connection"]["reason"]
        broker.start()
        running.until("LIVE")


def test_public_address_works_with_the_token(monitor: MonitorThread, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    with Dashboard(monitor.url, "--auth-token", str(tmp_path / "token"), listen="0.0.0.0:0") as running:
        assert requests.get(f"{running.url}events", timeout=DEADLINE_S).status_code == 401
        opened = requests.get(running.url, headers={"Authorization": f"Bearer {SECRET}"}, timeout=DEADLINE_S)
        assert opened.status_code == 200
        running.signal(signal.SIGTERM)
        code, lines = running.ended()
        assert code == 0
        assert "TLS proxy" in "".join(running.log_lines)
        assert SECRET not in "".join([*running.log_lines, *lines])


def test_missing_extra_is_reported_with_the_install_command() -> None:
    hide = "import sys; sys.modules['starlette'] = None; from fastmon_client.cli import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", hide, "dashboard"], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr == "fastmon-client: starlette is not installed: pip install '.[dashboard]' in the clone\n"


def test_other_commands_do_not_import_the_web_server() -> None:
    check = "import sys, fastmon_client.cli; print({'starlette', 'uvicorn', 'rich.live'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert answer.stdout == "set()\n"


def test_token_that_could_be_guessed_is_rejected() -> None:
    result = call(FASTMON_DASHBOARD_TOKEN="a" * 40)
    assert result.exit_code == 2
    assert "could be guessed" in result.output
    assert "aaaa" not in result.output


@pytest.mark.parametrize(
    "url", ["http://example.org", "https://example.org/?token=x", "example.org", "https://u@a.b", "https://"]
)
def test_invalid_public_url_is_rejected(url: str) -> None:
    result = call("--public-url", url, FASTMON_DASHBOARD_TOKEN=SECRET)
    assert result.exit_code == 2
    assert f"--public-url {url}" in result.output
    assert "https://HOST" in result.output


def test_public_url_needs_a_token() -> None:
    result = call("--public-url", "https://example.org", FASTMON_DASHBOARD_TOKEN="")
    assert result.exit_code == 2
    assert "--auth-token" in result.output


def test_public_url_makes_the_cookie_secure(monitor: MonitorThread) -> None:
    public = ("--public-url", "https://example.org/")
    with Dashboard(monitor.url, *public, environ={"FASTMON_DASHBOARD_TOKEN": SECRET}) as running:
        answer = requests.post(
            f"{running.url}login", {"token": SECRET}, headers={"Host": "example.org"}, timeout=DEADLINE_S,
            allow_redirects=False,
        )  # fmt: skip
        assert answer.status_code == 303
        assert "Secure" in answer.headers["Set-Cookie"]


def test_state_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o777)
    result = call("--state", str(folder))
    assert result.exit_code == 2
    assert "other users can write it" in result.output
    assert list(folder.iterdir()) == []

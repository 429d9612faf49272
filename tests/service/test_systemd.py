"""Notifications to the service manager, and the systemd unit."""

from __future__ import annotations

import configparser
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from fastmon_daemon.base import sd_notify
from fastmon_daemon.cli import COMMANDS
from fastmon_daemon.inspection.liveness import INTERVAL_S, MISSED
from fastmon_daemon.settings import SYSTEM_STATE_FOLDER, Settings
from tests.processes import live_testbed

UNIT = Path(__file__).parents[2] / "systemd" / "fastmon-daemon.service"


class Unit(configparser.RawConfigParser):
    """A unit file: keys keep their case."""

    optionxform = staticmethod(str)  # type: ignore[assignment]


@pytest.fixture
def unit() -> Unit:
    parser = Unit(strict=False)
    parser.read(UNIT)
    return parser


@pytest.mark.parametrize("form", ["path", "abstract"])
def test_a_notification_reaches_both_kinds_of_address(tmp_path: Path, form: str) -> None:
    address = f"@{tmp_path}/notify" if form == "abstract" else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if form == "abstract" else address)
        sd_notify.notify({"NOTIFY_SOCKET": address}, "READY=1")
        assert manager.recv(100) == b"READY=1"


def test_a_missing_service_manager_is_no_error(tmp_path: Path) -> None:
    sd_notify.notify({"NOTIFY_SOCKET": f"{tmp_path}/nobody"}, "READY=1")


def test_without_a_service_manager_nothing_happens() -> None:
    sd_notify.notify({}, "READY=1")


def test_the_daemon_notifies_ready_watchdog_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, live_testbed(tmp_path) as testbed:
        manager.bind(f"{tmp_path}/notify")
        manager.settimeout(30)
        daemon = testbed.daemon(NOTIFY_SOCKET=f"{tmp_path}/notify")
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        daemon.send_signal(signal.SIGTERM)
        while (state := manager.recv(100)) == b"WATCHDOG=1":
            continue
        assert state == b"STOPPING=1"
        assert daemon.wait(30) == 0


def test_the_unit_runs_an_existing_command_and_allows_for_the_drain(unit: Unit) -> None:
    service = unit["Service"]
    assert service["ExecStart"].split()[1] in COMMANDS
    assert service["Type"] == "notify"
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "78")
    assert service["StateDirectory"] == SYSTEM_STATE_FOLDER.name
    assert float(service["WatchdogSec"]) > MISSED * INTERVAL_S  # /healthz reports it before the service manager acts
    assert int(service["TimeoutStopSec"]) > Settings(namespace="x").drain_s


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/fastmon-daemon", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert verified.stderr == ""

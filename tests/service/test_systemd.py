"""Notifications to the service manager, and the systemd unit."""

from __future__ import annotations

import configparser
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from fastmon_daemon.base import sd_notify
from fastmon_daemon.cli import COMMANDS
from fastmon_daemon.inspection.liveness import INTERVAL_S, MISSED
from fastmon_daemon.settings import SYSTEM_STATE_FOLDER, Settings, all_settings
from tests.processes import live_testbed

UNIT = Path(__file__).parents[2] / "systemd" / "fastmon-daemon.service"
DROP_INS = (UNIT.with_name("fastmon-daemon-network.conf"), UNIT.with_name("fastmon-daemon-root.conf"))


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


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


def analyze(folder: Path, *words: str, drop_ins: bool) -> subprocess.CompletedProcess[str]:
    """Call systemd-analyze with a copy of the unit whose program exists."""
    copy = folder / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/fastmon-daemon", "/bin/true"))
    if drop_ins:
        (folder / f"{UNIT.name}.d").mkdir()
        for each in DROP_INS:
            shutil.copy(each, folder / f"{UNIT.name}.d")
    return subprocess.run(
        ["systemd-analyze", *words, str(copy)], capture_output=True, text=True, timeout=60, check=False
    )


@needs_systemd
@pytest.mark.parametrize("drop_ins", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, drop_ins: bool) -> None:
    assert analyze(tmp_path, "verify", "--man=no", drop_ins=drop_ins).stderr == ""


@needs_systemd
@pytest.mark.parametrize(("drop_ins", "tenths"), [(False, 11), (True, 9)])
def test_the_exposure_is_at_most_1_1_and_0_9_with_the_drop_ins(tmp_path: Path, drop_ins: bool, tenths: int) -> None:
    done = analyze(tmp_path, "security", "--offline=true", f"--threshold={tenths}", drop_ins=drop_ins)
    assert done.returncode == 0, done.stdout


def test_the_unit_has_limits_and_its_secrets_are_credentials(unit: Unit) -> None:
    service = unit["Service"]
    assert {"MemoryMax", "LimitNOFILE", "TasksMax", "SocketBindDeny"} <= set(service)
    text = UNIT.read_text()
    assert re.findall(r"^LoadCredential=([\w-]+):/etc/", text, re.MULTILINE) == ["token", "broker-password"]
    named = re.findall(r"^Environment=(\w+)_FILE=%d/([\w-]+)$", text, re.MULTILINE)
    secrets = {name for _, setting in all_settings() if setting.secret for name in setting.names}
    assert [file for _, file in named] == ["token", "broker-password"]
    assert {name for name, _ in named} <= secrets

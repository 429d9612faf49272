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
from tests.tools import needs

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


def test_a_service_manager_that_hangs_stops_nobody(tmp_path: Path) -> None:
    address = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        for state in ("WATCHDOG=1", "STATUS=busy"):
            taken = [sd_notify.notify({"NOTIFY_SOCKET": address}, state) for _ in range(1000)]
            assert not taken[-1], "its queue is full, and nobody waited"


def test_without_a_service_manager_nothing_happens() -> None:
    sd_notify.notify({}, "READY=1")


def test_the_daemon_notifies_ready_watchdog_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, live_testbed(tmp_path) as testbed:
        manager.bind(f"{tmp_path}/notify")
        manager.settimeout(30)
        daemon = testbed.daemon(NOTIFY_SOCKET=f"{tmp_path}/notify")
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        testbed.monitor.faults(error_rate=1, error_status=503)
        testbed.announce(1)
        testbed.wait_for(sampled=1)
        lines = statuses(manager, "monitor down since ")
        assert any("1 STF waiting, the oldest since " in line and "run 100014" in line for line in lines), lines
        testbed.monitor.faults()
        testbed.register(1)
        testbed.wait_for(completed=1)
        last = statuses(manager, "0 STFs waiting")[-1]
        assert "since" not in last.partition(";")[0], "both links are up"
        daemon.send_signal(signal.SIGTERM)
        while (state := manager.recv(500)).startswith((b"WATCHDOG=1", b"STATUS=")):
            continue
        assert state == b"STOPPING=1"
        assert daemon.wait(30) == 0


def statuses(manager: socket.socket, until: str) -> list[str]:
    """Return the status lines up to one that contains *until* and the run."""
    lines: list[str] = []
    while not (lines and until in lines[-1] and "run 100014" in lines[-1]):
        state = manager.recv(500).decode()
        if state.startswith("STATUS="):
            lines.append(state.removeprefix("STATUS="))
            assert lines[-1:] != lines[-2:-1], "only changes are told"
    return lines


def test_the_unit_runs_an_existing_command_and_allows_for_the_drain(unit: Unit) -> None:
    service = unit["Service"]
    assert service["ExecStart"].split()[1] in COMMANDS
    assert service["ExecReload"].split()[1] in COMMANDS
    assert service["Type"] == "notify"
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "78")
    assert service["StateDirectory"] == SYSTEM_STATE_FOLDER.name
    assert float(service["WatchdogSec"]) > MISSED * INTERVAL_S  # /healthz reports it before the service manager acts
    assert int(service["TimeoutStopSec"]) > Settings(namespace="x").drain_s


needs_systemd = needs("systemd-analyze")


def analyze(folder: Path, *words: str, drop_ins: bool, unit: Path = UNIT) -> subprocess.CompletedProcess[str]:
    """Call systemd-analyze with a copy of the unit whose program exists."""
    copy = folder / unit.name.replace("@", "@daq")
    copy.write_text(re.sub("/usr/local/bin/fastmon-[a-z]+", "/bin/true", unit.read_text()))
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


@needs_systemd
@pytest.mark.parametrize(("name", "tenths"), [("fastmon-daemon@.service", 11), ("fastmon-dashboard.service", 15)])
def test_the_other_units_are_accepted_and_confined(tmp_path: Path, name: str, tenths: int) -> None:
    other = UNIT.with_name(name)
    assert analyze(tmp_path, "verify", "--man=no", drop_ins=False, unit=other).stderr == ""
    done = analyze(tmp_path, "security", "--offline=true", f"--threshold={tenths}", drop_ins=False, unit=other)
    assert done.returncode == 0, done.stdout


def test_the_template_is_the_unit_with_folders_of_its_own() -> None:
    template = UNIT.with_name("fastmon-daemon@.service").read_text().partition("[Unit]")[2]
    differing = set(template.splitlines()) ^ set(UNIT.read_text().partition("[Unit]")[2].splitlines())
    names = {line.partition("=")[0] for line in differing if not line.startswith("#")}
    assert names == {"Description", "WorkingDirectory", "LoadCredential", "StateDirectory", "SocketBindAllow"}


def test_the_unit_has_limits_and_its_secrets_are_credentials(unit: Unit) -> None:
    service = unit["Service"]
    assert {"MemoryMax", "LimitNOFILE", "TasksMax", "SocketBindDeny"} <= set(service)
    text = UNIT.read_text()
    found = re.findall(r"^LoadCredential=([\w-]+):/etc/", text, re.MULTILINE)
    assert found == ["SWF_API_TOKEN", "ACTIVEMQ_PASSWORD"]
    assert set(found) <= {name for _, setting in all_settings() if setting.secret for name in setting.names}


def test_credentials_are_found_by_their_names_unless_something_else_is_set(tmp_path: Path) -> None:
    def load(**environ: str) -> Settings:
        return Settings.load({"FASTMON_NAMESPACE": "x", **environ}, working_folder=None, home=None)

    folder = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for name in ("SWF_API_TOKEN", "MQ_PASSWD", "FASTMON_HTTP_TOKEN"):
        (tmp_path / name).write_text(f"secret-of-{name}\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "README").write_text("no secret")
    found = load(**folder)
    assert (found.monitor_token, found.broker_password) == ("secret-of-SWF_API_TOKEN", "secret-of-MQ_PASSWD")
    assert (found.http_token, found.unknown) == ("secret-of-FASTMON_HTTP_TOKEN", ())
    assert load(**folder, SWF_API_TOKEN="other").monitor_token == "other"
    assert load(CREDENTIALS_DIRECTORY=str(tmp_path / "none")).monitor_token == ""

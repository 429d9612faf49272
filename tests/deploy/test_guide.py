"""docs/install.md, followed literally: from an empty machine to a daemon under systemd that Prometheus watches."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.machine import Machine, booted
from tests.packaging.environments import INHERITED, ROOT, build, call
from tests.processes import wait_until
from tests.tools import needs

BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "install.md").read_text(), re.DOTALL)
PYTHON = sys.executable

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the package needs, also to be built: the machine has no network."""
    folder = tmp_path_factory.mktemp("packages")
    _, wheel = build(folder / "dist")
    builder = re.search(r'requires = \["(hatchling==.+?)"\]', (ROOT / "pyproject.toml").read_text())
    assert builder is not None
    call("/usr/bin/python3", "-m", "venv", folder / "venv", cwd=ROOT)
    home = INHERITED.get("HOME", "")
    call(
        folder / "venv/bin/pip",
        "download",
        "--quiet",
        "--dest",
        folder,
        f"{wheel}[dashboard]",
        builder[1],
        cwd=ROOT,
        HOME=home,
    )
    return folder


@pytest.fixture(scope="module")
def machine(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine"), ROOT, sys.prefix, sys.base_prefix, packages) as machine:
        yield machine


@contextmanager
def local_testbed(machine: Machine) -> Iterator[dict[str, str]]:
    """Broker and monitor inside the machine; yields the settings that they wrote."""
    words = [*machine.enter, PYTHON, "-m", "fastmon_daemon", "testbed", "--env-file", "/run/testbed.env"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env={"HOME": "/root", "PYTHONPATH": str(ROOT)})
    try:
        file = machine.root / "run/testbed.env"
        wait_until(file.exists, "broker and monitor are ready")
        yield dict(line.split("=", 1) for line in file.read_text().splitlines() if re.match(r"\w+=", line))
    finally:
        process.terminate()
        process.wait(60)


def filled_in(block: str, settings: dict[str, str]) -> str:
    """The block with the addresses that a reader replaces."""
    for example, name in (
        ("my-namespace", "FASTMON_NAMESPACE"), ("https://monitor.example.org", "SWF_MONITOR_URL"),
        ("broker.example.org", "ACTIVEMQ_HOST"), ("61612", "ACTIVEMQ_PORT"), ("ACTIVEMQ_USER=fastmon", "ACTIVEMQ_USER"),
    ):  # fmt: skip
        value = settings[name] if "=" not in example else f"ACTIVEMQ_USER={settings[name]}"
        block = block.replace(example, value)
    return block


@needs("systemd-analyze")
@needs("prometheus")
@needs("curl")
def test_the_guide_leads_to_a_daemon_that_is_watched(machine: Machine, packages: Path) -> None:
    assert len(BLOCKS) == 5
    with local_testbed(machine) as settings:
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages)}
        for number, block in enumerate(BLOCKS):
            if number == 2:  # "Write the two secrets into their files"
                for name in ("SWF_API_TOKEN", "ACTIVEMQ_PASSWORD"):
                    (machine.root / "etc/fastmon-daemon" / name).write_text(settings[name])
            machine.run(("" if number else f"cd {ROOT}\n") + filled_in(block, settings), **pip)
        wait_until(lambda: ask(machine, 'up{job="fastmon"}') == "1", "it is scraped")
        machine.run(f"{PYTHON} -m fastmon_daemon daq --stf 3 --rate 10", **settings, PYTHONPATH=str(ROOT))
        wait_until(
            lambda: ask(machine, 'sum(fastmon_stfs{state=~"completed|skipped"})') == "3", "it works, and is watched"
        )
        rules = json.loads(machine.run("curl -s http://localhost:9090/api/v1/rules"))["data"]["groups"]
        assert {rule["name"] for group in rules for rule in group["rules"]} >= {"FastmonDown", "FastmonStfsStuck"}
        assert "connected to the broker" in machine.run("journalctl --output=cat --unit=fastmon-daemon LINK=broker")
        a_reload_reads_the_file_again(machine)
        a_killed_daemon_comes_back(machine)
        an_invalid_setting_is_told_and_not_retried(machine)
        an_instance_has_a_database_of_its_own(machine)


def ask(machine: Machine, query: str) -> str:
    """Return the value of a query of Prometheus, or an empty text."""
    text = machine.run(f"curl -sf --get --data-urlencode 'query={query}' http://localhost:9090/api/v1/query || true")
    found = json.loads(text)["data"]["result"] if text else []
    return str(found[0]["value"][1]) if found else ""


def a_reload_reads_the_file_again(machine: Machine) -> None:
    machine.run("echo FASTMON_SELECTION_FRACTION=0.5 >> /etc/fastmon-daemon/.env; systemctl reload fastmon-daemon")
    assert "FASTMON_SELECTION_FRACTION: 0.1 -> 0.5" in machine.run("fastmon-daemon acts; journalctl -u fastmon-daemon")
    machine.run("echo FASTMON_SELECTION_FRACTION=2 >> /etc/fastmon-daemon/.env")
    machine.run("systemctl reload fastmon-daemon", code=1)
    assert machine.systemd_says("ActiveState") == "active"
    machine.run("sed -i '$ d' /etc/fastmon-daemon/.env")


def a_killed_daemon_comes_back(machine: Machine) -> None:
    first = machine.systemd_says("MainPID")
    machine.run("systemctl kill --signal=KILL fastmon-daemon")
    wait_until(lambda: machine.systemd_says("MainPID") not in ("0", first), "it is restarted")
    wait_until(lambda: machine.systemd_says("SubState") == "running", "it is ready")
    machine.run("fastmon-daemon healthcheck")


def an_invalid_setting_is_told_and_not_retried(machine: Machine) -> None:
    machine.run("echo FASTMON_KEEP_DAYS=soon >> /etc/fastmon-daemon/.env; systemctl --no-block restart fastmon-daemon")
    wait_until(lambda: machine.systemd_says("ActiveState") == "failed", "exit code 78 is final")
    assert machine.systemd_says("ExecMainStatus") == "78"
    assert "FASTMON_KEEP_DAYS='soon'" in machine.run("journalctl -u fastmon-daemon")
    machine.run("sed -i '$ d' /etc/fastmon-daemon/.env; systemctl start fastmon-daemon")


def an_instance_has_a_database_of_its_own(machine: Machine) -> None:
    """And a user who may not see it is told what to type."""
    machine.run("""
        systemctl stop fastmon-daemon
        rm -r /var/lib/private/fastmon-daemon /var/lib/fastmon-daemon
        install -d /etc/fastmon-daemon/daq
        cd /etc/fastmon-daemon && cp .env SWF_API_TOKEN ACTIVEMQ_PASSWORD daq/ && cd -
        install -m 644 fastmon-files/systemd/fastmon-daemon@.service /etc/systemd/system/
        systemctl daemon-reload
        systemctl start fastmon-daemon@daq
    """)
    assert "/var/lib/fastmon-daemon/daq/outbox.db (instance daq)" in machine.run("fastmon-daemon inspect")
    said = machine.run("setpriv --reuid=65534 --clear-groups fastmon-daemon inspect", code=3)
    assert "type sudo" in said

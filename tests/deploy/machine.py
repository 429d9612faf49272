"""A machine of its own: systemd as process 1 in new namespaces, on a copy of this root, without a network."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import wait_until

NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
TARGET = """\
[Unit]
Description=An empty machine
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys  # what it sets there would hold for this kernel
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/shm dev/pts
mount -t devpts -o ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
rm -rf etc/systemd/system/* etc/fastmon-daemon opt/fastmon var/lib/fastmon-daemon var/lib/private/fastmon-daemon
printf '%s' "$2" > etc/systemd/system/empty.target
mkdir -p srv/install
shift 2
for folder; do mkdir -p "./$folder"; mount --bind "$folder" "./$folder"; done
mkdir .old
pivot_root . .old  # not chroot, in which systemd may make no namespace of users
umount -l /.old
mount --make-rshared /  # as a host has it: else services do not see their credentials
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=empty.target --show-status=no
"""


class Machine:
    """Runs commands beside its systemd, as root."""

    def __init__(self, systemd: int) -> None:
        self.enter = ["nsenter", "--target", str(systemd), "--all", "--root"]
        self.root = Path(f"/proc/{systemd}/root")
        """Its files, as seen from here."""

    def run(self, script: str, code: int = 0, **environ: str) -> str:
        """Run a shell script until it ends, or one of its commands fails; returns what it printed."""
        given = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **environ}
        done = subprocess.run(
            [*self.enter, "env", "-C", "/srv/install", "bash", "-e"],
            input=script,
            capture_output=True,
            text=True,
            timeout=100,
            env=given,
            check=False,
        )
        assert done.returncode == code, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def systemd_says(self, property_: str, unit: str = "fastmon-daemon") -> str:
        return self.run(f"systemctl show --property={property_} --value {unit}").strip()


@contextmanager
def booted(folder: Path, *visible: str | Path) -> Iterator[Machine]:
    """Boot a machine that ends with the block, and that sees the folders *visible* where they are.

    Skips the test where namespaces are forbidden; it needs systemd (see `tests.tools.needs`).
    """
    words = ["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", "-c", BOOT, "boot", folder, TARGET, *visible]
    with (folder.parent / "boot.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        machine = wait_for_systemd(process)
        if machine is None:
            pytest.skip(f"no namespaces here: {(folder.parent / 'boot.log').read_text()}")
        yield machine
    finally:
        process.kill()  # and with it, by --kill-child, process 1 and all others of the machine
        process.wait(60)


def wait_for_systemd(process: subprocess.Popen[bytes]) -> Machine | None:
    """Return the machine when it has booted; None if it cannot boot."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def state() -> str:
        if process.poll() is not None:
            return "ended"
        found = children.read_text().split()
        if not found or Path(f"/proc/{found[0]}/comm").read_text() != "systemd\n":
            return ""
        done = subprocess.run(
            ["nsenter", "--target", found[0], "--all", "--root", "systemctl", "is-system-running"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    wait_until(lambda: state() in ("running", "degraded", "ended"), "systemd has booted")
    return None if process.poll() is not None else Machine(int(children.read_text().split()[0]))

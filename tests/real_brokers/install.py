"""Install ActiveMQ Classic and Artemis for the tests: `python tests/real_brokers/install.py [classic] [artemis]`.

Owns the folder `.brokers/` of the checkout (downloads are kept there and used again). Classic is Debian's package and
so needs root once; Artemis is a Maven artifact and needs none. It must not know how a broker is started.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".brokers"
CLASSIC_HOME = Path("/usr/share/activemq")
CLASSIC_JARS = Path("/usr/share/java")
ARTEMIS_VERSION = "2.44.0"
# The project has moved: releases after the move are found under the second name only.
ARTEMIS_GROUPS = ("org.apache.activemq", "org.apache.artemis")
MAVEN_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
JRE = "default-jre-headless"
JAVA_NEEDED = 17  # Artemis 2.39 and later; Classic 5.17 is content with 11
TRIES = 4
FIRST_PAUSE_S = 5.0
COMMAND_TIMEOUT_S = 600.0


class NotInstalledError(Exception):
    """A broker, or something it needs, is missing; the message names the remedy."""


def classic_version() -> str | None:
    """The version of the ActiveMQ Classic installed here, such as "5.17.2"; None without one."""
    if not (CLASSIC_HOME / "bin" / "activemq.jar").exists():
        return None
    named = [re.fullmatch(r"activemq-broker-([\d.]+)\.jar", jar.name) for jar in CLASSIC_JARS.glob("activemq-broker-*")]
    return next((match[1] for match in named if match), "unknown")


def artemis_home(folder: Path = FOLDER) -> Path | None:
    """Where Artemis was unpacked in *folder*; None without it."""
    home = folder / f"apache-artemis-{ARTEMIS_VERSION}"
    return home if (home / "lib" / "artemis-boot.jar").exists() else None


def java() -> str:
    """The path of a Java that both brokers run on.

    Raises:
        NotInstalledError: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    remedy = f"install Java {JAVA_NEEDED} or later (Debian: default-jre-headless) and put it on PATH or in JAVA_HOME"
    if not found:
        raise NotInstalledError(f"no java found: {remedy}")
    answer = subprocess.run([found, "-version"], capture_output=True, text=True, check=False, timeout=60).stderr
    version = re.search(r'version "(\d+)', answer)
    if not version or int(version[1]) < JAVA_NEEDED:
        raise NotInstalledError(f"{found} is too old ({answer.splitlines()[:1]}): {remedy}")
    return found


def install_classic(_folder: Path) -> str:
    """Debian's activemq; returns what there is now.

    Raises:
        NotInstalledError: it is missing and this user cannot install it.
    """
    if version := classic_version():
        return f"ActiveMQ Classic {version}, already installed"
    apt_install("activemq", JRE)
    return f"ActiveMQ Classic {classic_version()}"


def install_artemis(folder: Path) -> str:
    """The distribution archive, kept in *folder* and unpacked beside itself; returns what there is now.

    Raises:
        NotInstalledError: it could not be fetched.
    """
    if home := artemis_home(folder):
        return f"Artemis {ARTEMIS_VERSION}, already in {home}"
    java()
    archive = folder / f"apache-artemis-{ARTEMIS_VERSION}-bin.tar.gz"
    if not archive.exists():
        _fetch_artemis(archive)
    unpacking = folder / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    unpacking.mkdir()
    try:
        # By tar: tarfile's own filters against bad archives are missing in Debian 12's Python.
        subprocess.run(["tar", "-xzf", str(archive), "-C", str(unpacking)], check=True)
    except (subprocess.CalledProcessError, OSError) as exc:
        archive.unlink(missing_ok=True)
        raise NotInstalledError(f"{archive} was damaged ({exc}) and is removed: run this again") from exc
    # Renamed only when whole, so an interrupted run never looks installed.
    (folder / "unpacking" / f"apache-artemis-{ARTEMIS_VERSION}").rename(folder / f"apache-artemis-{ARTEMIS_VERSION}")
    return f"Artemis {ARTEMIS_VERSION} in {artemis_home(folder)}"


def _fetch_artemis(archive: Path) -> None:
    if not shutil.which("mvn"):
        apt_install("maven", JRE)
    failures = []
    for group in ARTEMIS_GROUPS:
        artifact = f"-Dartifact={group}:apache-artemis:{ARTEMIS_VERSION}:tar.gz:bin"
        copy = ["mvn", "-B", "-q", f"{MAVEN_DEPENDENCY_PLUGIN}:copy", artifact, f"-DoutputDirectory={archive.parent}"]
        try:
            _run_patiently(copy)
        except NotInstalledError as exc:
            failures.append(str(exc))
        if archive.exists():
            return
    raise NotInstalledError("\n".join([*failures, f"Or put the archive there by hand: {archive}"]))


def apt_install(*packages: str) -> None:
    """Install Debian packages as root. (Debian's activemq enables no instance, so no service comes up.)"""
    package = " ".join(packages)
    if not shutil.which("apt-get"):
        raise NotInstalledError(f"{package} is missing and this is no Debian: install it by hand")
    if os.geteuid() != 0:
        remedy = f"sudo apt-get install -y --no-install-recommends {package}"
        raise NotInstalledError(f"{package} is missing, and only root can install it: {remedy}")
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=60"]
    apt += ["-o", "DPkg::Lock::Timeout=120"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    try:
        _run_patiently(install, tries=1)
    except NotInstalledError:
        _run_patiently([*apt, "update"])  # the package lists were missing or old
        _run_patiently(install)


def _run_patiently(command: Sequence[str], tries: int = TRIES) -> None:
    """Run *command* until it succeeds, *tries* times at most, waiting twice as long after each failure.

    Raises:
        NotInstalledError: it failed each time; with the last lines that it said.
    """
    pause_s = FIRST_PAUSE_S
    for left in reversed(range(tries)):
        said = _failure(command)
        if said is None:
            return
        print(f"  failed: {said.splitlines()[-1:]}, {left} tries left", flush=True)
        if left:
            threading.Event().wait(pause_s)
            pause_s *= 2
    remedy = "is the network or the package mirror down? Run this again; what was fetched is kept"
    raise NotInstalledError(f"{' '.join(command)}\nfailed {tries} times, {remedy}. It said:\n{said}")


def _failure(command: Sequence[str]) -> str | None:
    """What *command* said last if it failed or took too long, else None."""
    print(f"  {' '.join(command)}", flush=True)
    world = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=world,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {COMMAND_TIMEOUT_S:.0f} s"
    return None if done.returncode == 0 else done.stdout[-2000:].strip() or f"exit code {done.returncode}"


INSTALLERS: dict[str, Callable[[Path], str]] = {"classic": install_classic, "artemis": install_artemis}


def main(arguments: Sequence[str]) -> int:
    """Install what *arguments* name (nothing named: both); 0 when all of it is there, else 1."""
    parser = argparse.ArgumentParser(description="Install real brokers for the tests.")
    parser.add_argument("brokers", nargs="*", metavar="BROKER", help="classic, artemis (default: both)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where downloads and Artemis are kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.brokers) - set(INSTALLERS):
        parser.error(f"unknown broker {', '.join(sorted(unknown))}: choose from {', '.join(INSTALLERS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    missing = 0
    for kind in options.brokers or INSTALLERS:
        print(f"{kind}:", flush=True)
        begun = time.monotonic()
        try:
            print(f"  {INSTALLERS[kind](options.folder)} ({time.monotonic() - begun:.1f} s)", flush=True)
        except NotInstalledError as exc:
            missing += 1
            print(f"  NOT installed: {exc}", file=sys.stderr, flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

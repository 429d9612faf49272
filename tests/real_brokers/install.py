"""Install ActiveMQ Classic and Artemis for the tests: `python tests/real_brokers/install.py [classic] [artemis]`.

Downloads are kept in `.brokers/` of the checkout. Classic is a Debian package, so only root can install it; Artemis is
a Maven artifact.
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
# Artemis has moved: later releases are available only under the second name.
ARTEMIS_GROUPS = ("org.apache.activemq", "org.apache.artemis")
MAVEN_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
JRE = "default-jre-headless"
JAVA_NEEDED = 17  # for Artemis 2.39 and later; Classic 5.17 needs only 11
TRIES = 4
FIRST_PAUSE_S = 5.0
COMMAND_TIMEOUT_S = 600.0


class NotInstalledError(Exception):
    """A broker or something it needs is missing; the message says what to do."""


def classic_version() -> str | None:
    """Return the version of the installed ActiveMQ Classic, such as "5.17.2", or None."""
    if not (CLASSIC_HOME / "bin" / "activemq.jar").exists():
        return None
    named = [re.fullmatch(r"activemq-broker-([\d.]+)\.jar", jar.name) for jar in CLASSIC_JARS.glob("activemq-broker-*")]
    return next((match[1] for match in named if match), "unknown")


def artemis_home(folder: Path = FOLDER) -> Path | None:
    """Return the home of the Artemis in *folder*, or None."""
    home = folder / f"apache-artemis-{ARTEMIS_VERSION}"
    return home if (home / "lib" / "artemis-boot.jar").exists() else None


def java() -> str:
    """Return the path of a Java for both brokers. Raises: NotInstalledError if it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    hint = f"install Java {JAVA_NEEDED} or later (Debian: default-jre-headless) and put it on PATH or in JAVA_HOME"
    if not found:
        raise NotInstalledError(f"no java found: {hint}")
    answer = subprocess.run([found, "-version"], capture_output=True, text=True, check=False, timeout=60).stderr
    version = re.search(r'version "(\d+)', answer)
    if not version or int(version[1]) < JAVA_NEEDED:
        raise NotInstalledError(f"{found} is too old ({answer.splitlines()[:1]}): {hint}")
    return found


def install_classic(_folder: Path) -> str:
    """Install Debian's activemq; return a description. Raises: NotInstalledError."""
    if version := classic_version():
        return f"ActiveMQ Classic {version}, already installed"
    apt_install("activemq", JRE)
    return f"ActiveMQ Classic {classic_version()}"


def install_artemis(folder: Path) -> str:
    """Download the distribution to *folder* and unpack it there; return a description. Raises: NotInstalledError."""
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
        # With tar, because Debian 12's tarfile has no filter against malicious archives.
        subprocess.run(["tar", "-xzf", str(archive), "-C", str(unpacking)], check=True)
    except (subprocess.CalledProcessError, OSError) as exc:
        archive.unlink(missing_ok=True)
        raise NotInstalledError(f"{archive} was damaged ({exc}) and was removed: run this again") from exc
    # Renamed only when complete, so an interrupted run never looks installed.
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
            _run_with_retries(copy)
        except NotInstalledError as exc:
            failures.append(str(exc))
        if archive.exists():
            return
    raise NotInstalledError("\n".join([*failures, f"Or download the archive to {archive}"]))


def apt_install(*packages: str) -> None:
    """Install Debian packages as root. (Debian's activemq starts no service.) Raises: NotInstalledError."""
    package = " ".join(packages)
    if not shutil.which("apt-get"):
        raise NotInstalledError(f"{package} is missing and this is not Debian: install it")
    if os.geteuid() != 0:
        hint = f"sudo apt-get install -y --no-install-recommends {package}"
        raise NotInstalledError(f"{package} is missing, and only root can install it: {hint}")
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=60"]
    apt += ["-o", "DPkg::Lock::Timeout=120"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    try:
        _run_with_retries(install, tries=1)
    except NotInstalledError:
        _run_with_retries([*apt, "update"])  # the package lists may be missing or old
        _run_with_retries(install)


def _run_with_retries(command: Sequence[str], tries: int = TRIES) -> None:
    """Run *command* until it succeeds, at most *tries* times, with growing pauses. Raises: NotInstalledError."""
    pause_s = FIRST_PAUSE_S
    for left in reversed(range(tries)):
        output = _failure(command)
        if output is None:
            return
        print(f"  failed: {output.splitlines()[-1:]}, {left} tries left", flush=True)
        if left:
            threading.Event().wait(pause_s)
            pause_s *= 2
    hint = "check the network and the package mirror, then run this again; downloads are kept"
    raise NotInstalledError(f"{' '.join(command)}\nfailed {tries} times: {hint}. Its output:\n{output}")


def _failure(command: Sequence[str]) -> str | None:
    """Run *command*; return the end of its output if it failed or took too long, otherwise None."""
    print(f"  {' '.join(command)}", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"still running after {COMMAND_TIMEOUT_S:.0f} s"
    return None if done.returncode == 0 else done.stdout[-2000:].strip() or f"exit code {done.returncode}"


INSTALLERS: dict[str, Callable[[Path], str]] = {"classic": install_classic, "artemis": install_artemis}


def main(arguments: Sequence[str]) -> int:
    """Install the brokers in *arguments* (default: both); return 0 if all are installed, otherwise 1."""
    parser = argparse.ArgumentParser(description="Install real brokers for the tests.")
    parser.add_argument("brokers", nargs="*", metavar="BROKER", help="classic, artemis (default: both)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder for downloads and Artemis")
    options = parser.parse_args(arguments)
    if unknown := set(options.brokers) - set(INSTALLERS):
        parser.error(f"unknown broker {', '.join(sorted(unknown))}: choose from {', '.join(INSTALLERS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    missing = 0
    for kind in options.brokers or INSTALLERS:
        print(f"{kind}:", flush=True)
        began = time.monotonic()
        try:
            print(f"  {INSTALLERS[kind](options.folder)} ({time.monotonic() - began:.1f} s)", flush=True)
        except NotInstalledError as exc:
            missing += 1
            print(f"  NOT installed: {exc}", file=sys.stderr, flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

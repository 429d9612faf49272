"""Run the tests most at risk with each newer Python that this machine or uv offers: `python -m tests.pythons`.

The virtual environments are `.pythons/VERSION`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.12", "3.13", "3.14")
ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
INSTALLED = Path.home() / ".pyenv" / "versions"
TESTS = (
    "tests/outbox/test_store.py", "tests/outbox/test_backup.py", "tests/outbox/test_pruner.py",
    "tests/outbox/test_outages.py", "tests/outbox/test_storage_causes.py", "tests/statechart/test_machine.py",
    "tests/engine/test_sampling.py", "tests/messages", "tests/settings", "tests/inspection/test_metrics.py",
    "tests/presence/test_heartbeat_and_status.py",
    "tests/service/test_daemon.py::test_a_signal_drains_and_exits_with_0",
    "tests/service/test_daemon.py::test_an_stf_ready_becomes_seven_tf_files_registered_and_announced_once",
)  # fmt: skip


def candidates(version: str) -> Iterator[str]:
    """The interpreters that may be this version; a shim of pyenv may be one that does not run."""
    yield f"python{version}"
    yield from map(str, sorted(INSTALLED.glob(f"{version}.*/bin/python")))


def find(version: str) -> str | None:
    """The interpreter of *version*, downloaded by uv if there is none here; None if it is not to be had."""
    for python in candidates(version):
        try:
            found = subprocess.run([python, "--version"], capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            continue
        if found.stdout.startswith(f"Python {version}."):
            return python
    try:
        got = subprocess.run([UV, "python", "install", "-q", version], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return version if got.returncode == 0 else None


def run_tests(version: str, python: str) -> bool:
    """Whether the tests pass with *python*."""
    folder = ROOT / ".pythons" / version
    tests = [folder / "bin" / "python", "-m", "pytest", "-q", "-n", "3", "-p", "no:cacheprovider", *TESTS]
    install = [UV, "pip", "install", "-q", "--python", folder]
    pinned = [*install, "--require-hashes", "-r", "constraints.txt"]
    ours = [*install, "--no-deps", "--no-build-isolation", "-e", "."]
    for words in ([UV, "venv", "-q", "--allow-existing", "--python", python, folder], pinned, ours, tests):
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            return False
    return True


def main() -> int:
    """Exit code: 0 if the tests pass with each Python that is to be had."""
    failed = []
    for version in VERSIONS:
        python = find(version)
        print(f"Python {version}: {python or 'not to be had here, NOT tested'}", flush=True)
        if python and not run_tests(version, python):
            failed.append(version)
    if failed:
        print(f"tests failed with Python {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

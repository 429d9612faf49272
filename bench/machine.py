"""Describes the machine on which the figures were measured, and processes on it, from /proc (Linux)."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from pathlib import Path

from fastmon_daemon import __version__

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CHANGES_AT = 8
"""Where the WAL index has its counter of transactions (`WalIndexHdr.iChange`)."""


def describe(folder: Path) -> dict[str, str]:
    """Property -> value, as text; *folder* is where the databases of the benchmarks lie."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.0f} GiB",
        "kernel": platform.release(),
        "file system": _file_system(folder),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "fastmon": f"{__version__} ({_commit()})",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


def busy_note(load: float, cores: int) -> str:
    """A caveat, as an item of a list, if others used the machine when the benchmarks began; else an empty text."""
    if load <= cores / 2:
        return ""
    return (
        f"- **The machine was busy with other work** (load {load:.1f} on {cores} cores when the benchmarks began).\n"
        "  Programs that run many things side by side suffer more from that than sequential ones: throughputs and\n"
        "  latencies of fastmon, and ratios made of them, are worse than on a machine of its own.\n"
    )


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that the process used until now."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of the process in MB."""
    return int(_status(pid)["VmRSS"].split()[0]) / 1024


def threads(pid: int) -> int:
    """Number of threads of the process."""
    return int(_status(pid)["Threads"])


def descriptors(pid: int) -> int:
    """Number of open file descriptors of the process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def durable_commits(database: Path) -> int:
    """Transactions committed to *database* since its WAL index was made, modulo 2**32; each one is synced.

    SQLite counts them in shared memory, so that counting costs the process that writes nothing.
    """
    with database.with_name(f"{database.name}-shm").open("rb") as index:
        index.seek(_CHANGES_AT)
        return int.from_bytes(index.read(4), "little")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Type of the file system of *folder*: that of its deepest mount point."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, found, *_ = line.split()
        if folder.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    return kind


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return "no git"
    return found.stdout.strip() or "not a clone"
